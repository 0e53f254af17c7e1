"""The one way out, against a server that behaves badly: no redirect is followed, nothing of the surroundings goes out, every
limit holds, for reads and writes alike."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import socket
import socketserver
import threading
import time
import tracemalloc
import uuid
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from integrations.fields import seal
from integrations.gateway.integration import Bounds, Connection, Reply, Request
from integrations.pagerduty import transport as transports
from integrations.pagerduty.transport import CONNECTIONS, Transport

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


def connection_to(url: str, row: uuid.UUID = ROW) -> Connection:
    return Connection(
        id=str(row),
        name="Main",
        team_id=1,
        team="Payments",
        region="sandbox",
        base_url=url,
        auth="token",
        sealed=seal(row, "upstream-TOKEN-0123456789").ciphertext,
        from_email="mina@example.com",
        bounds=Bounds(True),
    )


async def send(url: str, request: Request, *, times: int = 1, seconds: float = 5) -> Reply:
    connection = connection_to(url)
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


def _read_of(*answers: bytes, times: int = 1, seconds: float = 5, pause: float = 0) -> tuple[list[Reply], int]:
    """What ``times`` reads through one transport come to, and how many requests arrived."""

    async def scenario() -> tuple[list[Reply], int]:
        async with server(*answers) as (url, heads):
            transport, found = Transport(), []
            connection = connection_to(url)
            try:
                for _ in range(times):
                    found.append(await transport.send(connection, READ, time.monotonic() + seconds, connection.sealed))
                    await asyncio.sleep(pause)
            finally:
                await transport.close()
            return found, len(heads)

    found: tuple[list[Reply], int] = asyncio.run(scenario())
    return found


LONG = b'{"incidents":["' + b"x" * 9_000 + b'"]}'
CHUNKED = answer(
    "200 OK",
    b"5;of=it\r\n" + LONG[:5] + b"\r\n%x\r\n" % (len(LONG) - 5) + LONG[5:] + b"\r\n0\r\nx-late: 1\r\n\r\n",
    "Transfer-Encoding: chunked",
    length=False,
)


@pytest.mark.parametrize(
    "made",
    [
        answer("200 OK", LONG),
        CHUNKED,
        b"HTTP/1.1 100 Continue\r\nX-Early: 1\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
        + answer("200 OK", LONG),
        answer("200 OK", gzip.compress(LONG), "Content-Encoding: gzip"),
        answer("200 OK", zlib.compress(LONG), "Content-Encoding: deflate"),
        answer("200 OK", LONG, "Connection: close"),
    ],
    ids=["length", "chunked", "interim", "gzip", "deflate", "close"],
)
def test_an_answer_is_read_whole_in_every_form_and_the_next_one_too(made: bytes) -> None:
    found, arrived = _read_of(made, times=3)
    assert [(reply.status, reply.body, reply.failure, reply.attempts) for reply in found] == [(200, LONG, "", 1)] * 3
    assert arrived == 3
    assert {name for name, _ in found[0].headers} & {"x-late", "x-early", "link"} == set()


@pytest.mark.parametrize("made", [answer("200 OK", LONG), CHUNKED], ids=["length", "chunked"])
def test_an_answer_is_the_same_however_it_is_cut_on_its_way(made: bytes) -> None:
    async def scenario(size: int) -> Reply:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            for start in range(0, len(made), size):
                writer.write(made[start : start + size])
                await writer.drain()
                if size > 100 or start < 400:
                    await asyncio.sleep(0)
            writer.close()

        listening = await asyncio.start_server(handle, "127.0.0.1", 0)
        async with listening:
            return await send(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}", READ)

    for size in (1, 2, 3, 7, 64, 1_000, 8_192):
        reply = asyncio.run(scenario(size))
        assert (reply.status, reply.body, reply.failure) == (200, LONG, "")


def test_an_answer_without_a_length_ends_with_its_connection() -> None:
    async def scenario() -> Reply:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer("200 OK", LONG, length=False))
            writer.close()

        listening = await asyncio.start_server(handle, "127.0.0.1", 0)
        async with listening:
            return await send(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}", READ)

    reply = asyncio.run(scenario())
    assert (reply.status, reply.body, reply.failure) == (200, LONG, "")


@pytest.mark.parametrize(
    ("made", "failure"),
    [
        (b"nonsense\r\n\r\n", "malformed"),
        (answer("200 OK", LONG, "Content-Length: 5"), "malformed"),
        (answer("200 OK", b"zz\r\n{}", "Transfer-Encoding: chunked", length=False), "malformed"),
        (answer("101 Switching Protocols", b"", "Upgrade: h2c", "Connection: upgrade"), "malformed"),
        (answer("200 OK", b"{}", "X-Long: " + "x" * 70_000), "malformed"),
        (b"HTTP/1.1 200 OK\r\n" + b"X-Many: 1\r\n" * 10_000, "malformed"),
        (answer("200 OK", LONG, "Content-Encoding: gzip"), "malformed"),
        (answer("200 OK", gzip.compress(LONG)[:-9], "Content-Encoding: gzip"), "malformed"),
        (answer("200 OK", LONG, "Content-Encoding: br"), "malformed"),
        (answer("200 OK", gzip.compress(LONG) + gzip.compress(b"more"), "Content-Encoding: gzip"), "malformed"),
    ],
)
def test_what_is_no_answer_is_told_as_malformed_and_nothing_of_it_is_shown(made: bytes, failure: str) -> None:
    [reply], _ = _read_of(made)
    assert (reply.failure, reply.body, reply.sent) == (failure, b"", True)


def test_what_was_sent_beside_an_answer_is_never_taken_for_the_next_ones() -> None:
    strange = answer("200 OK", b'{"another":"tenant"}')
    good = answer("200 OK", b'{"mine":1}')
    for first in (good + strange, good + b"\r\njunk"):
        found, arrived = _read_of(first, good, times=2, pause=0.05)
        assert [reply.body for reply in found] == [b'{"mine":1}'] * 2
        assert arrived == 2


class Stammering(socketserver.StreamRequestHandler):
    """Answers each request with its target, and a moment later with the same again."""

    said_again = threading.Semaphore(0)

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            while line := self.rfile.readline():
                while self.rfile.readline() not in (b"\r\n", b""):
                    pass
                made = answer("200 OK", line.split(b" ")[1])
                self.wfile.write(made)
                time.sleep(0.0005)
                try:
                    self.wfile.write(made)
                finally:
                    self.said_again.release()


@pytest.mark.parametrize("count", [1, 2], ids=["one tenant", "two tenants"])
def test_nobody_gets_an_answer_that_was_sent_once_too_often(count: int) -> None:
    """A server that is out of step, a loop that is busy: what comes late is read by nobody."""

    async def scenario(url: str) -> list[tuple[bytes, bytes]]:
        transport = Transport()
        tenants = [connection_to(url, uuid.UUID(int=number)) for number in range(1, count + 1)]
        got = []
        for number in range(200):
            tenant = tenants[number % count]
            asked = Request("GET", f"/of/{number % count}", f"n={number}", None, True)
            reply = await transport.send(tenant, asked, time.monotonic() + 5, tenant.sealed)
            got.append((f"/of/{number % count}?n={number}".encode(), reply.body))
            # The loop stands still meanwhile: what has arrived is not read yet.
            assert Stammering.said_again.acquire(timeout=5)
        await transport.close()
        return got

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Stammering) as listening:
        listening.daemon_threads = True
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        found = asyncio.run(scenario(f"http://127.0.0.1:{listening.server_address[1]}"))
        listening.shutdown()
    for asked, told in found:
        assert told in (asked, b"")
    assert sum(told != b"" for _, told in found) > 150


def test_a_kept_connection_that_is_told_408_is_given_up_and_the_read_sent_again() -> None:
    """So some load balancers say that they close it."""
    late = answer("408 Request Timeout", b"<h1>slow</h1>")
    found, arrived = _read_of(answer("200 OK"), late, answer("200 OK"), times=2)
    assert [(reply.status, reply.attempts) for reply in found] == [(200, 1), (200, 2)]
    assert arrived == 3


def test_a_body_in_tiny_pieces_takes_no_more_memory_than_it_is_long(settings: Any) -> None:
    pieces = b"".join(b"2\r\n{}\r\n" for _ in range(300_000)) + b"0\r\n\r\n"
    made = answer("200 OK", pieces, "Transfer-Encoding: chunked", length=False)
    tracemalloc.start()
    try:
        [reply], _ = _read_of(made)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(reply.body) == 600_000
    assert most < 15_000_000


def test_the_answer_to_a_call_that_was_given_up_reaches_nobody() -> None:
    async def scenario() -> list[bytes]:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while True:
                    head = await reader.readuntil(b"\r\n\r\n")
                    if b"limit=1 " in head:
                        await asyncio.sleep(0.3)
                    writer.write(answer("200 OK", head.split(b" ")[1]))
                    await writer.drain()
            except (asyncio.IncompleteReadError, ConnectionError):
                writer.close()

        listening = await asyncio.start_server(handle, "127.0.0.1", 0)
        async with listening:
            url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
            transport, connection = Transport(), connection_to(url)
            try:
                slow = await transport.send(connection, READ, time.monotonic() + 0.1, connection.sealed)
                assert slow.failure == "timeout"
                bodies = []
                for number in range(2, 6):
                    asked = Request("GET", "/incidents", f"limit={number}", None, True)
                    bodies.append(
                        (await transport.send(connection, asked, time.monotonic() + 5, connection.sealed)).body
                    )
                    await asyncio.sleep(0.1)
            finally:
                await transport.close()
            return bodies

    assert asyncio.run(scenario()) == [f"/incidents?limit={number}".encode() for number in range(2, 6)]


def test_a_read_that_met_connections_closed_meanwhile_succeeds_on_a_new_one() -> None:
    async def scenario() -> list[tuple[int, str, int]]:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            await asyncio.sleep(0.05)
            writer.write(answer("200 OK"))
            await reader.read(1)  # one answer each: the next request on it is cut
            writer.transport.abort()

        listening = await asyncio.start_server(handle, "127.0.0.1", 0)
        async with listening:
            url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
            transport, connection = Transport(), connection_to(url)

            def one() -> Any:
                return transport.send(connection, READ, time.monotonic() + 5, connection.sealed)

            try:
                await asyncio.gather(one(), one(), one())  # three kept connections
                reply = await one()
            finally:
                await transport.close()
            return [(reply.status, reply.failure, reply.attempts)]

    assert asyncio.run(scenario()) == [(200, "", 2)]


def test_a_transport_that_closes_leaves_no_call_waiting() -> None:
    async def scenario() -> Reply:
        async with server(b"") as (url, heads):
            transport, connection = Transport(), connection_to(url)
            waiting = asyncio.create_task(transport.send(connection, READ, time.monotonic() + 0.5, connection.sealed))
            await asyncio.sleep(0.2)
            assert heads
            await transport.close()
            return await asyncio.wait_for(waiting, 1)

    assert asyncio.run(scenario()).failure


def test_the_reads_of_a_connection_take_a_hundred_connections_at_most() -> None:
    async def scenario() -> int:
        open_now = most = 0

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal open_now, most
            open_now += 1
            most = max(most, open_now)
            try:
                while True:
                    await reader.readuntil(b"\r\n\r\n")
                    await asyncio.sleep(0.05)
                    writer.write(answer("200 OK"))
            except (asyncio.IncompleteReadError, ConnectionError):
                open_now -= 1
                writer.close()

        listening = await asyncio.start_server(handle, "127.0.0.1", 0, backlog=500)
        async with listening:
            url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
            transport, connection = Transport(), connection_to(url)
            try:
                replies = await asyncio.gather(
                    *(transport.send(connection, READ, time.monotonic() + 10, connection.sealed) for _ in range(250))
                )
            finally:
                await transport.close()
            assert {reply.status for reply in replies} == {200}
            return most

    assert asyncio.run(scenario()) == 100


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


def test_a_write_whose_time_is_up_before_it_is_sent_is_not_sent() -> None:
    """Its intent waited for the database; there is a connection, and nobody would wait for its answer."""

    async def scenario() -> tuple[Reply, int]:
        async with server(answer("201 Created")) as (url, heads):
            connection, transport = connection_to(url), Transport()
            try:
                await transport.send(connection, WRITE, time.monotonic() + 5, connection.sealed)
                reply = await transport.send(connection, WRITE, time.monotonic() - 1, connection.sealed)
                await asyncio.sleep(0.1)
                return reply, len(heads)
            finally:
                await transport.close()

    reply, arrived = run(scenario)
    assert (reply.failure, reply.sent, arrived) == ("timeout", False, 1)


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


@BOTH
def test_a_time_limit_says_whether_anything_was_sent(request_: Request) -> None:
    """A write that found no connection in time was not sent; one that waits for its answer may have been done."""

    async def scenario() -> tuple[Reply, Reply]:
        async with server(b"") as (url, _):
            transport, connection = Transport(), connection_to(url)

            def one(seconds: float) -> Any:
                return transport.send(connection, request_, time.monotonic() + seconds, connection.sealed)

            busy = [asyncio.create_task(one(1.0)) for _ in range(CONNECTIONS)]
            await asyncio.sleep(0.4)
            late = await one(0.2)
            try:
                return late, (await asyncio.gather(*busy))[0]
            finally:
                await transport.close()

    late, waited = asyncio.run(scenario())
    assert (late.failure, late.sent) == ("timeout", False)
    assert (waited.failure, waited.sent) == ("timeout", True)


@pytest.mark.parametrize(("request_", "connections"), [(READ, 1), (WRITE, 2)], ids=["read", "write"])
def test_a_writes_connection_is_kept_for_a_moment_alone(
    request_: Request, connections: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PagerDuty may have closed it meanwhile, which would cost a write its outcome."""
    monkeypatch.setattr(transports, "WRITE_IDLE_SECONDS", 0.1)
    assert _connections_of(request_, pause=0.3) == connections
    assert _connections_of(request_, pause=0) == 1


def test_where_an_answer_came_before_the_whole_request_had_left_the_connection_is_given_up() -> None:
    """What is left of it would stand before the next request."""
    large = Request("POST", "/incidents/PT4KHLK/notes", "", b'{"note":"' + b"x" * 8_000_000 + b'"}', False)
    assert _connections_of(large, pause=0) == 2


def _connections_of(request: Request, *, pause: float) -> int:
    """How many connections two equal requests take, to a server that answers at a request's head."""

    async def scenario() -> int:
        opened = 0

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal opened
            opened += 1
            try:
                while True:
                    head = await reader.readuntil(b"\r\n\r\n")
                    if b"Content-Length: 24" in head:
                        await reader.readexactly(24)
                    writer.write(answer("201 Created"))
                    await writer.drain()
                    if b"Content-Length: 8" in head:
                        await asyncio.sleep(1)
            except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
                pass
            finally:
                writer.close()

        listening = await asyncio.start_server(handle, "127.0.0.1", 0)
        async with listening:
            transport = Transport()
            connection = connection_to(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}")
            try:
                for _ in range(2):
                    reply = await transport.send(connection, request, time.monotonic() + 5, connection.sealed)
                    assert reply.status == 201
                    await asyncio.sleep(pause)
            finally:
                await transport.close()
        return opened

    return asyncio.run(scenario())
