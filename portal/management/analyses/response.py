"""``analyze response``: how fast incidents were answered, and at which level of their escalation policy it takes longest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, get_args

from integrations.pagerduty.analysis.escalation import lasting
from integrations.pagerduty.analysis.incidents import Log
from integrations.pagerduty.analysis.model import Span
from integrations.pagerduty.analysis.response import (
    By,
    Estimate,
    Group,
    LevelTimes,
    Slowest,
    Times,
    grouped,
    policy_levels,
    slowest_of,
)
from integrations.pagerduty.analysis.response import response as responded
from portal.management.analyses import Answer, Asked, Document, window_asked, written, zone_asked
from portal.management.analyses.logs import logged


def response(asked: Asked) -> Answer:
    found = logged(asked.documents)
    log, now = found.log, found.until
    zone = zone_asked(asked, "UTC")
    window = window_asked(asked, zone, Span(int(log.created[0]), int(log.created[-1]) + 1))
    answer = responded(log, window, now)
    notes = list(found.notes)
    if found.rest:
        notes.append("What is neither an incident nor a log entry is left out.")
    document: Document = {
        "window": {"start": written(window.start, zone), "end": written(window.end, zone)},
        "known_until": written(now, zone),
        "incidents": answer.incidents,
        "times": {name: _times(times) for name, times in answer.times.items()},
        "waterfall": [
            {"stage": stage.name, "starts_seconds": stage.starts, **_times(stage.times)} for stage in answer.waterfall
        ],
        "levels": [_level(level) for level in answer.levels],
        "slowest": _slowest(answer.slowest),
        "policies": list(_policies(log, window, now, found.names)),
        "by": {
            by: [_group(group, found.names) for group in grouped(log, window, now, by, zone=zone)]
            for by in get_args(By)
            if by != "policy"
        },
    }
    return Answer(document, list(_lines(document)), notes)


def _policies(log: Log, window: Span, now: int, names: Mapping[str, str]) -> Iterator[Document]:
    for group in grouped(log, window, now, "policy"):
        levels = policy_levels(log, window, now, group.key) if group.key else ()
        yield {
            **_group(group, names),
            "levels": [_level(level) for level in levels],
            "slowest": _slowest(slowest_of(levels)),
        }


def _group(group: Group, names: Mapping[str, str]) -> Document:
    times = {name: _times(times) for name, times in group.times.items()}
    return {"key": group.key, "name": names.get(group.key, ""), "incidents": group.incidents, "times": times}


def _times(times: Times) -> Document:
    return {
        "count": times.count,
        "happened": times.happened,
        "median": times.median._asdict(),
        "p90": times.p90._asdict(),
        "mean_of_happened": None if times.mean is None else round(times.mean, 1),
    }


def _level(level: LevelTimes) -> Document:
    return {
        "level": level.level,
        "reached": level.reached,
        "answered": level.answered,
        **_times(level.times),
        "at_least": level.at_least,
        "naive_mean": None if level.naive is None else round(level.naive, 1),
    }


def _slowest(slowest: Slowest | None) -> Document | None:
    if slowest is None:
        return None
    following = slowest.next.level if slowest.next else None
    return {"level": slowest.level.level, "next": following, "sure": slowest.sure}


# For people

NAMES: Final[Mapping[str, str]] = {
    "notify": "first notification",
    "acknowledge": "acknowledgement",
    "engage": "first responder",
    "mobilise": "second responder",
    "resolve": "resolution",
}


def _lines(document: Document) -> Iterator[str]:
    window = document["window"]
    yield f"{window['start']} to {window['end']}: {document['incidents']:,} incidents, known until {document['known_until']}"
    for name, times in document["times"].items():
        yield f"{NAMES[name]}: {_words(times)}"
    for level in document["levels"]:
        yield f"level {level['level']}: reached by {level['reached']:,}, answered {level['answered']:,}; {_words(level)}"
        if level["naive_mean"] is not None:
            yield f"  (mean since creation of those answered there: {lasting(round(level['naive_mean']))})"
    yield _slowest_line(document["slowest"])
    for policy in document["policies"]:
        yield f"{policy['name'] or policy['key'] or 'no escalation policy'}: {policy['incidents']:,} incidents"
        yield f"  acknowledgement: {_words(policy['times']['acknowledge'])}"
        if policy["slowest"]:
            yield f"  {_slowest_line(policy['slowest'])}"


def _slowest_line(slowest: Document | None) -> str:
    if slowest is None:
        return "Which level is slowest cannot be told: of too few is enough known."
    sure = "clearly" if slowest["sure"] else "not clearly"
    return f"Slowest is level {slowest['level']}, {sure} apart from level {slowest['next']}."


def _words(times: Document) -> str:
    if not times["count"]:
        return "none to be counted"
    median, tenth = (_estimate(Estimate(**times[name])) for name in ("median", "p90"))
    if times.get("at_least") is not None:
        median = f"over {lasting(round(times['at_least']))}"
    return f"median {median}, 90 % within {tenth}, {times['happened']:,} of {times['count']:,}"


def _estimate(estimate: Estimate) -> str:
    if estimate.seconds is None:
        return "not known"
    if estimate.low is None and estimate.high is None:
        return lasting(round(estimate.seconds))
    low, high = ("?" if end is None else lasting(round(end)) for end in (estimate.low, estimate.high))
    return f"{lasting(round(estimate.seconds))} ({low} to {high})"
