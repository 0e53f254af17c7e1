"""A recording upstream for tests: answers every call at once and appends each one to a file. Run as a program:
``python -m tests.gateway.upstream PORT FILE``. A body with ``[slow]`` is answered after a while, one with ``[drop]`` never."""

from __future__ import annotations

import asyncio
import json
import os
import sys

BODY = json.dumps(
    {"note": {"id": "PNOTE01", "content": "noted"}, "incidents": [], "more": False, "offset": 0, "limit": 25}
).encode()


async def serve(port: int, path: str) -> None:
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    (
                        int(line.split(b":")[1])
                        for line in head.split(b"\r\n")
                        if line.lower().startswith(b"content-length")
                    ),
                    0,
                )
                body = await reader.readexactly(length)
                method, target, _ = head.split(b"\r\n")[0].decode().split(" ")
                line = json.dumps(
                    {"method": method, "path": target, "body": body.decode(), "head": head.decode("latin-1")}
                )
                os.write(log, line.encode() + b"\n")
                if b"[slow]" in body:
                    await asyncio.sleep(0.6)
                if b"[drop]" in body:
                    break
                status = b"201 Created" if method == "POST" else b"200 OK"
                writer.write(
                    b"HTTP/1.1 " + status + b"\r\nContent-Type: application/json\r\nX-Request-Id: req-1\r\n"
                    b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
                )
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), sys.argv[2]))
