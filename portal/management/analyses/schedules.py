"""``analyze schedule`` and ``analyze coverage``: who is on call when, and when nobody is."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

from integrations.pagerduty.analysis import reading
from integrations.pagerduty.analysis.coverage import (
    Hole,
    gaps,
    holes,
    overlaps,
    percent,
    quality,
    reach,
    service_holes,
    standing,
)
from integrations.pagerduty.analysis.model import Account, Policy, Schedule, Slice, Span
from integrations.pagerduty.analysis.rotation import Rules, differences, entries, render
from portal.management.analyses import Answer, Asked, Document, told_of, window_asked, written, zone_asked

Read = TypeVar("Read")

# schedule


AS_SHOWN: Final = Rules(deleted_users="shown")
"""Entries are as PagerDuty shows them, which names deleted people who have turns. A note says who they are."""


def schedule(asked: Asked) -> Answer:
    found = [(document, reading.schedule(document, overrides)) for document, overrides in schedules_in(asked.documents)]
    if not found:
        raise ValueError("There is no schedule in it.")
    zone = zone_asked(asked, found[0][1].zone)
    window = window_asked(asked, zone, reach_of(each for _, each in found))
    parts: list[Document] = []
    lines: list[str] = []
    notes: list[str] = []
    all_slices: list[Slice] = []
    for document, each in found:
        rendering = render(each, window, AS_SHOWN)
        all_slices += rendering.slices
        part = _told(rendering.slices, window, zone)
        parts.append({"id": each.id, "name": each.name, "kind": each.kind, **part})
        label = each.name or each.id or "Schedule"
        lines += [f"{label} ({each.kind}, {each.zone}), {written(window.start, zone)} to {written(window.end, zone)}"]
        lines += _lines(part, _names(document))
        differing = differences(each, AS_SHOWN)
        if differing:
            seconds = sum(one.span.seconds for one in differing)
            first = written(differing[0].span.start, zone)
            notes.append(f"{label}: PagerDuty rendered other people for {seconds / 3600:.1f} hours, first at {first}.")
        notes += [f"{label}: {note}" for note in told_of(rendering.problems)]
    if len(found) == 1:
        return Answer(_told(all_slices, window, zone), lines, notes)
    # Together, as if one escalation level named all of them; and each by itself.
    return Answer({**_told(all_slices, window, zone), "schedules": parts}, lines, notes)


def schedules_in(documents: Iterable[Any]) -> Iterator[tuple[Any, Sequence[Document] | None]]:
    """The schedule documents in what the files hold, each with its overrides where a file holds those: answers of one
    schedule, lists of them, objects that hold several, and for one schedule alone answers of ``GET …/overrides`` and
    ``…/custom_shifts``."""
    found: list[Any] = []
    rows: dict[str, list[Document]] = {}
    waiting = list(documents)
    while waiting:
        document = waiting.pop(0)
        if isinstance(document, list):
            waiting[:0] = document
        elif isinstance(document, Mapping) and isinstance(document.get("schedules"), list):
            waiting[:0] = document["schedules"]
        elif isinstance(document, Mapping) and not document.keys() & {"schedule", "type", "time_zone", "name"}:
            for name in ("overrides", "custom_shifts"):
                if isinstance(document.get(name), list):
                    rows.setdefault(name, []).extend(document[name])
            waiting[:0] = [each for each in document.values() if isinstance(each, Mapping)]
        else:
            found.append(document)
    if rows and len(found) != 1:
        raise ValueError(
            "Overrides and custom shifts can be read beside one schedule alone: they do not say whose they are."
        )
    for document in found:
        inner = document.get("schedule", document) if isinstance(document, Mapping) else document
        if "custom_shifts" in rows and isinstance(inner, Mapping):
            document = {**inner, "custom_shifts": rows["custom_shifts"]}
        yield document, rows.get("overrides")


def reach_of(schedules: Iterable[Schedule]) -> Span | None:
    """What the rendered entries of the documents reach over; None: there are none."""
    slices = [
        each
        for schedule in schedules
        for some in (schedule.rendered, *(rendered for _, rendered in schedule.layers_rendered))
        for each in some
        if each.end < reading.FOREVER
    ]
    return Span(min(each.start for each in slices), max(each.end for each in slices)) if slices else None


def _told(slices: Sequence[Slice], window: Span, zone: ZoneInfo) -> Document:
    """The contract that other programs rely on."""
    return {
        "entries": [
            {"start": written(span.start, zone), "end": written(span.end, zone), "user_ids": list(users)}
            for span, users in entries(slices)
        ],
        "gaps": [{"start": written(span.start, zone), "end": written(span.end, zone)} for span in gaps(slices, window)],
        "coverage_percent": round(percent(slices, window), 2),
    }


def _names(document: Any) -> dict[str, str]:
    """By user id, as far as the document says them."""
    inner = document.get("schedule", document) if isinstance(document, Mapping) else {}
    users = inner.get("users")
    rows = [row for row in users if isinstance(row, Mapping)] if isinstance(users, list) else []
    return {
        row["id"]: row["summary"]
        for row in rows
        if isinstance(row.get("id"), str) and isinstance(row.get("summary"), str)
    }


def _lines(part: Document, names: Mapping[str, str]) -> Iterator[str]:
    rows = [(row["start"], row["end"], row["user_ids"]) for row in part["entries"]]
    rows += [(row["start"], row["end"], []) for row in part["gaps"]]
    for start, end, users in sorted(rows, key=lambda row: dt.datetime.fromisoformat(row[0])):
        who = ", ".join(f"{names[user]} ({user})" if names.get(user) else user for user in users)
        yield f"  {start}  {end}  {who or 'NOBODY'}"
    count = len(part["gaps"])
    yield f"  {count or 'no'} gap{'s' if count != 1 else ''}; {part['coverage_percent']} % covered"


# coverage


def coverage(asked: Asked) -> Answer:
    """The gaps of each schedule; of escalation policies, with their levels together; of services, through their policies."""
    account, schedules, notes, refused = account_in(asked.documents)
    if not schedules and not account.policies:
        raise ValueError(refused[0] if refused else "There is neither a schedule nor an escalation policy in it.")
    notes += refused
    zone = zone_asked(asked, schedules[0].zone if schedules else "UTC")
    window = window_asked(asked, zone, reach_of(schedules))
    whole: dict[str, tuple[Slice, ...]] = {}
    parts = [_schedule_covered(each, window, zone, whole, notes) for each in schedules]
    document = {
        "window": {"start": written(window.start, zone), "end": written(window.end, zone)},
        "schedules": parts,
        "policies": [_policy_covered(each, whole, window, zone, notes) for each in account.policies.values()],
        "services": list(_services_covered(account, whole, window, zone)),
    }
    return Answer(document, list(_coverage_lines(document)), notes)


class Found(NamedTuple):
    """What documents say of an account."""

    account: Account
    schedules: Sequence[Schedule]
    """All of them: in the account those of the same id, or of none, are one."""
    notes: list[str]
    """What is to be noted of them."""
    refused: list[str]
    """Why some could not be read."""


def account_in(documents: Iterable[Any]) -> Found:
    sorted_out, notes = _sorted_out(documents)
    schedules: list[Schedule] = []
    refused: list[str] = []
    for document, overrides in schedules_in(sorted_out["schedules"]):
        try:
            schedules.append(reading.schedule(document, overrides))
        except ValueError as error:
            refused.append(str(error))
    account = Account(
        {each.id: each for each in schedules},
        {each.id: each for each in _read_all(sorted_out["policies"], reading.policy, refused)},
        {each.id: each for each in _read_all(sorted_out["services"], reading.service, refused)},
        {each.id: each for each in _read_all(sorted_out["users"], reading.person, refused)},
    )
    return Found(account, schedules, notes, refused)


def _sorted_out(documents: Iterable[Any]) -> tuple[dict[str, list[Any]], list[str]]:
    """The documents by kind, whether each is an answer of one thing, a list of them, or the thing itself. What is none of the
    four is left to those who read schedules."""
    found: dict[str, list[Any]] = {name: [] for name in ("schedules", "policies", "services", "users")}
    notes: list[str] = []
    waiting = list(documents)
    while waiting:
        document = waiting.pop(0)
        if isinstance(document, list):
            waiting[:0] = document
            continue
        if not isinstance(document, Mapping):
            notes.append("Something in it is no object, and is left out.")
            continue
        kind = document.get("type")
        if isinstance(kind, str) and kind in KINDS:
            found[KINDS[kind]].append(document)
            continue
        if kind is not None or "id" in document:
            found["schedules"].append(document)
            continue
        rest = dict(document)
        for name, place in KINDS.items():
            if isinstance(rest.get(name), Mapping):
                found[place].append(rest.pop(name))
            if isinstance(rest.get(several := _several(name)), list):
                found[place] += rest.pop(several)
        if rest:
            found["schedules"].append(rest)
    return found, notes


KINDS: Final[Mapping[str, str]] = {"escalation_policy": "policies", "service": "services", "user": "users"}
"""PagerDuty's name of a thing → where it belongs."""


def _several(name: str) -> str:
    return f"{name[:-1]}ies" if name.endswith("y") else f"{name}s"


def _read_all(documents: Iterable[Any], read: Callable[[Document], Read], refused: list[str]) -> Iterator[Read]:
    for document in documents:
        try:
            yield read(document)
        except ValueError as error:
            refused.append(str(error))


def _schedule_covered(
    schedule: Schedule, window: Span, zone: ZoneInfo, whole: dict[str, tuple[Slice, ...]], notes: list[str]
) -> Document:
    """Adds its slices to ``whole``, where it is known who is on call."""
    label = schedule.name or schedule.id or "Schedule"
    rendering = render(schedule, window)
    notes += [f"{label}: {note}" for note in told_of(rendering.problems)]
    told: Document = {"id": schedule.id, "name": schedule.name, "kind": schedule.kind}
    problems = [dataclasses.asdict(problem) for problem in rendering.problems]
    if any(problem.code == "no_definition" for problem in rendering.problems):
        return {**told, "known": False, "problems": problems}
    slices = whole[schedule.id] = rendering.slices
    found = quality(slices, window)
    return {
        **told,
        "known": True,
        "coverage_percent": round(found.coverage, 2),
        "gaps": [_span(span, zone) for span in gaps(slices, window)],
        "uncovered_minutes": round(found.uncovered / 60, 1),
        "overlaps": [{**_span(span, zone), "user_ids": sorted(users)} for span, users in overlaps(slices, window)],
        "quality": {
            "score": found.score,
            "band": found.band,
            "balance": found.balance,
            "overloaded": [{"user_id": user, "percent_above_average": more} for user, more in found.overloaded],
            "hours": {user: round(seconds / 3600, 2) for user, seconds in found.seconds},
        },
        "problems": problems,
    }


def _span(span: Span, zone: ZoneInfo) -> Document:
    return {"start": written(span.start, zone), "end": written(span.end, zone)}


def _holes_told(found: Sequence[Hole], window: Span, zone: ZoneInfo) -> Document:
    told = reach(found, window)
    return {
        "coverage_percent": round(told.percent, 2),
        "unreachable_minutes": round(told.unreachable / 60, 1),
        "lower_level_minutes": round(told.lower / 60, 1),
        "next_gap": _span(told.next.span, zone) if told.next else None,
        "gaps": [
            {
                **_span(hole.span, zone),
                "kind": hole.kind,
                "levels": list(hole.levels),
                "reached_level": hole.reached,
                "unknown": list(hole.unknown),
            }
            for hole in found
        ],
    }


def _policy_covered(
    policy: Policy, whole: Mapping[str, Sequence[Slice]], window: Span, zone: ZoneInfo, notes: list[str]
) -> Document:
    found = holes(policy, whole, window)
    label = policy.name or policy.id
    notes += [f"{label}: {note}" for note in told_of(policy.problems)]
    unknown = sorted({id for hole in found for id in hole.unknown})
    if unknown:
        notes.append(f"{label}: who is on call on {', '.join(unknown)} is not known, and taken to be nobody.")
    problems = [dataclasses.asdict(problem) for problem in policy.problems]
    return {"id": policy.id, "name": policy.name, **_holes_told(found, window, zone), "problems": problems}


def _services_covered(
    account: Account, whole: Mapping[str, Sequence[Slice]], window: Span, zone: ZoneInfo
) -> Iterator[Document]:
    for id, found in service_holes(account, whole, window).items():
        service = account.services[id]
        stands = standing(account, service)
        told = {"id": id, "name": service.name, "policy_id": service.policy_id, "standing": stands}
        yield told if stands == "unknown_policy" else {**told, **_holes_told(found, window, zone)}


def _coverage_lines(document: Document) -> Iterator[str]:
    yield f"{document['window']['start']} to {document['window']['end']}"
    for part in document["schedules"]:
        label = part["name"] or part["id"] or "Schedule"
        if not part["known"]:
            yield f"{label} ({part['kind']}): not known"
            continue
        grade, missing = part["quality"], len(part["gaps"])
        yield (
            f"{label} ({part['kind']}): {part['coverage_percent']} % covered, {missing} {'gap' if missing == 1 else 'gaps'}, "
            f"quality {grade['score']} ({grade['band']})"
        )
        yield from (f"  {gap['start']}  {gap['end']}  NOBODY" for gap in part["gaps"])
    for part in document["policies"]:
        yield (
            f"Escalation policy {part['name'] or part['id']}: {part['coverage_percent']} % reaches somebody, "
            f"{part['unreachable_minutes']} minutes nobody, {part['lower_level_minutes']} minutes a lower level alone"
        )
        for gap in part["gaps"]:
            who = "NOBODY" if gap["kind"] == "nobody" else f"level {gap['reached_level']} alone"
            yield f"  {gap['start']}  {gap['end']}  {who}"
    for part in document["services"]:
        match part["standing"]:
            case "disabled":
                words = "disabled: creates no incidents"
            case "no_policy":
                words = "has no escalation policy: reaches nobody"
            case "unknown_policy":
                words = f"its escalation policy {part['policy_id']} is not among the documents"
            case _:
                words = f"{part['coverage_percent']} % reaches somebody"
        yield f"Service {part['name'] or part['id']}: {words}"
