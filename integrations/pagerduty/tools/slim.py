"""PagerDuty's documents in the form that an assistant acts on: few fields, short references, times in UTC, and text that came
from outside marked as such.

Text from outside (titles, notes, what a monitoring tool sent) stands as ``{"outside": ...}``, wherever it stands: whoever reads
the answer can tell it from what PagerDuty and the portal say.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from integrations.pagerduty.tools.asking import Given
from policies.core.text import shown

MAXIMUM_SLIM: Final = 500
"""Characters of one text in the slim form."""
MAXIMUM_FULL: Final = 20_000
PAGING: Final = frozenset(
    {"limit", "offset", "more", "total", "next_cursor", "starting_after", "first", "last", "order", "order_by", "after"}
)
"""Keys at the top of a document that say where its page stands."""
OUTSIDE: Final = frozenset(
    {
        *("title", "details", "content", "body", "note", "notes", "message", "subject", "html_message", "resolution"),
        *(
            "custom_details",
            "cef_details",
            "contexts",
            "links",
            "images",
            "channel",
            "event_details",
            "point_of_contact",
        ),
    }
)
"""Fields that hold what somebody else wrote or sent, in any document."""
WRITTEN: Final = frozenset({"summary", "description"})
"""Fields that do so where the thing itself came from outside."""
CAME_IN: Final = frozenset({"incident", "alert", "change_event", "note", "annotation"})
"""Kinds of things that come from outside, titles and all; and every kind of log entry."""
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)", re.ASCII)


def outside(value: Any, maximum: int = MAXIMUM_SLIM) -> Any:
    """A marked value: nothing in it acts or hides. None stays None."""
    return None if value is None else {"outside": _harmless(value, maximum)}


def _harmless(value: Any, maximum: int) -> Any:
    if isinstance(value, str):
        return plain(value, maximum)
    if isinstance(value, Mapping):
        return {plain(str(key), 200): _harmless(item, maximum) for key, item in value.items()}
    if isinstance(value, list):
        return [_harmless(item, maximum) for item in value]
    return value


def plain(text: str, maximum: int) -> str:
    """``text`` with its lines kept, and in each line every character seen and doing nothing."""
    if text.isascii() and text.isprintable() and len(text) <= maximum:
        return text
    cut = text if len(text) <= maximum else f"{text[: maximum - 1]}…"
    return "\n".join(shown(line, maximum) for line in cut.replace("\r\n", "\n").split("\n"))


def utc(text: Any, given: Given) -> Any:
    """A time in UTC to the second, and after it in the asked zone: ``2026-03-01T08:00:00Z (09:00+01:00 on 2026-03-01)``."""
    if not isinstance(text, str) or not _TIME.fullmatch(text):
        return text
    if given.zone is None and text.endswith("Z") and len(text) == 20:
        return text
    at = dt.datetime.fromisoformat(text)
    told = f"{at.astimezone(dt.UTC):%Y-%m-%dT%H:%M:%SZ}"
    return told if given.zone is None else f"{told} = {at.astimezone(given.zone).isoformat(timespec='minutes')}"


def reference(value: Any) -> Any:
    """``{"id", "name"}`` of whatever a document refers to; None where there is nothing."""
    if not isinstance(value, Mapping):
        return value
    name = value.get("summary") or value.get("name")
    found: dict[str, Any] = {"id": value.get("id")}
    if isinstance(name, str):
        kind = str(value.get("type", "")).removesuffix("_reference")
        found["name"] = outside(name, 200) if comes_in(kind) else plain(name, 200)
    return found


def comes_in(kind: str) -> bool:
    """Whether things of a kind come from outside, titles and all."""
    return kind in CAME_IN or kind.endswith("_log_entry")


def full(document: Any) -> Any:
    """PagerDuty's document as it is, with what came from outside marked."""
    return _full(document, "")


def _full(value: Any, key: str) -> Any:
    if isinstance(value, list):
        return [_full(item, key) for item in value]
    if not isinstance(value, Mapping):
        return plain(value, MAXIMUM_FULL) if isinstance(value, str) else value
    kind = str(value.get("type", "")).removesuffix("_reference") or key.removesuffix("s")
    marked = OUTSIDE | WRITTEN if comes_in(kind) else OUTSIDE
    return {
        plain(str(name), 200): outside(item, MAXIMUM_FULL)
        if name in marked and item not in (None, "", [], {})
        else _full(item, str(name))
        for name, item in value.items()
    }


Form = Callable[[Mapping[str, Any], Given], dict[str, Any]]
"""Of one row of PagerDuty's: what the slim form says of it, ``id`` first. What is None or empty is left out by the caller."""


def _incident(row: Mapping[str, Any], given: Given) -> dict[str, Any]:
    return {
        "id": row.get("id"),
        "number": row.get("incident_number"),
        "title": outside(row.get("title") or row.get("summary")),
        "status": row.get("status"),
        "urgency": row.get("urgency"),
        "priority": _named(row.get("priority")),
        "service": reference(row.get("service")),
        "assigned_to": [reference(each.get("assignee")) for each in row.get("assignments") or ()],
        "acknowledged_by": [reference(each.get("acknowledger")) for each in row.get("acknowledgements") or ()],
        "created_at": utc(row.get("created_at"), given),
        "changed_at": utc(row.get("last_status_change_at"), given),
        "resolved_at": utc(row.get("resolved_at"), given),
        "link": row.get("html_url"),
    }


def _named(value: Any) -> Any:
    return (value.get("summary") or value.get("name")) if isinstance(value, Mapping) else value


FORMS: Final[Mapping[str, Form]] = {"incident": _incident}
"""Kind of document → its slim form. A kind that is not here gets the general one."""
_DROPPED: Final = frozenset({"self", "type", "avatar_url", "color", "html_url"})


def general(row: Mapping[str, Any], given: Given) -> dict[str, Any]:
    """The slim form of what has none of its own: without addresses and what is empty, references short, times in UTC."""
    kind = str(row.get("type", "")).removesuffix("_reference")
    marked = OUTSIDE | WRITTEN if comes_in(kind) else OUTSIDE
    found: dict[str, Any] = {}
    for name, value in row.items():
        if name in _DROPPED or value is None or value == [] or value == {} or value == "":
            continue
        if name == "summary" and value in (row.get("name"), row.get("title")):
            continue
        found[name] = outside(value) if name in marked else _general(value, given)
    if row.get("html_url"):
        found["link"] = row["html_url"]
    return found


def _general(value: Any, given: Given) -> Any:
    if isinstance(value, str):
        return utc(plain(value, MAXIMUM_SLIM), given)
    if isinstance(value, list):
        return [_general(item, given) for item in value]
    if isinstance(value, Mapping):
        kind = str(value.get("type", ""))
        return reference(value) if kind.endswith("_reference") and "id" in value else general(value, given)
    return value


def _form(row: Mapping[str, Any], key: str) -> Form:
    kind = str(row.get("type", "")).removesuffix("_reference")
    return FORMS.get(key) or FORMS.get(kind) or general


_SINGULAR: Final = {"escalation_policies": "escalation_policy", "log_entries": "log_entry", "oncalls": "oncall"}


def slim(document: Any, given: Given) -> Any:
    """The slim form of an answer: the thing under its own key, or a list with what is known of its page.

    ``{"incidents": [...], "count": 25, "more": {"offset": 25}, "left_out": ["incident_key", ...]}``: ``more`` is there where
    there are more, with the argument that turns the page; ``left_out`` names the fields that detail=full adds.
    """
    if not isinstance(document, Mapping):
        return _general(document, given)
    found: dict[str, Any] = {}
    left_out: set[str] = set()
    for key, value in document.items():
        if key in PAGING:
            continue
        one = _SINGULAR.get(key, key.removesuffix("s"))
        if isinstance(value, list) and value and isinstance(value[0], Mapping):
            found[key] = [_row(row, one, given, left_out) if isinstance(row, Mapping) else row for row in value]
            found["count"] = len(value)
        elif isinstance(value, list):
            found[key] = value
            found["count"] = len(value)
        elif isinstance(value, Mapping):
            found[key] = _row(value, one, given, left_out)
        else:
            found[key] = outside(value) if key in OUTSIDE else _general(value, given)
    found |= _page(document)
    if left_out:
        found["left_out"] = sorted(left_out)
    return found


def _row(row: Mapping[str, Any], key: str, given: Given, left_out: set[str]) -> dict[str, Any]:
    form = _form(row, key)
    told = form(row, given)
    if form is not general:
        told = {name: value for name, value in told.items() if value is not None and value != []}
        left_out.update(name for name in row.keys() - told.keys() - _DROPPED if row[name] not in (None, [], {}, ""))
    return told


def _page(document: Mapping[str, Any]) -> dict[str, Any]:
    """How to turn the page, and how many there are at all, where PagerDuty says so."""
    found: dict[str, Any] = {}
    if isinstance(document.get("total"), int):
        found["total"] = document["total"]
    if cursor := document.get("next_cursor"):
        found["more"] = {"cursor": cursor}
    elif document.get("more") and isinstance(document.get("last"), str):
        found["more"] = {"starting_after": document["last"]}
    elif document.get("more") and isinstance(document.get("after"), str):
        found["more"] = {"after": document["after"]}
    elif document.get("more"):
        rows = next((value for value in document.values() if isinstance(value, list)), [])
        found["more"] = {"offset": int(document.get("offset") or 0) + (len(rows) or int(document.get("limit") or 25))}
    return found


def rendered(document: Any, given: Given) -> Any:
    """An answer as the caller asked for it."""
    return full(document) if given.full else slim(document, given)


def names_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Id → name of rows that have both."""
    return {row["id"]: plain(str(row.get("summary") or row.get("name") or ""), 200) for row in rows if "id" in row}
