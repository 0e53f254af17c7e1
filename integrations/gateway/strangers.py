"""Credentials that are nobody's: counted, limited by source, and answered in turn, so that good calls do not wait for them.

What is checked before this costs every stranger the same (``Identities.identify``), and so does what is done here: nobody
learns from an answer, or from how long it took, whether a key was ever one. A good key from the very address of a flood is not
held up: a source is looked at only once its credential was refused.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import functools
import heapq
import logging
import os
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from prometheus_client import Counter as Metric

from integrations.gateway.pipeline import REFUSALS_PER_MINUTE, Buckets
from policies.actions import source_of
from policies.core.call import Entry, EntryKind

log = logging.getLogger(__name__)

ANSWERS_PER_SECOND: Final = 250
"""Refusals that leave a process in a second while good calls come; what is beyond waits its turn. Each takes 0.1 to 0.2 ms of the
one processor that good calls need, wherever in a call it comes (``tests/benchmarks/flood.py``)."""
BURST: Final = 25
"""Refusals that leave at once after a quiet moment: who mistypes a key does not wait."""
ALONE_SECONDS: Final = 5.0
"""When no good call came for so long, nobody is in the way of anybody."""
MAXIMUM_WAITING: Final = 500
"""Refusals that wait at once, two seconds at most; what is beyond is answered at once, for what waits costs memory."""
NAMED: Final = 20
"""Sources that an entry names: those with the most refusals. The others are counted together."""
TOLD_APART: Final = 2_000
"""Sources that are told apart in memory until the entry is written."""

REJECTED: Final = Metric("pagewarden_rejected_credentials", "Calls whose credential is nobody's.", ("reason",))


_rejected = functools.cache(REJECTED.labels)
_source = functools.lru_cache(maxsize=4_096)(source_of)


class Strangers:
    """All that a process keeps of refused credentials. Used on the event loop alone."""

    def __init__(self, append: Callable[[Entry], asyncio.Future[None]]) -> None:
        self._append = append
        self._sources = Buckets()
        self._turn = 0.0
        self._waiting = 0
        self._good_at = -ALONE_SECONDS
        self._counted: dict[str, Counter[str]] = {}
        """By source, then by reason."""
        self._others: Counter[str] = Counter()
        self.since = time.time()

    def make_way(self) -> None:
        """A good call came."""
        self._good_at = time.monotonic()

    async def refuse(self, ip: str, reason: str) -> float | None:
        """Count a refused credential, and wait for its turn to be answered. None: as any; else the seconds after which its
        source may try again."""
        source = _source(ip)
        self._count(source, reason)
        wait = self._sources.take(source, REFUSALS_PER_MINUTE, time.monotonic())
        await self._in_turn()
        return wait

    async def _in_turn(self) -> None:
        now = time.monotonic()
        if now - self._good_at > ALONE_SECONDS:
            return
        turn = max(self._turn + 1 / ANSWERS_PER_SECOND, now - BURST / ANSWERS_PER_SECOND)
        if turn > now:
            if self._waiting >= MAXIMUM_WAITING:
                return
            self._turn = turn
            self._waiting += 1
            try:
                await asyncio.sleep(turn - now)
            finally:
                self._waiting -= 1
        else:
            self._turn = turn

    def _count(self, source: str, reason: str) -> None:
        _rejected(reason).inc()
        if not self._counted and not self._others:
            self.since = time.time()
        reasons = self._counted.get(source)
        if reasons is None:
            if len(self._counted) >= TOLD_APART:
                self._fold()
            reasons = self._counted[source] = Counter()
        reasons[reason] += 1

    def _fold(self) -> None:
        """Count all but the busiest sources together: an entry, and the memory until it is written, stay small."""
        busiest = heapq.nlargest(NAMED, self._counted, key=lambda source: self._counted[source].total())
        kept = {source: self._counted[source] for source in busiest}
        for source, reasons in self._counted.items():
            if source not in kept:
                self._others.update(reasons)
        self._counted = kept

    def record(self) -> None:
        """One entry of all that was counted since the last one; what cannot be written is counted on."""
        if not self._counted and not self._others:
            return
        if len(self._counted) > NAMED:
            self._fold()
        counted, others, since = self._counted, self._others, self.since
        self._counted, self._others, self.since = {}, Counter(), time.time()

        def noted(future: asyncio.Future[None]) -> None:
            if not future.cancelled() and (error := future.exception()) is not None:
                log.error("Refused credentials could not be recorded, and are counted on: %s", error)
                self._others.update(others)
                for source, reasons in counted.items():
                    self._counted.setdefault(source, Counter()).update(reasons)
                self.since = since

        self._append(_entry(counted, others, since)).add_done_callback(noted)


def _entry(counted: dict[str, Counter[str]], others: Counter[str], since: float) -> Entry:
    """Refused credentials of one process, of a minute or so."""
    total = sum(counted.values(), others)
    named = sorted(counted.items(), key=lambda item: (-item[1].total(), item[0]))
    return Entry(
        kind=EntryKind.REJECTED,
        at=dt.datetime.now(dt.UTC),
        decision_id=f"rej-{os.urandom(10).hex()}",
        verdict="deny",
        details={
            "count": total.total(),
            "reasons": dict(total),
            "sources": [{"ip": source, "count": reasons.total(), **reasons} for source, reasons in named],
            "others": others.total(),
            "since": dt.datetime.fromtimestamp(since, dt.UTC).isoformat(timespec="seconds"),
        },
    )
