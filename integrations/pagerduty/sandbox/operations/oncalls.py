"""Who is on call: for each level of each escalation policy, on schedules of either kind or always."""

from __future__ import annotations

from integrations.pagerduty.sandbox import documents as docs
from integrations.pagerduty.sandbox.ask import FAR, Ask, Result, invalid, route
from integrations.pagerduty.sandbox.documents import Document
from integrations.pagerduty.sandbox.render import Shift, final_shifts
from integrations.pagerduty.sandbox.render_v3 import local_iso, on_call
from integrations.pagerduty.sandbox.schedule_documents import whole_schedule
from integrations.pagerduty.sandbox.world import DAY, World, iso, reference

WIDER = 31 * DAY
"""Shifts are told whole, not cut at the window's ends: they are looked for in a wider one."""


def shifts_of(schedule: Document, since: float, until: float) -> list[Shift]:
    """Who is on call by a schedule of either kind: entries that touch the window, in order."""
    render = on_call if schedule["type"] == "schedule_v3" else final_shifts
    return [shift for shift in render(schedule, since - WIDER, until + WIDER) if shift[0] < until and shift[1] > since]


def now_on_call(world: World, target: str, now: float) -> list[str]:
    """The ids of whom an escalation target stands for at a moment: a person, or whoever the schedule has on call."""
    for schedule in (*world.schedules, *world.v3):
        if schedule["id"] == target:
            render = on_call if schedule["type"] == "schedule_v3" else final_shifts
            return [user for _, _, user in render(schedule, now, now + 1)]
    return [target]


@route("GET", "/oncalls", "oncalls.read")
def list_oncalls(ask: Ask) -> Result:
    since, until = ask.window(ask.now, ask.now + 1, FAR)
    if until > ask.now + FAR:
        raise invalid("Until must be at most 90 days in the future")
    zone = ask.zone()
    rows = [row for row in _entries(ask, since, until) if _wanted(ask, row)]
    if ask.flag("earliest"):
        rows = _earliest(rows)
    people = {user["id"]: user for user in ask.world.users}
    whole = {row["id"]: row for row in (*ask.world.schedules, *ask.world.v3)}

    def time(at: float | None) -> str | None:
        return None if at is None else iso(at) if zone is None else local_iso(at, zone)

    def show(row: Document) -> Document:
        schedule = whole.get(row["schedule"])
        return {
            "escalation_policy": docs.expanded(row["policy"], "escalation_policies", ask.include),
            "escalation_level": row["level"],
            "user": docs.expanded(people[row["user"]], "users", ask.include),
            "schedule": None
            if schedule is None
            else whole_schedule(ask.world, schedule)
            if "schedules" in ask.include
            else reference(schedule),
            "start": time(row["start"]),
            "end": time(row["end"]),
        }

    return 200, ask.page("oncalls", rows, show)


def _entries(ask: Ask, since: float, until: float) -> list[Document]:
    """By policy, level, target and time. A person who is a target is on call always: no schedule, no start, no end."""
    schedules = {row["id"]: row for row in (*ask.world.schedules, *ask.world.v3)}
    people = {user["id"] for user in ask.world.users}
    wanted = ask.many("escalation_policy_ids")
    rendered: dict[str, list[Shift]] = {}
    found: list[Document] = []
    for policy in ask.world.policies:
        if wanted and policy["id"] not in wanted:
            continue
        for level, rule in enumerate(policy["escalation_rules"], 1):
            for target in rule["targets"]:
                common = {"policy": policy, "level": level}
                schedule = schedules.get(target["id"])
                if schedule is None:
                    if target["id"] in people:
                        found.append({**common, "schedule": None, "user": target["id"], "start": None, "end": None})
                    continue
                if schedule["id"] not in rendered:
                    rendered[schedule["id"]] = shifts_of(schedule, since, until)
                found += [
                    {**common, "schedule": schedule["id"], "user": user, "start": start, "end": end}
                    for start, end, user in rendered[schedule["id"]]
                ]
    return found


def _wanted(ask: Ask, row: Document) -> bool:
    users, schedules = ask.many("user_ids"), ask.many("schedule_ids")
    # "null" stands for those who are on call without a schedule.
    return (not users or row["user"] in users) and (not schedules or (row["schedule"] or "null") in schedules)


def _earliest(rows: list[Document]) -> list[Document]:
    """The first entry of each person on each level of each policy."""
    found: dict[tuple[str, int, str], Document] = {}
    for row in sorted(rows, key=lambda row: row["start"] or 0):
        found.setdefault((row["policy"]["id"], row["level"], row["user"]), row)
    return [row for row in rows if found[row["policy"]["id"], row["level"], row["user"]] is row]
