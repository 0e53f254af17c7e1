"""``make bench``: the MCP door against a direct call, in one run, as ratios: a slim list of 25 incidents on either revision.

One server process on one core (0), upstream and callers on the other. Processor time per call is the server's own, in and out of
the kernel: it holds where others keep the machine busy, too. ``ARGS="--seconds 4 --postgres URL"``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

from tests.benchmarks.doors import PATH, door, load, memory_of, processor_seconds_of, table, upstream
from tests.gateway.mcp import LEGACY, MODERN, Mcp
from tests.gateway.processes import Portal

CALL: dict[str, Any] = {"name": "list_incidents", "arguments": {"limit": 25}}


def posted(portal: Portal, version: str, method: str, params: dict[str, Any]) -> dict[str, str]:
    """A request as ``load`` posts it."""
    request = Mcp(portal.url, portal.seeded["key"], version).request(method, params)
    assert isinstance(request.data, bytes)
    # Of its own it sends who calls and what it accepts.
    head = {name: value for name, value in request.header_items() if name not in ("Authorization", "Accept")}
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    return {"POST_HEAD": lines, "POST_BODY": request.data.decode()}


def measure(
    portal: Portal, direct: str, requests: dict[str, dict[str, str]], callers: int, seconds: float, rounds: int
) -> dict[str, dict[str, Any]]:
    """Each in turn, several times over; the median of the rounds, and of the door's the processor time of a call in ms."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in ("direct", *requests)}
    for _ in range(rounds):
        found["direct"].append({**load(direct + PATH, "x", callers, seconds), "processor_ms": 0.0})
        for name, request in requests.items():
            before, already = processor_seconds_of(portal), results(portal)
            run = load(f"{portal.url}/mcp", portal.seeded["key"], callers, seconds, request)
            used = processor_seconds_of(portal) - before
            # The first second warms up and counts here. Of lists none is on record: as many as were counted, and their share.
            calls = results(portal) - already or run["calls_per_second"] * (seconds + 1)
            found[name].append({**run, "processor_ms": used / calls * 1000})
    fields = ("calls_per_second", "median_ms", "p95_ms", "processor_ms")
    return {
        name: {field: statistics.median(run[field] for run in runs) for field in fields} for name, runs in found.items()
    }


def results(portal: Portal) -> int:
    [(count,)] = portal.query("SELECT COUNT(*) FROM policies_entry WHERE kind = 'result'")
    return int(count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each, in turn")
    parser.add_argument("--postgres", default=os.environ.get("DATABASE_URL", ""), help="URL of a PostgreSQL to use")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pagewarden-bench-")))
        direct = stack.enter_context(upstream())
        portal, _ = stack.enter_context(door(direct, folder, options.postgres))
        for callers in (16, 1):
            for title, method, params in (
                ("A slim list of 25 incidents, of 44 kB", "tools/call", CALL),
                ("The list of tools, of no call", "tools/list", {}),
            ):
                requests = {version: posted(portal, version, method, params) for version in (MODERN, LEGACY)}
                found = measure(portal, direct, requests, callers, options.seconds, options.rounds)
                table(f"{title}, callers: {callers}", found)
                told = (f"{name}: {row['processor_ms']:.2f} ms" for name, row in found.items() if name != "direct")
                print(f"  Processor time of each: {', '.join(told)}.", flush=True)
        client = Mcp(portal.url, portal.seeded["key"])
        slim, tools = client.use("list_incidents", limit=25).text, json.dumps(list(client.listed().values()))
        print(f"\nAnswers: {len(slim.encode()):,} bytes slim, {len(tools):,} bytes of tools.")
        print(f"One worker: {memory_of(portal):.0f} MB (PSS) after the load.")


if __name__ == "__main__":
    main()
