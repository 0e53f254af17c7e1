"""What stands beside Django in a web process: the doors, the probes, and the lifespan that starts the runtime."""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import threading
from collections.abc import Callable
from typing import Any, Final

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from integrations.gateway import mcp, runtime
from integrations.gateway.http import Receive, Scope, Send
from integrations.gateway.rest import PREFIX, RestDoor

log = logging.getLogger(__name__)
LARGEST_PAGE_BODY: Final = 6_000_000
"""Bytes that a page is sent at most: the largest file that one takes, a checkpoint, has 5 MB."""


class Gateway:
    """Routes to the doors and probes, answers the lifespan, and hands everything else to Django's application. ``started``
    is called once, on a thread of its own, when it serves."""

    def __init__(self, django: Any, started: Callable[[], None] | None = None) -> None:
        self._django = django
        self._started = started
        self._rest = RestDoor()
        self._mcp = mcp.McpDoor()
        self._runtime: runtime.Runtime | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        path: str = scope["path"]
        if path.startswith(PREFIX) and path[len(PREFIX) : len(PREFIX) + 1] in ("", "/"):
            await self._rest(scope, receive, send)
        elif path == "/healthz":
            await _json(send, 200, {"status": "up"})
        elif path == "/readyz":
            await self._readyz(send)
        elif path == mcp.PATH:
            await self._mcp(scope, receive, send)
        elif path in (mcp.METADATA, f"{mcp.METADATA}{mcp.PATH}"):
            await self._mcp.metadata(send)
        elif path.startswith(f"{mcp.PATH}/"):
            await _json(send, 404, {"error": f"The MCP door is at {mcp.PATH}, without anything after it."})
        elif path == "/metrics":
            await _text(send, 200, generate_latest(), CONTENT_TYPE_LATEST)
        elif not path.startswith("/"):
            await _json(send, 400, {"error": "This is no proxy: ask for a path."})  # CONNECT, OPTIONS *
        else:
            await self._page(scope, receive, send)

    async def _page(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Django writes whatever comes to the disk before it looks at who sends it: so much and no more."""
        declared = dict(scope["headers"]).get(b"content-length", b"")
        left = LARGEST_PAGE_BODY - (int(declared[:12]) if declared.isdigit() else 0)
        if left >= 0:
            left = LARGEST_PAGE_BODY

            async def bounded() -> Any:
                nonlocal left
                message = await receive()
                left -= len(message.get("body", b""))
                return message if left >= 0 else {"type": "http.disconnect"}

            await self._django(scope, bounded, send)
        if left < 0:
            await _json(send, 413, {"error": f"A page takes at most {LARGEST_PAGE_BODY:,} bytes."})

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        async with contextlib.AsyncExitStack() as stack:
            await self._live(receive, send, stack)

    async def _live(self, receive: Receive, send: Send, stack: contextlib.AsyncExitStack) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                try:
                    self._runtime = runtime.Runtime()
                    await self._runtime.start()
                    await stack.enter_async_context(self._mcp.lifespan())
                except Exception as error:
                    log.exception("Pagewarden cannot start")
                    await send({"type": "lifespan.startup.failed", "message": f"{type(error).__name__}: {error}"})
                    return
                runtime.install(self._runtime)
                # Every call allocates some hundred objects and leaves no cycle behind: looking for cycles at the default rate
                # costs 6 % of the processor, most of it in what was loaded at the start and stays for good.
                gc.collect()
                gc.freeze()
                gc.set_threshold(50_000, 20, 20)
                if self._started is not None:
                    # Beside it: nothing that it waits for keeps the doors shut.
                    threading.Thread(target=self._started, daemon=True).start()
                await send({"type": "lifespan.startup.complete"})
            else:
                if self._runtime is not None:
                    await self._runtime.stop()
                    runtime.install(None)
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _readyz(self, send: Send) -> None:
        started = self._runtime
        # The poll asks the database all the time. One that is frozen would let whoever asked it here wait for ever.
        checks = {"database": started is not None and not started.watch.away()}
        told: dict[str, Any] = {"status": "not ready", "checks": checks}
        if started is not None:
            checks |= started.is_ready()
            told["spooling"] = started.spooling()
            if all(checks.values()):
                told["status"] = "ready"
            elif told["spooling"]["reads_go_on"]:
                # Whoever shares calls out must go on sending them here.
                told["status"] = "reads only"
        await _json(send, 503 if told["status"] == "not ready" else 200, told)


async def _json(send: Send, status: int, document: dict[str, Any]) -> None:
    await _text(send, status, json.dumps(document).encode(), "application/json")


async def _text(send: Send, status: int, body: bytes, kind: str) -> None:
    headers = [
        (b"content-type", kind.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
