"""A tool's arguments, judged before anything is sent: what is wrong is said with what to pass instead. Pure."""

from __future__ import annotations

import datetime as dt
import difflib
import re
import zoneinfo
from collections.abc import Mapping
from typing import Any, Final

from integrations.pagerduty.tools.asking import Given, Wrong
from integrations.pagerduty.tools.slim import OFFSETS
from policies.core.call import Tool
from policies.core.text import shown

DETAIL: Final[Mapping[str, Any]] = {
    "type": "string",
    "enum": ["slim", "full"],
    "description": "full: all that PagerDuty says.",
}
TIME_ZONE: Final[Mapping[str, Any]] = {
    "type": "string",
    "description": "Times in it, too (IANA).",
}
NAMED: Final = {
    "service": "service",
    "schedule": "schedule",
    "escalation_policy": "escalation policy",
    "team": "team",
    "user": "user",
}
"""What may be given by its name, where a tool takes its id: the word in the parameter → in words."""
MAXIMUM_ITEMS: Final = 100
"""Of one list: a query has 200 parameters at most."""
MAXIMUM_TEXT: Final = 100_000
FIRST_YEAR, LAST_YEAR = 1970, 9998
"""Beyond these a window, or the same moment in another zone, may be no time that there is."""
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_LIKE_AN_ID: Final = re.compile(r"[PQ](?:[A-Z0-9]{6}|[A-Z0-9]{13}|(?=[A-Z]*[0-9])[A-Z0-9]{5,12})", re.ASCII)
"""Of another length than 7 and 14 only with a digit: PAYMENTS and PLATFORM are names."""
_QUOTES: Final = "\"'`“”‘’"
_TYPES: Final = {"string": str, "integer": int, "boolean": bool, "array": list}
_IN_WORDS: Final = {"string": "a text", "integer": "a whole number", "boolean": "true or false", "array": "a list"}


def named(parameter: str) -> str:
    """The kind of thing a parameter takes the id or the name of (``service``); empty: it takes ids alone, or no id."""
    if not parameter.endswith(("_id", "_ids")):
        return "user" if parameter in ("member", "overriding_member") else ""
    word = parameter.removesuffix("_id").removesuffix("_ids")
    if word in ("assignee", "requester", "responder", "overridden_user"):
        return "user"
    return word if word in NAMED else ""


def several(words: str) -> str:
    """More than one of a kind, in words."""
    return f"{words[:-1]}ies" if words.endswith("y") else f"{words}s"


def is_id(text: str) -> bool:
    """Whether a text looks like one of PagerDuty's ids, and not like a name."""
    return _LIKE_AN_ID.fullmatch(text) is not None


def given(tool: Tool, arguments: Mapping[str, Any], now: dt.datetime) -> Given:
    """The arguments with their defaults. Raises ``Wrong``."""
    properties: Mapping[str, Mapping[str, Any]] = tool.input_schema["properties"]
    ours: Mapping[str, Mapping[str, Any]] = {} if tool.writes else {"detail": DETAIL, "time_zone": TIME_ZONE}
    unknown = [name for name in arguments if name not in properties and name not in ours]
    if unknown:
        name = shown(str(unknown[0]), 40)
        near = difflib.get_close_matches(name, [*properties, *ours], 1)
        hint = f" Did you mean {near[0]}?" if near else ""
        listed = ", ".join([*properties, *ours]) or "no argument"
        raise Wrong(f"{tool.name} does not take {name}.{hint}", f"It takes: {listed}.")
    missing = [name for name in tool.input_schema["required"] if arguments.get(name) is None]
    if missing:
        name = missing[0]
        raise Wrong(f"{tool.name} needs {name}.", f"{name}: {properties[name]['description']}")
    values: dict[str, Any] = {}
    for name, schema in {**ours, **properties}.items():
        value = arguments.get(name)
        if value is None:
            if "default" in schema:
                values[name] = schema["default"]
            continue
        try:
            values[name] = _checked(name, value, schema, f"{name}: {schema['description']}")
        except Wrong as wrong:
            wrong.about = name
            raise
    _check_together(values)
    zone = _zone(values.get("time_zone"))
    detail = values.pop("detail", "slim")
    if "time_zone" not in properties:
        values.pop("time_zone", None)
    return Given(values, detail == "full", zone, now)


def _checked(name: str, value: Any, schema: Mapping[str, Any], remedy: str) -> Any:
    kind: str = schema["type"]
    if kind == "array" and isinstance(value, str | int) and not isinstance(value, bool):
        value = [value]  # One in place of a list of one: what is meant is plain.
    if kind == "integer" and isinstance(value, float) and value.is_integer():
        value = int(value)
    if not _is(value, kind):
        raise Wrong(f"{name} must be {_IN_WORDS[kind]}.", remedy)
    if kind == "array":
        least, most = schema.get("minItems", 0), schema.get("maxItems", MAXIMUM_ITEMS)
        if not least <= len(value) <= most:
            raise Wrong(f"{name} must have {f'{least} to {most}' if least else f'at most {most}'} items.", remedy)
        return [_checked(name, item, schema["items"], remedy) for item in value]
    if kind == "integer":
        least, most = schema.get("minimum"), schema.get("maximum")
        if (least is not None and value < least) or (most is not None and value > most):
            raise Wrong(f"{name} must be {least:,} to {most:,}, and is {shown(str(value), 24)}.", remedy)
    if kind == "string":
        _check_text(name, value, schema, remedy)
    return value


def _check_together(values: Mapping[str, Any]) -> None:
    """What no operation takes, whatever the tool."""
    since, until = (moment(values.get(name) or "") for name in ("since", "until"))
    if since is not None and until is not None and since >= until:
        raise Wrong("since is not before until.", "Pass the earlier of the two as since.")
    if values.get("offset", 0) + values.get("limit", 0) > OFFSETS:
        raise Wrong(
            f"offset and limit together are over {OFFSETS:,}.", "Ask for a narrower window in place of a far page."
        )


def _is(value: Any, kind: str) -> bool:
    """Whether a value is of one of JSON's kinds; true and false are no numbers."""
    return isinstance(value, _TYPES[kind]) and not (kind == "integer" and isinstance(value, bool))


def _check_text(name: str, value: str, schema: Mapping[str, Any], remedy: str) -> None:
    if "enum" in schema and value not in schema["enum"]:
        near = difflib.get_close_matches(value.lower(), schema["enum"], 1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise Wrong(
            f"{name} cannot be {shown(value, 40)!r}.{hint}", f"Pass one of: {', '.join(schema['enum'])}. {remedy}"
        )
    if not value.strip():
        raise Wrong(f"{name} is empty.", f"Pass a value, or leave {name} out if it is not needed. {remedy}")
    if len(value) > MAXIMUM_TEXT:
        raise Wrong(f"{name} is over {MAXIMUM_TEXT:,} characters.", "Pass less.")
    if "\0" in value or not _is_encodable(value):
        raise Wrong(f"{name} holds a NUL character or half a surrogate pair.", "Pass plain text.")
    if name.endswith(("_id", "_ids")) or name == "ids":
        _check_id(name, value, remedy)
    elif name in ("since", "until", "start", "end", "at") or name.endswith(
        ("_time", "_at", "effective_since", "effective_until")
    ):
        _check_time(name, value, remedy)
    if "pattern" in schema and not re.search(schema["pattern"], value):
        raise Wrong(f"{name} does not have the form that is needed.", remedy)


def _check_id(name: str, value: str, remedy: str) -> None:
    if value[0] in _QUOTES or value[-1] in _QUOTES:
        raise Wrong(f"{name} has quotation marks around it.", f"Pass it without: {shown(value.strip(_QUOTES), 64)}.")
    if named(name):
        if len(value) > 255 or not shown(value, 255) == value:
            raise Wrong(f"{name} is neither an id nor a name.", remedy)
    elif not _ID.fullmatch(value):
        raise Wrong(f"{name} is no id: {shown(value, 64)!r}.", f"An id has letters and digits alone. {remedy}")


def moment(text: str) -> dt.datetime | None:
    """A time in ISO 8601, in UTC where it says no zone; None: it is none."""
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=dt.UTC)


def _check_time(name: str, value: str, remedy: str) -> None:
    at = moment(value)
    if at is not None and not FIRST_YEAR <= at.year <= LAST_YEAR:
        raise Wrong(f"{name} must be of the years {FIRST_YEAR} to {LAST_YEAR}: {shown(value, 40)!r}.", remedy)
    if at is None:
        example = "2026-03-01T09:00:00Z"
        raise Wrong(f"{name} is no time in ISO 8601: {shown(value, 40)!r}.", f"Pass it as {example}. {remedy}")


def _zone(name: str | None) -> zoneinfo.ZoneInfo | None:
    if name is None:
        return None
    try:
        return zoneinfo.ZoneInfo(name)
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        raise Wrong(
            f"time_zone is no time zone: {shown(name, 40)!r}.", "Pass an IANA name such as Europe/London."
        ) from None


def _is_encodable(text: str) -> bool:
    return all(not 0xD800 <= ord(char) < 0xE000 for char in text) if not text.isascii() else True
