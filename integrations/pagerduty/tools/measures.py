"""Tools that look back on incidents and on who was on call, or forward on what would share it better: answered from the mirror by
the functions of ``integrations/measured.py``, as the pages are.

Every process imports this: what takes numpy is imported where it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from integrations.gateway.integration import Unanswered
from integrations.measured import DAYS, Period, loaded, not_slowest, period, responded, responded_by
from integrations.pagerduty.analysis.model import Span
from integrations.pagerduty.tools.asking import Given
from integrations.pagerduty.tools.reviewing import review_escalation_policy
from integrations.pagerduty.tools.slim import plain
from integrations.pagerduty.tools.telling import (
    Answer,
    Mirror,
    id_of,
    page_of,
    reference,
    time_of,
    wrong,
)
from integrations.proposals import proposed_swaps
from policies.core.call import Target

if TYPE_CHECKING:
    from integrations.pagerduty.analysis.incidents import Chosen
    from integrations.pagerduty.analysis.load import Fairness, Load, PersonLoad
    from integrations.pagerduty.analysis.optimise import Share, Swap
    from integrations.pagerduty.analysis.response import Estimate, Group, LevelTimes, Response, Slowest, Times

HOUR: Final = 3_600
NULL: Final = "Longer than was waited: too many did not happen before this was read, or went on to somebody else."


# Response times


def _response_times(given: Given, mirror: Mirror) -> Answer:
    """``{"window", "incidents", "times": {"acknowledge": {...}, ...}, "levels": [...], "slowest_level", "rows"?}``"""
    found = _period(given, mirror)
    chosen, about, said = _chosen(given, mirror, found)
    measured = responded(found, chosen)
    told: dict[str, Any] = {
        **_window(found, given),
        **said,
        "incidents": measured.incidents,
        "null_means": NULL,
        "times": {name: _times(times, given.full) for name, times in measured.times.items()},
        "waterfall": [
            {
                "stage": stage.name,
                "starts_after_minutes": _minutes(stage.starts),
                "median_minutes": _minutes(stage.times.median.seconds),
            }
            for stage in measured.waterfall
        ],
        "slowest_level": _slowest(measured, given),
    }
    by = given.get("by")
    if by == "level" or (by is None and given.full):
        told["levels"] = [_level(each, given.full) for each in measured.levels]
    elif by is not None:
        groups = responded_by(found, by, chosen, given.zone)
        page, paging = page_of(groups, given)
        told["by"] = by
        told["rows"] = [_group(each, by, mirror, given) for each in page]
        told |= paging
    return told, about


def _period(given: Given, mirror: Mirror) -> Period:
    """What is looked back on. Raises ``Unanswered``."""
    if (days := given["days"]) not in DAYS:
        raise wrong("days", f"days must be 28, 90 or 365, and is {days}.", "Pass 28, 90 or 365.")
    history = mirror.history()
    found = period(mirror.connection, history, days, given.now)
    if found is None:
        problem = (
            f"The portal has not read the incidents of {mirror.connection.name} yet, and this is measured from them."
        )
        raise Unanswered(
            f"{problem} {plain(history.problem, 300)}".strip(),
            "Its worker reads them by itself, which takes a while the first time: try again later. "
            "Until then PagerDuty's own figures are told by get_incident_metrics_all.",
        )
    return found


def _window(found: Period, given: Given) -> dict[str, Any]:
    history = found.history
    told: dict[str, Any] = {
        "window": {"since": time_of(found.window.start, given), "until": time_of(found.window.end, given)}
    }
    if not found.is_whole:
        told["window"]["asked_since"] = time_of(found.asked.start, given)
        told["known_since"] = "Of earlier times the portal does not know all incidents" + (
            ": they are still being read." if history.running else "."
        )
    if history.as_of is not None:
        told["incidents_as_of"] = time_of(int(history.as_of.timestamp()), given)
    if history.problem:
        told["incidents_problem"] = plain(history.problem, 300)
    return told


def _chosen(given: Given, mirror: Mirror, found: Period) -> tuple[Chosen, tuple[Target, ...], dict[str, Any]]:
    """Which incidents are counted, what was named for that, and what is said of it."""
    from integrations.pagerduty.analysis.incidents import Chosen

    account = mirror.account
    ids: dict[str, str] = {}
    said: dict[str, Any] = {}
    about: list[Target] = []
    known: tuple[tuple[str, Mapping[str, Any]], ...] = (
        ("escalation_policy", account.policies),
        ("service", account.services),
        ("team", account.teams),
    )
    for kind, things in known:
        if f"{kind}_id" in given.arguments:
            id = ids[kind] = id_of(given, f"{kind}_id", things)
            about.append(Target(kind, id))
            said[kind] = reference(id, things[id] if kind == "team" else things[id].name)
    if urgency := given.get("urgency", ""):
        said["urgency"] = urgency
    if priority := given.get("priority", ""):
        priority = _priority(priority, found)
        said["priority"] = plain(priority, 100)
    chosen = Chosen(ids.get("escalation_policy", ""), ids.get("service", ""), ids.get("team", ""), urgency, priority)
    return chosen, tuple(about), said


def _priority(asked: str, found: Period) -> str:
    """The priority that is named, whatever its letters' case."""
    names = found.log.priorities
    for name in names:
        if name == asked or name.casefold() == asked.strip().casefold():
            return name
    listing = f"Pass one of: {', '.join(plain(name, 40) for name in sorted(names)[:20])}."
    raise wrong(
        "priority",
        "No incident that is known has this priority.",
        listing if names else "Leave priority out: none has any.",
    )


def _times(times: Times, full: bool) -> dict[str, Any]:
    told: dict[str, Any] = {
        "count": times.count,
        "not_yet": times.count - times.happened,
        "median_minutes": _minutes(times.median.seconds),
        "median_minutes_95_percent": _interval(times.median),
        "p90_minutes": _minutes(times.p90.seconds),
        "p90_minutes_95_percent": _interval(times.p90),
    }
    if full:
        # It leaves out what did not happen yet, and with it the slowest.
        told["mean_minutes_of_those_that_did"] = _minutes(times.mean)
    return told


def _level(each: LevelTimes, full: bool) -> dict[str, Any]:
    told = {
        "level": each.level,
        "reached": each.reached,
        "answered": each.answered,
        "median_minutes": _minutes(each.times.median.seconds),
        "median_minutes_95_percent": _interval(each.times.median),
        "p90_minutes": _minutes(each.times.p90.seconds),
    }
    over = each.at_least if each.times.median.low is None else each.times.median.low
    if each.times.median.seconds is None and over is not None:
        told["median_minutes_over"] = _minutes(over)
    if full:
        told["p90_minutes_95_percent"] = _interval(each.times.p90)
        told["mean_minutes_from_creation"] = _minutes(each.naive)
    return told


def _slowest(measured: Response, given: Given) -> dict[str, Any]:
    slowest: Slowest | None = measured.slowest
    if slowest is None:
        return {"not_told": not_slowest(measured)}
    told = _level(slowest.level, given.full) | {"is_sure": slowest.sure}
    if slowest.next is not None:
        told["next"] = _level(slowest.next, given.full)
    return told


def _group(each: Group, by: str, mirror: Mirror, given: Given) -> dict[str, Any]:
    told: dict[str, Any] = {**_key(each.key, by, mirror), "incidents": each.incidents}
    if given.full:
        return {**told, **{name: _times(times, True) for name, times in each.times.items()}}
    acknowledge, resolve = each.times["acknowledge"], each.times["resolve"]
    told["acknowledge"] = {
        "median_minutes": _minutes(acknowledge.median.seconds),
        "median_minutes_95_percent": _interval(acknowledge.median),
        "p90_minutes": _minutes(acknowledge.p90.seconds),
    }
    if not_yet := acknowledge.count - acknowledge.happened:
        told["acknowledge"]["not_yet"] = not_yet
    told["resolve"] = {"median_minutes": _minutes(resolve.median.seconds)}
    return told


def _key(key: str, by: str, mirror: Mirror) -> dict[str, Any]:
    account = mirror.account
    if by in ("hour", "level"):
        return {by: int(key)}
    if by in ("urgency", "priority"):
        return {by: plain(key, 100) or None}
    if not key:
        return {"id": None}
    match by:
        case "policy":
            named = account.policies[key].name if key in account.policies else ""
        case "service":
            named = account.services[key].name if key in account.services else ""
        case _:
            named = account.teams.get(key, "")
    return reference(key, named)


def _minutes(seconds: float | None) -> float | None:
    """Of what is under a minute to the hundredth: nothing that there is becomes none."""
    return None if seconds is None else round(seconds / 60, 1 if seconds >= 60 else 2)


def _interval(estimate: Estimate) -> list[float | None]:
    return [_minutes(estimate.low), _minutes(estimate.high)]


# Load


def _oncall_load(given: Given, mirror: Mirror) -> Answer:
    """``{"window", "people": [{"id", "name", "on_call_hours", "pages", "interruptions", ...}], "fairness", ...}``"""
    from integrations.pagerduty.analysis.incidents import Chosen

    found = _period(given, mirror)
    about: list[Target] = []
    said: dict[str, Any] = {}
    account, team, user = mirror.account, "", ""
    if "team_id" in given.arguments:
        team = id_of(given, "team_id", account.teams)
        about.append(Target("team", team))
        said["team"] = reference(team, account.teams[team])
    if "user_id" in given.arguments:
        user = id_of(given, "user_id", account.people)
        about.append(Target("user", user))
    measured = loaded(found, account, chosen=Chosen(team_id=team) if team else None)
    if measured is None:
        problem = f"The portal does not know yet who was on call through {mirror.connection.name}."
        raise Unanswered(problem, "Its worker reads the past of the schedules by itself: try again later.")
    rows: Sequence[PersonLoad] = measured.people
    if user:
        rows = [one for one in rows if one.user == user]
        if not rows:
            said["user"] = {**reference(user, account.name_of(user)), "said": "Was neither on call nor paged."}
    page, paging = page_of(rows, given)
    told: dict[str, Any] = {
        **_window(found, given),
        "on_call_known": _span(measured.window, given),
        **said,
        "hours_are": "By each person's own clock: sleep 22 to 8, business Monday to Friday 8 to 18, the rest off.",
        "people": [_person(one, mirror, given) for one in page],
        **paging,
        "fairness": _fairness(measured, mirror),
    }
    return told, tuple(about)


def _span(span: Span, given: Given) -> dict[str, Any]:
    return {"since": time_of(span.start, given), "until": time_of(span.end, given)}


def _person(one: PersonLoad, mirror: Mirror, given: Given) -> dict[str, Any]:
    told: dict[str, Any] = {
        **reference(one.user, mirror.account.name_of(one.user)),
        "on_call_hours": _hours(one.seconds),
        "level_1_hours": _hours(one.level_1),
        "pages": one.pages,
        "sleep_pages": one.sleep_pages,
        "interruptions": {"business": one.business, "off": one.off, "sleep": one.sleep},
        "nights_woken": one.nights_woken,
        "short_rests": one.short_rests,
        "longest_run_hours": _hours(one.longest_run),
        "weekend_percent": round(100 * one.weekend_share, 1),
    }
    if given.full:
        told["level_2_plus_hours"] = _hours(one.level_2_plus)
    if one.earlier:
        told["earlier_mean"] = {
            "on_call_hours" if name == "seconds" else name: _hours(value) if name == "seconds" else round(value, 1)
            for name, value in one.earlier.items()
            if given.full or name in ("pages", "sleep")
        }
    return told


def _fairness(measured: Load, mirror: Mirror) -> dict[str, Any]:
    return {
        {"seconds": "on_call_hours", "weighted": "weighted_hours"}.get(what, what): _shared(fairness, mirror)
        for what, fairness in measured.fairness.items()
    }


def _shared(fairness: Fairness, mirror: Mirror) -> dict[str, Any]:
    if fairness.untold:
        return {"not_told": plain(fairness.untold, 300)}
    told: dict[str, Any] = {"people": fairness.people}
    for name, value in (("gini", fairness.gini), ("variation", fairness.cv), ("pairwise_percent", fairness.pairwise)):
        if value is not None:
            told[name] = round(value, 3 if name != "pairwise_percent" else 1)
    if fairness.most is not None:
        user, share = fairness.most
        told["most"] = {**reference(user, mirror.account.name_of(user)), "share_percent": round(100 * share, 1)}
    return told


def _hours(seconds: float) -> float:
    return round(seconds / HOUR, 1)


# What would share it better


def _suggest_overrides(given: Given, mirror: Mirror) -> Answer:
    """``{"schedule", "window", "swaps": [{"start", "end", "instead_of", "takes_over"}], "people": [...], "how", ...}``"""
    account, now = mirror.account, given.now
    id = id_of(given, "schedule_id", account.schedules)
    schedule = account.schedules[id]
    found = proposed_swaps(mirror.connection, mirror.sweep(), id, given["weeks"], now)
    if found is None:
        problem = f"It is not known who is on call on {plain(schedule.name or id, 200)} ahead, so nothing is proposed."
        raise Unanswered(problem, "schedule_quality says what is wrong in its data.", about="schedule_id")
    after = {share.user: share for share in found.after}
    told: dict[str, Any] = {
        "schedule": reference(id, schedule.name),
        "window": _span(found.window, given),
        "swaps": [_swap(one, mirror, given) for one in found.swaps],
        "sleep_load_is": "expected pages while they sleep" if found.in_pages else "hours on call while they sleep",
        "people": [
            {
                **reference(one.user, account.name_of(one.user)),
                "before": _share(one),
                "after": _share(after[one.user]),
            }
            for one in found.before
        ],
        "said": [plain(words, 500) for words in found.words],
        "is_best": found.exact,
    }
    if found.swaps:
        told["how"] = (
            "Nothing is changed yet. Ask the people first; then call create_schedule_override for each swap, with takes_over "
            "as user_id" + (", and rotation_id and overridden_user_id as they stand." if schedule.kind == "v3" else ".")
        )
    return told, (Target("schedule", id),)


def _swap(one: Swap, mirror: Mirror, given: Given) -> dict[str, Any]:
    account = mirror.account
    told: dict[str, Any] = {
        "start": time_of(one.start, given),
        "end": time_of(one.end, given),
        "instead_of": reference(one.was, account.name_of(one.was)),
        "takes_over": reference(one.to, account.name_of(one.to)),
    }
    if one.source is not None and one.source.kind in _PARTS:
        told[_PARTS[one.source.kind]] = plain(one.source.id, 64)
        told["overridden_user_id"] = plain(one.was, 64)
    return told


_PARTS: Final[Mapping[str, str]] = {"rotation": "rotation_id", "custom_shift": "custom_shift_id"}


def _share(one: Share) -> dict[str, Any]:
    told: dict[str, Any] = {
        "on_call_hours": round(one.hours, 1),
        "sleep_load": round(one.sleep, 2),
        "short_rests": one.short_rests,
    }
    if one.elsewhere:
        told["sleep_load_elsewhere"] = round(one.elsewhere, 2)
    return told


TOOLS: Final[Mapping[str, Callable[[Given, Mirror], Answer]]] = {
    "response_times": _response_times,
    "oncall_load": _oncall_load,
    "suggest_overrides": _suggest_overrides,
    "review_escalation_policy": review_escalation_policy,
}
