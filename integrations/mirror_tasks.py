"""What a mirror asks PagerDuty for, one thing a task: how it is asked, what is made of the answer, and what is to be asked then.

Tasks are kept as JSON, and run in any process. ``mirror.py`` queues them, asks by the pipeline and writes what came.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
import time
import zlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from integrations.models import MirrorPart
from integrations.pagerduty.analysis.model import Slice, Span

Kind = MirrorPart.Kind
Document = dict[str, Any]

DAY: Final = 86_400
BACK_DAYS: Final = 14
AHEAD_DAYS: Final = 85
"""Twelve weeks from whatever hour of today."""
AT_ONCE: Final = 4
"""Tasks that are asked for at the same time, of one to three calls each."""
PAGE: Final = 100
FARTHEST: Final = 10_000
"""PagerDuty lists no further by offset."""
INCIDENT_CALLS: Final = 240
"""Of one reading of incidents: what is left is the next one's."""
IF_OURS: Final = "if ours"
"""Of a task: whether the bounds hold what it asks for is not known, and nobody is told where they do not."""

_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)

encode: Final = msgspec.json.Encoder(order="deterministic").encode


class Cannot(Exception):
    """This is refused, and will be the next time: says why. ``status``: PagerDuty's; 0: the portal refused, by ``rule``."""

    def __init__(self, why: str, status: int = 0, rule: str = "") -> None:
        super().__init__(why)
        self.status = status
        self.rule = rule


class Trouble(Exception):
    """PagerDuty failed on this; it may be tried again."""


Came = tuple[str, str, Any, Span | None]
"""A document that came: kind, id, JSON, and the window that it renders."""
Past = tuple[str, Span, tuple[Slice, ...]]
"""Of a schedule, by id: who was on call in a time that is over."""
Task = list[Any]
"""``[what, …]``: one thing to ask for, as JSON keeps it."""
Ask = Callable[[str, Mapping[str, Any] | None], Awaitable[Any]]


@dataclass(slots=True)
class Got:
    """What came of a task."""

    documents: list[Came] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    """Ids that are there, whether they were read or not."""
    tasks: list[Task] = field(default_factory=list)
    """What is to be asked for next."""
    first: bool = False
    """Whether ``tasks`` go before what waits already."""
    missed: str = ""
    """What could not be read, and why."""
    kept: Mapping[str, Any] = field(default_factory=dict)
    """What the reading's state keeps of it."""
    outside: str = ""
    """An id that was tried and is another's: it is not tried again for a day."""
    wrong: bool = False
    """Whether the whole reading is refused."""
    incidents: list[Document] = field(default_factory=list)
    entries: list[Document] = field(default_factory=list)
    """Of the log."""
    touches: bool = False
    """Whether an incident may have changed by these since it was read."""
    gone: list[str] = field(default_factory=list)
    """Ids of incidents that are not there any more."""
    pasts: list[Past] = field(default_factory=list)


def fits(id: Any) -> bool:
    """Whether it is an id that can stand in an address."""
    return isinstance(id, str) and _ID.fullmatch(id) is not None


def unpacked(body: bytes | memoryview) -> Any:
    return msgspec.json.decode(zlib.decompress(bytes(body)))


def _window(now: float) -> Span:
    """What schedules are rendered for: whole days, so that the same question has the same answer for a day."""
    today = int(now) // DAY * DAY
    return Span(today - BACK_DAYS * DAY, today + AHEAD_DAYS * DAY)


def iso(at: int) -> str:
    return dt.datetime.fromtimestamp(at, dt.UTC).isoformat().replace("+00:00", "Z")


def _asked_window(window: Span) -> dict[str, str]:
    return {"since": iso(window.start), "until": iso(window.end)}


_LISTS: Final[Mapping[str, tuple[str, str, tuple[Mapping[str, Any], ...]]]] = {
    Kind.SERVICES: ("/services", "services", ({},)),
    Kind.POLICIES: (
        "/escalation_policies",
        "escalation_policies",
        ({"include[]": ["escalation_rule_assignment_strategies"]}, {}),
    ),
    Kind.SCHEDULES_V3: ("/v3/schedules", "schedules", ({},)),
    Kind.USERS: ("/users", "users", ({"include[]": ["contact_methods", "notification_rules"]}, {})),
    Kind.TEAMS: ("/teams", "teams", ({},)),
    Kind.ONCALLS: ("/oncalls", "oncalls", ({},)),
}
"""Kind → path, the key that the rows stand under, and queries: the first, or where it is refused the next."""
_ONES: Final[Mapping[str, tuple[str, str]]] = {
    Kind.SERVICES: ("/services/{}", "service"),
    Kind.POLICIES: ("/escalation_policies/{}", "escalation_policy"),
    Kind.TEAMS: ("/teams/{}", "team"),
}
_LESS: Final[Mapping[str, str]] = {
    Kind.USERS: "Contact methods and notification rules could not be read.",
    Kind.POLICIES: "How levels choose among their targets could not be read.",
}
"""What is missing where the first query is refused."""


async def _list(kind: str, state: Document, task: Task, ask: Ask) -> Got:
    """``["list", offset, which query]``: a page."""
    _, offset, which = task
    if kind in (Kind.SCHEDULES, Kind.CHANGES):
        return await _listed(kind, state, task, ask)
    path, name, queries = _LISTS[kind]
    try:
        answer = await ask(path, {**queries[which], "limit": PAGE, "offset": offset})
    except Cannot as cannot:
        if offset == 0 and which + 1 < len(queries):
            return Got(tasks=[["list", 0, which + 1]], first=True, missed=f"{_LESS[kind]} {cannot}")
        raise
    rows = rows_of(answer, name)
    got = Got()
    if kind == Kind.ONCALLS:
        return _of_policies(state, rows, answer, offset)
    for row in rows:
        if not fits(row.get("id")):
            continue
        got.seen.append(row["id"])
        if kind == Kind.SCHEDULES_V3:
            got.tasks.append(["one", row["id"]])
        else:
            got.documents.append((kind, row["id"], row, None))
    if (following := next_offset(answer, offset, len(rows))) is not None:
        got.tasks.insert(0, ["list", following, which])
        got.first = True
    got.missed = cut_short(answer, following)
    return got


def rows_of(answer: Document, name: str) -> list[Document]:
    rows = answer.get(name)
    if not isinstance(rows, list):
        raise Trouble("PagerDuty's answer is none that was asked for.")
    return [row for row in rows if isinstance(row, dict)]


def next_offset(answer: Document, offset: int, count: int) -> int | None:
    """The offset of the next page; None: there is none, or none that PagerDuty lists."""
    following = offset + max(count, 1)
    return following if answer.get("more") and following + PAGE <= FARTHEST else None


def cut_short(answer: Document, following: int | None) -> str:
    """What is missing where PagerDuty has more and lists no further; empty: nothing."""
    return f"PagerDuty lists no more than {FARTHEST:,} of them." if following is None and answer.get("more") else ""


def _of_policies(state: Document, rows: list[Document], answer: Document, offset: int) -> Got:
    """Who is on call, a document for each policy: complete with the last page."""
    gathered: dict[str, list[Document]] = {id: list(of) for id, of in state.get("rows", {}).items()}
    for row in rows:
        policy = str((row.get("escalation_policy") or {}).get("id", ""))
        if fits(policy):
            told = {name: {"id": (row.get(name) or {}).get("id", "")} for name in ("user", "schedule")}
            gathered.setdefault(policy, []).append({"escalation_level": row.get("escalation_level"), **told})
    if (following := next_offset(answer, offset, len(rows))) is not None:
        return Got(tasks=[["list", following, 0]], kept={"rows": gathered})
    documents: list[Came] = [(Kind.ONCALLS, id, of, None) for id, of in gathered.items()]
    return Got(documents, seen=list(gathered), missed=cut_short(answer, following), kept={"rows": {}})


async def _one(kind: str, state: Document, task: Task, ask: Ask) -> Got:
    """``["one", id, …]``: a document by its id."""
    id = task[1]
    if kind in (Kind.SCHEDULES, Kind.CHANGES):
        zone = task[2] if len(task) > 2 and task[2] != IF_OURS else ""
        return await _schedule(id, zone, ask)
    if kind == Kind.SCHEDULES_V3:
        return await _schedule_v3(id, ask)
    path, name = _ONES[kind]
    found = (await ask(path.format(id), None)).get(name)
    if not isinstance(found, dict):
        raise Trouble("PagerDuty's answer is none that was asked for.")
    return Got([(kind, id, found, None)], seen=[id])


async def _schedule(id: str, zone: str, ask: Ask) -> Got:
    """A schedule of layers in its own zone: in another one's, restrictions would be read at wrong hours."""
    window = _window(time.time())
    asked = _asked_window(window)
    if not zone:
        zone = inner_schedule(await ask(f"/schedules/{id}", None)).get("time_zone") or "UTC"
    found = inner_schedule(await ask(f"/schedules/{id}", {**asked, "time_zone": zone}))
    for layer in found.get("schedule_layers") or ():
        # What each layer would be alone: most of the document, and rendered here where it is needed.
        layer.pop("rendered_schedule_entries", None)
    overrides = None
    if ((found.get("overrides_subschedule") or {}).get("rendered_schedule_entries")) or ():
        answer = await ask(f"/schedules/{id}/overrides", {**asked, "overflow": "true"})
        overrides = rows_of(answer, "overrides")
    return Got([(Kind.SCHEDULES, id, {"schedule": found, "overrides": overrides}, window)], seen=[id])


async def _schedule_v3(id: str, ask: Ask) -> Got:
    window = _window(time.time())
    asked = _asked_window(window)
    found = inner_schedule(await ask(f"/v3/schedules/{id}", {**asked, "include[]": ["final_schedule"]}))
    for name in ("custom_shifts", "overrides"):
        rows: list[Document] = []
        following: int | None = 0
        while following is not None:
            answer = await ask(
                f"/v3/schedules/{id}/{name}", {**asked, "overflow": "true", "limit": PAGE, "offset": following}
            )
            page = rows_of(answer, name)
            rows += page
            following = next_offset(answer, following, len(page)) if page else None
        found[name] = rows
    return Got([(Kind.SCHEDULES_V3, id, {"schedule": found}, window)], seen=[id])


def inner_schedule(answer: Document) -> Document:
    found = answer.get("schedule")
    if not isinstance(found, dict):
        raise Trouble("PagerDuty's answer is none that was asked for.")
    return found


async def _listed(kind: str, state: Document, task: Task, ask: Ask) -> Got:
    """``["list", offset, which]``: a page of the list of schedules, with their layers (0), with their overrides (1), or as it
    is (2). What of that is not as it was when it was looked at last is read by itself; of ``SCHEDULES`` all is."""
    _, offset, which = task
    window = _window(time.time())
    query: dict[str, Any] = {"limit": PAGE, "offset": offset}
    if which < len(LOOKED_AT):
        query |= {"include[]": [LOOKED_AT[which]], "time_zone": "UTC"}
    if which == 1:
        query |= _asked_window(window._replace(start=window.start + BACK_DAYS * DAY))
    try:
        answer = await ask("/schedules", query)
    except Cannot:
        if kind == Kind.SCHEDULES and which == 2:
            raise
        # Then only the reading of each schedule by itself tells what has changed.
        again = [["list", 0, 2]] if kind == Kind.SCHEDULES and which == 0 and offset == 0 else []
        return Got(tasks=again, first=True, kept={"blind": True})
    rows = [row for row in rows_of(answer, "schedules") if fits(row.get("id"))]
    got = Got(seen=[row["id"] for row in rows])
    looks: dict[str, list[str]] = {id: list(of) for id, of in state.get("looks", {}).items()}
    queued = {each[1] for each in state["queue"] if each[0] == "one"}
    for row in rows:
        id, zone = row["id"], row.get("time_zone") or ""
        look = looks.setdefault(id, ["", ""])
        found = _look(row, which)
        if not found:
            got.kept = {"blind": True}  # PagerDuty is known to leave it out.
        is_new = found != look[which] if which < len(LOOKED_AT) else False
        if which < len(LOOKED_AT):
            look[which] = found
        if (kind == Kind.SCHEDULES and which != 1) or (kind == Kind.CHANGES and is_new and id not in queued):
            got.tasks.append(["one", id, zone])
    got.kept = {**got.kept, "looks": looks}
    if (following := next_offset(answer, offset, len(rows))) is not None:
        got.tasks.insert(0, ["list", following, which])
    got.missed = cut_short(answer, following)
    got.first = True
    return got


LOOKED_AT: Final = ("schedule_layers", "overrides_subschedule")


def _look(row: Document, which: int) -> str:
    """A digest of what a list tells of a schedule; empty: it does not tell."""
    if which >= len(LOOKED_AT) or LOOKED_AT[which] not in row:
        return ""
    told: Any
    if which == 1:
        entries = (row["overrides_subschedule"] or {}).get("rendered_schedule_entries") or []
        # Cut at the window's start, which moves: whose it is and when it ends tells one.
        told = [[entry.get("end"), (entry.get("user") or {}).get("id")] for entry in entries]
    else:
        layers = [
            {key: value for key, value in layer.items() if not key.startswith("rendered")}
            for layer in row["schedule_layers"] or ()
        ]
        told = [row.get(name) for name in ("name", "time_zone", "teams", "escalation_policies")] + [layers]
    return hashlib.sha256(encode(told)).hexdigest()[:16]


async def _counted(kind: str, state: Document, task: Task, ask: Ask) -> Got:
    """``["days", first, after the last, offset, counts]``: a page of the incidents of some days. Of these a service and the hour
    of their beginning is all that is kept."""
    _, first, after, offset, counts = task
    if state.get("calls", 0) >= INCIDENT_CALLS:
        return Got()
    query = {"since": f"{first}T00:00:00Z", "until": f"{after}T00:00:00Z", "sort_by": "created_at:asc"}
    answer = await ask("/incidents", {**query, "limit": PAGE, "offset": offset})
    rows = rows_of(answer, "incidents")
    counts = {day: {service: list(hours) for service, hours in of.items()} for day, of in counts.items()}
    for row in rows:
        at, service = str(row.get("created_at")), (row.get("service") or {}).get("id")
        if fits(service) and len(at) >= 13 and first <= at[:10] < after and at[11:13].isdigit():
            counts.setdefault(at[:10], {}).setdefault(service, [0] * 24)[int(at[11:13]) % 24] += 1
    days = [dt.date.fromisoformat(first) + dt.timedelta(days=n) for n in range(_days_between(first, after))]
    if answer.get("more") and rows:
        following = offset + len(rows)
        if following + PAGE <= FARTHEST:
            return Got(tasks=[["days", first, after, following, counts]], first=True)
        if len(days) > 1:
            # More than PagerDuty lists at once: day by day, then.
            one = dt.timedelta(days=1)
            each = [["days", day.isoformat(), (day + one).isoformat(), 0, {}] for day in reversed(days)]
            return Got(tasks=each, first=True)
    return Got([(Kind.INCIDENTS, day.isoformat(), counts.get(day.isoformat(), {}), None) for day in days])


def _days_between(first: str, after: str) -> int:
    return (dt.date.fromisoformat(after) - dt.date.fromisoformat(first)).days


Serve = Callable[[str, Document, Task, Ask], Awaitable[Got]]
"""Of a part's kind and its state, a task."""
TASKS: Final[Mapping[str, Serve]] = {
    "list": _list,
    "one": _one,
    "days": _counted,
}
