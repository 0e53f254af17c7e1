"""How long response times take of 80,000 incidents with 1,000,000 log entries: ``python -m tests.benchmarks.response``."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from functools import partial
from typing import Any, get_args

import numpy as np

from integrations.pagerduty.analysis.incidents import KIND, WAY, Log
from integrations.pagerduty.analysis.model import Span
from integrations.pagerduty.analysis.response import By, grouped, policy_levels, response

YEAR = 365 * 86_400
NOW = 1_800_000_000
KINDS = (
    "trigger",
    "assign",
    "notify",
    "notify",
    "notify",
    "trigger",
    "escalate",
    "assign",
    "notify",
    "notify",
    "acknowledge",
)


def made(incidents: int, steps: int, seed: int = 7) -> Log:
    """Every incident triggers, goes to somebody, and is acknowledged or not; the first half of the steps of each that are more
    are its monitor's."""
    rng = np.random.default_rng(seed)
    created = np.sort(rng.integers(NOW - YEAR, NOW - 3_600, incidents))
    lengths = np.full(incidents, steps // incidents)
    lengths[: steps - int(lengths.sum())] += 1
    starts = np.concatenate([[0], np.cumsum(lengths)])
    owner = np.repeat(np.arange(incidents), lengths)
    number = np.arange(steps) - starts[owner]
    kind = np.array([KIND[name] for name in (*KINDS, "resolve")], np.int8)[np.minimum(number, len(KINDS))]
    # A third is answered at once, and has no escalation.
    kind[(kind == KIND["escalate"]) & (rng.random(incidents) < 0.7)[owner]] = KIND["other"]
    gaps = rng.exponential(90, steps).astype(np.int64) * (number > 0)
    sums = np.cumsum(gaps)
    at = created[owner] + sums - sums[starts[owner]]
    last = starts[1:] - 1
    is_open = rng.random(incidents) < 0.05
    names = {name: tuple(f"P{name}{place}" for place in range(count)) for name, count in SIZES.items()}
    codes = {name: rng.integers(0, count, incidents).astype(np.int32) for name, count in SIZES.items()}
    return Log(
        ids=tuple(f"PI{place}" for place in range(incidents)),
        created=created,
        resolved=np.where(is_open, -1, at[last]),
        service=codes["service"],
        policy=codes["policy"],
        priority=codes["priority"] - 1,
        urgency=(rng.random(incidents) < 0.3).astype(np.int8),
        status=np.where(is_open, 0, 2).astype(np.int8),
        team_starts=np.arange(incidents + 1),
        team=codes["team"],
        step_starts=starts,
        at=at,
        kind=kind,
        way=np.where(kind == KIND["notify"], WAY["push"], 0).astype(np.int8),
        user=rng.integers(0, SIZES["user"], steps).astype(np.int32),
        by=np.full(steps, -1, np.int32),
        services=names["service"],
        policies=names["policy"],
        priorities=names["priority"],
        teams=names["team"],
        users=names["user"],
    )


SIZES = {"service": 1_000, "policy": 250, "priority": 5, "team": 60, "user": 1_500}


def best(work: Callable[[], Any]) -> float:
    """Milliseconds of the processor, of five times."""
    taken = []
    for _ in range(5):
        begun = time.process_time()
        work()
        taken.append(time.process_time() - begun)
    return min(taken) * 1_000


def main() -> None:
    log = made(80_000, 1_000_000)
    begun = time.perf_counter()
    assert len(log.incident) == 1_000_000
    print(
        f"{len(log):,} incidents, {len(log.at):,} steps; owners of steps {(time.perf_counter() - begun) * 1_000:.0f} ms"
    )
    for days in (90, 365):
        window = Span(NOW - days * 86_400, NOW)
        print(f"last {days} days: response {best(partial(response, log, window, NOW)):.0f} ms", end="")
        for by in get_args(By):
            print(f", by {by} {best(partial(grouped, log, window, NOW, by)):.0f}", end="")
        print(f", levels of one policy {best(partial(policy_levels, log, window, NOW, 'Ppolicy0')):.0f}")
    print(f"most memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_024:.0f} MB")


if __name__ == "__main__":
    main()
