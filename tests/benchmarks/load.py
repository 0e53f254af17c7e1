"""A load client ten times cheaper than any HTTP library. ``python -m tests.benchmarks.load URL KEY CALLERS SECONDS`` → JSON.

It asks by GET; of the environment's ``POST_HEAD`` (lines of headers) and ``POST_BODY``, where they are set, it posts them.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from typing import cast
from urllib.parse import urlsplit

import httptools
import uvloop


class Caller(asyncio.Protocol):
    """One keep-alive connection, one call at a time."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's own is no subclass
        self._parser = httptools.HttpResponseParser(self)
        self.done: asyncio.Future[int] | None = None

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, error: Exception | None) -> None:
        if self.done is not None and not self.done.done():
            self.done.set_exception(error or ConnectionError("closed"))

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        self._parser = httptools.HttpResponseParser(self)
        if self.done is not None:
            self.done.set_result(status)


async def main(url: str, key: str, callers: int, seconds: float) -> None:
    parts = urlsplit(url)
    body = os.environ.get("POST_BODY", "")
    posted = f"{os.environ.get('POST_HEAD', '')}Content-Length: {len(body.encode())}\r\n" if body else ""
    target = f"{parts.path}?{parts.query}" if parts.query else parts.path
    head = (
        f"{'POST' if body else 'GET'} {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nAccept: application/json\r\n{posted}"
    )
    request = f"{head}Authorization: Token token={key}\r\nUser-Agent: bench/1.0\r\n\r\n{body}".encode()
    times: list[float] = []
    loop = asyncio.get_running_loop()
    clock = time.perf_counter  # uvloop's own counts whole milliseconds
    start = clock() + 1.0  # the first second warms up
    end = start + seconds

    async def work() -> None:
        _, caller = await loop.create_connection(Caller, parts.hostname or "", parts.port or 80)
        while (now := clock()) < end:
            caller.done = loop.create_future()
            caller.transport.write(request)
            status = await caller.done
            if status != 200:
                raise RuntimeError(f"{url} answered {status}")
            if now >= start:
                times.append(clock() - now)
        caller.transport.close()

    await asyncio.gather(*(work() for _ in range(callers)))
    times.sort()
    print(
        json.dumps(
            {
                "calls_per_second": round(len(times) / seconds, 1),
                "median_ms": round(times[len(times) // 2] * 1000, 3),
                "p95_ms": round(times[len(times) * 95 // 100] * 1000, 3),
            }
        )
    )


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
