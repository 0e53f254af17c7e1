"""Who is on call when: a v3 schedule's rotations, custom shifts and overrides, rendered over a window; and its documents.

A rotation holds events. An event recurs by an RRULE in its own time zone; each occurrence is a shift of one member (they
take turns) or of all of them. Custom shifts come on top: several people may be on call at once. An override replaces one
member in the shifts of one rotation, or in one custom shift. An empty member's shift is there, and covers nothing.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable, Iterator, Sequence, Set
from itertools import islice, pairwise
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from integrations.pagerduty.analysis.recurrence import Recurrence, recurrence, starts
from integrations.pagerduty.sandbox.render import Shift
from integrations.pagerduty.sandbox.world import DAY, World, iso, parse_time, reference

Document = dict[str, Any]

LONGEST_SHIFT: Final = 366 * DAY


class Slot(NamedTuple):
    """A shift of one member, from one source."""

    start: float
    end: float
    user: str
    """An id; empty: nobody, the slot of an empty member."""
    source: Document


def meet(some: Iterable[Shift], others: Iterable[Shift]) -> bool:
    """Whether any of some is at the same time as any of the others."""
    ends = [-math.inf, -math.inf]
    marked = [(*shift[:2], 0) for shift in some] + [(*shift[:2], 1) for shift in others]
    for start, end, side in sorted(marked):
        if ends[1 - side] > start:
            return True
        ends[side] = max(ends[side], end)
    return False


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
