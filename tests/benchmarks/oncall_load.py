"""How long the load of everybody takes to work out: 80,000 incidents with 1,000,000 steps, 1,500 people and 40,000 times on
call over a year, and how much memory.

    python -m tests.benchmarks.oncall_load
"""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Iterator

import numpy as np

from integrations.pagerduty.analysis.incidents import Incident, Log, Step, log_of
from integrations.pagerduty.analysis.load import Duty, load, months
from integrations.pagerduty.analysis.model import Account, Person, Span

DAY = 86_400
NOW = 1_796_083_200  # 2026-12-01T00:00Z
PEOPLE, INCIDENTS, DUTIES = 1_500, 80_000, 40_000
ZONES = (
    *("America/Los_Angeles", "America/New_York", "America/Sao_Paulo", "Europe/London", "Europe/Berlin", "Asia/Kolkata"),
    *("Asia/Tokyo", "Australia/Sydney", "Australia/Lord_Howe", "Pacific/Chatham", "UTC", "Africa/Casablanca"),
)
WAYS = ("email", "push", "sms", "phone", "push", "email", "push", "sms")


def incidents() -> Iterator[Incident]:
    chance = np.random.default_rng(7)
    for number, created in enumerate(np.sort(chance.integers(NOW - 365 * DAY, NOW, INCIDENTS)).tolist()):
        users = [f"PUSR{user}" for user in chance.integers(0, PEOPLE, 2).tolist()]
        at = (created + np.sort(chance.integers(1, 1_800, 12))).tolist()
        steps = [Step(f"R{number}", created, "trigger", "")]
        steps += [
            Step(
                f"R{number}-{place}", at[place], "notify" if place < 8 else "other", users[place // 6], WAYS[place % 8]
            )
            for place in range(12)
        ]
        yield Incident(f"PI{number}", created, steps=tuple(steps))


def duties() -> list[Duty]:
    """Of 200 schedules, the turns of a year, each of one of the seven who share it."""
    turn = 365 * DAY * 200 // DUTIES
    return [
        Duty(
            start := NOW - 365 * DAY + number * turn,
            start + turn,
            f"PUSR{schedule * 7 + number % 7}",
            1 + schedule % 2,
            f"PS{schedule}",
        )
        for schedule in range(200)
        for number in range(DUTIES // 200)
    ]


def main() -> None:
    began = time.perf_counter()
    log: Log = log_of(incidents())
    on_call = duties()
    people = [Person(f"PUSR{place}", f"Person {place}", zone=ZONES[place % len(ZONES)]) for place in range(PEOPLE)]
    account = Account(people={person.id: person for person in people})
    known = Span(NOW - 365 * DAY, NOW)
    print(
        f"made {len(log):,} incidents, {len(log.at):,} steps, {len(on_call):,} duties in {time.perf_counter() - began:.1f} s"
    )
    for name, work in (
        ("a year", lambda: load(account, log, on_call, known, known=known)),
        ("90 days, with 3 earlier", lambda: load(account, log, on_call, Span(NOW - 90 * DAY, NOW), known=known)),
        ("28 days, with 6 earlier", lambda: load(account, log, on_call, Span(NOW - 28 * DAY, NOW), known=known)),
        ("12 months", lambda: months(account, log, on_call, known, zone="Europe/London")),
    ):
        times = []
        for _ in range(9):
            began = time.process_time()
            work()
            times.append(1_000 * (time.process_time() - began))
        told = f"first {times[0]:.0f} ms, median {statistics.median(times):.0f} ms, worst {max(times):.0f} ms"
        print(f"{name}: {told} of the processor")
    print(f"memory at its most: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main()
