"""What is wrong with the escalation policies that are mirrored of a connection: the one function that pages and tools ask."""

from __future__ import annotations

import datetime as dt
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from uuid import UUID

from integrations.intended import mark_of, marks_of
from integrations.models import Connection, MutedFinding
from integrations.mutes import mutes_of
from integrations.pagerduty.analysis import escalation
from integrations.pagerduty.analysis.escalation import Finding, Review, Unjudged
from integrations.pagerduty.analysis.intended import Mark
from integrations.pagerduty.analysis.model import Span
from integrations.sweep import Sweep

if TYPE_CHECKING:
    # With numpy, which not every process wants.
    from integrations.pagerduty.analysis.incidents import Log

HOUR: Final = 3_600
KEPT: Final = 256
"""Connections whose review a process keeps: those used last."""
Marks = Mapping[str, Sequence[Mark]]


@dataclass(frozen=True, slots=True)
class Muted:
    finding: Finding
    row: MutedFinding
    """Until when, why, and by whom."""


@dataclass(frozen=True, slots=True)
class Reviewed:
    findings: tuple[Finding, ...]
    """Those that are not muted, the worst first."""
    muted: tuple[Muted, ...]
    unjudged: tuple[Unjudged, ...]
    """What rules could not be asked of, as not enough is known: not the same as nothing wrong."""
    meant: Mapping[str, tuple[Span, ...]]
    """By policy id, when nobody is reached and that is intended: no finding."""
    window: Span
    """What was looked at: from the beginning of this hour to the end of the sweep."""

    def of(self, policy_id: str) -> Reviewed:
        """The same of one escalation policy."""
        return Reviewed(
            tuple(one for one in self.findings if one.policy_id == policy_id),
            tuple(one for one in self.muted if one.finding.policy_id == policy_id),
            tuple(one for one in self.unjudged if one.policy_id == policy_id),
            {policy_id: self.meant[policy_id]} if policy_id in self.meant else {},
            self.window,
        )


_reviews: OrderedDict[UUID, tuple[Sweep, Span, Marks, Review]] = OrderedDict()
_lock = threading.Lock()


def reviewed(
    connection: Connection,
    sweep: Sweep,
    now: dt.datetime,
    *,
    open_incidents: Mapping[str, int] | None = None,
) -> Reviewed:
    """The findings on a connection's escalation policies, schedules and services, without those that its team has muted.

    ``sweep``: ``swept(connection, mirror.kept(connection).account, now)``. ``open_incidents``: how many are open by policy id, as
    ``open_by_policy`` counts them: changes of the policy do nothing for those, which the consequence of a finding then says.

    The rules are gone through once an hour, and when the sweep or what is intended has changed; which findings are muted is
    looked up each time (two look-ups in all). Safe to call from any thread."""
    start = int(now.timestamp()) // HOUR * HOUR
    window = Span(max(start, sweep.window.start), sweep.window.end)
    marks = {
        policy: tuple(mark_of(row) for row in rows) for (_, policy), rows in marks_of([connection.pk], now).items()
    }
    found = _review(connection.pk, sweep, window, marks)
    mutes = mutes_of([connection.pk], now)[connection.pk]
    told: list[Finding] = []
    muted: list[Muted] = []
    for one in escalation.with_open(found.findings, open_incidents or {}):
        row = mutes.get((one.policy_id, one.key))
        if row is None:
            told.append(one)
        else:
            muted.append(Muted(one, row))
    return Reviewed(tuple(told), tuple(muted), found.unjudged, found.meant, window)


def _review(pk: UUID, sweep: Sweep, window: Span, marks: Marks) -> Review:
    with _lock:
        last = _reviews.get(pk)
        if last is not None:
            _reviews.move_to_end(pk)
    if last is not None and last[0] is sweep and last[1:3] == (window, marks):
        return last[3]
    made = escalation.review(sweep.account, sweep.rendered, window, marks=marks, found_holes=sweep.holes)
    with _lock:
        _reviews[pk] = (sweep, window, marks, made)
        _reviews.move_to_end(pk)
        while len(_reviews) > KEPT:
            _reviews.popitem(last=False)
    return made


def open_by_policy(log: Log) -> dict[str, int]:
    """How many incidents are not resolved, by the id of their escalation policy."""
    import numpy as np

    open_ones = log.policy[(log.resolved < 0) & (log.policy >= 0)]
    counts = np.bincount(open_ones, minlength=len(log.policies))
    return {id: int(count) for id, count in zip(log.policies, counts, strict=True) if count}
