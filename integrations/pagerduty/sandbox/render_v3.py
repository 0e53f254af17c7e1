"""Who is on call when: a v3 schedule's rotations, custom shifts and overrides, rendered over a window; and its documents.

A rotation holds events. An event recurs by an RRULE in its own time zone; each occurrence is a shift of one member (they
take turns) or of all of them. Custom shifts come on top: several people may be on call at once. An override replaces one
member in the shifts of one rotation, or in one custom shift. An empty member's shift is there, and covers nothing.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice, pairwise
from typing import Any, Final, Literal, NamedTuple
from zoneinfo import ZoneInfo

from dateutil import rrule

from integrations.pagerduty.sandbox.render import Shift
from integrations.pagerduty.sandbox.world import (
    DAY,
    FIRST_YEAR,
    LAST_YEAR,
    World,
    iso,
    parse_time,
    reference,
)

Document = dict[str, Any]

FREQUENCIES: Final[dict[str, Literal[0, 1, 2, 3, 4, 5, 6]]] = {
    "HOURLY": rrule.HOURLY,
    "DAILY": rrule.DAILY,
    "WEEKLY": rrule.WEEKLY,
    "MONTHLY": rrule.MONTHLY,
    "YEARLY": rrule.YEARLY,
}
DAYS: Final = {
    "MO": rrule.MO,
    "TU": rrule.TU,
    "WE": rrule.WE,
    "TH": rrule.TH,
    "FR": rrule.FR,
    "SA": rrule.SA,
    "SU": rrule.SU,
}
LONGEST_SHIFT: Final = 366 * DAY
MOST_DATES: Final = 366
_LINE: Final = re.compile(
    r"(?P<name>RRULE|EXDATE|RDATE)(?:;TZID=(?P<zone>[^;:]+)|;VALUE=[A-Z-]+)*:(?P<text>.*)", re.ASCII | re.IGNORECASE
)
_STAMP: Final = re.compile(r"(\d{8})(?:T(\d{6})(Z?))?", re.ASCII)
_BYDAY: Final = re.compile(r"([+-]?[1-5])?(MO|TU|WE|TH|FR|SA|SU)", re.ASCII)


class Slot(NamedTuple):
    """A shift of one member, from one source."""

    start: float
    end: float
    user: str
    """An id; empty: nobody, the slot of an empty member."""
    source: Document


@dataclass(frozen=True, slots=True)
class Recurrence:
    """A recurrence set of RFC 5545, as far as schedules use it. Times are local ones, without a zone."""

    frequency: str
    interval: int = 1
    days: tuple[tuple[int, str], ...] = ()
    """BYDAY: which of the month (0: each), and the day."""
    month_days: tuple[int, ...] = ()
    week_start: str = "MO"
    count: int | None = None
    until: dt.datetime | None = None
    left_out: frozenset[dt.datetime] = frozenset()
    added: tuple[dt.datetime, ...] = ()

    def period(self) -> dt.timedelta | None:
        """After which it repeats itself exactly; None: months have no length."""
        if self.frequency == "HOURLY":
            return dt.timedelta(hours=math.lcm(self.interval, 168) if self.days else self.interval)
        if self.frequency == "DAILY":
            return dt.timedelta(days=math.lcm(self.interval, 7) if self.days else self.interval)
        return dt.timedelta(weeks=self.interval) if self.frequency == "WEEKLY" else None

    def walk(self, first: dt.datetime, until: dt.datetime) -> Iterator[dt.datetime]:
        """The rule's occurrences from ``first`` on, before ``until``; without COUNT, UNTIL and single dates."""
        days = [DAYS[day](which) if which else DAYS[day] for which, day in self.days]
        for start in rrule.rrule(
            FREQUENCIES[self.frequency],
            dtstart=first,
            interval=self.interval,
            wkst=DAYS[self.week_start],
            byweekday=days or None,
            bymonthday=self.month_days or None,
            until=until,
        ):
            if start >= until:
                return
            yield start


@lru_cache(maxsize=1024)
def recurrence(lines: tuple[str, ...], zone: str) -> Recurrence:
    """Read ``recurrence``. Raises ``ValueError`` with what is wrong with it."""
    rules = [line for line in lines if line.upper().startswith("RRULE:")]
    if len(rules) != 1:
        raise ValueError("must contain exactly one RRULE")
    left_out: list[dt.datetime] = []
    added: list[dt.datetime] = []
    for line in lines:
        match = _LINE.fullmatch(line)
        if match is None:
            raise ValueError("may contain RRULE, EXDATE and RDATE only")
        if match["name"].upper() == "RRULE":
            continue
        own = None if match["zone"] is None else _zone(match["zone"])
        dates = [_moment(part, zone, own) for part in match["text"].split(",")]
        (left_out if match["name"].upper() == "EXDATE" else added).extend(dates)
    if len(left_out) + len(added) > MOST_DATES:
        raise ValueError(f"must not name more than {MOST_DATES} dates")
    return _rule(rules[0][6:], zone, frozenset(left_out), tuple(sorted(added)))


def _rule(text: str, zone: str, left_out: frozenset[dt.datetime], added: tuple[dt.datetime, ...]) -> Recurrence:
    parts = [part.partition("=") for part in text.upper().split(";") if part]
    found = {name: value for name, _, value in parts}
    if len(found) != len(parts):
        raise ValueError("names a part of its RRULE twice")
    if unknown := found.keys() - {"FREQ", "INTERVAL", "BYDAY", "BYMONTHDAY", "WKST", "COUNT", "UNTIL"}:
        raise ValueError(f"has an RRULE with a part that is not supported: {min(unknown)}")
    frequency = found.get("FREQ", "")
    if frequency not in FREQUENCIES:
        raise ValueError(f"must have a FREQ of {', '.join(FREQUENCIES)}")
    if "COUNT" in found and "UNTIL" in found:
        raise ValueError("must not have both COUNT and UNTIL")
    days = []
    for part in found["BYDAY"].split(",") if "BYDAY" in found else ():
        match = _BYDAY.fullmatch(part)
        if match is None or (match[1] and frequency not in ("MONTHLY", "YEARLY")):
            raise ValueError("has a BYDAY that is no day of its FREQ")
        days.append((int(match[1] or 0), match[2]))
    month_days = (
        tuple(_whole(part, -28, 28) for part in found["BYMONTHDAY"].split(",")) if "BYMONTHDAY" in found else ()
    )
    if month_days and (frequency != "MONTHLY" or 0 in month_days):
        raise ValueError("has a BYMONTHDAY that is no day of its FREQ")
    if found.get("WKST", "MO") not in DAYS:
        raise ValueError("has a WKST that is no day")
    return Recurrence(
        frequency,
        _whole(found.get("INTERVAL", "1"), 1, 1000),
        tuple(days),
        month_days,
        found.get("WKST", "MO"),
        _whole(found["COUNT"], 1, 10_000) if "COUNT" in found else None,
        _moment(found["UNTIL"], zone, None, dt.time(23, 59, 59)) if "UNTIL" in found else None,
        left_out,
        added,
    )


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (OSError, KeyError):
        raise ValueError("has a TZID that is no time zone") from None


def _whole(text: str, low: int, high: int) -> int:
    if not re.fullmatch(r"[+-]?\d{1,7}", text, re.ASCII) or not low <= int(text) <= high:
        raise ValueError(f"has a number that is not from {low} to {high}")
    return int(text)


def _moment(text: str, zone: str, own: ZoneInfo | None, clock: dt.time = dt.time()) -> dt.datetime:
    """A date or a time of RFC 5545, as the local time of ``zone``; a date alone is that ``clock`` of its day."""
    match = _STAMP.fullmatch(text.strip())
    if match is None:
        raise ValueError("has a date that cannot be read")
    found = dt.datetime.combine(dt.datetime.strptime(match[1], "%Y%m%d").date(), clock)  # noqa: DTZ007
    if match[2]:
        found = dt.datetime.strptime(match[1] + match[2], "%Y%m%d%H%M%S")  # noqa: DTZ007
    if not FIRST_YEAR <= found.year <= LAST_YEAR:
        raise ValueError("has a date out of reach")
    if match[3] or own:
        moment = found.replace(tzinfo=dt.UTC if match[3] else own)
        return moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    return found


@lru_cache(maxsize=1024)
def _in_a_period(rule: Recurrence, first: dt.datetime) -> int:
    period = rule.period()
    return 0 if period is None else sum(1 for _ in rule.walk(first, first + period))


def starts(
    rule: Recurrence, first: dt.datetime, low: dt.datetime, high: dt.datetime
) -> Iterator[tuple[int, dt.datetime]]:
    """The local starts from ``low`` to before ``high``, each with its number, counted from the first; single dates come last."""
    number, begin, period = 0, first, rule.period()
    if period is not None and low > first:
        # What repeats itself need not be walked through from its beginning.
        skipped = (low - first) // period
        number, begin = skipped * _in_a_period(rule, first), first + skipped * period
    end = high if rule.until is None else min(high, rule.until + dt.timedelta(seconds=1))
    for start in rule.walk(begin, end):
        if rule.count is not None and number >= rule.count:
            break
        if start >= low and start not in rule.left_out:
            yield number, start
        number += 1
    for start in rule.added:
        if low <= start < high and start not in rule.left_out:
            yield from _added(rule, first, start)


def _added(rule: Recurrence, first: dt.datetime, start: dt.datetime) -> Iterator[tuple[int, dt.datetime]]:
    """An RDATE is one more shift of whoever had the last one; none where the rule itself has one."""
    bare = replace(rule, added=())
    back = rule.period() or dt.timedelta(days=366 * rule.interval)
    end = start if rule.until is None else min(start, rule.until)
    low = first if rule.count is not None else max(first, end - back)
    before = list(starts(bare, first, low, start + dt.timedelta(seconds=1)))
    if not before or before[-1][1] != start:
        yield (before[-1][0] if before else 0), start


def meet(some: Iterable[Shift], others: Iterable[Shift]) -> bool:
    """Whether any of some is at the same time as any of the others."""
    ends = [-math.inf, -math.inf]
    marked = [(*shift[:2], 0) for shift in some] + [(*shift[:2], 1) for shift in others]
    for start, end, side in sorted(marked):
        if ends[1 - side] > start:
            return True
        ends[side] = max(ends[side], end)
    return False


def ever_starts(rule: Recurrence, first: dt.datetime) -> bool:
    """Whether its steps ever meet its days. Asked before it is walked, which would not end where they do not."""
    if rule.frequency not in ("HOURLY", "DAILY") or not rule.days:
        return True
    step = dt.timedelta(hours=rule.interval * (1 if rule.frequency == "HOURLY" else 24))
    wanted = {list(DAYS).index(day) for _, day in rule.days}
    return any((first + number * step).weekday() in wanted for number in range(168))


def overlaps_itself(rule: Recurrence, first: dt.datetime, length: dt.timedelta) -> bool:
    period = rule.period()
    until = first + (dt.timedelta(days=5 * 366) if period is None else 2 * period)
    begun = list(islice(rule.walk(first, until), 400))
    return any(later - earlier < length for earlier, later in pairwise(begun))


def local(zoned: Document) -> dt.datetime:
    """``{date_time, time_zone}`` as a local time. A ``date_time`` with an offset is that instant; without, it is local."""
    zone = ZoneInfo(zoned["time_zone"])
    return dt.datetime.fromtimestamp(int(parse_time(zoned["date_time"], zone)), zone).replace(tzinfo=None)


def span(event: Document) -> tuple[dt.datetime, dt.timedelta]:
    """An event's first local start, and how long its shifts are by the clock of its zone."""
    start = local(event["start_time"])
    end = local(event["end_time"])
    if event["end_time"]["time_zone"] != event["start_time"]["time_zone"]:
        moment = end.replace(tzinfo=ZoneInfo(event["end_time"]["time_zone"]))
        end = moment.astimezone(ZoneInfo(event["start_time"]["time_zone"])).replace(tzinfo=None)
    return start, end - start


def event_shifts(event: Document, since: float, until: float) -> list[Shift]:
    """An event's shifts that touch the window, whole, but for where the event itself begins or ends to be in effect."""
    first, length = span(event)
    name = event["start_time"]["time_zone"]
    zone = ZoneInfo(name)
    since = max(since, parse_time(event["effective_since"]))
    if event["effective_until"] is not None:
        until = min(until, parse_time(event["effective_until"]))
    if since >= until:
        return []
    strategy = event["assignment_strategy"]
    members = [member.get("user_id", "") for member in strategy["members"]]
    turns = strategy.get("shifts_per_member", 1)
    everybody = strategy["type"] == "every_member_assignment_strategy"
    # An hour or two more: where the clock changes, local times are no distances.
    low = dt.datetime.fromtimestamp(since, zone).replace(tzinfo=None) - length - dt.timedelta(days=1)
    high = dt.datetime.fromtimestamp(until, zone).replace(tzinfo=None) + dt.timedelta(days=1)
    found: list[Shift] = []
    opened = parse_time(event["effective_since"])
    closed = math.inf if event["effective_until"] is None else parse_time(event["effective_until"])
    for number, start in starts(recurrence(tuple(event["recurrence"]), name), first, max(low, first), high):
        begin = max(start.replace(tzinfo=zone).timestamp(), opened)
        finish = min((start + length).replace(tzinfo=zone).timestamp(), closed)
        if begin < finish and begin < until and finish > since:
            chosen = members if everybody else [members[number // turns % len(members)]]
            found += [(begin, finish, user) for user in chosen]
    return found


def _overridden(shift: Shift, source: Document, kind: str, overrides: Iterable[Document]) -> Iterator[Slot]:
    """A shift as the overrides of its source leave it; of two at once, the last created wins."""
    pieces = [Slot(*shift, source)]
    for override in overrides:
        low, high = parse_time(override["start_time"]), parse_time(override["end_time"])
        replaced = override["overridden_member"].get("user_id", "")
        cut: list[Slot] = []
        for piece in pieces:
            a, b = max(piece.start, low), min(piece.end, high)
            if a >= b or replaced not in (piece.user, shift[2]):
                cut.append(piece)
                continue
            user = override["overriding_member"].get("user_id", "")
            cut += [piece._replace(end=a)] * (piece.start < a)
            cut.append(Slot(a, b, user, {**source, "type": kind, "override_id": override["id"]}))
            cut += [piece._replace(start=b)] * (b < piece.end)
        pieces = cut
    for number, piece in enumerate(pieces):
        # What one override left in two pieces, and another took whole, is one again.
        if number + 1 < len(pieces) and pieces[number + 1][2:] == piece[2:]:
            pieces[number + 1] = piece._replace(end=pieces[number + 1].end)
        else:
            yield piece


def slots(schedule: Document, since: float, until: float, *, overflow: bool = False) -> list[Slot]:
    """All shifts of the window, in order; cut at its edges unless ``overflow``."""
    found: list[Slot] = []
    for rotation in schedule["rotations"]:
        overrides = [row for row in schedule["overrides"] if row.get("rotation_id") == rotation["id"]]
        source = {"type": "schedule_rotation", "rotation_id": rotation["id"]}
        for event in rotation["events"]:
            for shift in event_shifts(event, since, until):
                found += _overridden(shift, source, "schedule_rotation_override", overrides)
    for custom in schedule["custom_shifts"]:
        overrides = [row for row in schedule["overrides"] if row.get("custom_shift_id") == custom["id"]]
        source = {"type": "custom_shift", "shift_id": custom["id"]}
        user = custom["assignments"][0]["member"].get("user_id", "")
        shift = (parse_time(custom["start_time"]), parse_time(custom["end_time"]), user)
        found += _overridden(shift, source, "custom_shift_override", overrides)
    found = [slot for slot in found if slot.start < until and slot.end > since]
    if not overflow:
        found = [slot._replace(start=max(slot.start, since), end=min(slot.end, until)) for slot in found]
    return sorted(found, key=lambda slot: slot[:3])


def joined(spans: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """The same time, in order and apart from each other."""
    found: list[tuple[float, float]] = []
    for low, high in sorted(spans):
        if found and found[-1][1] >= low:
            found[-1] = (found[-1][0], max(found[-1][1], high))
        else:
            found.append((low, high))
    return found


def on_call(schedule: Document, since: float, until: float) -> list[Shift]:
    """Who is on call: one entry for each unbroken time of a person, however many shifts it is made of."""
    spans: dict[str, list[tuple[float, float]]] = {}
    for slot in slots(schedule, since, until):
        if slot.user:
            spans.setdefault(slot.user, []).append((slot.start, slot.end))
    return sorted((low, high, user) for user, times in spans.items() for low, high in joined(times))


def coverage_v3(found: Sequence[Slot], since: float, until: float) -> float:
    """The share of the window in which somebody is on call, in percent."""
    spans = [(max(slot.start, since), min(slot.end, until)) for slot in found if slot.user]
    covered = sum(high - low for low, high in joined(spans))
    return round(100 * covered / (until - since), 1) if until > since else 0.0


def local_iso(at: float, zone: ZoneInfo) -> str:
    return iso(at) if zone.key in ("UTC", "Etc/UTC") else dt.datetime.fromtimestamp(int(at), zone).isoformat()


def shown(document: Document, zone: ZoneInfo) -> Document:
    """A custom shift or an override with its times in a zone."""
    times = {name: local_iso(parse_time(document[name]), zone) for name in ("start_time", "end_time")}
    return {**document, **times}


def event_document(event: Document) -> Document:
    return {name: value for name, value in event.items() if name != "gone"}


def rotation_document(rotation: Document) -> Document:
    """With the events that were not deleted. What was deleted stays in the past of the final schedule."""
    events = sorted((event for event in rotation["events"] if not event["gone"]), key=_by_start)
    return {
        **{name: value for name, value in rotation.items() if name != "gone"},
        "events": [event_document(event) for event in events],
    }


def _by_start(event: Document) -> tuple[float, str]:
    zone = ZoneInfo(event["start_time"]["time_zone"])
    return local(event["start_time"]).replace(tzinfo=zone).timestamp(), event["id"]


def people_of(schedule: Document) -> set[str]:
    """The ids of those who have a place in its rotations, custom shifts or overrides."""
    members = [
        member
        for rotation in schedule["rotations"]
        for event in rotation["events"]
        if not event["gone"]
        for member in event["assignment_strategy"]["members"]
    ]
    members += [row["assignments"][0]["member"] for row in schedule["custom_shifts"]]
    gone = {rotation["id"] for rotation in schedule["rotations"] if rotation["gone"]}
    members += [row["overriding_member"] for row in schedule["overrides"] if row.get("rotation_id") not in gone]
    return {member["user_id"] for member in members if "user_id" in member}


def policies_of(world: World, identifier: str) -> list[Document]:
    """References to the escalation policies that a schedule of either kind is a target of."""
    return [
        reference(policy)
        for policy in world.policies
        if any(target["id"] == identifier for rule in policy["escalation_rules"] for target in rule["targets"])
    ]


def schedule_v3_document(
    world: World,
    schedule: Document,
    window: tuple[float, float] | None = None,
    include: Set[str] = frozenset(),
    zone: ZoneInfo | None = None,
    *,
    overflow: bool = False,
) -> Document:
    """As ``GET /v3/schedules/{id}`` answers it. The final schedule is there only where ``include[]`` and a window ask for it."""
    found: Document = {
        **{
            name: schedule[name]
            for name in ("id", "type", "name", "time_zone", "description", "teams", "self", "html_url", "http_cal_url")
        },
        "web_cal_url": schedule["http_cal_url"].replace("https://", "webcal://"),
        "escalation_policies": policies_of(world, schedule["id"]),
        "rotations": [rotation_document(rotation) for rotation in schedule["rotations"] if not rotation["gone"]],
    }
    if "users" in include:
        people = people_of(schedule)
        found["users"] = [reference(user) for user in world.users if user["id"] in people]
    if "final_schedule" in include and window is not None:
        own = zone or ZoneInfo(schedule["time_zone"])
        computed = slots(schedule, *window, overflow=overflow)
        found["final_schedule"] = {
            "type": "final_schedule",
            "rendered_coverage_percentage": coverage_v3(computed, *window),
            "computed_shift_assignments": [
                {
                    "type": "computed_shift_assignment",
                    "start_time": local_iso(slot.start, own),
                    "end_time": local_iso(slot.end, own),
                    "member": {"type": "user_member", "user_id": slot.user} if slot.user else {"type": "empty_member"},
                    "source": slot.source,
                }
                for slot in computed
            ],
        }
    return found
