"""A fast upstream for benchmarks: a page of 44 kB, or one incident where it is asked for by its id, after a given latency.

``python -m tests.benchmarks.upstream PORT [MILLISECONDS]``
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import sys
from typing import Any, cast

import httptools
import uvloop

from integrations.pagerduty.sandbox.documents import incident_document
from integrations.pagerduty.sandbox.world import generate

SIZE = 44_000


def incidents() -> list[dict[str, Any]]:
    world = generate(7, dt.datetime(2026, 11, 23, tzinfo=dt.UTC))
    return [incident_document(world, incident) for incident in world.incidents[-19:]]


def body(rows: list[dict[str, Any]]) -> bytes:
    """A page of incidents as PagerDuty writes it, filled up to 44 kB."""
    page = {
        "incidents": rows,
        "limit": 25,
        "offset": 0,
        "total": None,
        "more": True,
    }
    plain = json.dumps({**page, "notice": ""}, separators=(",", ":"))
    return json.dumps({**page, "notice": "x" * (SIZE - len(plain))}, separators=(",", ":")).encode()


def answer(content: bytes) -> bytes:
    return (
        b"HTTP/1.1 200 OK\r\nServer: upstream\r\nContent-Type: application/json\r\nx-request-id: 0123456789abcdef\r\n"
        b"ratelimit-limit: 960\r\nratelimit-remaining: 959\r\nratelimit-reset: 42\r\n"
        b"Content-Length: %d\r\n\r\n" % len(content)
    ) + content


class Upstream(asyncio.Protocol):
    def __init__(self, page: bytes, one: bytes, latency: float) -> None:
        self._page, self._one = page, one
        self._latency = latency

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own is no subclass
        self._parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._content = self._one if url.startswith(b"/incidents/") else self._page

    def on_message_complete(self) -> None:
        if self._latency:
            asyncio.get_running_loop().call_later(self._latency, self._transport.write, self._content)
        else:
            self._transport.write(self._content)


async def main(port: int, latency: float) -> None:
    rows = incidents()
    page, one = answer(body(rows)), answer(json.dumps({"incident": rows[-1]}, separators=(",", ":")).encode())
    server = await asyncio.get_running_loop().create_server(lambda: Upstream(page, one, latency), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), float(sys.argv[2]) / 1000 if len(sys.argv) > 2 else 0.0))
