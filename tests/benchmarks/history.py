"""A year of a big account's incidents mirrored into PostgreSQL: 80,000 incidents, a million log entries.

``python -m tests.benchmarks.history [--size demo]``: takes a quarter of an hour. A process reads, is killed with -9 in the midst
and begun anew; then what is kept is held against the account itself, entry by entry. PagerDuty's rate limit is lifted for it: the
minutes that are told are those of the calls at a quarter of 960 a minute. Ends with 1 where anything is lost or double.
"""

from __future__ import annotations

import argparse
import datetime as dt
import hashlib
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any, Final

from integrations.pagerduty.sandbox.world import SIZES, demo_from_email, demo_tokens, generate
from tests.gateway.postgres import binaries, cluster
from tests.gateway.processes import ROOT, Portal, free_port, wait_for_port

KILLS: Final = 3
A_MINUTE: Final = 240
"""Calls: a quarter of PagerDuty's limit."""

READ: Final = """
import json, sys, time
import django; django.setup()
from integrations import mirror
from integrations.models import Connection
connection, calls = Connection.objects.get(), 0
while True:
    run = mirror.sync(connection, by="a benchmark", seconds=60, calls=10_000)
    calls += run.calls
    if run.done or run.told:
        break
print(json.dumps([run.done, run.told, calls]))
"""
COUNT: Final = """
import hashlib, json
import django; django.setup()
from django.db import connection as database
from integrations import history, mirror
from integrations.models import *
connection = Connection.objects.get()
digest, incidents, steps = hashlib.sha256(), 0, 0
for row in MirroredIncident.objects.order_by("remote_id").iterator(2_000):
    one = history._incident(row)
    told = sorted((step.at, step.kind) for step in one.steps)
    digest.update(json.dumps([one.id, one.created, told]).encode())
    incidents, steps = incidents + 1, steps + len(told)
sizes = []
with database.cursor() as cursor:
    for table in ("mirroredincident", "pastshift"):
        cursor.execute(f"SELECT pg_total_relation_size('integrations_{table}')")
        sizes.append(cursor.fetchone()[0])
problems = {part.kind: part.problem for part in MirrorPart.objects.all() if part.problem}
print(json.dumps([digest.hexdigest(), incidents, steps, sizes, PastShift.objects.count(), problems]))
"""
LOADS: Final = """
import json, resource, time
from pathlib import Path
import django; django.setup()
import integrations.history as history
from integrations import mirror
from integrations.models import *
from integrations.pagerduty.analysis.model import Span
from django.db.models import F

def memory():
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("VmRSS")).split()[1]) / 1e3

def timed(do):
    start = time.perf_counter()
    done = do()
    return done, time.perf_counter() - start

connection = Connection.objects.get()
mirror.kept(connection)
before, told = memory(), {}
first, told["first"] = timed(lambda: history.history(connection))
told["memory"] = memory() - before
again, told["again"] = timed(lambda: history.history(connection))
assert again.log is first.log
Mirror.objects.update(history=F("history") + 1)
ids = first.log.ids[-100:]
MirroredIncident.objects.filter(remote_id__in=ids).update(change=Mirror.objects.get().history)
changed, told["changed"] = timed(lambda: history.history(connection))
assert changed.log is not first.log and changed.log.ids == first.log.ids
end = first.known.end
window = Span(end - 365 * 86_400, end)
(found, known), told["duties"] = timed(lambda: history.duties(connection, window))
told["count"] = len(found)
told["known"] = None if known is None else known.seconds / 86_400
_, told["duties again"] = timed(lambda: history.duties(connection, window))
told["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
print(json.dumps(told))
"""


def asked(url: str, what: str, **values: Any) -> Any:
    request = urllib.request.Request(
        f"{url}/_sandbox/{what}", json.dumps(values).encode() if values else None, method="POST" if values else "GET"
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read() or b"null")


def program(portal: Portal, code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], env=portal.env, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    return done.stdout.decode()


def read(portal: Portal, seconds: float | None) -> list[Any] | None:
    """What a process told that read to the end; None: it was killed after so many seconds."""
    command = [sys.executable, "-c", READ]
    process = subprocess.Popen(command, env=portal.env, cwd=ROOT, stdout=subprocess.PIPE, start_new_session=True)
    try:
        out, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        portal.sql("UPDATE integrations_mirror SET held_until = begun_at")
        print(f"  killed after {seconds:.0f} s", flush=True)
        return None
    assert process.returncode == 0, process.returncode
    told: list[Any] = json.loads(out)
    return told


def expected(size: str, now: dt.datetime, until: float) -> tuple[str, int, int]:
    """The account's own: a digest of all of it, incidents and log entries."""
    others = {"annotate": "other", "custom_field_value_change": "other"}
    digest, steps = hashlib.sha256(), 0
    world = generate(7, now, size=size)
    for one in sorted(world.incidents, key=lambda each: each.id):
        told = sorted((int(each.at), others.get(each.type, each.type)) for each in one.happenings() if each.at <= until)
        digest.update(json.dumps([one.id, int(one.created), told]).encode())
        steps += len(told)
    return digest.hexdigest(), len(world.incidents), steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="stress", help="of the account")
    parser.add_argument("--kill-after", type=float, default=60.0, help="seconds")
    options = parser.parse_args()
    programs = binaries()
    assert programs is not None, "PostgreSQL's server is not installed."
    now = dt.datetime.now(dt.UTC).replace(minute=0, second=0, microsecond=0)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    arguments = ("-m", "integrations.pagerduty.sandbox", "--port", str(port), "--size", options.size)
    with (
        cluster(programs) as own,
        tempfile.TemporaryDirectory(prefix="pagewarden-history-") as folder,
        subprocess.Popen(
            [sys.executable, *arguments, "--now", now.isoformat()],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        ) as sandbox,
    ):
        wait_for_port(port, sandbox, seconds=300)
        asked(url, "rate_limit", enforce=False, limit=1_000_000)
        portal = Portal(Path(folder), url, server=own.url)
        portal.seed(token=demo_tokens(7)["account"].value, from_email=demo_from_email(7))
        started, kills = time.monotonic(), 0
        while (told := read(portal, options.kill_after if kills < KILLS else None)) is None:
            kills += 1
        seconds = time.monotonic() - started
        assert told[0], told
        calls = asked(url, "stats")["calls"]
        kept, loads = (json.loads(program(portal, each)) for each in (COUNT, LOADS))
        portal.close()
        os.killpg(sandbox.pid, signal.SIGKILL)
    known, incidents, steps = expected(options.size, now, time.time())
    history = sum(count for path, count in calls.items() if path.endswith(("/incidents", "/log_entries")))
    least = math.ceil(incidents / 100) + math.ceil(steps / 100)
    whole = kept[0] == known
    rows = [
        ("incidents kept, of the account", f"{kept[1]:,} of {incidents:,}"),
        ("log entries kept, of the account", f"{kept[2]:,} of {steps:,}"),
        ("each once, at its time, of its type", "yes" if whole else "NO"),
        ("processes killed with -9", f"{kills}"),
        ("calls for incidents and log entries", f"{history:,}"),
        ("least possible (100 rows a call)", f"{least:,}, so {history / least - 1:.1%} more"),
        ("calls in all", f"{sum(calls.values()):,}"),
        (f"minutes at {A_MINUTE} calls a minute", f"{sum(calls.values()) / A_MINUTE:.0f}"),
        ("minutes here, without a limit", f"{seconds / 60:.1f}"),
        ("in the database: incidents", f"{kept[3][0] / 1e6:.0f} MB"),
        (f"in the database: {kept[4]:,} shifts", f"{kept[3][1] / 1e6:.0f} MB"),
        ("history(): first in a process", f"{loads['first']:.2f} s, {loads['memory']:.0f} MB"),
        ("history(): nothing changed", f"{loads['again'] * 1000:.0f} ms"),
        ("history(): 100 incidents changed", f"{loads['changed'] * 1000:.0f} ms"),
        (
            f"duties(): a year, {loads['count']:,}",
            f"{loads['duties']:.2f} s, then {loads['duties again'] * 1000:.0f} ms",
        ),
        ("days of these that are known", f"{loads['known']}"),
        ("that process, at its most", f"{loads['peak']:.0f} MB"),
        ("what could not be read", str(kept[5] or "nothing")),
    ]
    for name, value in rows:
        print(f"  {name:<42}{value}")
    sys.exit(0 if whole and not kept[5] else 1)


if __name__ == "__main__":
    main()
