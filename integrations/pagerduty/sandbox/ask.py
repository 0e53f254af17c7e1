"""One request to the simulated PagerDuty: what was asked, pages, errors, and the table of what answers it."""

from __future__ import annotations

import copy
import dataclasses
import datetime as dt
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from zoneinfo import ZoneInfo

from integrations.pagerduty.sandbox.documents import Document
from integrations.pagerduty.sandbox.shapes import (
    Fault,
    Shape,
    field_of,
    sentence,
)
from integrations.pagerduty.sandbox.world import (
    DAY,
    Incident,
    Token,
    World,
    parse_time,
)

MONTH: Final = 30 * DAY
FORTNIGHT: Final = 14 * DAY
FAR: Final = 90 * DAY
"""How far ahead, and how wide, on-calls can be asked for."""
LONGEST_WINDOW: Final = 184 * DAY
"""Six months: the widest window of incidents and log entries."""
ROW_LIMIT: Final = 10_000
PAGING: Final = frozenset({"limit", "offset", "total"})
BULK_LIMIT: Final = 250


def to_its_end(window: tuple[float, float]) -> tuple[float, float]:
    """A window of what happened: its last second counts whole, for times are shown in whole seconds."""
    return window[0], window[1] + 0.999999


class ApiError(Exception):
    """An answer in PagerDuty's error format."""

    def __init__(self, status: int, message: str, code: int, errors: Sequence[str] = (), **extra: Any) -> None:
        super().__init__(message)
        self.status = status
        self.headers: dict[str, str] = {}
        self.document: Document = {"error": {"message": message, "code": code, **extra}}
        if errors:
            self.document["error"]["errors"] = list(errors)


def not_found() -> ApiError:
    return ApiError(404, "Not Found", 2100)


def invalid(*errors: str) -> ApiError:
    return ApiError(400, "Invalid Input Provided", 2001, errors)


def v3_invalid(faults: Iterable[Fault], top: str) -> ApiError:
    """``top``: the resource that the fields are of. The fields are a map, as v3 answers them."""
    error = ApiError(400, "Invalid Request", 2001)
    fields: dict[str, list[str]] = {}
    for fault in faults:
        fields.setdefault(field_of(fault, top), []).append(fault[1])
    error.document["error"]["errors"] = fields
    return error


@dataclass(slots=True)
class Ask:
    """One request, after its token was accepted."""

    world: World
    now: float
    token: Token
    sender: int | None
    """The place of the user who asks: the token's own, or the one that ``From`` names."""
    path: dict[str, str]
    query: dict[str, list[str]]
    body: Any = None
    include: frozenset[str] = field(default_factory=frozenset)

    def one(self, name: str, default: str = "") -> str:
        return self.query.get(name, [default])[-1]

    def many(self, name: str) -> frozenset[str]:
        return frozenset(self.query.get(f"{name}[]", ())) | frozenset(self.query.get(name, ()))

    def flag(self, name: str) -> bool:
        return self.one(name).lower() == "true"

    def number(self, name: str, default: int, most: int | None = None) -> int:
        text = self.one(name)
        if not text:
            return default
        # A page of no rows would never end.
        if not re.fullmatch(r"\d{1,9}", text, re.ASCII) or (name == "limit" and int(text) == 0):
            raise invalid(f"{name.capitalize()} must be a positive integer.")
        return int(text) if most is None else min(int(text), most)

    def time(self, name: str, default: float, zone: ZoneInfo | None = None) -> float:
        text = self.one(name)
        if not text:
            return default
        try:
            return parse_time(text, zone or dt.UTC)
        except ValueError:
            raise invalid(f"{name.capitalize()} is not a valid ISO 8601 date.") from None

    def zone(self) -> ZoneInfo | None:
        text = self.one("time_zone")
        if not text:
            return None
        try:
            return ZoneInfo(text)
        except (ValueError, OSError, KeyError):
            raise invalid("Time zone is not one that PagerDuty knows.") from None

    def window(
        self,
        since: float,
        until: float,
        longest: float | None = None,
        *,
        width: float | None = None,
        zone: ZoneInfo | None = None,
    ) -> tuple[float, float]:
        """``width``: where only one end is given, the other is that far from it; else it is its default."""
        low, high = self.time("since", since, zone), self.time("until", until, zone)
        if width is not None and self.one("since") and not self.one("until"):
            high = low + width
        elif width is not None and self.one("until") and not self.one("since"):
            low = high - width
        if low > high:
            raise invalid("Since must be before Until.")
        if longest is not None and high - low > longest:
            raise invalid(f"The time range is longer than {'6 months' if longest == LONGEST_WINDOW else '90 days'}.")
        return low, high

    def required_window(self, zone: ZoneInfo | None = None) -> tuple[float, float]:
        if missing := [name for name in ("since", "until") if not self.one(name)]:
            raise invalid(*(f"{name.capitalize()} cannot be empty" for name in missing))
        return self.window(0, 0, zone=zone)

    def kept(self, name: str, make: Callable[[], list[Any]]) -> list[Any]:
        """What ``make`` gives, made once for all the pages of a list whose window is given. Making it is most of what a page
        of a long list costs."""
        if not (self.one("since") and self.one("until")):
            return make()
        asked = {key: tuple(values) for key, values in self.query.items() if key not in PAGING}
        key = (name, tuple(sorted(asked.items())))
        if self.world.kept is None or self.world.kept[0] != key:
            self.world.kept = (key, make())
        return self.world.kept[1]

    def rows_asked(self, default: int, most: int) -> tuple[int, int]:
        """Limit and offset."""
        limit, offset = self.number("limit", default, most), self.number("offset", 0)
        if limit + offset > ROW_LIMIT:
            raise ApiError(400, "Invalid Input Provided", 2002, ["Offset plus limit must not exceed 10000."])
        return limit, offset

    def page(self, name: str, rows: Sequence[Any], show: Callable[[Any], Any] = lambda row: row) -> Document:
        limit, offset = self.rows_asked(25, 100)
        return {
            name: [show(row) for row in rows[offset : offset + limit]],
            "limit": limit,
            "offset": offset,
            "total": len(rows) if self.flag("total") else None,
            "more": offset + limit < len(rows),
        }

    def tell(self, event: str, subject: Incident | Document, detail: Document | None = None) -> None:
        """Have the webhooks told of an event. ``subject``: an incident or a service. ``detail``: what is told instead of it."""
        if isinstance(subject, Incident):
            # As it is now: the same call may go on to change it.
            subject = dataclasses.replace(subject, extra=copy.copy(subject.extra))
        self.world.outbox.append((event, subject, self.sender, self.now, detail))

    def read(self, name: str, shape: Shape) -> Any:
        """What a body holds under ``name``, once all of it has its shape: ``{"incident": {...}}``."""
        faults: list[Fault] = []
        found = shape(self._inner(name), (), faults)
        if faults:
            raise invalid(*(sentence(fault, name) for fault in faults))
        return found

    def read_all(self, shape: Shape) -> Any:
        """The same of a body that is the object itself."""
        faults: list[Fault] = []
        found = shape(self.body, (), faults)
        if faults:
            raise invalid(*(sentence(fault, "body") for fault in faults))
        return found

    def read_v3(self, name: str, shape: Shape) -> Any:
        """The same, with the map of fields that v3 answers."""
        faults: list[Fault] = []
        found = shape(self._inner(name), (), faults)
        if faults:
            raise v3_invalid(faults, name)
        return found

    def _inner(self, name: str) -> Any:
        return self.body.get(name) if isinstance(self.body, dict) else None


Result = tuple[int, Any]
Operation = Callable[[Ask], Result]
ROUTES: Final[dict[tuple[str, str], Operation]] = {}
NEEDS_FROM: Final[set[tuple[str, str]]] = set()
BODY_OPTIONAL: Final[set[tuple[str, str]]] = set()
GATED: Final[set[tuple[str, str]]] = set()
"""What an account needs an ability of a larger plan for, as PagerDuty's own descriptions say."""
SCOPES: Final[dict[tuple[str, str], str]] = {}


def route(
    method: str,
    path: str,
    scope: str = "",
    *,
    needs_from: bool = False,
    plan: bool = False,
    body_optional: bool = False,
) -> Callable[[Operation], Operation]:
    def register(operation: Operation) -> Operation:
        ROUTES[method, path] = operation
        SCOPES[method, path] = scope
        if needs_from:
            NEEDS_FROM.add((method, path))
        if plan:
            GATED.add((method, path))
        if body_optional:
            BODY_OPTIONAL.add((method, path))
        return operation

    return register


def find(rows: Iterable[Document], identifier: str) -> Document:
    for row in rows:
        if row["id"] == identifier:
            return row
    raise not_found()


def find_incident(world: World, identifier: str) -> Incident:
    """By its id, which tells its place, or by its number."""
    place = -1
    if re.fullmatch(r"PI[0-9A-Z]{6}", identifier, re.ASCII):
        place = int(identifier[2:], 36)
    elif re.fullmatch(r"[1-9]\d{0,8}", identifier, re.ASCII):
        place = int(identifier) - 1
    if not 0 <= place < len(world.incidents):
        raise not_found()
    return world.incidents[place]


def created_between(incidents: Sequence[Incident], since: float, until: float) -> Sequence[Incident]:
    """They stand in the order in which they were made: what is made later has the later time."""
    low = bisect_left(incidents, since, key=lambda row: row.created)
    return incidents[low : bisect_right(incidents, until, key=lambda row: row.created)]


def of_teams(rows: Iterable[Document], teams: frozenset[str]) -> list[Document]:
    return [row for row in rows if not teams or any(team["id"] in teams for team in row["teams"])]


def matching(rows: Iterable[Document], query: str) -> list[Document]:
    wanted = query.lower()
    return [row for row in rows if wanted in row.get("name", "").lower() or wanted in str(row.get("email", "")).lower()]
