"""The one way out, against a server that behaves badly: no redirect is followed, nothing of the surroundings goes out, every
limit holds, for reads and writes alike."""

from __future__ import annotations

import asyncio
import gzip
import socket
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from integrations.fields import seal
from integrations.gateway.integration import Bounds, Connection, Reply, Request
from integrations.pagerduty.transport import Transport

ROW = uuid.UUID("7c9e6679-7425-40de-944b-e07fc1f90ae7")
READ = Request("GET", "/incidents", "limit=1", None, True)
WRITE = Request("POST", "/incidents/PT4KHLK/notes", "", b'{"note":{"content":"x"}}', False)
BOTH = pytest.mark.parametrize("request_", [READ, WRITE], ids=["read", "write"])


def answer(status: str, body: bytes = b"{}", *headers: str, length: bool = True) -> bytes:
    lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", *headers]
    if length:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@asynccontextmanager
async def server(*answers: bytes) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Gives each of ``answers`` in turn, the last one for ever. Its URL, and the heads of the requests that it received."""
    heads: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lines = head.lower().split(b"\r\n")
                await reader.readexactly(
                    next((int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length")), 0)
                )
                heads.append(head)
                writer.write(answers[min(len(heads), len(answers)) - 1])
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}", heads


async def send(url: str, request: Request, *, times: int = 1, seconds: float = 5) -> Reply:
    connection = Connection(
        id=str(ROW),
        name="Main",
        team_id=1,
        team="Payments",
        region="sandbox",
        base_url=url,
        auth="token",
        sealed=seal(ROW, "upstream-TOKEN-0123456789").ciphertext,
        from_email="mina@example.com",
        bounds=Bounds(True),
    )
    transport = Transport()
    try:
        for _ in range(times):
            reply = await transport.send(connection, request, time.monotonic() + seconds, connection.sealed)
        return reply
    finally:
        await transport.close()


def run(scenario: Callable[[], Any]) -> Any:
    return asyncio.run(scenario())


@BOTH
def test_a_redirect_is_not_followed(request_: Request) -> None:
    async def scenario() -> tuple[int, int]:
        async with server(answer("200 OK")) as (elsewhere, reached):
            async with server(answer("307 Temporary Redirect", b"{}", f"Location: {elsewhere}/x")) as (url, _):
                reply = await send(url, request_)
            return reply.status, len(reached)

    assert run(scenario) == (307, 0)


@BOTH
def test_proxies_of_the_environment_are_not_used(request_: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    async def scenario() -> int:
        async with server(answer("200 OK")) as (url, _):
            return (await send(url, request_)).status

    assert run(scenario) == 200


@BOTH
def test_a_cookie_that_was_set_is_not_sent_back(request_: Request) -> None:
    async def scenario() -> list[bytes]:
        async with server(answer("200 OK", b"{}", "Set-Cookie: tenant=one; Path=/")) as (url, heads):
            await send(url, request_, times=2)
            return heads

    heads = run(scenario)
    assert len(heads) == 2
    assert b"cookie" not in b"".join(heads).lower()


@BOTH
def test_who_accepts_no_connection_is_given_up_in_time_and_was_sent_nothing(request_: Request, settings: Any) -> None:
    settings.CONNECT_TIME_LIMIT = 0.3
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(("127.0.0.1", port))
        try:
            started = time.monotonic()
            reply = run(lambda: send(f"http://127.0.0.1:{port}", request_))
            took = time.monotonic() - started
        finally:
            for each in waiting:
                each.close()
    assert (reply.failure, reply.sent, reply.attempts) == ("connect_timeout", False, 1)
    assert took < 2


@BOTH
@pytest.mark.parametrize("form", ["length", "chunked", "compressed"])
def test_an_answer_over_the_limit_is_read_no_further_in_any_form(request_: Request, form: str, settings: Any) -> None:
    settings.ANSWER_LIMIT = 10_000
    large = b'"' + b"x" * 100_000 + b'"'
    made = {
        "length": answer("200 OK", large),
        "chunked": answer(
            "200 OK", b"%x\r\n%s\r\n0\r\n\r\n" % (len(large), large), "Transfer-Encoding: chunked", length=False
        ),
        "compressed": answer("200 OK", gzip.compress(large), "Content-Encoding: gzip"),
    }

    async def scenario() -> Reply:
        async with server(made[form]) as (url, _):
            return await send(url, request_)

    reply = run(scenario)
    assert (reply.failure, reply.body, reply.sent) == ("too_large", b"", True)


def test_a_read_waits_for_a_limit_that_resets_in_time_and_for_no_other() -> None:
    limited = "429 Too Many Requests"

    async def scenario(reset: str) -> tuple[int, int]:
        async with server(answer(limited, b"{}", f"ratelimit-reset: {reset}"), answer("200 OK")) as (url, _):
            reply = await send(url, READ, seconds=3)
            return reply.status, reply.attempts

    assert run(lambda: scenario("1")) == (200, 2)
    assert run(lambda: scenario("60")) == (429, 1)
    assert run(lambda: scenario("soon")) == (429, 1)


def test_a_write_is_not_sent_again_whatever_comes_back() -> None:
    async def scenario(made: bytes) -> int:
        async with server(made) as (url, heads):
            reply = await send(url, WRITE, times=1)
            assert reply.attempts == 1
            return len(heads)

    for made in (
        answer("429 Too Many Requests", b"{}", "ratelimit-reset: 0"),
        answer("503 Service Unavailable"),
        b"nonsense\r\n\r\n",
    ):
        assert asyncio.run(scenario(made)) == 1


def test_what_goes_out_is_ours_alone() -> None:
    async def scenario() -> bytes:
        async with server(answer("200 OK")) as (url, heads):
            await send(url, WRITE)
            return heads[0]

    names = {line.split(b":")[0].lower() for line in run(scenario).split(b"\r\n")[1:] if line}
    assert names == {
        b"host",
        b"authorization",
        b"accept",
        b"accept-encoding",
        b"user-agent",
        b"content-type",
        b"content-length",
        b"from",
    }
