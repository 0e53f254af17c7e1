"""What would share the load of a connection's schedules better, looking ahead: for pages and tools alike, so that both say the
same. A result is kept in the process as long as the sweep that it was made of is the newest, and for an hour.

Every process imports this, and few of them propose: what takes numpy is imported where it is used.
"""

from __future__ import annotations

import datetime as dt
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final
from uuid import UUID

from integrations.models import Connection
from integrations.pagerduty.analysis.model import Account, Span
from integrations.pagerduty.analysis.relief import duties
from integrations.sweep import DAY, WEEKS, Sweep

if TYPE_CHECKING:
    from integrations.pagerduty.analysis.optimise import Swaps

HOUR: Final = 3_600
NOTICE: Final = DAY
"""Nobody's plans for the next so many seconds are to be changed."""
CONNECTIONS: Final = 64
"""Of so many a process keeps results: of those used last."""
RESULTS: Final = 128
"""Of each."""

Key = tuple[str, Span]
_kept: OrderedDict[UUID, tuple[Sweep, OrderedDict[Key, Swaps]]] = OrderedDict()
_lock = threading.Lock()


def proposed_swaps(
    connection: Connection, sweep: Sweep, schedule_id: str, weeks: int, now: dt.datetime
) -> Swaps | None:
    """The fewest overrides that share a schedule's nights better in the weeks from tomorrow on, twelve at most, this hour of the
    day to that. ``sweep``: the connection's, as ``sweep.swept`` gives it. None: the schedule is not known, or not who is on
    call. Takes some seconds the first time; safe to call from any thread."""
    slices = sweep.rendered.get(schedule_id)
    if slices is None or schedule_id not in sweep.account.schedules:
        return None
    start = int(now.timestamp()) // HOUR * HOUR + NOTICE
    # What reaches the end of the sweep may go on after it.
    window = Span(start, min(start + 7 * min(weeks, WEEKS) * DAY, sweep.window.end - HOUR))
    if window.start >= window.end:
        return None
    key = (schedule_id, window)
    with _lock:
        last = _kept.get(connection.pk)
        if last is None or last[0] is not sweep:
            last = _kept[connection.pk] = (sweep, OrderedDict())
            while len(_kept) > CONNECTIONS:
                _kept.popitem(last=False)
        _kept.move_to_end(connection.pk)
        results = last[1]
        if key in results:
            results.move_to_end(key)
            return results[key]
    made = swaps_of(sweep, schedule_id, window)
    with _lock:
        results[key] = made
        while len(results) > RESULTS:
            results.popitem(last=False)
    return made


def swaps_of(sweep: Sweep, schedule_id: str, window: Span) -> Swaps:
    """The same without keeping it."""
    from integrations.pagerduty.analysis.optimise import sleep_load, swaps

    account, slices = sweep.account, sweep.rendered[schedule_id]
    others = {id: each for id, each in sweep.rendered.items() if id != schedule_id}
    rates = rates_of(account, schedule_id, sweep.rates, sweep.services_of)
    elsewhere: dict[str, float] = {}
    schedule = account.schedules[schedule_id]
    concerned = {one.user for one in slices} | {user for layer in schedule.layers for user in layer.users}
    concerned |= {user for rotation in schedule.rotations for event in rotation.events for user in event.members}
    for id, theirs in others.items():
        own: dict[str, list[Span]] = {}
        for one in theirs:
            start, end = max(one.start, window.start), min(one.end, window.end)
            if one.user in concerned and start < end:
                own.setdefault(one.user, []).append(Span(start, end))
        # Pages are added to pages and hours to hours: where these are told apart by pages, a schedule without any adds none.
        other_rates = rates_of(account, id, sweep.rates, sweep.services_of) if own and rates else ()
        if rates and not other_rates:
            continue
        for user, spans in own.items():
            elsewhere[user] = elsewhere.get(user, 0.0) + sleep_load(account, user, spans, rates=other_rates)
    busy = duties({id: [one for one in each if one.user in concerned] for id, each in others.items()})
    return swaps(account, schedule_id, slices, window, busy=busy, rates=rates, elsewhere=elsewhere)


def rates_of(
    account: Account,
    schedule_id: str,
    rates: Mapping[str, Sequence[float]],
    services_of: Mapping[str, Sequence[str]],
) -> tuple[float, ...]:
    """Incidents an hour that page whoever is on call on a schedule, for each hour of the week: those of the services whose
    policies page it on their first level, but for those of low urgency and those switched off. Empty: they are not known, or no
    policy pages it first, so that how often it comes to that is not.

    Half of each hour's is of that hour of the week, and half of what the weekday and the hour of the day have by themselves:
    twelve weeks tell too little of a single hour to move somebody's night for it."""
    found: list[Sequence[float]] = []
    first = False
    for policy in account.policies.values():
        targets = policy.levels[0].targets if policy.levels else ()
        if not any(target.kind == "schedule" and target.id == schedule_id for target in targets):
            continue
        first = True
        for id in services_of.get(policy.id, ()):
            service = account.services.get(id)
            if service is not None and service.urgency != "low" and service.status != "disabled" and id in rates:
                found.append(rates[id])
    if not first or not rates:
        return ()
    week = [sum(each) for each in zip(*found, strict=True)] if found else [0.0] * 168
    days = [sum(week[24 * day : 24 * day + 24]) for day in range(7)]
    total = sum(days)
    if not total:
        return tuple(week)
    hours = [sum(week[hour::24]) for hour in range(24)]
    return tuple((rate + days[at // 24] * hours[at % 24] / total) / 2 for at, rate in enumerate(week))
