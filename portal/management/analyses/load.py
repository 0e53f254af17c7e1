"""``analyze load``: what being on call costs whom, and how evenly it is shared."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from integrations.measured import hours_of
from integrations.pagerduty.analysis.incidents import Log
from integrations.pagerduty.analysis.load import Duty, Fairness, PersonLoad, norms
from integrations.pagerduty.analysis.load import load as loaded
from integrations.pagerduty.analysis.model import Account, Person, Span
from portal.management.analyses import Answer, Asked, Document, window_asked, written, zone_asked
from portal.management.analyses.logs import logged
from portal.management.analyses.schedules import account_in

HOUR = 3600
ALWAYS = Span(-(2**40), 2**40)
"""Since and until when somebody is on call whose entry does not say."""
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def load(asked: Asked) -> Answer:
    rows, others, more = _on_calls(asked.documents)
    found = logged(others)
    account, _, notes, refused = account_in(found.rest)
    notes = [*found.notes, *notes]
    duties, names = _duties(rows, refused)
    zone = zone_asked(asked, "UTC")
    window = window_asked(asked, zone, _reach(duties, found.log))
    notes += [
        *refused[:MOST_NOTES],
        *([f"{len(refused) - MOST_NOTES} more could not be read."] if refused[MOST_NOTES:] else ()),
    ]
    if more:
        notes.append("Of oncalls the last page is missing: every list of them says that there are more.")
    if not duties:
        notes.append("No on-call entry is in it (GET /oncalls): how long anybody was on call is not known.")
    told = loaded(
        account, found.log, duties, window, known=_known(duties, found.log, window), hours=hours_of(asked.hours)
    )
    unknown = [one.user for one in told.people if not one.zone]
    if unknown:
        notes.append(f"Of {', '.join(unknown)} no time zone is in it: their hours are told by the clock of UTC.")
    named = replace(account, people={**_people({**found.names, **names}), **account.people})
    document: Document = {
        "window": {"start": written(window.start, zone), "end": written(window.end, zone)},
        "hours": asked.hours,
        "people": [_person(one, named, window) for one in told.people],
        "fairness": {what: _fairness(each, named) for what, each in told.fairness.items()},
        "heat": [list(row) for row in told.heat],
    }
    return Answer(document, list(_lines(document)), notes)


MOST_NOTES = 20


def _on_calls(documents: Iterable[Any]) -> tuple[list[Any], list[Any], bool]:
    """The entries of ``GET /oncalls``, what else there is, and whether entries are missing."""
    rows: list[Any] = []
    others: list[Any] = []
    more = set()
    waiting = list(documents)[::-1]
    while waiting:
        document = waiting.pop()
        if isinstance(document, list):
            waiting += document[::-1]
        elif isinstance(document, Mapping) and isinstance(document.get("oncalls"), list):
            rows += document["oncalls"]
            more.add(document.get("more") is True)
            rest = {name: value for name, value in document.items() if name not in PAGE}
            if rest:
                waiting.append(rest)
        elif isinstance(document, Mapping) and {"user", "escalation_level"} <= document.keys():
            rows.append(document)
        else:
            others.append(document)
    return rows, others, more == {True}


PAGE = frozenset({"oncalls", "limit", "offset", "more", "total"})


def _duties(rows: Iterable[Any], refused: list[str]) -> tuple[list[Duty], dict[str, str]]:
    """Each once, and what people are called in it."""
    found: dict[Duty, None] = {}
    names: dict[str, str] = {}
    for row in rows:
        try:
            duty = _duty(row)
        except ValueError as error:
            refused.append(str(error))
            continue
        found[duty] = None
        user = row["user"]
        name = user.get("summary") or user.get("name")
        if isinstance(name, str):
            names[duty.user] = name
    return list(found), names


def _duty(row: Any) -> Duty:
    """``ValueError``: it does not say who is on call when."""
    inner = row if isinstance(row, Mapping) else {}
    user, level = _id(inner.get("user")), inner.get("escalation_level")
    if not user or type(level) is not int or not 0 < level < 1_000:
        raise ValueError("An on-call entry has no user or no escalation_level, and is left out.")
    start, end = (_moment(inner.get(name), otherwise) for name, otherwise in zip(("start", "end"), ALWAYS, strict=True))
    if end <= start:
        raise ValueError(f"An on-call entry of {user[:60]} does not end after it starts, and is left out.")
    return Duty(start, end, user, level, _id(inner.get("schedule")), _id(inner.get("escalation_policy")))


def _id(value: Any) -> str:
    found = value.get("id") if isinstance(value, Mapping) else ""
    return found if isinstance(found, str) else ""


def _moment(value: Any, otherwise: int) -> int:
    if value is None:
        return otherwise
    try:
        moment = dt.datetime.fromisoformat(value)
        return math.floor((moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp())
    except (TypeError, ValueError, OverflowError):
        raise ValueError(
            "An on-call entry has a start or end that cannot be read as a time, and is left out."
        ) from None


def _reach(duties: Iterable[Duty], log: Log) -> Span:
    """Over which on-call entries tell something, or else incidents."""
    starts = [one.start for one in duties if one.start != ALWAYS.start]
    ends = [one.end for one in duties if one.end != ALWAYS.end]
    if starts and ends and min(starts) < max(ends):
        return Span(min(starts), max(ends))
    return Span(int(log.created[0]), int(log.created[-1]) + 1)


def _known(duties: Iterable[Duty], log: Log, window: Span) -> Span:
    """The window was asked for; earlier times are known since both on-call entries and incidents tell of them."""
    starts = [one.start for one in duties if one.start != ALWAYS.start]
    since = max(int(log.created[0]), min(starts)) if starts else window.start
    return Span(min(window.start, since), window.end)


def _people(names: Mapping[str, str]) -> dict[str, Person]:
    return {id: Person(id, name) for id, name in names.items()}


def _person(one: PersonLoad, account: Account, window: Span) -> Document:
    return {
        "user_id": one.user,
        "name": account.name_of(one.user),
        "time_zone": one.zone or None,
        "hours": _hours(one.seconds),
        "level_1_hours": _hours(one.level_1),
        "level_2_plus_hours": _hours(one.level_2_plus),
        "sleep_hours": _hours(one.sleep_seconds),
        "weekend_hours": _hours(one.weekend_seconds),
        "weighted_hours": _hours(one.weighted),
        "longest_run_hours": _hours(one.longest_run),
        "short_rests": one.short_rests,
        "pages": one.pages,
        "sleep_pages": one.sleep_pages,
        "interruptions": {"all": one.interruptions, "business": one.business, "off": one.off, "sleep": one.sleep},
        "nights_woken": one.nights_woken,
        "earlier": {
            "hours" if name == "seconds" else name: _hours(value) if name == "seconds" else round(value, 2)
            for name, value in one.earlier.items()
        }
        or None,
        "takes_turns": one.eligible,
        "exceeds": list(norms(one, window)),
    }


def _hours(seconds: float) -> float:
    return round(seconds / HOUR, 2)


def _fairness(found: Fairness, account: Account) -> Document:
    return {
        "people": found.people,
        "gini": found.gini,
        "variation": found.cv,
        "pairwise": found.pairwise,
        "most": found.most
        and {
            "user_id": found.most[0],
            "name": account.name_of(found.most[0]),
            "share": found.most[1],
            "stands_out": found.stands_out,
        },
        "not_told_because": found.untold or None,
    }


# For people

WORDS = {
    "seconds": "Hours",
    "weighted": "Hours, nights and weekends double",
    "pages": "Pages",
    "interruptions": "Interruptions",
    "sleep_pages": "Pages in sleep hours",
}


def _lines(document: Document) -> Iterator[str]:
    window = document["window"]
    yield f"{window['start']} to {window['end']}, hours of the day as PagerDuty's {document['hours']} counts them"
    for one in document["people"]:
        broken = one["interruptions"]
        yield (
            f"{one['name']} ({one['user_id']}): {one['hours']} h on call ({one['level_1_hours']} h on level 1), "
            f"{one['pages']} pages, {one['sleep_pages']} of them in sleep hours, {one['nights_woken']} nights woken"
        )
        yield (
            f"  interruptions: {broken['business']} in business, {broken['off']} in off and {broken['sleep']} in sleep hours; "
            f"longest run {one['longest_run_hours']} h, short rests {one['short_rests']}, weekend {one['weekend_hours']} h"
        )
        if one["earlier"]:
            before = one["earlier"]
            yield f"  before: {before['hours']} h, {before['pages']} pages, {before['sleep']} interruptions in sleep hours"
        yield from (f"  {words}" for words in one["exceeds"])
    for what, found in document["fairness"].items():
        if found["not_told_because"]:
            # Of all the same.
            yield found["not_told_because"]
            break
        top = found["most"]
        words = f"; {top['name']} has {100 * top['share']:.0f} %" if top else ""
        out = ", which is more than chance gives" if top and top["stands_out"] else ""
        yield (
            f"{WORDS[what]} of {found['people']} people: Gini {found['gini']:.2f}, variation {found['variation']:.2f}, pairs "
            f"{found['pairwise']:.0f} of 100{words}{out}"
        )
    busy = sorted(
        ((count, day, hour) for day, row in enumerate(document["heat"]) for hour, count in enumerate(row) if count),
        key=lambda cell: (-cell[0], cell[1:]),
    )[:5]
    if busy:
        yield "Most interruptions: " + ", ".join(f"{DAYS[day]} {hour:02d}:00 ({count})" for count, day, hour in busy)
