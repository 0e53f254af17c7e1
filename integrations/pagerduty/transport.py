"""The one way out to PagerDuty. The token is unsealed here and nowhere else, and no write is ever sent twice.

Reads go through ``_Exchange``, an HTTP/1.1 client of our own on llhttp (httptools): with a library's client they are a third of
what a door costs. It asks one thing at a time on a kept connection, and nothing again by itself. Writes go through httpx's own
transport without retries, where only a failure to connect means that nothing was sent; whatever fails later leaves an unknown
outcome.
"""

from __future__ import annotations

import asyncio
import re
import select
import socket
import ssl
import time
import uuid
import zlib
from collections.abc import AsyncIterable, Iterable
from dataclasses import dataclass, field
from typing import Final, cast
from urllib.parse import urlsplit

import certifi
import httptools
import httpx
from cryptography.fernet import InvalidToken
from django.conf import settings

from integrations.fields import crypter
from integrations.gateway.integration import Connection, Reply, Request

ACCEPT: Final = "application/vnd.pagerduty+json;version=2"
USER_AGENT: Final = "Pagewarden/0.1"
READ_ATTEMPTS: Final = 2
CONNECTIONS: Final = 100
"""For the reads of one of the portal's connections at most."""
IDLE_SECONDS: Final = 30.0
"""How long a read's connection is kept for the next."""
HEADERS_LIMIT: Final = 65_536
"""Bytes of an answer's head."""
_PLAIN: Final = re.compile(r"[!-~]+", re.ASCII)


class UnsealError(Exception):
    """A sealed token did not open: another key, another row, or damage. Says which row, and nothing of the token."""


def unseal(sealed: bytes, row_id: str) -> str:
    """The token of the row ``row_id``.

    Raises:
        UnsealError: it was sealed with a key that is not set, or for another row.
    """
    try:
        owner, _, token = crypter().decrypt(sealed).decode().partition(":")
    except InvalidToken:
        raise UnsealError(f"The token of connection {row_id} does not open with the keys that are set.") from None
    if uuid.UUID(owner) != uuid.UUID(row_id):
        raise UnsealError(f"The token of connection {row_id} was sealed for another connection.")
    return token


class TooLarge(Exception):
    """The answer is over the limit; reading stopped there."""


@dataclass(frozen=True, slots=True)
class _Opened:
    """What goes out in the name of a connection, with the ciphertext that its token came from."""

    sealed: bytes = field(repr=False)
    auth: str
    headers: dict[str, str] = field(repr=False)
    lines: bytes = field(repr=False)
    """The same, as a request has them."""


class _Exchange(asyncio.Protocol):
    """One connection for reads: asked one thing at a time, and given up at the first irregularity, so that nobody is ever
    answered with what another had asked for."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parser = httptools.HttpResponseParser(self)
        self._asked: asyncio.Future[Reply] | None = None
        self.usable = False
        self.idle_since = 0.0

    def ask(self, message: bytes) -> asyncio.Future[Reply]:
        """Send a whole request; a reply, whatever comes back. To give up, ``abort``."""
        self._headers: list[tuple[str, str]] = []
        self._body = bytearray()
        self._received = self._head = 0
        self._headed = self._framed = False
        self._asked = asyncio.get_running_loop().create_future()
        self.usable = False
        self._transport.write(message)
        return self._asked

    def is_silent(self) -> bool:
        """Whether nothing has arrived that the loop has not read yet: nobody has asked for anything."""
        descriptor = self._transport.get_extra_info("socket").fileno()
        waiting = select.poll()
        waiting.register(descriptor, select.POLLIN)
        return descriptor >= 0 and not waiting.poll(0)

    def abort(self) -> None:
        self.usable = False
        self._conclude(Reply(0, failure="disconnected", detail="given up"))
        self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own is no subclass
        self.usable = True

    def data_received(self, data: bytes) -> None:
        if self._asked is None:
            self.abort()  # nobody asked for it
            return
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail("malformed", _detail(error))
        if self._asked is not None and not self._headed and self._received > HEADERS_LIMIT:
            self._fail("malformed", f"a head of over {HEADERS_LIMIT} bytes")
        elif self._asked is not None and self._received > 8 * self._limit + HEADERS_LIMIT:
            self._fail("too_large", f"over {self._limit} bytes in tiny chunks")

    def connection_lost(self, error: Exception | None) -> None:
        self.usable = False
        if self._asked is None:
            return
        if self._headed and not self._framed and error is None:
            self._answer()  # an answer without a length ends with its connection
        else:
            self._fail("disconnected", _detail(error) if error else "closed before a whole answer")

    # llhttp's callbacks

    def on_message_begin(self) -> None:
        if self._asked is None:
            self.usable = False  # a second answer in the wake of the first

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._asked is not None and not self._headed:  # a trailer is no header
            lower = name.decode("latin-1").lower()
            self._framed |= lower in ("content-length", "transfer-encoding")
            self._headers.append((lower, value.decode("latin-1")))
            self._head += len(name) + len(value)
            if self._head > HEADERS_LIMIT:
                self._fail("malformed", f"a head of over {HEADERS_LIMIT} bytes")

    def on_headers_complete(self) -> None:
        self._headed = self._parser.get_status_code() >= 200

    def on_body(self, body: bytes) -> None:
        if self._asked is None:
            return
        # Not a list of pieces: of a body in pieces of two bytes they would take sixty times its size.
        self._body += body
        if len(self._body) > self._limit:
            self._fail("too_large", f"over {self._limit} bytes")

    def on_message_complete(self) -> None:
        if self._asked is None:
            return
        if self._headed:
            self.usable = bool(self._parser.should_keep_alive())
            self._answer()
        else:
            self._headers.clear()  # 100 or 103: the answer itself is still to come
            self._framed = False

    def _answer(self) -> None:
        status, headers, body = self._parser.get_status_code(), tuple(self._headers), bytes(self._body)
        reply = Reply(status, headers, body)
        # Identity was asked for; a server that compresses all the same is decoded, under the same limit.
        encoding = next((value.strip().lower() for name, value in headers if name == "content-encoding"), "identity")
        if encoding != "identity" and body:
            reply = _decompressed(reply, encoding, self._limit)
        self._conclude(reply)

    def _fail(self, failure: str, detail: str) -> None:
        status = self._parser.get_status_code() if self._headed and failure == "too_large" else 0
        self._conclude(Reply(status, failure=failure, detail=detail))
        self.abort()

    def _conclude(self, reply: Reply) -> None:
        asked, self._asked = self._asked, None
        if asked is not None and not asked.done():
            asked.set_result(reply)


class _Origin:
    """A host of PagerDuty's, and what is open to it for one of the portal's connections."""

    def __init__(self, base_url: str) -> None:
        parts = urlsplit(base_url)
        self._secure = parts.scheme == "https"
        self._name = parts.hostname or ""
        self._port = parts.port or (443 if self._secure else 80)
        self.host = parts.netloc
        self.prefix = parts.path
        self.slots = asyncio.Semaphore(CONNECTIONS)
        self._idle: list[_Exchange] = []
        self._busy: set[_Exchange] = set()

    def kept(self) -> _Exchange | None:
        """The connection that was used last, if it is still good."""
        fresh = time.monotonic() - IDLE_SECONDS
        while self._idle:
            exchange = self._idle.pop()
            if exchange.usable and exchange.idle_since > fresh and exchange.is_silent():
                return exchange
            exchange.abort()
        return None

    async def connect(self, tls: ssl.SSLContext, limit: int) -> _Exchange:
        _, exchange = await asyncio.get_running_loop().create_connection(
            lambda: _Exchange(limit), self._name, self._port, ssl=tls if self._secure else None
        )
        return exchange

    async def ask(self, exchange: _Exchange, message: bytes) -> Reply:
        self._busy.add(exchange)
        try:
            reply = await exchange.ask(message)
        except asyncio.CancelledError:
            exchange.abort()  # its answer may still come, and is nobody's
            raise
        finally:
            self._busy.discard(exchange)
        if exchange.usable:
            exchange.idle_since = time.monotonic()
            self._idle.append(exchange)
        elif not reply.failure:
            exchange.abort()
        else:
            # Where one kept connection had been closed the others have been, too: the second attempt gets a new one.
            self._let_go()
        return reply

    def _let_go(self) -> None:
        while self._idle:
            self._idle.pop().abort()

    def close(self) -> None:
        self._let_go()
        for exchange in self._busy:
            exchange.abort()


def _decompressed(reply: Reply, encoding: str, limit: int) -> Reply:
    broken = Reply(0, failure="malformed", detail="compressed in a way that cannot be read")
    if encoding not in ("gzip", "x-gzip", "deflate"):
        return broken
    stream = zlib.decompressobj(zlib.MAX_WBITS | 32)  # reads the heads of both
    try:
        body = stream.decompress(reply.body, limit + 1)
    except zlib.error:
        return broken
    if len(body) > limit:
        return Reply(reply.status, failure="too_large", detail=f"over {limit} bytes")
    return Reply(reply.status, reply.headers, body) if stream.eof and not stream.unused_data else broken


class Transport:
    """Sends requests from one event loop, on which it must be made and closed."""

    def __init__(self) -> None:
        self.answer_limit: int = settings.ANSWER_LIMIT
        self.connect_limit: float = settings.CONNECT_TIME_LIMIT
        tls = ssl.create_default_context(cafile=certifi.where())
        if settings.PAGERDUTY_CA_FILE:
            tls.load_verify_locations(settings.PAGERDUTY_CA_FILE)
        self._tls = tls
        # By connection, too: should a connection to PagerDuty ever be out of step, it is so with one tenant's answers alone.
        self._origins: dict[tuple[str, str], _Origin] = {}
        # No cookies, no proxies and no .netrc of the environment: one tenant's would go out with another's call.
        self._writes = httpx.AsyncHTTPTransport(
            verify=tls, trust_env=False, retries=0, limits=httpx.Limits(max_connections=100, keepalive_expiry=3)
        )
        limit = self.connect_limit
        self._extensions = {"timeout": {"connect": limit, "pool": limit, "read": None, "write": None}}
        # By connection, for opening a token costs 60 µs.
        self._opened: dict[str, _Opened] = {}

    async def close(self) -> None:
        self._opened.clear()
        for origin in self._origins.values():
            origin.close()
        await self._writes.aclose()

    async def send(self, connection: Connection, request: Request, deadline: float, sealed: bytes) -> Reply:
        """Send ``request`` with the token in ``sealed``; a read once more where that can help.

        ``deadline`` is a time of ``time.monotonic()``. Whatever the network does comes back as a ``Reply``.

        Raises:
            UnsealError: nothing was sent.
        """
        started = time.monotonic()
        opened = self._open(connection, sealed)
        target = request.path + (f"?{request.query}" if request.query else "")
        attempts = 0
        while True:
            attempts += 1
            try:
                async with asyncio.timeout(max(deadline - time.monotonic(), 0.001)):
                    if request.reads:
                        reply = await self._read(connection, request, target, opened)
                    else:
                        reply = await self._write(connection, request, target, opened)
            except TimeoutError:
                reply = Reply(status=0, failure="timeout", detail="no whole answer within the time limit", sent=True)
            wait = self._wait_before_retry(reply, deadline) if request.reads and attempts < READ_ATTEMPTS else None
            if wait is None:
                seconds = time.monotonic() - started
                return Reply(
                    reply.status, reply.headers, reply.body, reply.failure, reply.detail, reply.sent, attempts, seconds
                )
            await asyncio.sleep(wait)

    def _open(self, connection: Connection, sealed: bytes) -> _Opened:
        known = self._opened.get(connection.id)
        if known is not None and known.sealed == sealed and known.auth == connection.auth:
            return known
        token = unseal(sealed, connection.id)
        if not _PLAIN.fullmatch(token):
            raise UnsealError(f"The token of connection {connection.id} cannot stand in a header.")
        scheme = "Bearer " if connection.auth == "bearer" else "Token token="
        headers = {
            "Authorization": scheme + token,
            "Accept": ACCEPT,
            "Accept-Encoding": "identity",
            "User-Agent": USER_AGENT,
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode("ascii")
        if len(self._opened) > 1_000:
            self._opened.clear()
        opened = self._opened[connection.id] = _Opened(sealed, connection.auth, headers, lines)
        return opened

    async def _read(self, connection: Connection, request: Request, target: str, opened: _Opened) -> Reply:
        key = (connection.base_url, connection.id)
        origin = self._origins.get(key)
        if origin is None:
            origin = self._origins[key] = _Origin(connection.base_url)
        target = origin.prefix + target
        if not _PLAIN.fullmatch(target):
            raise ValueError("The request's target was not encoded.")  # a space in it would end it
        message = f"{request.method} {target} HTTP/1.1\r\nHost: {origin.host}\r\n".encode("ascii") + opened.lines
        if request.body is not None:
            message += (
                b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(request.body) + request.body
            )
        else:
            message += b"\r\n"
        async with origin.slots:
            exchange = origin.kept()
            if exchange is None:
                try:
                    async with asyncio.timeout(self.connect_limit):
                        exchange = await origin.connect(self._tls, self.answer_limit)
                except (OSError, UnicodeError) as error:
                    return _not_connected(error)
                return await origin.ask(exchange, message)
            reply = await origin.ask(exchange, message)
        if reply.status == 408:
            # What a load balancer says of a kept connection that it closes, and nothing about this request.
            return Reply(0, failure="disconnected", detail="408 on a kept connection")
        return reply

    async def _write(self, connection: Connection, request: Request, target: str, opened: _Opened) -> Reply:
        sent = httpx.Headers(opened.headers, encoding="ascii")
        if request.body is not None:
            sent["Content-Type"] = "application/json"
        if connection.from_email:
            sent["From"] = connection.from_email
        url = connection.base_url + target
        outgoing = httpx.Request(request.method, url, headers=sent, content=request.body, extensions=self._extensions)
        try:
            response = await self._writes.handle_async_request(outgoing)
        except Exception as error:
            return _failed_write(error)
        try:
            body = await self._within_limit(response.aiter_bytes())
        except TooLarge:
            return Reply(response.status_code, failure="too_large", detail=f"over {self.answer_limit} bytes")
        except Exception as error:
            return Reply(0, failure=_broken(error), detail=_detail(error))
        finally:
            await response.aclose()
        return Reply(response.status_code, _decoded(response.headers.raw), body)

    async def _within_limit(self, stream: AsyncIterable[bytes]) -> bytes:
        chunks: list[bytes] = []
        size = 0
        async for chunk in stream:
            size += len(chunk)
            if size > self.answer_limit:
                raise TooLarge
            chunks.append(chunk)
        return b"".join(chunks)

    def _wait_before_retry(self, reply: Reply, deadline: float) -> float | None:
        """Seconds to wait before a read is tried again; None where that cannot help."""
        left = deadline - time.monotonic()
        if reply.failure:
            return 0.0 if reply.failure in ("connect", "disconnected") and left > 0.05 else None
        if reply.status >= 500:
            return 0.05 if left > 0.1 else None
        if reply.status == 429:
            try:
                reset = float(reply.header("ratelimit-reset"))
            except ValueError:
                return None
            return reset if 0 <= reset < left - 0.1 else None
        return None


def _decoded(headers: Iterable[tuple[bytes, bytes]]) -> tuple[tuple[str, str], ...]:
    return tuple((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in headers)


def _detail(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:200]


def _not_connected(error: OSError | UnicodeError) -> Reply:
    """Why there is no connection: nothing was sent."""
    if isinstance(error, TimeoutError):
        failure = "connect_timeout"
    elif isinstance(error, ssl.SSLError):
        failure = "tls"
    elif isinstance(error, socket.gaierror | UnicodeError):  # a name that is none cannot even be asked for
        failure = "resolve"
    else:
        failure = "connect"
    return Reply(0, failure=failure, detail=_detail(error), sent=False)


def _failed_write(error: Exception) -> Reply:
    """What the exception of httpx's own transport means before there is an answer. Only a failure to connect is harmless."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    if type(error) in (httpx.ConnectTimeout, httpx.PoolTimeout):
        return Reply(0, failure="connect_timeout", detail=_detail(error), sent=False)
    if type(error) is httpx.ConnectError:
        failure = "connect"
        if any(isinstance(link, ssl.SSLError) for link in chain):
            failure = "tls"
        elif any(isinstance(link, socket.gaierror) for link in chain):
            failure = "resolve"
        return Reply(0, failure=failure, detail=_detail(error), sent=False)
    return Reply(0, failure=_broken(error), detail=_detail(error))


def _broken(error: Exception) -> str:
    """The failure of an exchange that had begun: what became of it is not known."""
    if isinstance(error, httpx.TimeoutException):
        return "timeout"
    if isinstance(error, httpx.RemoteProtocolError) and "disconnect" not in str(error).lower():
        return "malformed"
    return "disconnected"
