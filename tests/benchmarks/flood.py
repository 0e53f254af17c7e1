"""Bad keys beside good calls: the rows that 100,000 of them add, and what good calls' p95 becomes of them.

``python -m tests.benchmarks.flood [--calls 100000] [--callers 1] [--connections 16] [--sources 5000] [--one-core]``

The flood is one process that asks as fast as it is answered, on kept connections, with unknown, revoked, expired, malformed and
missing keys, from many sources (as a trusted proxy names them). Good calls come from another process, in windows with and
without the flood by turns, so that a slow minute meets both. Their p95 without it, window by window, tells how noisy the
machine was.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import httptools
import uvloop

from policies import keys
from tests.benchmarks.doors import upstream
from tests.gateway.processes import ROOT, Portal

PATH = "/incidents?limit=25"
WINDOW_SECONDS = 4.0


class Attacker(asyncio.Protocol):
    """One kept connection: asks again as soon as it is answered."""

    def __init__(self, requests: list[bytes], statuses: Counter[int], until: float) -> None:
        self._requests, self._statuses, self._until = requests, statuses, until
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own is no subclass
        self._parser = httptools.HttpResponseParser(self)
        self._ask()

    def _ask(self) -> None:
        if time.monotonic() < self._until:
            self._transport.write(random.choice(self._requests))
        else:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        self._statuses[self._parser.get_status_code()] += 1
        self._parser = httptools.HttpResponseParser(self)
        self._ask()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


async def attack(url: str, requests: list[bytes], connections: int, seconds: float) -> None:
    """Flood for some seconds; prints how many answers of which status came."""
    parts = urlsplit(url)
    statuses: Counter[int] = Counter()
    loop, until = asyncio.get_running_loop(), time.monotonic() + seconds
    attackers = []
    for _ in range(connections):
        _, attacker = await loop.create_connection(
            lambda: Attacker(requests, statuses, until), parts.hostname or "", parts.port or 80
        )
        attackers.append(attacker)
    await asyncio.gather(*(attacker.ended for attacker in attackers))
    print(json.dumps(statuses))


def bad_requests(portal: Portal, sources: int) -> list[str]:
    """Requests with keys of every kind that is refused, from ``sources`` addresses."""
    made = portal.shell(
        "import datetime as dt\nfrom django.utils import timezone\n"
        "from integrations.actions import do_issue_agent_key\nfrom integrations.models import Connection\n"
        "from integrations.pagerduty.catalog import TOOLS\nfrom policies.actions import do_revoke_key\n"
        "from policies.models import AgentKey\n"
        "connection = Connection.objects.get()\n"
        "revoked, secret = do_issue_agent_key(connection, name='revoked', by='bench', tools=TOOLS)\n"
        "do_revoke_key(revoked, by='bench')\n"
        "expired, other = do_issue_agent_key(connection, name='expired', by='bench', tools=TOOLS)\n"
        "AgentKey.objects.filter(pk=expired.pk).update(expires_at=timezone.now() - dt.timedelta(days=1))\n"
        "print(secret, other)"
    ).split()
    rng = random.Random(7)
    heads = []
    for number in range(max(sources, 1_000)):
        key = rng.choice([*made, keys.shown(*keys.new_key()), "y_NbAkKc66ryYTWUXYEu", ""])
        source = f"10.{number % sources >> 16}.{number % sources >> 8 & 255}.{number % sources & 255}"
        heads.append(
            f"GET /pagerduty{PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Forwarded-For: {source}\r\n"
            f"Authorization: Token token={key}\r\nUser-Agent: flood/1.0\r\n\r\n"
        )
    return heads


def program(core: str, *arguments: str) -> list[str]:
    pinned = ["taskset", "-c", core] if core else []
    return [*pinned, sys.executable, "-m", *arguments]


def good(url: str, key: str, callers: int, core: str) -> dict[str, Any]:
    command = program(core, "tests.benchmarks.load", url, key, str(callers), str(WINDOW_SECONDS))
    out = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(out.stdout)
    return found


def flood(options: argparse.Namespace, folder: Path) -> None:
    core, server_core = ("1", "0") if options.one_core else ("", "")
    with contextlib.ExitStack() as stack:
        target = stack.enter_context(upstream())
        portal = Portal(folder, target, {"LOG_LEVEL": "ERROR", "TRUSTED_PROXIES": "127.0.0.0/8"})
        stack.callback(portal.close)
        portal.seed(states={})
        file = folder / "requests.json"
        file.write_text(json.dumps(bad_requests(portal, options.sources)))
        portal.start(core=server_core)
        url, key = f"{portal.url}/pagerduty{PATH}", portal.seeded["key"]
        good(url, key, options.callers, core)  # warms up
        statuses: Counter[str] = Counter()
        calm, beside = [], []
        print(f"{'p95 without':>12} {'p95 with':>12} {'ratio':>7} {'bad calls/s':>12}")
        while sum(statuses.values()) < options.calls:
            calm.append(good(url, key, options.callers, core))
            seconds = WINDOW_SECONDS + 2
            arguments = ("tests.benchmarks.flood", "attack", url, str(file), str(options.connections), str(seconds))
            attacking = subprocess.Popen(program(core, *arguments), cwd=ROOT, stdout=subprocess.PIPE, text=True)
            beside.append(good(url, key, options.callers, core))
            answered: dict[str, int] = json.loads(attacking.communicate(timeout=60)[0])
            statuses.update(answered)
            ratio = beside[-1]["p95_ms"] / calm[-1]["p95_ms"]
            print(
                f"{calm[-1]['p95_ms']:>9.2f} ms {beside[-1]['p95_ms']:>9.2f} ms {ratio:>7.2f}"
                f" {sum(answered.values()) / seconds:>12,.0f}",
                flush=True,
            )
        portal.stop()
        rows = portal.entries(kind="rejected")
        counted = sum(row["record"]["details"]["count"] for row in rows)
    for what in ("p95_ms", "median_ms"):
        without, with_ = (statistics.median(run[what] for run in runs) for runs in (calm, beside))
        print(f"Good calls' {what}: {without:.2f} without, {with_:.2f} with: ratio {with_ / without:.2f}")
    alone = [run["p95_ms"] for run in calm]
    print(f"The p95 without it was {min(alone):.2f} to {max(alone):.2f} ms: so noisy was the machine.")
    print(f"Bad calls: {sum(statuses.values()):,} ({dict(statuses)}); rows: {len(rows)}, which count {counted:,}.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=100_000, help="bad ones, at least")
    parser.add_argument("--callers", type=int, default=1, help="good ones at once")
    parser.add_argument("--connections", type=int, default=16, help="of the flood")
    parser.add_argument("--sources", type=int, default=5_000, help="addresses that the flood comes from")
    parser.add_argument("--one-core", action="store_true", help="the server on one core, all else on the other")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pagewarden-flood-") as folder:
        flood(options, Path(folder))


if __name__ == "__main__":
    if sys.argv[1:2] == ["attack"]:
        bad = [head.encode("ascii") for head in json.loads(Path(sys.argv[3]).read_text())]
        uvloop.run(attack(sys.argv[2], bad, int(sys.argv[4]), float(sys.argv[5])))
    else:
        main()
