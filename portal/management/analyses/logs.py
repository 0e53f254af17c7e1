"""Incidents and log entries among saved answers, for the analyses that count them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from integrations.pagerduty.analysis import log_reading
from integrations.pagerduty.analysis.incidents import Incident, Log, Step, log_of
from integrations.pagerduty.analysis.model import Problem

LISTS: Final[Mapping[str, str]] = {"incidents": "incident", "log_entries": "log_entry"}
"""The lists of PagerDuty's answers → its name of one."""
NAMED: Final = ("service", "escalation_policy", "teams", "assignees", "user", "agent")
"""What incidents and log entries refer to by name."""


class Logged(NamedTuple):
    log: Log
    until: int
    """The last moment that anything in it tells of: what became of it later is not known."""
    names: Mapping[str, str]
    """Of services, policies, teams and people, by id, as far as the documents say them."""
    notes: list[str]
    rest: list[Any]
    """Documents that are neither incidents nor log entries."""


def logged(documents: Iterable[Any]) -> Logged:
    """Answers of one incident or log entry, pages of lists, or the things themselves, in any order and more than once."""
    found, rest, notes = _sorted_out(documents)
    problems: list[Problem] = []
    refused: list[str] = []
    incidents: dict[str, Incident] = {}
    steps: dict[str, list[Step]] = defaultdict(list)
    included: dict[str, Any] = {}
    names: dict[str, str] = {}
    for document in found["log_entry"]:
        try:
            read = log_reading.steps(document, problems)
            id = log_reading.incident_id(document)
        except ValueError as error:
            refused.append(str(error))
            continue
        steps[id] += read
        names.update(_named(document))
        whole = document["incident"]
        if whole.get("type") == "incident":
            # It was asked for with include[]=incidents.
            included[id] = whole
    for document in [*included.values(), *found["incident"]]:
        try:
            one = log_reading.incident(document, problems)
            steps[one.id] += log_reading.responders(document)
        except ValueError as error:
            refused.append(str(error))
            continue
        # Of the same incident twice, the later.
        incidents[one.id] = one
        names.update(_named(document))
    if not incidents:
        raise ValueError(refused[0] if refused else "There is no incident in it.")
    notes += list(_told_once(problems)) + refused[:MOST_NOTES]
    if len(refused) > MOST_NOTES:
        notes.append(f"{len(refused) - MOST_NOTES} more documents could not be read.")
    strays = {id for id in steps if id not in incidents}
    if strays:
        count = sum(len(steps[id]) for id in strays)
        notes.append(
            f"{_counted(count, 'log entry is', 'log entries are')} of incidents that are not in it, and left out."
        )
    silent = sum(not steps[id] for id in incidents)
    if silent:
        notes.append(
            f"Of {_counted(silent, 'incident', 'incidents')} no log entry is in it: whether anybody answered is not known."
        )
    rows = [log_reading.with_steps(one, steps[one.id]) for one in incidents.values()]
    until = max(max(one.created, one.resolved or 0, *(step.at for step in one.steps)) for one in rows)
    return Logged(log_of(rows), until, names, notes, rest)


MOST_NOTES: Final = 20


def _sorted_out(documents: Iterable[Any]) -> tuple[dict[str, list[Any]], list[Any], list[str]]:
    found: dict[str, list[Any]] = {kind: [] for kind in LISTS.values()}
    more: dict[str, set[bool]] = defaultdict(set)
    rest: list[Any] = []
    waiting = list(documents)[::-1]
    while waiting:
        document = waiting.pop()
        if isinstance(document, list):
            waiting += document[::-1]
            continue
        if not isinstance(document, Mapping):
            rest.append(document)
            continue
        kind = document.get("type")
        if kind == "incident":
            found["incident"].append(document)
        elif isinstance(kind, str) and log_reading.is_entry(document):
            found["log_entry"].append(document)
        elif kind is not None or "id" in document:
            rest.append(document)
        else:
            left = dict(document)
            for several, one in LISTS.items():
                if isinstance(left.get(several), list):
                    more[several].add(left.get("more") is True)
                    found[one] += left.pop(several)
                if isinstance(left.get(one), Mapping):
                    found[one].append(left.pop(one))
            if left.keys() - {"limit", "offset", "more", "total"}:
                rest.append(left)
    notes = [
        f"Of {several} the last page is missing: every list of them says that there are more."
        for several, told in more.items()
        if told == {True}
    ]
    return found, rest, notes


def _named(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name in NAMED:
        value = document.get(name)
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, Mapping):
                id, words = each.get("id"), each.get("summary") or each.get("name")
                if isinstance(id, str) and isinstance(words, str):
                    yield id, words


def _told_once(problems: list[Problem]) -> Iterator[str]:
    """What is wrong with thousands of entries alike is said once."""
    first: dict[tuple[str, str], str] = {}
    for problem in problems:
        first.setdefault((problem.code, problem.words), problem.where)
    for (code, words), count in Counter((problem.code, problem.words) for problem in problems).items():
        others = f", and {count - 1} more like it" if count > 1 else ""
        yield f"{first[code, words]}{others}: {words} ({code})"


def _counted(count: int, one: str, several: str) -> str:
    return f"{count:,} {one if count == 1 else several}"
