"""In how many generated accounts the slow level that was planted is named: ``python -m tests.benchmarks.slow_level [WORLDS]``.

Beside ours stands the naive mean, from creation to acknowledgement at each level. Accounts without anything planted tell how
often one is named for sure that is not there.
"""

from __future__ import annotations

import datetime as dt
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

from integrations.pagerduty.analysis.incidents import log_of
from integrations.pagerduty.analysis.model import Span
from integrations.pagerduty.analysis.response import response
from integrations.pagerduty.sandbox.world import generate
from tests.logs import rows

SEEDS = range(101, 151)
NOWS = (dt.datetime(2026, 11, 15, 12, tzinfo=dt.UTC), dt.datetime(2027, 4, 6, 5, tzinfo=dt.UTC))
DAYS = (365, 90)


class Found(NamedTuple):
    kind: str
    days: int
    slowest: int
    """A level; 0: none is named."""
    sure: bool
    naive: int
    """The level of the greatest mean."""
    truth: int


def found(seed: int, now: dt.datetime, kind: str) -> list[Found]:
    world = generate(seed, now, kind=kind)
    log = log_of(rows(world))
    planted = world.planted.get("slow_level", {})
    until = int(world.now)
    told = []
    for days in DAYS:
        answer = response(log, Span(until - days * 86_400, until), until)
        slowest = answer.slowest
        naive = max((level.naive or 0.0, level.level) for level in answer.levels)[1]
        told.append(
            Found(
                kind,
                days,
                slowest.level.level if slowest else 0,
                slowest is not None and slowest.sure,
                naive,
                planted.get("level", 0),
            )
        )
    return told


def main() -> None:
    worlds = int(sys.argv[1]) if len(sys.argv) > 1 else len(SEEDS) * len(NOWS)
    asked = [(seed, now) for now in NOWS for seed in SEEDS][:worlds]
    with ProcessPoolExecutor(2) as pool:
        for kind in ("demo", "null"):
            jobs = [pool.submit(found, seed, now, kind) for seed, now in asked]
            rows_told = [row for job in jobs for row in job.result()]
            for days in DAYS:
                some = [row for row in rows_told if row.days == days]
                named = Counter(row.slowest for row in some)
                print(f"{kind}, {days} days, {len(some)} accounts: slowest named {dict(sorted(named.items()))}", end="")
                print(f", for sure {sum(row.sure for row in some)}", end="")
                if kind == "demo":
                    ours = sum(row.slowest == row.truth for row in some)
                    sure = sum(row.slowest == row.truth and row.sure for row in some)
                    naive = sum(row.naive == row.truth for row in some)
                    print(f"; planted one found {ours}, for sure {sure}; by the naive mean {naive}", end="")
                print()


if __name__ == "__main__":
    main()
