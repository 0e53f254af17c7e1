"""``python -m tests.benchmarks.outage``: the database is away for a minute under reads and writes, in both modes.

A PostgreSQL of its own is killed (or frozen), and started (thawed) again. Everything that was answered or sent must be on record
afterwards, and the journal intact: otherwise it ends with an error. ``--seconds 60 --how kill --how freeze``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.gateway.outage import Asked, Load, ask, check, wait_until, waiting, writes_at
from tests.gateway.postgres import Cluster, binaries, cluster
from tests.gateway.processes import Portal, recording_upstream


@dataclass(frozen=True)
class Found:
    """What one outage came to. Times in seconds since the database went, or since it answered again."""

    reads: Counter[int]
    writes: Counter[int]
    slowest: float
    writes_sent: int
    back: float
    brought_in: float
    total: Counter[str]


def outage(server: Cluster, how: str, reads_go_on: bool, seconds: float) -> Found:
    with tempfile.TemporaryDirectory(prefix="pagewarden-outage-") as name:
        folder = Path(name)
        with recording_upstream(folder) as (url, log):
            portal = Portal(folder, url, server=server.url)
            try:
                portal.seed(states={"add_note_to_incident": "on"})
                if reads_go_on:
                    portal.manage("reads_go_on", "on", "--minutes", "5", "--reason", "benchmark")
                portal.start()
                load = Load(portal, readers=6, writers=2)
                load.start()
                time.sleep(3)
                (server.kill if how == "kill" else server.freeze)()
                gone = time.monotonic()
                time.sleep(3)
                sent = writes_at(log)
                time.sleep(seconds - 3)
                sent = writes_at(log) - sent
                (server.start if how == "kill" else server.thaw)()
                answers = time.monotonic()
                back = wait_until(lambda: ask(portal, writes=True).status == 201, 30, "a write goes through")
                brought_in = back + wait_until(lambda: not waiting(portal), 60, "all is brought in")
                time.sleep(3)
                load.stop()
                portal.stop()
                total = check(portal, load, log)
            finally:
                if server.process is None:
                    server.start()
                portal.close()
    reads, writes = (load.between(gone, answers, writes=kind) for kind in (False, True))
    slowest = max(call.ended - call.began for call in reads + writes)
    return Found(_statuses(reads), _statuses(writes), slowest, sent, back, brought_in, total)


def _statuses(calls: list[Asked]) -> Counter[int]:
    return Counter(call.status for call in calls)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="that the database is away")
    parser.add_argument("--how", action="append", choices=("kill", "freeze"), help="default: kill, then freeze")
    options = parser.parse_args()
    if (programs := binaries()) is None:
        sys.exit("PostgreSQL's server is not installed.")
    with cluster(programs) as server:
        for how in options.how or ("kill", "freeze"):
            for go_on in (True, False):
                found = outage(server, how, go_on, options.seconds)
                mode = "reads go on" if go_on else "closed"
                print(f"\n{how}, {options.seconds:g} s, {mode}")
                for what, answers in (("reads", found.reads), ("writes", found.writes)):
                    said = ", ".join(f"{count} × {status}" for status, count in sorted(answers.items()))
                    print(f"  {what + ' meanwhile':<34}{said}")
                print(f"  {'slowest answer meanwhile':<34}{found.slowest:.2f} s")
                print(f"  {'writes at PagerDuty meanwhile':<34}{found.writes_sent}")
                print(f"  {'a write goes through again after':<34}{found.back:.2f} s")
                print(f"  {'the spool is brought in after':<34}{found.brought_in:.2f} s")
                totals = found.total
                print(f"  {'calls, answered, sent, entries':<34}", end="")
                print(*(totals[name] for name in ("calls", "answered", "sent", "entries")), sep=", ")
                print(f"  {'of them spooled':<34}{totals['spooled']} ({totals['twice']} recorded twice)")
                print("  nothing unrecorded, nothing sent twice, verify_audit: intact", flush=True)


if __name__ == "__main__":
    main()
