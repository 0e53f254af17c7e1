"""The simulated PagerDuty by itself: memory, seconds until it answers, and how long its lists take.

``python -m tests.benchmarks.sandbox [--size demo] [--rounds 40]``; both sizes without. Memory: proportional set size, 10^6 bytes.
``--walk``: PagerDuty's own client reads a year of incidents and of log entries on the stress size, by halved windows.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import json
import os
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pagerduty
import trustme

from integrations.pagerduty.sandbox.world import DAY, SIZES, demo_from_email, demo_tokens, generate, iso
from tests.gateway.processes import free_port, running

MOST = 10_000
"""Rows that a list can be paged through."""
LONGEST = 180 * DAY
"""A window that no list refuses."""
READS = (
    "/incidents?limit=100",
    "/incidents?limit=100&statuses[]=triggered&statuses[]=acknowledged&date_range=all&sort_by=created_at:desc&total=true",
    "/incidents?limit=100&since={month_ago}&until={month_after}&offset=1000",
    "/incidents/PI000007",
    "/incidents/PI000007/log_entries",
    "/log_entries?limit=100",
    "/log_entries?limit=100&offset=5000&is_overview=true",
    "/log_entries/RI00000700",
    "/oncalls?limit=100",
    "/oncalls?limit=100&earliest=true&include[]=users",
    "/services?limit=100&include[]=escalation_policies",
    "/users?limit=100&include[]=contact_methods&include[]=notification_rules",
    "/schedules?limit=100",
    "/escalation_policies?limit=100&include[]=targets",
    "/change_events?limit=100",
    "/v3/schedules",
    "/teams?limit=100",
    "/business_services?limit=100",
)


def memory(pid: int) -> float:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(next(line for line in rollup.splitlines() if line.startswith("Pss:")).split()[1]) * 1024 / 1e6


def of_group(pid: int) -> float:
    """Of a process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return memory(pid) + sum(of_group(int(child)) for child in children)


def get(url: str, path: str) -> Any:
    headers = {"Authorization": f"Token token={demo_tokens(7)['account'].value}", "From": demo_from_email(7)}
    with urllib.request.urlopen(urllib.request.Request(url + path, headers=headers), timeout=120) as answer:
        return json.loads(answer.read())


@contextlib.contextmanager
def stress(folder: Path, now: str) -> Iterator[tuple[Any, float, int, Path]]:
    """A big account over TLS, for its client speaks to nobody without: the client, seconds until the account answered it, the
    process, and the file of its truth."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    issued = authority.issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    (folder / "key.pem").write_bytes(issued.private_key_pem.bytes())
    port, truth = free_port(), folder / "truth.json"
    command = ("-m", "integrations.pagerduty.sandbox", "--port", str(port), "--size", "stress", "--now", now)
    tls = ("--tls-cert", str(folder / "cert.pem"), "--tls-key", str(folder / "key.pem"))
    started = time.monotonic()
    with (
        running(*command, *tls, "--truth", str(truth), port=port) as process,
        mock.patch.dict(os.environ, {"SSL_CERT_FILE": str(folder / "ca.pem")}),
    ):
        client = pagerduty.RestApiV2Client(
            demo_tokens(7)["account"].value, default_from=demo_from_email(7), base_url=f"https://127.0.0.1:{port}"
        )
        client.rget("/abilities")
        yield client, time.monotonic() - started, process.pid, truth


def walked(client: Any, path: str, since: float, until: float) -> list[dict[str, Any]]:
    """All rows of a window, halved until each half can be paged through; windows end a second before the next begins."""
    window = {"since": iso(since), "until": iso(until)}
    count = (
        client.get(path, params={**window, "limit": 1, "total": "true"}).json().get("total")
        if until - since < LONGEST
        else None
    )
    if count is None or count > MOST:
        middle = (since + until) // 2
        return walked(client, path, since, middle) + walked(client, path, middle + 1, until)
    rows = list(client.iter_all(path, params=window, page_size=100))
    assert len(rows) == count
    return rows


def walk() -> None:
    now = dt.datetime.now(dt.UTC).replace(minute=0, second=0, microsecond=0)
    with tempfile.TemporaryDirectory() as folder, stress(Path(folder), now.isoformat()) as (client, _, _, _):
        world = generate(7, now, size="stress")
        expected = {
            "incidents": [incident.id for incident in world.incidents],
            "log_entries": [row.id for incident in world.incidents for row in incident.happenings()],
        }
        end = now.timestamp()
        for path, ids in expected.items():
            started = time.monotonic()
            rows = [row["id"] for row in walked(client, path, end - 366 * DAY, end + DAY)]
            told = "each once" if sorted(rows) == sorted(ids) else "NOT THOSE OF THE ACCOUNT"
            print(f"  /{path}: {len(rows):,} rows in {time.monotonic() - started:.0f} s, {told}", flush=True)


def measure(size: str, rounds: int) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    started = time.monotonic()
    with running("-m", "integrations.pagerduty.sandbox", "--port", str(port), "--size", size, port=port) as process:
        get(url, "/abilities")
        ready, fresh = time.monotonic() - started, of_group(process.pid)
        now = dt.datetime.now(dt.UTC)
        times = {
            "month_ago": (now - dt.timedelta(days=90)).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "month_after": (now - dt.timedelta(days=60)).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        rows = []
        for read in READS:
            path, taken = read.format(**times), []
            for _ in range(rounds):
                before = time.perf_counter()
                get(url, path)
                taken.append((time.perf_counter() - before) * 1000)
            rows.append((read, statistics.median(taken), sorted(taken)[int(len(taken) * 0.95)]))
        print(
            f"\n{size}: answers after {ready:.1f} s with {fresh:.0f} MB; {of_group(process.pid):.0f} MB after the reads"
        )
    print(f"  {'':<112}{'median':>10}{'p95':>10}")
    for read, median, worst in rows:
        print(f"  {read:<112}{median:>7.1f} ms{worst:>7.1f} ms", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, help="of the account; both without")
    parser.add_argument("--rounds", type=int, default=40, help="calls of each read")
    parser.add_argument("--walk", action="store_true", help="read the big account's history to its end")
    options = parser.parse_args()
    if options.walk:
        walk()
        return
    for size in [options.size] if options.size else SIZES:
        measure(size, options.rounds)


if __name__ == "__main__":
    main()
