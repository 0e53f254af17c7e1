"""The load of everybody, at size and in many accounts.

``python -m tests.benchmarks.oncall_load``: how long 80,000 incidents with 1,000,000 steps, 1,500 people and 40,000 times on call
of a year take to work out, on one core (a year's under 250 ms of the processor), and how much memory (under 500 MB). With
``--worlds 101-110``: of the generated accounts of these seeds, with the planted share of sleep pages and with nothing planted,
in how many windows somebody stands out, and how far the share is from the planted one (never a percentage point). Ends with 1
where a bound is not held.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import time
from collections.abc import Iterator

import numpy as np

from integrations.pagerduty.analysis.incidents import Incident, Log, Step, log_of
from integrations.pagerduty.analysis.load import Duty, load, months
from integrations.pagerduty.analysis.model import Account, Person, Span

DAY = 86_400
NOW = 1_796_083_200  # 2026-12-01T00:00Z
PEOPLE, INCIDENTS, DUTIES = 1_500, 80_000, 40_000
MILLISECONDS, MEGABYTES = 250, 500
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


def at_size() -> bool:
    began = time.perf_counter()
    log: Log = log_of(incidents())
    on_call = duties()
    people = [Person(f"PUSR{place}", f"Person {place}", zone=ZONES[place % len(ZONES)]) for place in range(PEOPLE)]
    account = Account(people={person.id: person for person in people})
    known = Span(NOW - 365 * DAY, NOW)
    made = f"{len(log):,} incidents, {len(log.at):,} steps, {len(on_call):,} duties"
    print(f"made {made} in {time.perf_counter() - began:.1f} s")
    medians = {}
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
        medians[name] = statistics.median(times)
        told = f"first {times[0]:.0f} ms, median {medians[name]:.0f} ms, worst {max(times):.0f} ms"
        print(f"{name}: {told} of the processor")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"memory at its most: {memory:.0f} MB")
    return medians["a year"] < MILLISECONDS and memory < MEGABYTES


def of_worlds(seeds: range) -> bool:
    from tests.integrations import test_load_worlds as worlds

    good = True
    for kind in ("demo", "clean", "null"):
        found, out, off = 0, 0, 0.0
        for seed in seeds:
            truth = worlds.world(kind, seed).planted.get("sleep_pages", {"user_id": "", "share": 0})
            planted = truth["user_id"]
            for days in (28, 90, 365):
                told = worlds.told(kind, seed, Span(worlds.END - days * DAY, worlds.END)).fairness
                who = {each.most[0] for each in told.values() if each.most and each.stands_out}
                found += planted in who
                out += bool(who - {planted})
            most = told["sleep_pages"].most
            if planted and most:
                off = max(off, abs(most[1] - truth["share"]))
            for kept in (worlds.world, worlds.log, worlds.account, worlds.duties):
                kept.cache_clear()
        print(
            f"{kind}: of {3 * len(seeds)} windows who was planted stands out in {found}, somebody else in {out}", end=""
        )
        print(f"; the share is at most {100 * off:.2f} points off" if found else "")
        good &= not out and off < 0.01
    return good


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", metavar="FROM-TO", help="seeds")
    asked = parser.parse_args().worlds
    if asked:
        first, _, last = asked.partition("-")
        sys.exit(not of_worlds(range(int(first), int(last or first) + 1)))
    sys.exit(not at_size())


if __name__ == "__main__":
    main()
