"""Who is on call in the next weeks and where nobody is, of all that is mirrored of a connection: worked out once, and kept in the
process until the mirror changes or the day does. Then only what changed is worked out again.
"""

from __future__ import annotations

import datetime as dt
import threading
from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final
from uuid import UUID

from integrations import mirror
from integrations.models import Connection
from integrations.pagerduty.analysis.coverage import Hole, holes, slices_of
from integrations.pagerduty.analysis.model import Account, Policy, Slice, Span
from integrations.pagerduty.analysis.relief import Duties, duties

DAY: Final = 86_400
WEEKS: Final = 12
"""The most that pages look ahead."""
KEPT: Final = 256
"""Connections whose sweep a process keeps: those used last."""


@dataclass(frozen=True)
class Sweep:
    """Over ``window``, which begins with the day (UTC) that it was made on: what is over by now, the reader leaves out."""

    account: Account
    window: Span
    rendered: Mapping[str, tuple[Slice, ...]]
    """By schedule id; of which it is not known who is on call are missing, as ``slices_of`` says."""
    holes: Mapping[str, tuple[Hole, ...]]
    """By policy id."""
    rates: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Incidents per hour by service id, for each hour of the week, as ``mirror.rates`` gives them; empty: not known."""

    @cached_property
    def load(self) -> Mapping[str, float]:
        """Hours on call by person in the first four weeks, over all schedules."""
        end, seconds = self.window.start + 28 * DAY, Counter[str]()
        for slices in self.rendered.values():
            for one in slices:
                if one.user and one.start < end:
                    seconds[one.user] += min(one.end, end) - max(one.start, self.window.start)
        return {user: time / 3600 for user, time in seconds.items()}

    @cached_property
    def busy(self) -> Duties:
        """When each person is on call, on whatever schedule."""
        return duties(self.rendered)

    @cached_property
    def services_of(self) -> Mapping[str, tuple[str, ...]]:
        """Ids of the services by policy id, as the services say: what a policy says of its services may be cut short."""
        found: dict[str, list[str]] = {}
        for service in self.account.services.values():
            if service.policy_id:
                found.setdefault(service.policy_id, []).append(service.id)
        return {policy: tuple(services) for policy, services in found.items()}


_swept: OrderedDict[UUID, Sweep] = OrderedDict()
_lock = threading.Lock()


def swept(connection: Connection, account: Account, now: dt.datetime) -> Sweep:
    """The sweep of what is mirrored of a connection: ``account``, as ``mirror.kept`` gives it. Safe to call from any thread."""
    start = int(now.timestamp()) // DAY * DAY
    with _lock:
        last = _swept.get(connection.pk)
        if last is not None:
            _swept.move_to_end(connection.pk)
    if last is not None and last.account is account and last.window.start == start:
        return last
    # The account is another one whenever the mirror has moved.
    rates = last.rates if last is not None and last.account is account else mirror.rates(connection)
    made = replace(sweep(account, Span(start, start + (7 * WEEKS + 1) * DAY), last), rates=rates)
    with _lock:
        _swept[connection.pk] = made
        _swept.move_to_end(connection.pk)
        while len(_swept) > KEPT:
            _swept.popitem(last=False)
    return made


def sweep(account: Account, window: Span, last: Sweep | None = None) -> Sweep:
    """``last``: an earlier one, of which is taken over what is the same."""
    if last is not None and last.window != window:
        last = None
    rendered: dict[str, tuple[Slice, ...]] = {}
    same: set[str] = set()
    for key, schedule in account.schedules.items():
        stood = last is not None and last.account.schedules.get(key) == schedule
        slices = last.rendered.get(key) if last is not None and stood else slices_of(schedule, window)
        if slices is not None:
            rendered[key] = slices
        if stood:
            same.add(key)
    found: dict[str, tuple[Hole, ...]] = {}
    for key, policy in account.policies.items():
        if last is not None and last.account.policies.get(key) == policy and _stands(policy, same, last, rendered):
            found[key] = last.holes[key]
        else:
            found[key] = holes(policy, rendered, window)
    return Sweep(account, window, rendered, found)


def _stands(policy: Policy, same: set[str], last: Sweep, rendered: Mapping[str, tuple[Slice, ...]]) -> bool:
    """Whether each of its schedules is as it was, or as unknown as it was."""
    named = (target.id for level in policy.levels for target in level.targets if target.kind == "schedule")
    return all(key in same or (key not in rendered and key not in last.rendered) for key in named)
