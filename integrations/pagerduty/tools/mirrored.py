"""Tools without operations: answered from the portal's own mirror of the account, by the functions that its pages use.

A tool gets its arguments and ``Mirror``; it says what it found, as of when, what could not be read, and what it was about.
Addresses stand as they are mirrored: masked. Names are the account's own and unmarked, as everywhere; what people wrote into the
portal is marked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from integrations.gateway.integration import Own
from integrations.pagerduty.analysis.coverage import Quality, danger, overlaps, quality, standing
from integrations.pagerduty.analysis.coverage import gaps as gaps_of
from integrations.pagerduty.analysis.intended import Mark, Missing, hours, missing
from integrations.pagerduty.analysis.model import Account, Policy, Schedule, Service, Slice, Source, Span
from integrations.pagerduty.analysis.paging import Notice, Paged, Reached, Step, service_is_paged, who_is_paged
from integrations.pagerduty.tools import measures
from integrations.pagerduty.tools.arguments import moment
from integrations.pagerduty.tools.asking import Given
from integrations.pagerduty.tools.slim import outside, plain
from integrations.pagerduty.tools.telling import (
    FEW,
    MANY,
    SOME,
    Answer,
    Mirror,
    id_of,
    iso,
    listed,
    minutes,
    page_of,
    reference,
    sentences,
    span_of,
    time_of,
    wrong,
)
from integrations.sweep import WEEKS, Sweep
from policies.core.call import Target

WEEK: Final = 7 * 86_400
LATE: Final = 300
"""Seconds by which a time may lie in the past and mean now: the caller's clock need not be ours."""


def answer(tool: str, given: Given, mirror: Mirror) -> Own:
    """What a tool without operations answers.

    Raises:
        Unanswered: an argument names nothing in the mirror, or several things, or a time that nothing can be said of.
    """
    document, targets = TOOLS[tool](given, mirror)
    told: dict[str, Any] = {"as_of": time_of(int(mirror.as_of.timestamp()), given), **document}
    if mirror.unread:
        told["not_read"] = {part: plain(why, 300) for part, why in mirror.unread.items()}
    return Own(told, iso(int(mirror.as_of.timestamp())), targets)


# Who is paged


def _who_is_paged(given: Given, mirror: Mirror) -> Answer:
    """``{"at", "urgency", "escalation_policy", "levels": [{"level", "after_minutes", "pages": [...]}], "ends_at", ...}``"""
    account = mirror.account
    at = _moment(given, "at")
    if ("service_id" in given.arguments) == ("escalation_policy_id" in given.arguments):
        raise wrong("service_id", "Pass either service_id or escalation_policy_id.", "Its id, or its exact name.")
    if "service_id" in given.arguments:
        service = account.services[id_of(given, "service_id", account.services)]
        paged = _of_service(account, service, at, given.get("urgency"))
        named = {"service": reference(service.id, service.name)}
        about = [Target("service", service.id)] + [Target("escalation_policy", paged.policy.id)] * bool(
            service.policy_id
        )
    else:
        id = id_of(given, "escalation_policy_id", account.policies)
        paged = who_is_paged(account, id, at, urgency=given.get("urgency", "high"))
        named, about = {}, [Target("escalation_policy", id)]
    told: dict[str, Any] = {
        "at": time_of(at, given),
        "urgency": paged.urgency,
        **named,
        "escalation_policy": reference(paged.policy.id, paged.policy.name) if paged.policy.id else None,
        "nobody": paged.nobody,
        "levels": [_step(step, account, given) for step in _shown(paged, given)],
        "repeats": _repeats(paged),
        "ends_at": "It stays with whom it is assigned to." if paged.ends_at is None else time_of(paged.ends_at, given),
        "warnings": sentences(paged.warnings),
        "problems": sentences(paged.problems),
    }
    return {name: value for name, value in told.items() if value or name == "levels"}, tuple(about)


def _of_service(account: Account, service: Service, at: int, urgency: str | None) -> Paged:
    paged = service_is_paged(account, service.id, at)
    if urgency is None or paged.nobody:
        return paged
    # What was chosen is that of this one incident, whatever the service's usually is.
    asked = who_is_paged(account, service.policy_id, at, urgency=urgency)
    kept = tuple(each for each in paged.problems if each.code == "maintenance")
    return replace(asked, service_id=service.id, problems=(*kept, *asked.problems))


def _shown(paged: Paged, given: Given) -> list[Step]:
    """The first time through; of each further one the levels that reach others than the first time. In full: all."""
    first = {step.level: _whom(step) for step in paged.steps if step.loop == 1}
    return [step for step in paged.steps if given.full or step.loop == 1 or first.get(step.level) != _whom(step)]


def _whom(step: Step) -> tuple[str, ...]:
    return tuple(one.user for one in step.reached)


def _repeats(paged: Paged) -> str:
    loops = max((step.loop for step in paged.steps), default=1)
    again = next((step.minutes for step in paged.steps if step.loop == 2), None)
    if again is None:
        return ""
    times = "once" if loops == 2 else f"{loops - 1} times"
    return f"From {again} minutes on, all levels {times} more: the same people, unless they stand here with their loop."


def _step(step: Step, account: Account, given: Given) -> dict[str, Any]:
    told: dict[str, Any] = {"level": step.level, "after_minutes": step.minutes}
    if step.loop > 1:
        told["loop"] = step.loop
    if step.skipped:
        return {**told, "skipped": plain(step.skipped, 500)}
    if step.delay is not None:
        told["for_minutes"] = step.delay
    if step.one_of:
        told["one_of"] = True
    return {**told, "pages": [_paged(one, step, account, given) for one in step.reached]}


def _paged(one: Reached, step: Step, account: Account, given: Given) -> dict[str, Any]:
    told: dict[str, Any] = {
        **reference(one.user, account.name_of(one.user)),
        "by": _source(one.source, one.schedule_id, account),
    }
    if one.contacts is None:
        told["told"] = "not known"
    else:
        told["told"] = [_notice(each, given) for each in one.contacts if each.sent or given.full]
    if given.full and one.also:
        told["also_by"] = [_source(source, schedule, account) for source, schedule in one.also]
    return told


def _notice(notice: Notice, given: Given) -> dict[str, Any]:
    told: dict[str, Any] = {"after_minutes": notice.minute, "by": notice.contact.kind}
    if notice.contact.address:
        told["to"] = plain(notice.contact.address, 200)
    if given.full:
        told |= {"label": plain(notice.contact.label, 200), "is_used": notice.sent}
    return told


_SOURCES: Final = {
    "layer": "a layer",
    "rotation": "a rotation",
    "custom_shift": "a custom shift",
    "override": "an override",
    "rendered": "PagerDuty's own rendering",
    "policy": "the escalation policy itself",
}


def _source(source: Source, schedule_id: str, account: Account) -> dict[str, Any]:
    told: dict[str, Any] = {"source": _SOURCES[source.kind]}
    if source.name and source.kind != "policy":
        told["name"] = plain(source.name, 200)
    if schedule_id:
        schedule = account.schedules.get(schedule_id)
        told["schedule"] = reference(schedule_id, schedule.name if schedule else "")
    return told


# Coverage


def _coverage_gaps(given: Given, mirror: Mirror) -> Answer:
    """``{"window", "escalation_policies": [{"id", "name", "unreachable_minutes", "gaps": [...]}], "count", "more"}``"""
    sweep, marks = mirror.sweep(), mirror.marks()
    window = _window(given, 4)
    chosen, about, said = _chosen(given, sweep)
    rows = [_lacking(policy, sweep, marks.get(policy.id, ()), window) for policy in chosen]
    # Worst first; what lacks nothing is only counted, unless it was asked for by itself.
    lacking = [row for row in rows if row.lacks or len(chosen) == 1]
    lacking.sort(key=lambda row: row.order)
    page, paging = page_of(lacking, given)
    most = MANY if given.full else SOME if len(page) == 1 else FEW
    told: dict[str, Any] = {
        "window": {"since": time_of(window.start, given), "until": time_of(window.end, given)},
        **said,
        "escalation_policies": [_lacking_row(row, marks.get(row.policy.id, ()), most, given) for row in page],
        **paging,
    }
    if len(rows) > len(lacking):
        told["without_gaps"] = len(rows) - len(lacking)
    return told, about


@dataclass(frozen=True, slots=True)
class _Lacking:
    """A policy over a window."""

    policy: Policy
    window: Span
    missing: Missing
    services: tuple[Service, ...]
    expected: float | None
    """How many incidents are to be expected while nobody is reached; None: incidents are not known."""

    @property
    def unreachable(self) -> int:
        return _seconds(self.missing.nobody)

    @property
    def lacks(self) -> bool:
        found = self.missing
        return bool(found.nobody or found.lower or found.unsure or found.meant)

    @property
    def order(self) -> tuple[float, int, int, int, str]:
        found = self.missing
        return (-(self.expected or 0.0), -self.unreachable, -len(found.unsure), -len(found.lower), self.policy.name)

    @property
    def percent(self) -> float:
        """How much of the time somebody is reached for sure. What is not quite all is never told as all."""
        left = self.window.seconds - sum(map(_seconds, (self.missing.nobody, self.missing.meant, self.missing.unsure)))
        return left * 10_000 // max(self.window.seconds, 1) / 100


def _lacking(policy: Policy, sweep: Sweep, marks: Sequence[tuple[Mark, str]], window: Span) -> _Lacking:
    found = missing(sweep.holes.get(policy.id, ()), [mark for mark, _ in marks], window)
    services = sweep.services_of.get(policy.id, ())
    rates = [sweep.rates[one] for one in services if sweep.rates.get(one)]
    expected = sum(danger(gap, each) for gap in found.nobody for each in rates) / 60 if rates else None
    return _Lacking(policy, window, found, tuple(sweep.account.services[one] for one in services), expected)


def _why(part: Span, marks: Sequence[tuple[Mark, str]]) -> str:
    return next((reason for mark, reason in marks if hours(mark, part)), "")


def _lacking_row(row: _Lacking, marks: Sequence[tuple[Mark, str]], most: int, given: Given) -> dict[str, Any]:
    found = row.missing
    told: dict[str, Any] = reference(row.policy.id, row.policy.name)
    listed(told, "services", [reference(one.id, one.name) for one in row.services[:most]], len(row.services))
    told |= {"unreachable_minutes": minutes(row.unreachable), "reached_percent": row.percent}
    if found.nobody:
        told["next_gap"] = span_of(found.nobody[0], given)
        if row.expected is not None:
            told["expected_incidents"] = round(row.expected, 2)
    listed(told, "gaps", [span_of(span, given) for span in found.nobody[:most]], len(found.nobody))
    if found.lower:
        told["covered_by_lower_minutes"] = minutes(_seconds([hole.span for hole in found.lower]))
        lower = [{**span_of(hole.span, given), "reached_level": hole.reached} for hole in found.lower[:most]]
        listed(told, "covered_by_lower", lower, len(found.lower))
    if found.meant:
        told["intended_minutes"] = minutes(_seconds(found.meant))
        meant = [{**span_of(span, given), "reason": outside(_why(span, marks))} for span in found.meant[:most]]
        listed(told, "intended", meant, len(found.meant))
    if found.unsure:
        # A schedule that decides it is not in the mirror.
        told["not_known_minutes"] = minutes(_seconds(found.unsure))
        listed(told, "not_known", [span_of(span, given) for span in found.unsure[:most]], len(found.unsure))
    return told


def _chosen(given: Given, sweep: Sweep) -> tuple[list[Policy], tuple[Target, ...], dict[str, Any]]:
    """The policies that are asked for, what was named, and what is said of that."""
    account = sweep.account
    about: list[Target] = []
    said: dict[str, Any] = {}
    chosen = list(account.policies.values())
    if "escalation_policy_id" in given.arguments:
        id = id_of(given, "escalation_policy_id", account.policies)
        about.append(Target("escalation_policy", id))
        chosen = [one for one in chosen if one.id == id]
    if "service_id" in given.arguments:
        service = account.services[id_of(given, "service_id", account.services)]
        about.append(Target("service", service.id))
        said["service"] = reference(service.id, service.name) | _STANDING[standing(account, service)]
        chosen = [one for one in chosen if one.id == service.policy_id]
    if "team_id" in given.arguments:
        id = id_of(given, "team_id", account.teams)
        about.append(Target("team", id))
        said["team"] = reference(id, account.teams[id])
        chosen = [one for one in chosen if id in one.team_ids]
    return chosen, tuple(about), said


_STANDING: Final[Mapping[str, dict[str, str]]] = {
    "watched": {},
    "disabled": {"standing": "It is disabled: it creates no incidents, so nobody need be reached."},
    "no_policy": {"standing": "It has no escalation policy: it never reaches anybody."},
    "unknown_policy": {"standing": "Its escalation policy is not in the mirror, so whom it reaches is not known."},
}


# Quality


def _schedule_quality(given: Given, mirror: Mirror) -> Answer:
    """``{"window", "schedules": [{"id", "name", "score", "parts": {...}, "gaps": [...], "problems": [...]}], ...}``"""
    account = mirror.account
    window = _window(given, WEEKS)
    about: tuple[Target, ...] = ()
    chosen = list(account.schedules.values())
    if "schedule_id" in given.arguments:
        id = id_of(given, "schedule_id", account.schedules)
        about = (Target("schedule", id),)
        chosen = [account.schedules[id]]
    rendered = mirror.sweep().rendered
    rated = [(schedule, rendered[schedule.id]) for schedule in chosen if schedule.id in rendered]
    unknown = [schedule for schedule in chosen if schedule.id not in rendered]
    scores = {schedule.id: quality(slices, window) for schedule, slices in rated}
    rated.sort(key=lambda each: (scores[each[0].id].score, each[0].name))
    page, paging = page_of(rated, given)
    most = MANY if given.full else SOME if len(page) == 1 else FEW
    rows = [
        _quality_row(schedule, slices, scores[schedule.id], window, account, most, given) for schedule, slices in page
    ]
    told: dict[str, Any] = {
        "window": {"since": time_of(window.start, given), "until": time_of(window.end, given)},
        "schedules": rows,
        **paging,
    }
    # Of these it cannot be told who is on call: a score would take that for nobody.
    not_known = [{**reference(one.id, one.name), "problems": sentences(one.problems[:FEW])} for one in unknown[:SOME]]
    listed(told, "not_known", not_known, len(unknown))
    return told, about


def _quality_row(
    schedule: Schedule, slices: Sequence[Slice], rated: Quality, window: Span, account: Account, most: int, given: Given
) -> dict[str, Any]:
    gaps = gaps_of(slices, window)
    # Of layers only one is on call at any time.
    several = overlaps(slices, window) if schedule.kind == "v3" else ()
    used = [one for one in account.policies.values() if _uses(one, schedule.id)]
    parts: dict[str, Any] = {"coverage_percent": round(rated.coverage, 2), "balance_percent": rated.balance}
    if rated.overloaded:
        parts["overloaded"] = [
            {**reference(user, account.name_of(user)), "above_average_percent": more}
            for user, more in rated.overloaded[:most]
        ]
    told: dict[str, Any] = {
        **reference(schedule.id, schedule.name),
        "kind": schedule.kind,
        "time_zone": plain(schedule.zone, 64),
        "score": rated.score,
        "band": rated.band,
        "parts": parts,
        "uncovered_minutes": minutes(rated.uncovered),
    }
    listed(told, "gaps", [span_of(span, given) for span in gaps[:most]], len(gaps))
    if several:
        told["overlap_minutes"] = minutes(sum(span.seconds for span, _ in several))
        rows = [
            {**span_of(span, given), "people": [reference(user, account.name_of(user)) for user in sorted(people)]}
            for span, people in several[:most]
        ]
        listed(told, "overlaps", rows, len(several))
    if schedule.problems:
        listed(told, "problems", sentences(schedule.problems[:most]), len(schedule.problems))
    listed(told, "used_by", [reference(one.id, one.name) for one in used[:most]], len(used))
    if given.full:
        told["hours"] = [
            {**reference(user, account.name_of(user)), "hours": round(seconds / 3600, 1)}
            for user, seconds in rated.seconds[:most]
        ]
    return told


def _uses(policy: Policy, schedule_id: str) -> bool:
    return any(
        target.kind == "schedule" and target.id == schedule_id for level in policy.levels for target in level.targets
    )


# Times


def _moment(given: Given, parameter: str) -> int:
    """When an argument says, in Unix time; without it, now."""
    now = int(given.now.timestamp())
    asked = moment(given.get(parameter) or "")
    if asked is None:
        return now
    at = int(asked.timestamp())
    if at < now - LATE:
        remedy = f"Leave {parameter} out for now. Who was paged is on record: see get_incident_timeline."
        raise wrong(parameter, f"{parameter} is past, and this tells of now and later.", remedy)
    _check_ahead(parameter, at, now)
    return max(at, now)


def _window(given: Given, weeks: int) -> Span:
    """The window that is asked for, from now at the earliest; without an end, so many weeks."""
    now = int(given.now.timestamp())
    since, until = (moment(given.get(name) or "") for name in ("since", "until"))
    start = max(now, int(since.timestamp())) if since is not None else now
    _check_ahead("since", start, now)
    end = start + weeks * WEEK
    if until is not None:
        end = int(until.timestamp())
        if end <= now:
            raise wrong("until", "until is past, and this tells of now and later.", "Pass a time to come.")
        _check_ahead("until", end, now)
    end = min(end, now + WEEKS * WEEK)
    if end <= start:
        raise wrong("since", f"since is {WEEKS} weeks ahead, where the view ends.", "Pass an earlier time.")
    return Span(start, end)


def _check_ahead(parameter: str, at: int, now: int) -> None:
    if at > now + WEEKS * WEEK + LATE:
        latest = iso(now + WEEKS * WEEK)
        raise wrong(parameter, f"{parameter} is more than {WEEKS} weeks ahead.", f"Pass {latest} at the latest.")


def _seconds(spans: Sequence[Span]) -> int:
    return sum(span.seconds for span in spans)


TOOLS: Final[Mapping[str, Callable[[Given, Mirror], Answer]]] = {
    "who_is_paged": _who_is_paged,
    "coverage_gaps": _coverage_gaps,
    "schedule_quality": _schedule_quality,
    **measures.TOOLS,
}
