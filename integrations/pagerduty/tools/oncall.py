"""Schedules of both kinds (v2 of layers, v3 of shifts) as one, and who is on call, now and next."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import itertools
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from integrations.pagerduty.tools import lookups, reads
from integrations.pagerduty.tools.arguments import moment
from integrations.pagerduty.tools.asking import Ask, Failed, Given, Run, Wrong, need
from integrations.pagerduty.tools.reads import elsewhere, failed, only, text
from integrations.pagerduty.tools.slim import full, reference, rendered, utc

FORTNIGHT: Final = dt.timedelta(days=14)
AHEAD: Final = dt.timedelta(days=30)
"""How far ahead is looked for who is next."""
MOST_TURNS: Final = 40
"""Turns, or gaps, that an answer shows."""
HANDOFFS: Final = 3
INSTANT: Final = dt.timedelta(minutes=1)
FARTHEST: Final = dt.timedelta(days=89)
"""PagerDuty tells who is on call at most 90 days ahead."""
MOST_MOMENTS: Final = 8
"""Moments at which turns end that are asked about at once."""
LAYER: Final = (
    *("id", "name", "start", "end", "rotation_virtual_start", "rotation_turn_length_seconds", "restrictions"),
)
"""What a layer may hold beside its users."""
NOBODY: Final = "nobody right after"


async def _list_schedules(given: Given, run: Run) -> Any:
    """Schedules of both kinds in one list, those of layers first: ``{"schedules": [{"id", "kind", ...}], "count", "more"}``."""
    offset, limit = given["offset"], given["limit"]

    def shifts(skip: int) -> Ask:
        return reads.ask("listSchedulesV3", only(given, "query", "team_ids", "limit", offset=skip))

    layered, shifted = await asyncio.gather(run(reads.ask("listSchedules", given, total="true")), run(shifts(0)))
    if layered.kind and shifted.kind:
        raise Failed(layered)
    rows: list[tuple[str, Any]] = []
    parts: dict[str, Any] = {}
    known, more = 0, False
    if layered.kind:
        parts["v2_schedules"] = failed(layered)
    else:
        rows += [("v2", row) for row in layered.document["schedules"]]
        more = bool(layered.document.get("more"))
        told = layered.document.get("total")
        known = told if isinstance(told, int) else offset + len(rows)
    if not more and offset > known:
        shifted = await run(
            shifts(offset - known)
        )  # the page begins among these: what was asked at once was their beginning
    if shifted.kind:
        parts["v3_schedules"] = failed(shifted)
    else:
        found = shifted.document["schedules"]
        taken = [] if more else found[: limit - len(rows)]
        rows += [("v3", row) for row in taken]
        more = more or len(taken) < len(found) or bool(shifted.document.get("more"))
    left_out: set[str] = set()
    listed = [_of_kind(kind, row, given, left_out) for kind, row in rows]
    answer: dict[str, Any] = {"schedules": listed, "count": len(rows)}
    if more:
        answer["more"] = {"offset": offset + len(rows)}
    return answer | ({"left_out": sorted(left_out)} if left_out else {}) | parts


def _of_kind(kind: str, row: Any, given: Given, left_out: set[str]) -> dict[str, Any]:
    """A row of a list: whose users, who are many, ``get_schedule`` shows."""
    found = rendered({"schedule": row}, given)
    told: dict[str, Any] = found["schedule"]
    if given.full:
        return {"kind": kind, **told}
    left_out.update(found.get("left_out", ()))
    if told.pop("users", None):
        left_out.add("users")
    if "name" not in told and isinstance(told.get("summary"), str):
        told["name"] = told.pop("summary")
    return {"id": told.pop("id"), "kind": kind, **told}


@dataclass(frozen=True, slots=True)
class Turn:
    start: dt.datetime
    end: dt.datetime
    user: str
    """Id."""


async def _get_schedule(given: Given, run: Run) -> Any:
    """A schedule of either kind with who is on call in the window: ``{"schedule", "kind", "period", "on_call": [...],
    "gaps": [...], "next_handoffs": [...]}``. With no window, in the next two weeks."""
    since, until = _window(given)
    asked = only(given, "schedule_id", "time_zone", since=text(since), until=text(until))
    told, kind = await _either(reads.ask("getSchedule", asked), _v3(asked), run)
    if given.full:
        return {"kind": kind, **full(told)}
    schedule = told["schedule"]
    if kind == "v2":
        turns, known, missing = _entries(schedule), _names_in(schedule), None
    else:
        turns = _assignments(schedule)
        members = [*_members(schedule), *(turn.user for turn in turns)]
        known, missing = await lookups.names("user", sorted(set(members)), run)
    plain = rendered({"schedule": _without_entries(schedule, known)}, given)
    answer = {**plain, "kind": kind, **_rendering(turns, known, since, until, given)}
    return answer | ({"user_names": failed(missing)} if missing else {})


def _v3(asked: Given) -> Ask:
    found = reads.ask("getScheduleV3", asked)
    return Ask(found.method, found.path, (*found.query, ("include[]", "final_schedule")))


async def _either(v2: Ask, v3: Ask, run: Run) -> tuple[Any, str]:
    """The document of a schedule of layers, or else of one of shifts, and which it is. Raises ``Failed``."""
    first = await run(v2)
    if not first.kind:
        return first.document, "v2"
    if elsewhere(first):
        second = await run(v3)
        if not second.kind:
            return second.document, "v3"
        if not elsewhere(second):
            raise Failed(second)
        if first.error.get("status") == 400 and second.error.get("status") == 400:
            # One of them only says that it is of the other kind, and nothing but their words tells which.
            raise Failed(dataclasses.replace(first, error={**first.error, "as_v3": dict(second.error)}))
    raise Failed(first)


def _window(given: Given) -> tuple[dt.datetime, dt.datetime]:
    """Two weeks from or to the end that is given; with neither, the two weeks from now."""
    since, until = moment(given.get("since") or ""), moment(given.get("until") or "")
    if since is None:
        since = until - FORTNIGHT if until else given.now.replace(microsecond=0)
    found = since, until or since + FORTNIGHT
    if found[0] >= found[1]:
        raise Wrong("since is not before until.", "Pass a since that is earlier than until.")
    return found


def _entries(schedule: Mapping[str, Any]) -> list[Turn]:
    """Who is on call by the final schedule of one of layers."""
    rows = (schedule.get("final_schedule") or {}).get("rendered_schedule_entries") or ()
    return [_turn(row["start"], row["end"], row["user"]["id"]) for row in rows if (row.get("user") or {}).get("id")]


def _names_in(schedule: Mapping[str, Any]) -> dict[str, str]:
    rows = (schedule.get("final_schedule") or {}).get("rendered_schedule_entries") or ()
    people = [*(schedule.get("users") or ()), *(row["user"] for row in rows if row.get("user"))]
    return {each["id"]: each["name"] for each in map(reference, people) if each.get("name")}


def _assignments(schedule: Mapping[str, Any]) -> list[Turn]:
    """The same of one of shifts: several people at once, and hours that nobody covers."""
    rows = (schedule.get("final_schedule") or {}).get("computed_shift_assignments") or ()
    return [
        _turn(row["start_time"], row["end_time"], row["member"]["user_id"])
        for row in rows
        if (row.get("member") or {}).get("user_id")
    ]


def _turn(start: str, end: str, user: str) -> Turn:
    return Turn(dt.datetime.fromisoformat(start), dt.datetime.fromisoformat(end), user)


def _members(value: Any) -> list[str]:
    """Ids of all users that a schedule of shifts names anywhere."""
    if isinstance(value, list):
        return [id for item in value for id in _members(item)]
    if not isinstance(value, Mapping):
        return []
    own = [value["user_id"]] if isinstance(value.get("user_id"), str) else []
    return own + [id for item in value.values() for id in _members(item)]


def _without_entries(value: Any, known: Mapping[str, str]) -> Any:
    """A schedule without its renderings, which are told otherwise, and with names beside the ids of users."""
    if isinstance(value, list):
        return [_without_entries(item, known) for item in value]
    if not isinstance(value, Mapping):
        return value
    rendering = ("final_schedule", "overrides_subschedule", "rendered_schedule_entries", "rendered_coverage_percentage")
    found = {name: _without_entries(item, known) for name, item in value.items() if name not in rendering}
    return {**found, "user_name": known[value["user_id"]]} if value.get("user_id") in known else found


def _joined(turns: Sequence[Turn]) -> list[Turn]:
    """The same with what touches or overlaps of one person as one, by their start."""
    found: list[Turn] = []
    for turn in sorted(turns, key=lambda turn: (turn.user, turn.start)):
        if found and found[-1].user == turn.user and turn.start <= found[-1].end:
            found[-1] = Turn(found[-1].start, max(found[-1].end, turn.end), turn.user)
        else:
            found.append(turn)
    return sorted(found, key=lambda turn: (turn.start, turn.user))


def gaps(turns: Sequence[Turn], since: dt.datetime, until: dt.datetime) -> list[tuple[dt.datetime, dt.datetime]]:
    """The parts of a window in which nobody is on call."""
    found, covered = [], since
    for turn in sorted(turns, key=lambda turn: turn.start):
        if turn.start > covered:
            found.append((covered, min(turn.start, until)))
        covered = max(covered, turn.end)
        if covered >= until:
            break
    if covered < until:
        found.append((covered, until))
    return [gap for gap in found if gap[0] < gap[1]]


def _rendering(
    entries: Sequence[Turn], known: Mapping[str, str], since: dt.datetime, until: dt.datetime, given: Given
) -> dict[str, Any]:
    turns = _joined(entries)
    empty = gaps(turns, since, until)

    def on_at(at: dt.datetime) -> list[str]:
        return [turn.user for turn in turns if turn.start <= at < turn.end]

    def people(ids: Sequence[str]) -> list[dict[str, str]]:
        return [lookups.named(id, known) for id in ids]

    def time(at: dt.datetime) -> Any:
        return utc(text(at), given)

    answer: dict[str, Any] = {"period": {"since": time(since), "until": time(until)}}
    if since <= given.now < until:
        answer["on_call_now"] = [
            {"user": lookups.named(turn.user, known), "until": time(turn.end)}
            for turn in turns
            if turn.start <= given.now < turn.end
        ]
        bounds = sorted({at for turn in turns for at in (turn.start, turn.end) if given.now < at < until})
        changes = [at for before, at in itertools.pairwise([given.now, *bounds]) if on_at(before) != on_at(at)]
        answer["next_handoffs"] = [{"at": time(at), "to": people(on_at(at))} for at in changes[:HANDOFFS]]
    answer["on_call"] = [
        {"user": lookups.named(turn.user, known), "start": time(turn.start), "end": time(turn.end)}
        for turn in turns[:MOST_TURNS]
    ]
    answer["gaps"] = [{"start": time(start), "end": time(end)} for start, end in empty[:MOST_TURNS]]
    answer["gap_seconds"] = int(sum((end - start).total_seconds() for start, end in empty))
    left = {"on_call": len(turns) - MOST_TURNS, "gaps": len(empty) - MOST_TURNS}
    if any(count > 0 for count in left.values()):
        answer["not_shown"] = {name: count for name, count in left.items() if count > 0} | {
            "remedy": "Ask for a shorter window, or one that begins later."
        }
    return answer


async def _preview_schedule(given: Given, run: Run) -> Any:
    """Who would be on call with these layers, as ``_get_schedule`` tells it."""
    try:
        layers = json.loads(given["schedule_layers"])
    except (ValueError, RecursionError):
        layers = None
    if not isinstance(layers, list) or not layers or not all(isinstance(layer, dict) for layer in layers):
        raise Wrong(
            "schedule_layers is no JSON array of layers.",
            "Pass the layers as get_schedule shows them with detail=full.",
        )
    since, until = _window(given)
    bare = [_layer(layer) for layer in layers]
    schedule = {"type": "schedule", "name": "Preview", "time_zone": given["time_zone"], "schedule_layers": bare}
    ask = reads.ask("createSchedulePreview", only(given, "overflow", since=text(since), until=text(until)))
    document = await need(run, Ask(ask.method, ask.path, ask.query, {"schedule": schedule}))
    if given.full:
        return full(document)
    found = document["schedule"]
    return _rendering(_entries(found), _names_in(found), since, until, given)


def _layer(layer: Mapping[str, Any]) -> dict[str, Any]:
    """A layer as PagerDuty takes it: without what it rendered, and without the end that one without an end has."""
    users = layer.get("users")
    kept = {name: layer[name] for name in LAYER if layer.get(name) is not None}
    if isinstance(users, list):
        kept["users"] = [{"user": _user(each)} for each in users]
    return kept


def _user(each: Any) -> Any:
    """A user of a layer as a reference, from its id alone, too."""
    user = each.get("user", each) if isinstance(each, Mapping) else {"id": each}
    return {"id": user.get("id"), "type": "user_reference"} if isinstance(user, Mapping) else user


async def _list_schedule_overrides(given: Given, run: Run) -> Any:
    """``{"overrides": [...], "kind", "count"}``, of a schedule of shifts with the names of who stands in for whom."""
    v3 = reads.ask("listOverrides", only(given, "schedule_id", "since", "until", limit=100))
    document, kind = await _either(reads.ask("listScheduleOverrides", given), v3, run)
    missing = None
    if kind == "v3" and not given.full:
        known, missing = await lookups.names("user", sorted(set(_members(document))), run)
        document = _without_entries(document, known)
    answer = {"kind": kind, **rendered(document, given)}
    if answer.pop("more", None):
        answer["not_shown"] = {"remedy": "There are more than 100: ask for a shorter window."}
    return answer | ({"user_names": failed(missing)} if missing else {})


def _with_members(operation: str) -> Callable[[Given, Run], Awaitable[Any]]:
    """A read of a part of a schedule of shifts, with names beside the ids of its members, which PagerDuty tells alone."""

    async def read(given: Given, run: Run) -> Any:
        document = await need(run, reads.ask(operation, given))
        if given.full:
            return full(document)
        known, missing = await lookups.names("user", sorted(set(_members(document))), run)
        answer: dict[str, Any] = rendered(_without_entries(document, known), given)
        return answer | ({"user_names": failed(missing)} if missing else {})

    return read


async def _list_oncalls(given: Given, run: Run) -> Any:
    """Who is on call by escalation policy and level. With no window: now, and in each row who is next. Of one schedule alone also
    its users: one that no escalation policy uses is in no other answer."""
    asks = [reads.ask("listOnCalls", given)]
    schedules = given.get("schedule_ids") or []
    if len(schedules) == 1 and not given.get("escalation_policy_ids"):
        since = moment(given.get("since") or "") or given.now
        until = moment(given.get("until") or "") or since + INSTANT
        window = (("since", text(since)), ("until", text(until)))
        asks.append(Ask("GET", f"/schedules/{schedules[0]}/users", window))
    first, *users = await asyncio.gather(*map(run, asks))
    if first.kind:
        raise Failed(first)
    answer = rendered(first.document, given)
    for told in users:
        if told.kind and told.error.get("status") == 400:
            continue  # Of shifts: PagerDuty lists users of schedules of layers alone.
        answer["schedule_users"] = (
            failed(told)
            if told.kind
            else [full(row) if given.full else reference(row) for row in told.document["users"]]
        )
    if not (given.get("since") or given.get("until")):
        answer |= await _next(first.document["oncalls"], answer["oncalls"], given, run)
    return answer


async def _next(
    rows: Sequence[Mapping[str, Any]], shown: Sequence[dict[str, Any]], given: Given, run: Run
) -> dict[str, Any]:
    """Puts who is next beside each row that ends; what is to be said of that as a whole.

    Each ask is of one moment at which turns end: a window over all of them could have more rows than PagerDuty shows at once."""
    ending: dict[dt.datetime, list[int]] = {}
    for number, row in enumerate(rows):
        if (end := moment(row.get("end") or "")) and end <= given.now + FARTHEST:
            ending.setdefault(end, []).append(number)
    soonest = sorted(ending)[:MOST_MOMENTS]
    answers = await asyncio.gather(*(run(_at(end, [rows[number] for number in ending[end]])) for end in soonest))
    unknown = [number for end in ending.keys() - set(soonest) for number in ending[end]]
    failures = [told for told in answers if told.kind]
    for end, told in zip(soonest, answers, strict=True):
        for number in ending[end]:
            after = (
                [] if told.kind else [row for row in told.document["oncalls"] if _place(row) == _place(rows[number])]
            )
            if follows := _on(after, end):
                shown[number]["next"] = [reference(row["user"]) for row in follows]
            elif told.kind or told.document.get("more"):
                unknown.append(number)
            else:
                shown[number]["next"] = NOBODY
    remedy = "Ask for fewer escalation_policy_ids or schedule_ids, or with a lower limit."
    return ({"next": failed(failures[0])} if failures else {}) | (
        {"next_unknown": {"rows": sorted(unknown), "remedy": remedy}} if unknown else {}
    )


def _at(end: dt.datetime, rows: Sequence[Mapping[str, Any]]) -> Ask:
    """Who is on call where these rows are, at the moment at which they end."""
    schedules = sorted({row["schedule"]["id"] for row in rows if row.get("schedule")})
    policies = sorted({row["escalation_policy"]["id"] for row in rows})
    window = (("since", text(end)), ("until", text(end + INSTANT)), ("limit", "100"))
    filters = [*(("schedule_ids[]", id) for id in schedules), *(("escalation_policy_ids[]", id) for id in policies)]
    return Ask("GET", "/oncalls", (*window, *filters))


def _place(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row["escalation_policy"]["id"], row["escalation_level"], (row.get("schedule") or {}).get("id")


def _on(rows: Sequence[Mapping[str, Any]], at: dt.datetime) -> list[Mapping[str, Any]]:
    """Those on call at a moment."""
    return [
        row
        for row in rows
        if (start := moment(row["start"] or "")) and (end := moment(row["end"] or "")) and start <= at < end
    ]


async def _get_user_oncall_status(given: Given, run: Run) -> Any:
    """Whether people are on call, and for what; with no window now, and when each is next."""
    if given.get("since") or given.get("until"):
        return rendered(await need(run, reads.ask("listOnCalls", given)), given)
    ahead = only(given, "user_ids", since=text(given.now), until=text(given.now + AHEAD), limit=100)
    now, later = await asyncio.gather(run(reads.ask("listOnCalls", given)), run(reads.ask("listOnCalls", ahead)))
    if now.kind:
        raise Failed(now)
    answer = rendered(now.document, given)
    rows = now.document["oncalls"]
    if later.kind:
        return {**answer, "next": failed(later)}
    coming: dict[str, Mapping[str, Any]] = {}
    for row in sorted(later.document["oncalls"], key=lambda row: moment(row["start"] or "") or given.now):
        if row["start"] and (moment(row["start"]) or given.now) > given.now:
            coming.setdefault(row["user"]["id"], row)
    known = {row["user"]["id"]: reference(row["user"]) for row in (*rows, *later.document["oncalls"])}
    if given["offset"] == 0 and not now.document.get("more"):
        off = set(given["user_ids"]) - {row["user"]["id"] for row in rows}
        answer["not_on_call_now"] = [known.get(id, {"id": id}) for id in given["user_ids"] if id in off]
    told = rendered({"oncalls": list(coming.values())}, given)
    answer["next"] = told["oncalls"]
    always = {row["user"]["id"] for row in later.document["oncalls"] if not row.get("end")}
    without = [known.get(id, {"id": id}) for id in given["user_ids"] if id not in coming and id not in always]
    if without:
        answer["none_next"] = {
            "users": without,
            "within_days": AHEAD.days,
            "certain": not later.document.get("more"),
        }
    return answer


TOOLS: Final[Mapping[str, Callable[[Given, Run], Awaitable[Any]]]] = {
    "list_schedules": _list_schedules,
    "get_schedule": _get_schedule,
    "preview_schedule": _preview_schedule,
    "list_schedule_overrides": _list_schedule_overrides,
    "list_schedule_v3_rotations": _with_members("listRotations"),
    "get_schedule_v3_rotation": _with_members("getRotation"),
    "list_schedule_v3_rotation_events": _with_members("listEvents"),
    "get_schedule_v3_rotation_event": _with_members("getEvent"),
    "list_schedule_v3_custom_shifts": _with_members("listCustomShifts"),
    "get_schedule_v3_override": _with_members("getOverride"),
    "list_oncalls": _list_oncalls,
    "get_user_oncall_status": _get_user_oncall_status,
}
