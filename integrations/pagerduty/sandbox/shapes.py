"""What a body must look like before anything of it is stored: shapes, and what is wrong where one does not fit.

A shape reads a value into a clean one: fields that nobody asked for are left out, an optional ``null`` is a field not sent.
It never raises. What it could not read is in the faults, and then the value it returned is not to be used.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from zoneinfo import ZoneInfo

from integrations.pagerduty.sandbox.world import iso, parse_time

Path = tuple[str | int, ...]
Fault = tuple[Path, str]
Shape = Callable[[Any, Path, list[Fault]], Any]

_CLOCK: Final = re.compile(r"([01]\d|2[0-3]):[0-5]\d:[0-5]\d", re.ASCII)


def sentence(fault: Fault, top: str) -> str:
    """A fault as PagerDuty words it: the field, then what is wrong. ``top``: what the whole is called."""
    path, text = fault
    if not path or isinstance(path[0], int):
        path = (top, *path)
    field = " ".join(str(part + 1) if isinstance(part, int) else part.replace("_", " ") for part in path)
    return f"{field[0].upper()}{field[1:]} {text}."


def field_of(fault: Fault, top: str) -> str:
    """The field that a fault is about, as v3 names it: ``event.start_time.time_zone``. ``top``: what the whole is called."""
    path = fault[0]
    # One of many is named by what it is: overrides, but override.start_time.
    resource = top.removesuffix("s") if path and isinstance(path[0], int) else top
    return ".".join([resource, *(part for part in path if isinstance(part, str))])


def string(*, blank: bool = False, longest: int = 65_536) -> Shape:
    def read(value: Any, path: Path, faults: list[Fault]) -> Any:
        if not isinstance(value, str):
            faults.append((path, "must be a string"))
        elif not blank and not value.strip():
            faults.append((path, "cannot be empty"))
        elif len(value) > longest:
            faults.append((path, f"must not be longer than {longest} characters"))
        return value

    return read


def one_of(*values: str) -> Shape:
    def read(value: Any, path: Path, faults: list[Fault]) -> Any:
        if value not in values:
            faults.append((path, f"must be {' or '.join(values)}"))
        return value

    return read


def whole(low: int, high: int) -> Shape:
    """A whole number. ``true`` is none, though Python counts it as one."""

    def read(value: Any, path: Path, faults: list[Fault]) -> Any:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            faults.append((path, f"must be a whole number from {low} to {high}"))
        return value

    return read


def number(value: Any, path: Path, faults: list[Fault]) -> Any:
    if not isinstance(value, int | float) or isinstance(value, bool):
        faults.append((path, "must be a number"))
    return value


def web_address(*, longest: int = 1024) -> Shape:
    text = string(longest=longest)

    def read(value: Any, path: Path, faults: list[Fault]) -> Any:
        before = len(faults)
        text(value, path, faults)
        if len(faults) == before and not re.fullmatch(r"https?://[^\s/]\S*", value):
            faults.append((path, "must be a URL"))
        return value

    return read


def boolean(value: Any, path: Path, faults: list[Fault]) -> Any:
    if not isinstance(value, bool):
        faults.append((path, "must be true or false"))
    return value


def moment(value: Any, path: Path, faults: list[Fault]) -> Any:
    try:
        # Once more as it will be stored: at the ends of the calendar another zone is another year.
        parse_time(iso(parse_time(value)))
    except ValueError:
        faults.append((path, "is not a valid ISO 8601 time"))
    return value


def clock(value: Any, path: Path, faults: list[Fault]) -> Any:
    if not isinstance(value, str) or not _CLOCK.fullmatch(value):
        faults.append((path, "must be a time of day, HH:MM:SS"))
    return value


def zone(value: Any, path: Path, faults: list[Fault]) -> Any:
    try:
        ZoneInfo(value)
    except (ValueError, OSError, KeyError, TypeError, AttributeError):
        faults.append((path, "is not a time zone that PagerDuty knows"))
    return value


def list_of(shape: Shape, low: int = 0, high: int = 1000) -> Shape:
    def read(value: Any, path: Path, faults: list[Fault]) -> Any:
        if not isinstance(value, list):
            faults.append((path, "must be a list"))
            return []
        if not value and low:
            faults.append((path, "cannot be empty"))
        elif not low <= len(value) <= high:
            faults.append((path, f"must hold {low if low == high else f'{low} to {high}'}"))
        return [shape(row, (*path, place), faults) for place, row in enumerate(value)]

    return read


def record(
    required: Mapping[str, Shape], optional: Mapping[str, Shape] | None = None, clearing: Sequence[str] = ()
) -> Shape:
    """An object. ``clearing``: optional fields whose ``null`` says something, and is kept."""

    def read(value: Any, path: Path, faults: list[Fault]) -> Any:
        if not isinstance(value, dict):
            faults.append((path, "must be an object"))
            return {}
        found = {}
        for name, shape in required.items():
            if name in value:
                found[name] = shape(value[name], (*path, name), faults)
            else:
                faults.append(((*path, name), "is missing"))
        for name, shape in (optional or {}).items():
            if value.get(name) is not None:
                found[name] = shape(value[name], (*path, name), faults)
            elif name in value and name in clearing:
                found[name] = None
        return found

    return read


def reference_to(rows: Sequence[Mapping[str, Any]], what: str) -> Shape:
    """A reference, ``{"id": …}``, to one of ``rows``: it reads as the place there."""
    places = {row["id"]: place for place, row in enumerate(rows)}

    def read(value: Any, path: Path, faults: list[Fault]) -> Any:
        identifier = value.get("id") if isinstance(value, dict) else None
        if not isinstance(identifier, str):
            faults.append((path, "must be an object with an id"))
            return 0
        if identifier not in places:
            faults.append((path, f"is not {what} of the account"))
        return places.get(identifier, 0)

    return read
