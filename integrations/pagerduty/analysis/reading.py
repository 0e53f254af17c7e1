"""PagerDuty's documents, read into the values of ``model.py``.

What is inside a document is never trusted to be as documented: whatever cannot be taken as it stands is a ``Problem`` with a
name, and the rest is read. Where a doubt could make a schedule look better covered than it is, it is read as covering less.
Only what is no such document at all is refused, by ``ValueError``.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, NamedTuple
from zoneinfo import ZoneInfo

from integrations.pagerduty.analysis import recurrence as recurring
from integrations.pagerduty.analysis.model import (
    Contact,
    CustomShift,
    Event,
    Layer,
    Level,
    Override,
    Person,
    Policy,
    Problem,
    Restriction,
    Rotation,
    Rung,
    Schedule,
    Service,
    Slice,
    Source,
    Span,
    Target,
)
from integrations.pagerduty.analysis.zones import zone_of

Document = Mapping[str, Any]

DAY: Final = 86_400
MOST_LAYERS: Final = 60
"""Of a schedule, as PagerDuty documents it."""
SHORTEST_TURN, LONGEST_TURN = 3_600, 365 * DAY
"""Seconds, as PagerDuty's clients hold them."""
FOREVER: Final = int(dt.datetime(recurring.LAST_YEAR, 12, 31, tzinfo=dt.UTC).timestamp())
"""The end of a rendered entry that has none."""
LONGEST_EVENT: Final = 366 * DAY


class _Moment(NamedTuple):
    at: int
    offset: int | None
    """Seconds from UTC, as it was written; None: it was written without."""


@dataclass
class _Reader:
    """Gathers what is wrong with one document."""

    zone: ZoneInfo = field(default_factory=lambda: zone_of("UTC"))
    found: dict[Problem, None] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)

    def problem(self, code: str, words: str, where: str = "") -> None:
        self.found[Problem(code, words, where)] = None

    @property
    def problems(self) -> tuple[Problem, ...]:
        return tuple(self.found)

    def rows(self, document: Document, name: str, where: str = "", *, needed: bool = True) -> list[Document]:
        """The objects of a list."""
        value = document.get(name)
        if value is None:
            if needed:
                self.problem("missing_field", f"It has no {name}.", where)
            return []
        if not isinstance(value, list):
            self.problem("wrong_type", f"Its {name} is no list, and is left out.", where)
            return []
        good = [row for row in value if isinstance(row, Mapping)]
        if len(good) < len(value):
            self.problem("wrong_type", f"Something in its {name} is no object, and is left out.", where)
        return good

    def text(self, document: Document, name: str, where: str = "") -> str:
        value = document.get(name)
        if value is not None and not isinstance(value, str):
            self.problem("wrong_type", f"Its {name} is no text, and is left out.", where)
        return value if isinstance(value, str) else ""

    def whole(self, document: Document, name: str, where: str = "") -> int | None:
        value = document.get(name)
        if value is None:
            self.problem("missing_field", f"It has no {name}.", where)
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            self.problem("wrong_type", f"Its {name} is no whole number.", where)
            return None
        return value

    def moment(self, document: Document, name: str, where: str = "", *, zone: ZoneInfo | None = None) -> _Moment | None:
        """None: there is none, or none that can be read, which is then a problem. Of what is smaller than a second nothing is
        kept.
        """
        value = document.get(name)
        if value is None:
            return None
        if not isinstance(value, str):
            self.problem("wrong_type", f"Its {name} is no time.", where)
            return None
        try:
            moment = dt.datetime.fromisoformat(value)
        except ValueError:
            self.problem("unreadable_time", f"Its {name} cannot be read as a time.", where)
            return None
        if not recurring.FIRST_YEAR <= moment.year <= recurring.LAST_YEAR:
            self.problem("unreadable_time", f"Its {name} is not of the years 1970 to 2199.", where)
            return None
        offset = moment.utcoffset()
        if offset is None:
            moment = moment.replace(tzinfo=zone or self.zone)
        seconds = None if offset is None else int(offset.total_seconds())
        return _Moment(math.floor(moment.timestamp()), seconds)

    def named_zone(self, document: Document, name: str, where: str = "") -> ZoneInfo | None:
        value = document.get(name)
        if value is None:
            self.problem("missing_field", f"It has no {name}.", where)
            return None
        try:
            return zone_of(value if isinstance(value, str) else "")
        except ValueError:
            said = repr(value)[:60]
            self.problem("unknown_zone", f"Its {name} is none that is known: {said}.", where)
            return None

    def user(self, entry: Document, where: str) -> str:
        """An id; empty: nobody that is named."""
        value = entry.get("user")
        if value is not None and not isinstance(value, Mapping):
            self.problem("wrong_type", "A user in it is no object: nobody covers that turn.", where)
            return ""
        identifier = value.get("id") if value else None
        if not isinstance(identifier, str) or not identifier:
            self.problem("null_user", "A turn in it names no user: nobody covers it.", where)
            return ""
        if value and value.get("deleted_at"):
            self.deleted.add(identifier)
            name = value.get("summary")
            said = name[:60] if isinstance(name, str) and name else identifier
            self.problem(
                "deleted_user", f"{said} was deleted, and still has turns in it: nobody is woken in them.", where
            )
        return identifier

    def member(self, value: Any, where: str) -> str:
        """Of a v3 schedule. Empty: an empty member, whose shift nobody covers."""
        if isinstance(value, Mapping) and value.get("type") == "empty_member":
            return ""
        identifier = value.get("user_id") if isinstance(value, Mapping) else None
        if not isinstance(identifier, str) or not identifier:
            self.problem("null_user", "A member in it is no user: nobody covers those shifts.", where)
            return ""
        return identifier

    def span(self, row: Document, first: str, last: str, where: str) -> Span | None:
        """None: it has no two ends in their order, which is then a problem."""
        start, end = self.moment(row, first, where), self.moment(row, last, where)
        if start is None or end is None:
            self.problem("missing_field", f"It has no {first} and {last} that can be read, and is left out.", where)
            return None
        if end.at <= start.at:
            self.problem("ends_before_start", "It does not end after it starts, and is left out.", where)
            return None
        return Span(start.at, end.at)


def schedule(document: Mapping[str, Any], overrides: Sequence[Mapping[str, Any]] | None = None) -> Schedule:
    """A v2 or v3 schedule: the answer of ``GET /schedules/{id}`` or ``GET /v3/schedules/{id}``, or what is under its
    ``schedule``.

    ``overrides``: rows of ``GET …/overrides``, in the order of their creation; without them a v2 schedule's are what
    PagerDuty rendered of them, in which the later ones have won already, and a v3 schedule's what the document holds. Raises
    ``ValueError``: it is no such document.
    """
    inner = document.get("schedule", document) if isinstance(document, Mapping) else document
    if not isinstance(inner, Mapping):
        raise ValueError("This is no schedule document: it holds no object.")
    kind = inner.get("type")
    if isinstance(kind, str) and kind.endswith("_reference"):
        raise ValueError("This is only a reference to a schedule. Ask for the schedule itself: GET /schedules/{id}.")
    if kind == "schedule_v3" or (kind is None and "rotations" in inner):
        return _v3(inner, overrides)
    parts = ("schedule_layers", "final_schedule", "overrides_subschedule", "time_zone")
    if kind not in (None, "schedule") or not any(name in inner for name in parts):
        raise ValueError("This is no schedule document: it has neither schedule_layers nor rotations.")
    if _is_v1(inner):
        raise ValueError(
            "This schedule is a document of version 1 of PagerDuty's REST API, which was switched off: its layers have a "
            "priority and a restriction_type. Ask version 2 for it: GET /schedules/{id} with "
            "Accept: application/vnd.pagerduty+json;version=2."
        )
    return _v2(inner, overrides)


def _is_v1(inner: Document) -> bool:
    layers = inner.get("schedule_layers")
    rows = [row for row in layers if isinstance(row, Mapping)] if isinstance(layers, list) else []
    if any("priority" in row or "restriction_type" in row for row in rows):
        return True
    people = [user for row in rows if isinstance(row.get("users"), list) for user in row["users"]]
    return any(isinstance(user, Mapping) and "member_order" in user for user in people)


def _v2(inner: Document, overrides: Sequence[Document] | None) -> Schedule:
    read = _Reader()
    zone = read.named_zone(inner, "time_zone")
    if zone is None:
        read.problem("zone_assumed", "It is read by the clock of UTC.")
    else:
        read.zone = zone
    if inner.get("schedule_layers") is None and not _entries_of(inner.get("final_schedule")):
        read.problem(
            "no_definition", "It holds neither layers nor rendered entries: who is on call cannot be told from it."
        )
    rows = read.rows(inner, "schedule_layers", needed=False)
    if len(rows) > MOST_LAYERS:
        read.problem(
            "too_many_layers", f"It has {len(rows)} layers, more than the {MOST_LAYERS} that a schedule may have."
        )
    layers: list[Layer] = []
    layers_rendered: list[tuple[str, tuple[Slice, ...]]] = []
    # The answer holds the layer that wins first.
    for place, row in enumerate(reversed(rows)):
        identifier = read.text(row, "id") or str(place + 1)
        name = read.text(row, "name") or f"Layer {place + 1}"
        layer = _layer(read, row, identifier, name)
        if layer is not None:
            layers.append(layer)
        entries = _rendered(read, row, name, Source("layer", identifier, name))
        if entries:
            layers_rendered.append((identifier, entries))
    given = overrides
    if given is None and isinstance(inner.get("overrides"), list) and inner["overrides"]:
        given = read.rows(inner, "overrides")
    subschedule = inner.get("overrides_subschedule")
    if given is None:
        given = _entries_of(subschedule)
    final = inner.get("final_schedule")
    rendered = _rendered(read, final, "final schedule", Source("rendered")) if isinstance(final, Mapping) else ()
    return Schedule(
        id=read.text(inner, "id"),
        name=read.text(inner, "name") or read.text(inner, "summary"),
        kind="v2",
        zone=read.zone.key,
        layers=tuple(layers),
        overrides=tuple(_overrides(read, given)),
        rendered=rendered,
        layers_rendered=tuple(layers_rendered),
        policy_ids=_ids(read, inner, "escalation_policies"),
        team_ids=_ids(read, inner, "teams"),
        url=read.text(inner, "html_url"),
        problems=read.problems,
        deleted=frozenset(read.deleted),
        untold=_untold(inner, "escalation_policies"),
    )


def _layer(read: _Reader, row: Document, identifier: str, name: str) -> Layer | None:
    """None: it cannot be told whose turn it ever is."""
    start, virtual, end = (read.moment(row, part, name) for part in ("start", "rotation_virtual_start", "end"))
    begin, turns_from = start or virtual, virtual or start
    if begin is None or turns_from is None:
        read.problem("missing_field", "It has neither a start nor a rotation_virtual_start, and is left out.", name)
        return None
    if start is None:
        read.problem("missing_field", "It has no start: it is read from its rotation_virtual_start on.", name)
    if virtual is None:
        read.problem("missing_field", "It has no rotation_virtual_start: its turns are counted from its start.", name)
    if end is None and row.get("end") is not None:
        read.problem("unreadable_time", "It ends at a time that cannot be read, and is left out.", name)
        return None
    if end is not None and end.at < begin.at:
        read.problem("ends_before_start", "It ends before it starts, and is never in effect.", name)
        return None
    users = tuple(read.user(entry, name) for entry in read.rows(row, "users", name))
    if not users:
        read.problem("no_users", "It has no users: it puts nobody on call.", name)
        return None
    turn = _turn(read, row, name, len(set(users)))
    if turn is None:
        return None
    given = row.get("restrictions")
    restrictions = tuple(_restrictions(read, row, name))
    if given and not restrictions:
        read.problem("unreadable_restrictions", "None of its restrictions can be read: it is left out.", name)
        return None
    if restrictions:
        _notice_other_zone(read, [moment for moment in (start, virtual, end) if moment is not None], name)
        if _overlap(restrictions):
            read.problem("overlapping_restrictions", "Its restrictions overlap: they are read as their union.", name)
    return Layer(identifier, name, begin.at, end.at if end else None, turns_from.at, turn, users, restrictions)


def _turn(read: _Reader, row: Document, name: str, people: int) -> int | None:
    turn = read.whole(row, "rotation_turn_length_seconds", name)
    if turn is not None and SHORTEST_TURN <= turn <= LONGEST_TURN:
        return turn
    if turn is not None:
        code, said = ("zero_turn", "no time at all") if turn <= 0 else ("odd_turn", "shorter than an hour")
        if turn > LONGEST_TURN:
            said = "longer than 365 days"
        read.problem(code, f"Its turns are {said}, which PagerDuty has none of.", name)
    if people == 1:
        return 7 * DAY  # whatever it is: it is always the same person's
    read.problem("unreadable_turn", "Whose turn it is cannot be told: it is left out.", name)
    return None


def _restrictions(read: _Reader, row: Document, where: str) -> Iterator[Restriction]:
    for each in read.rows(row, "restrictions", where, needed=False):
        kind = each.get("type")
        if kind not in ("daily_restriction", "weekly_restriction"):
            read.problem("wrong_type", "A restriction in it is neither daily nor weekly, and is left out.", where)
            continue
        length = read.whole(each, "duration_seconds", where)
        start = _clock(each.get("start_time_of_day"))
        if length is None or start is None:
            read.problem(
                "unreadable_restriction", "A restriction in it has no start or length that can be read.", where
            )
            continue
        if length <= 0:
            read.problem("ends_before_start", "A restriction in it is of no length, and is left out.", where)
            continue
        if kind == "daily_restriction":
            if length > DAY:
                read.problem("long_restriction", "A daily restriction in it is longer than a day.", where)
            yield Restriction(0, start, min(length, DAY))
            continue
        day = read.whole(each, "start_day_of_week", where)
        if day == 0:
            read.problem("wrong_day", "A restriction in it begins on day 0, which is read as Sunday.", where)
            day = 7
        if day is None or not 1 <= day <= 7:
            read.problem("wrong_day", "A restriction in it begins on no day of the week, and is left out.", where)
            continue
        if length > 7 * DAY:
            read.problem("long_restriction", "A weekly restriction in it is longer than a week.", where)
        yield Restriction(day, start, min(length, 7 * DAY))


def _clock(value: Any) -> int | None:
    """Seconds after 00:00 of ``HH:MM`` or ``HH:MM:SS``."""
    try:
        time = dt.time.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return None if time.tzinfo else time.hour * 3600 + time.minute * 60 + time.second


def _overlap(restrictions: Sequence[Restriction]) -> bool:
    spans = sorted(
        ((day - 1) * DAY + each.start, (day - 1) * DAY + each.start + each.duration)
        for each in restrictions
        for day in ((each.day,) if each.day else range(1, 8))
    )
    reached = spans[0][1] if spans else 0
    for start, end in spans[1:]:
        if start < reached:
            return True
        reached = max(reached, end)
    # The last of the week against the first of the next.
    return bool(spans) and reached > spans[0][0] + 7 * DAY


def _notice_other_zone(read: _Reader, moments: Iterable[_Moment], where: str) -> None:
    """Asked for without ``time_zone``, a schedule is told by the clock of whose token it is; restrictions do not say so."""
    for at, offset in moments:
        if offset is not None and dt.timedelta(seconds=offset) != dt.datetime.fromtimestamp(at, read.zone).utcoffset():
            read.problem(
                "other_zone",
                f"Its times are not by the clock of {read.zone.key}, so the hours of its restrictions may be wrong by as much: "
                "it was asked for without time_zone, or with another.",
                where,
            )
            return


def _entries_of(part: Any) -> list[Document]:
    rows = part.get("rendered_schedule_entries") if isinstance(part, Mapping) else None
    return [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []


def _rendered(read: _Reader, part: Document, where: str, source: Source) -> tuple[Slice, ...]:
    slices = []
    for row in read.rows(part, "rendered_schedule_entries", where, needed=False):
        span = read.span({**row, "end": row.get("end") or _FOREVER_TEXT}, "start", "end", where)
        if span is not None:
            slices.append(Slice(*span, read.user(row, where), source))
    return tuple(sorted(slices))


_FOREVER_TEXT: Final = dt.datetime.fromtimestamp(FOREVER, dt.UTC).isoformat()


def _overrides(read: _Reader, rows: Iterable[Document]) -> Iterator[Override]:
    """Of a v2 schedule."""
    for place, row in enumerate(rows):
        identifier = read.text(row, "id") if isinstance(row, Mapping) else ""
        where = f"override {identifier or place + 1}"
        if not isinstance(row, Mapping):
            read.problem("wrong_type", "It is no object, and is left out.", where)
            continue
        span = read.span(row, "start", "end", where)
        if span is not None:
            yield Override(identifier, *span, read.user(row, where))


def _untold(document: Document, *names: str) -> frozenset[str]:
    """Of these lists those that the document does not hold."""
    return frozenset(name for name in names if not isinstance(document.get(name), list))


def _ids(read: _Reader, document: Document, name: str) -> tuple[str, ...]:
    found = (row.get("id") for row in read.rows(document, name, needed=False))
    return tuple(each for each in found if isinstance(each, str) and each)


# v3


def _v3(inner: Document, overrides: Sequence[Document] | None) -> Schedule:
    read = _Reader()
    zone = read.named_zone(inner, "time_zone")
    if zone is None:
        read.problem("zone_assumed", "It is read by the clock of UTC.")
    else:
        read.zone = zone
    final = inner.get("final_schedule")
    rendered = tuple(_computed(read, final)) if isinstance(final, Mapping) else ()
    if inner.get("rotations") is None and not rendered:
        read.problem(
            "no_definition", "It holds neither rotations nor a final schedule: who is on call cannot be told from it."
        )
    rotations = []
    for place, row in enumerate(read.rows(inner, "rotations", needed=False)):
        identifier = read.text(row, "id") or str(place + 1)
        events = (
            _event(read, each, f"{identifier}-{number + 1}")
            for number, each in enumerate(read.rows(row, "events", f"rotation {identifier}"))
        )
        rotations.append(Rotation(identifier, tuple(event for event in events if event is not None)))
    custom = [_custom_shift(read, row) for row in read.rows(inner, "custom_shifts", needed=False)]
    given = read.rows(inner, "overrides", needed=False) if overrides is None else overrides
    return Schedule(
        id=read.text(inner, "id"),
        name=read.text(inner, "name") or read.text(inner, "summary"),
        kind="v3",
        zone=read.zone.key,
        overrides=tuple(_overrides_v3(read, given)),
        rotations=tuple(rotations),
        custom_shifts=tuple(shift for shift in custom if shift is not None),
        rendered=tuple(sorted(rendered)),
        policy_ids=_ids(read, inner, "escalation_policies"),
        team_ids=_ids(read, inner, "teams"),
        url=read.text(inner, "html_url"),
        problems=read.problems,
        untold=_untold(inner, "escalation_policies"),
    )


def _event(read: _Reader, row: Document, fallback: str) -> Event | None:
    identifier = read.text(row, "id") or fallback
    name = read.text(row, "name") or f"event {identifier}"
    first, last = (_zoned(read, row, part, name) for part in ("start_time", "end_time"))
    if first is None or last is None:
        read.problem("missing_field", "It has no start_time and end_time that can be read, and is left out.", name)
        return None
    zone = first[1]
    start, end = (dt.datetime.fromtimestamp(at, zone).replace(tzinfo=None) for at in (first[0], last[0]))
    length = int((end - start).total_seconds())
    if length <= 0:
        read.problem("ends_before_start", "Its shifts do not end after they start: it is left out.", name)
        return None
    if length > LONGEST_EVENT:
        read.problem("odd_turn", "Its shifts are longer than a year: it is left out.", name)
        return None
    since, until = (read.moment(row, part, name) for part in ("effective_since", "effective_until"))
    if until is None and row.get("effective_until") is not None:
        read.problem("unreadable_time", "It is in effect until a time that cannot be read: it is left out.", name)
        return None
    since_at = first[0] if since is None else since.at
    if until is not None and until.at < since_at:
        read.problem("ends_before_start", "It ends before it is in effect: it is left out.", name)
        return None
    lines = _recurrence(read, row, name, zone, start)
    if lines is None:
        return None
    strategy = row.get("assignment_strategy")
    if not isinstance(strategy, Mapping):
        read.problem("missing_field", "It has no assignment_strategy: whose its shifts are cannot be told.", name)
        return None
    kind = strategy.get("type")
    if kind not in ("every_member_assignment_strategy", "rotating_member_assignment_strategy"):
        read.problem("unknown_strategy", "Its assignment_strategy is none that is known: it is left out.", name)
        return None
    members = tuple(read.member(each, name) for each in read.rows(strategy, "members", name))
    if not members:
        read.problem("no_users", "It has no members: it puts nobody on call.", name)
        return None
    everybody = kind == "every_member_assignment_strategy"
    each = 1 if everybody or "shifts_per_member" not in strategy else read.whole(strategy, "shifts_per_member", name)
    if each is None or each < 1:
        read.problem("zero_turn", "Its shifts_per_member is no number of shifts: it is left out.", name)
        return None
    return Event(
        identifier,
        name,
        zone.key,
        start,
        length,
        since_at,
        until.at if until else None,
        lines,
        everybody,
        each,
        members,
    )


def _zoned(read: _Reader, row: Document, name: str, where: str) -> tuple[int, ZoneInfo] | None:
    """``{date_time, time_zone}``. A ``date_time`` with an offset is that instant; without, it is local."""
    value = row.get(name)
    if not isinstance(value, Mapping):
        return None
    zone = read.named_zone(value, "time_zone", where)
    if zone is None:
        return None
    moment = read.moment(value, "date_time", where, zone=zone)
    return None if moment is None else (moment.at, zone)


def _recurrence(read: _Reader, row: Document, where: str, zone: ZoneInfo, start: dt.datetime) -> tuple[str, ...] | None:
    lines = row.get("recurrence")
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        read.problem("unreadable_recurrence", "It has no recurrence that can be read: it is left out.", where)
        return None
    try:
        rule = recurring.recurrence(tuple(lines), zone.key)
    except (ValueError, OverflowError) as error:
        read.problem("unreadable_recurrence", f"Its recurrence {str(error)[:120]}: it is left out.", where)
        return None
    if not recurring.ever_starts(rule, start):
        read.problem("unreadable_recurrence", "Its recurrence never comes round: it is left out.", where)
        return None
    return tuple(lines)


def _custom_shift(read: _Reader, row: Document) -> CustomShift | None:
    identifier = read.text(row, "id")
    where = f"custom shift {identifier}"
    span = read.span(row, "start_time", "end_time", where)
    if span is None:
        return None
    users = tuple(read.member(each.get("member"), where) for each in read.rows(row, "assignments", where))
    return CustomShift(identifier, *span, users)


def _overrides_v3(read: _Reader, rows: Iterable[Document]) -> Iterator[Override]:
    for place, row in enumerate(rows):
        identifier = read.text(row, "id") if isinstance(row, Mapping) else ""
        where = f"override {identifier or place + 1}"
        if not isinstance(row, Mapping):
            read.problem("wrong_type", "It is no object, and is left out.", where)
            continue
        span = read.span(row, "start_time", "end_time", where)
        source = read.text(row, "rotation_id", where) or read.text(row, "custom_shift_id", where)
        if span is None:
            continue
        if not source:
            read.problem("missing_field", "It names neither a rotation nor a custom shift: it is left out.", where)
            continue
        user, replaces = (read.member(row.get(name), where) for name in ("overriding_member", "overridden_member"))
        yield Override(identifier, *span, user, source, replaces)


_SOURCES: Final[Mapping[str, tuple[Literal["rotation", "custom_shift", "override"], str]]] = {
    "schedule_rotation": ("rotation", "rotation_id"),
    "custom_shift": ("custom_shift", "shift_id"),
    "schedule_rotation_override": ("override", "override_id"),
    "custom_shift_override": ("override", "override_id"),
}


def _computed(read: _Reader, final: Document) -> Iterator[Slice]:
    where = "final schedule"
    for row in read.rows(final, "computed_shift_assignments", where, needed=False):
        span = read.span(row, "start_time", "end_time", where)
        if span is None:
            continue
        told = row.get("source")
        source = Source("rendered")
        if isinstance(told, Mapping) and isinstance(told.get("type"), str) and told["type"] in _SOURCES:
            kind, name = _SOURCES[told["type"]]
            source = Source(kind, read.text(told, name, where))
        yield Slice(*span, read.member(row.get("member"), where), source)


# Policies, services, people


def _inner(document: Any, name: str, what: str) -> Document:
    inner = document.get(name, document) if isinstance(document, Mapping) else document
    if not isinstance(inner, Mapping) or not isinstance(inner.get("id"), str):
        raise ValueError(f"This is no document of {what}: it has no id.")
    return inner


def policy(document: Mapping[str, Any]) -> Policy:
    """An escalation policy. ``ValueError``: it is no such document."""
    inner = _inner(document, "escalation_policy", "an escalation policy")
    read = _Reader()
    levels = []
    for place, row in enumerate(read.rows(inner, "escalation_rules")):
        where = f"level {place + 1}"
        delay = read.whole(row, "escalation_delay_in_minutes", where)
        if delay is not None and delay < 0:
            read.problem("ends_before_start", "Its delay is less than nothing: it is read as none.", where)
        targets = (_target(read, each, where) for each in read.rows(row, "targets", where))
        strategy = row.get("escalation_rule_assignment_strategy")
        if isinstance(strategy, list):
            # As PagerDuty's own example has it; its schema says a word.
            strategy = strategy[0] if strategy else None
        kind = strategy.get("type") if isinstance(strategy, Mapping) else strategy
        levels.append(
            Level(max(delay or 0, 0), tuple(target for target in targets if target is not None), kind == "round_robin")
        )
    loops = None if inner.get("num_loops") is None else read.whole(inner, "num_loops")
    return Policy(
        inner["id"],
        read.text(inner, "name") or read.text(inner, "summary"),
        tuple(levels),
        max(loops or 0, 0),
        _ids(read, inner, "services"),
        _ids(read, inner, "teams"),
        read.text(inner, "html_url"),
        read.problems,
        read.text(inner, "on_call_handoff_notifications"),
        _untold(inner, "services", "teams") | ({"num_loops"} if loops is None else set()),
    )


def without_gone(policy: Policy, here: Set[str]) -> Policy:
    """PagerDuty goes on naming people who were deleted: the policy with those marked who are not among ``here``, the ids of all
    people of the account."""
    gone = {one.id for level in policy.levels for one in level.targets if one.kind == "user" and one.id not in here}
    if not gone:
        return policy
    levels = (
        replace(level, targets=tuple(one._replace(deleted=one.deleted or one.id in gone) for one in level.targets))
        for level in policy.levels
    )
    return replace(policy, levels=tuple(levels))


def _target(read: _Reader, row: Document, where: str) -> Target | None:
    kind, identifier = row.get("type"), row.get("id")
    if not isinstance(identifier, str) or not identifier or not isinstance(kind, str):
        read.problem("null_user", "A target of it has no id or no type, and is left out.", where)
        return None
    name = read.text(row, "summary", where) or read.text(row, "name", where)
    deleted = bool(row.get("deleted_at"))
    if kind.startswith("user"):
        return Target("user", identifier, name, deleted)
    if kind.startswith("schedule"):
        return Target("schedule", identifier, name, deleted)
    read.problem("unknown_target", f"A target of it is neither a user nor a schedule, but {kind[:60]!r}.", where)
    return None


def service(document: Mapping[str, Any]) -> Service:
    """``ValueError``: it is no such document."""
    inner = _inner(document, "service", "a service")
    read = _Reader()
    escalation = inner.get("escalation_policy")
    rule = inner.get("incident_urgency_rule")
    urgency = "high"
    if isinstance(rule, Mapping):
        # "constant" says which; the other types of rule are their own answer.
        told = rule.get("urgency") if rule.get("type") == "constant" else rule.get("type")
        urgency = {"use_support_hours": "support_hours"}.get(told, told) if isinstance(told, str) else "high"
    return Service(
        inner["id"],
        read.text(inner, "name") or read.text(inner, "summary"),
        read.text(inner, "status"),
        read.text(escalation, "id") if isinstance(escalation, Mapping) else "",
        _ids(read, inner, "teams"),
        urgency,
        read.text(inner, "html_url"),
        frozenset() if "escalation_policy" in inner else frozenset({"escalation_policy"}),
    )


_CONTACTS: Final[Mapping[str, Literal["email", "phone", "sms", "push"]]] = {
    "email_contact_method": "email",
    "phone_contact_method": "phone",
    "sms_contact_method": "sms",
    "push_notification_contact_method": "push",
}


def person(document: Mapping[str, Any]) -> Person:
    """A user, with contact methods and notification rules where the document holds them. ``ValueError``: it is no such
    document.
    """
    inner = _inner(document, "user", "a user")
    read = _Reader()
    zone = read.named_zone(inner, "time_zone")
    contacts = None
    if isinstance(inner.get("contact_methods"), list):
        rows = read.rows(inner, "contact_methods")
        contacts = tuple(contact for contact in (_contact(read, row) for row in rows) if contact is not None)
    return Person(
        inner["id"],
        read.text(inner, "name") or read.text(inner, "summary"),
        read.text(inner, "email"),
        zone.key if zone else "UTC",
        contacts,
        _ladder(read, inner),
        _ids(read, inner, "teams"),
        read.text(inner, "html_url"),
        inner.get("invitation_sent") is True,
    )


def _kind_of(row: Document) -> Literal["email", "phone", "sms", "push", "other"]:
    kind = row.get("type")
    return _CONTACTS.get(kind.removesuffix("_reference"), "other") if isinstance(kind, str) else "other"


def _contact(read: _Reader, row: Document) -> Contact | None:
    identifier = read.text(row, "id")
    if not identifier:
        return None
    label = read.text(row, "label") or read.text(row, "summary")
    return Contact(identifier, _kind_of(row), label, read.text(row, "address"))


def _ladder(read: _Reader, inner: Document) -> tuple[Rung, ...] | None:
    """None where the rules are not there, or only referred to: what they say is then not known."""
    if not isinstance(inner.get("notification_rules"), list):
        return None
    rungs = []
    for row in read.rows(inner, "notification_rules"):
        delay, contact = row.get("start_delay_in_minutes"), row.get("contact_method")
        if isinstance(delay, bool) or not isinstance(delay, int):
            return None
        method = contact if isinstance(contact, Mapping) else {}
        rungs.append(
            Rung(max(delay, 0), read.text(row, "urgency") or "high", read.text(method, "id"), _kind_of(method))
        )
    return tuple(sorted(rungs))
