"""``make bench``: the REST door against a direct call and a plain nginx, in one run, as ratios.

One server process on one core (0), upstream and callers on the other: what is compared is the processor time of what stands
between. Figures of one machine and minute: compare within a run. ``ARGS="--seconds 4 --postgres"``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.benchmarks.upstream import incidents
from tests.gateway.processes import ROOT, Portal, free_port, wait_for_port

PATH = "/incidents?limit=25"
SERVER_CORE, OTHER_CORE = "0", "1"


@contextlib.contextmanager
def process(*command: str, port: int, core: str) -> Iterator[int]:
    running = subprocess.Popen(["taskset", "-c", core, *command], cwd=ROOT)
    try:
        wait_for_port(port)
        yield running.pid
    finally:
        running.terminate()
        running.wait()


@contextlib.contextmanager
def upstream(milliseconds: int = 0) -> Iterator[str]:
    port = free_port()
    command = (sys.executable, "-m", "tests.benchmarks.upstream", str(port), str(milliseconds))
    with process(*command, port=port, core=OTHER_CORE):
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def nginx(target: str, folder: Path) -> Iterator[str | None]:
    """A plain reverse proxy with keep-alive, one worker; None where nginx is not installed."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        yield None
        return
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(
        f"worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;\n"
        "events { worker_connections 512; }\n"
        "http { access_log off; proxy_buffers 16 16k; proxy_buffer_size 16k; keepalive_requests 1000000;\n"
        f"  upstream pagerduty {{ server {target.removeprefix('http://')}; keepalive 64; keepalive_requests 1000000; }}\n"
        f"  server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://pagerduty;\n"
        '    proxy_http_version 1.1; proxy_set_header Connection ""; } } }\n'
    )
    with process(program, "-c", str(config), "-p", str(folder), port=port, core=SERVER_CORE):
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def door(target: str, folder: Path, database: str = "") -> Iterator[tuple[Portal, float]]:
    """A running portal on one core with a key without limits, and the seconds it took to be ready."""
    before = os.environ.pop("DATABASE_URL", None)
    if database:
        os.environ["DATABASE_URL"] = database
    try:
        portal = Portal(folder, target, {"LOG_LEVEL": "ERROR"})
        try:
            portal.seed(states={})
            started = time.monotonic()
            portal.start(core=SERVER_CORE)
            yield portal, time.monotonic() - started
        finally:
            portal.close()
    finally:
        os.environ.pop("DATABASE_URL", None)
        if before is not None:
            os.environ["DATABASE_URL"] = before


def bounded(portal: Portal, team_id: str) -> str:
    """The secret of a key on another connection of the portal's, which is bounded to a PagerDuty team."""
    return portal.shell(
        "from integrations.actions import do_issue_agent_key, do_register_token\n"
        "from integrations.pagerduty.catalog import TOOLS\n"
        "from policies.models import Team, User\n"
        "ada, team = User.objects.get(name='Ada'), Team.objects.get(name='Payments')\n"
        "row = do_register_token(team, name='Bounded', token='another-TOKEN-0123456789', kind='account', region='sandbox',\n"
        f"    from_email='ada@example.com', by=ada, team_ids=[{team_id!r}])\n"
        "print(do_issue_agent_key(row, name='bounded', by=ada, tools=TOOLS, calls_per_minute=0)[1])"
    ).strip()


def load(url: str, key: str, callers: int, seconds: float, post: dict[str, str] | None = None) -> dict[str, Any]:
    """``post``: what is posted, as ``tests.benchmarks.load`` takes it from its environment."""
    command = ["taskset", "-c", OTHER_CORE, sys.executable, "-m", "tests.benchmarks.load"]
    out = subprocess.run(
        [*command, url, key, str(callers), str(seconds)],
        cwd=ROOT,
        env={**os.environ, **(post or {})},
        check=True,
        capture_output=True,
        text=True,
    )
    found: dict[str, Any] = json.loads(out.stdout)
    return found


def measure(
    targets: dict[str, tuple[str, str]], callers: int, seconds: float, rounds: int, path: str = PATH
) -> dict[str, dict[str, Any]]:
    """Each in turn, several times over, so that a slow minute meets all of them. The median of the rounds."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in targets}
    for _ in range(rounds):
        for name, (url, key) in targets.items():
            found[name].append(load(url + path, key, callers, seconds))
    return {
        name: {
            field: statistics.median(run[field] for run in runs)
            for field in ("calls_per_second", "median_ms", "p95_ms")
        }
        for name, runs in found.items()
    }


def processes_of(portal: Portal) -> Iterator[Path]:
    """The folder in ``/proc`` of each process of the server's group."""
    assert portal.process is not None
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, ProcessLookupError):
            if os.getpgid(int(folder.name)) == portal.process.pid:
                yield folder


def memory_of(portal: Portal) -> float:
    """Proportional set size of the worker, in MB (10^6): the largest process of the server's group."""
    sizes = []
    for folder in processes_of(portal):
        rollup = (folder / "smaps_rollup").read_text()
        sizes.append(int(next(line for line in rollup.splitlines() if line.startswith("Pss:")).split()[1]))
    return max(sizes) * 1024 / 1e6


def processor_seconds_of(portal: Portal) -> float:
    """What the server's processes have used of a processor until now, in and out of the kernel."""
    fields = ((folder / "stat").read_text().rpartition(")")[2].split() for folder in processes_of(portal))
    return sum(int(found[11]) + int(found[12]) for found in fields) / os.sysconf("SC_CLK_TCK")


def table(title: str, found: dict[str, dict[str, Any]], base: str = "direct") -> None:
    print(f"\n{title}")
    print(f"  {'':<18}{'calls/s':>10}{f'of {base[:6]}':>11}{'median':>11}{f'over {base[:6]}':>13}{'p95':>11}")
    for name, row in found.items():
        ratio = row["calls_per_second"] / found[base]["calls_per_second"]
        over = row["median_ms"] - found[base]["median_ms"]
        print(
            f"  {name:<18}{row['calls_per_second']:>10,.0f}{ratio:>11.3f}{row['median_ms']:>8.2f} ms"
            f"{over:>10.2f} ms{row['p95_ms']:>8.2f} ms",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each, in turn")
    parser.add_argument(
        "--postgres", default=os.environ.get("DATABASE_URL", ""), help="URL of a PostgreSQL to compare with"
    )
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pagewarden-bench-")))
        for name in ("nginx", "nginx-slow", "sqlite", "postgres", "slow"):
            (folder / name).mkdir()
        direct = stack.enter_context(upstream())
        targets = {"direct": (direct, "x")}
        if (proxy := stack.enter_context(nginx(direct, folder / "nginx"))) is not None:
            targets["nginx"] = (proxy, "x")
        portal, ready = stack.enter_context(door(direct, folder / "sqlite"))
        targets["door (SQLite)"] = (f"{portal.url}/pagerduty", portal.seeded["key"])
        incident = incidents()[-1]
        url, key = f"{portal.url}/pagerduty", bounded(portal, incident["teams"][0]["id"])
        if options.postgres:
            other, _ = stack.enter_context(door(direct, folder / "postgres", options.postgres))
            targets["door (PostgreSQL)"] = (f"{other.url}/pagerduty", other.seeded["key"])
        table("44 kB answers, 16 callers", measure(targets, 16, options.seconds, options.rounds))
        table("44 kB answers, one caller", measure(targets, 1, options.seconds, options.rounds))
        doors = {"whole account": (url, portal.seeded["key"]), "bounded": (url, key)}
        for callers in (16, 1):
            found = measure(doors, callers, options.seconds, options.rounds)
            table(f"The same through the door, its filter forced, callers: {callers}", found, "whole account")
            found = measure(doors, callers, options.seconds, options.rounds, f"/incidents/{incident['id']}")
            table(f"One incident by its id, its owner judged, callers: {callers}", found, "whole account")
        print(f"\nOne worker: {memory_of(portal):.0f} MB (PSS) after the load, ready {ready:.2f} s after its start.")
        slow = stack.enter_context(upstream(50))
        targets = {"direct": (slow, "x")}
        if (proxy := stack.enter_context(nginx(slow, folder / "nginx-slow"))) is not None:
            targets["nginx"] = (proxy, "x")
        behind, _ = stack.enter_context(door(slow, folder / "slow"))
        targets["door (SQLite)"] = (f"{behind.url}/pagerduty", behind.seeded["key"])
        # One caller too: what an idle processor adds by waking up meets it alone, and no queue of others.
        table("An upstream of 50 ms, 16 callers", measure(targets, 16, options.seconds, options.rounds))
        table("An upstream of 50 ms, one caller", measure(targets, 1, options.seconds, options.rounds))


if __name__ == "__main__":
    main()
