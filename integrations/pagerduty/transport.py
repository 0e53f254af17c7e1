"""The one way out to PagerDuty. The token is unsealed here and nowhere else, and no write is ever sent twice.

``_Exchange`` is an HTTP/1.1 client of our own on llhttp (httptools): with a library's client reads are a third of what a door
costs. It asks one thing at a time on a kept connection, and nothing again by itself. Of a write only a failure to connect means
that nothing was sent; whatever fails later leaves an unknown outcome.

Hosts of PagerDuty's are reached at public addresses alone, each connection at the very address that was looked at; or through
the corporate proxy, which then looks the name up itself. The certificate is verified for the host's name in both cases.
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
from dataclasses import dataclass, field
from typing import Final, cast
from urllib.parse import urlsplit

import httptools
from cryptography.fernet import InvalidToken
from django.conf import settings

from integrations.fields import crypter
from integrations.gateway.integration import Connection, Reply, Request
from integrations.outbound import Proxy, is_public, proxy_of, tls

ACCEPT: Final = "application/vnd.pagerduty+json;version=2"
USER_AGENT: Final = "Pagewarden/0.1"
READ_ATTEMPTS: Final = 2
CONNECTIONS: Final = 100
"""For the reads of one of the portal's connections at most, and for its writes as many."""
IDLE_SECONDS: Final = 30.0
"""How long a read's connection is kept for the next."""
WRITE_IDLE_SECONDS: Final = 3.0
"""How long a write's is: one that PagerDuty has closed meanwhile would cost it its outcome."""
HEADERS_LIMIT: Final = 65_536
"""Bytes of an answer's head."""
_PLAIN: Final = re.compile(r"[!-~]+", re.ASCII)
_CONNECT_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})[ \r]")


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


class NotConnected(Exception):
    """There is no connection, so nothing was sent."""

    def __init__(self, failure: str, detail: str) -> None:
        super().__init__(detail)
        self.failure = failure


@dataclass(frozen=True, slots=True)
class _Opened:
    """What goes out in the name of a connection, with the ciphertext that its token came from."""

    sealed: bytes = field(repr=False)
    auth: str
    lines: bytes = field(repr=False)
    """Headers, as a request has them."""


class _Exchange(asyncio.Protocol):
    """One connection: asked one thing at a time, and given up at the first irregularity, so that nobody is ever answered with
    what another had asked for."""

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

    def is_flushed(self) -> bool:
        """Whether the whole request has left: an answer may come before that."""
        return not self._transport.get_write_buffer_size()

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


class _Tunnel(asyncio.Protocol):
    """A connection to the proxy, until it has answered to CONNECT."""

    def __init__(self) -> None:
        self._data = bytearray()
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        """All that has arrived, once a head was whole or will be none."""

    def data_received(self, data: bytes) -> None:
        self._data += data
        whole = b"\r\n\r\n" in self._data or len(self._data) > HEADERS_LIMIT
        if not self.answer.done() and (whole or not b"HTTP/1.".startswith(self._data[:7])):
            self.answer.set_result(bytes(self._data))

    def connection_lost(self, error: Exception | None) -> None:
        if not self.answer.done():
            self.answer.set_exception(error or ConnectionResetError("closed without an answer"))


async def _through(proxy: Proxy, name: str, port: int) -> asyncio.Transport:
    """A connection by way of the proxy, on which nothing has been said yet.

    Raises:
        NotConnected: the proxy cannot be reached, does not let the portal through, or is no proxy.
    """
    try:
        transport, tunnel = await asyncio.get_running_loop().create_connection(_Tunnel, proxy.host, proxy.port)
    except (OSError, UnicodeError) as error:
        raise NotConnected("proxy", f"The proxy cannot be reached: {_detail(error)}") from None
    try:
        lines = f"CONNECT {name}:{port} HTTP/1.1\r\nHost: {name}:{port}\r\nUser-Agent: {USER_AGENT}\r\n"
        if proxy.authorization:
            lines += f"Proxy-Authorization: {proxy.authorization}\r\n"
        transport.write(f"{lines}\r\n".encode("ascii"))
        answer = await tunnel.answer
        status = _CONNECT_STATUS.match(answer)
        if status is None:
            raise NotConnected("proxy", "What answered to CONNECT is no proxy.")
        if not status[1].startswith(b"2"):
            raise NotConnected("proxy", f"The proxy answered {status[1].decode()} to CONNECT.")
        if not answer.endswith(b"\r\n\r\n") or answer.count(b"\r\n\r\n") != 1:
            raise NotConnected("proxy", "The proxy said more than that the tunnel is open.")
    except OSError as error:
        transport.abort()
        raise NotConnected("proxy", f"The proxy broke off: {_detail(error)}") from None
    except BaseException:
        transport.abort()
        raise
    return transport


class _Origin:
    """A host of PagerDuty's, and what is open to it for the reads, or the writes, of one of the portal's connections."""

    def __init__(self, base_url: str, *, public: bool, proxy: Proxy | None, idle_seconds: float) -> None:
        """``public``: only public addresses will do."""
        self._public = public
        self._proxy = proxy
        self._idle_seconds = idle_seconds
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
        fresh = time.monotonic() - self._idle_seconds
        while self._idle:
            exchange = self._idle.pop()
            if exchange.usable and exchange.idle_since > fresh and exchange.is_silent():
                return exchange
            exchange.abort()
        return None

    async def connect(self, trust: ssl.SSLContext, limit: int) -> _Exchange:
        """A new connection.

        Raises:
            NotConnected, OSError, UnicodeError: nothing was sent.
        """
        loop = asyncio.get_running_loop()
        secure = trust if self._secure else None
        name = self._name if self._secure else None
        if self._proxy is not None:
            tunnel = await _through(self._proxy, self._name, self._port)
            exchange = _Exchange(limit)
            tunnel.set_protocol(exchange)
            exchange.connection_made(tunnel)
            if secure is not None:
                try:
                    transport = await loop.start_tls(tunnel, exchange, secure, server_hostname=name)
                except BaseException:
                    tunnel.abort()
                    raise
                if transport is None:
                    raise ConnectionAbortedError("closed before it was secure")
                exchange.connection_made(transport)
            return exchange
        failed: OSError | None = None
        for address in await self._addresses():
            try:
                _, exchange = await loop.create_connection(
                    lambda: _Exchange(limit), address, self._port, ssl=secure, server_hostname=name
                )
            except OSError as error:
                failed = error
            else:
                return exchange
        raise failed or NotConnected("resolve", "The name has no address.")

    async def _addresses(self) -> list[str]:
        """Where to connect to. Looked up here, so that the address that was looked at is the one that is connected to."""
        if not self._public:
            return [self._name]
        found = await asyncio.get_running_loop().getaddrinfo(self._name, self._port, type=socket.SOCK_STREAM)
        told = list(dict.fromkeys(str(address[0]) for *_, address in found))
        addresses = [address for address in told if is_public(address)]
        if told and not addresses:
            raise NotConnected("private_address", f"{self._name} is said to be at {told[0]}")
        return addresses

    async def ask(self, exchange: _Exchange, message: bytes) -> Reply:
        self._busy.add(exchange)
        try:
            reply = await exchange.ask(message)
        except asyncio.CancelledError:
            exchange.abort()  # its answer may still come, and is nobody's
            raise
        finally:
            self._busy.discard(exchange)
        if exchange.usable and exchange.is_flushed():
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
        self._trust = tls(settings.OUTBOUND_CA_FILE)
        # From the setting alone: a proxy of the environment would be told every tenant's host by accident.
        self._proxy = proxy_of(settings.OUTBOUND_PROXY)
        # By connection, too: should a connection to PagerDuty ever be out of step, it is so with one tenant's answers alone.
        self._origins: dict[tuple[str, str, bool], _Origin] = {}
        # By connection, for opening a token costs 60 µs.
        self._opened: dict[str, _Opened] = {}

    async def close(self) -> None:
        self._opened.clear()
        for origin in self._origins.values():
            origin.close()

    async def send(self, connection: Connection, request: Request, deadline: float, sealed: bytes) -> Reply:
        """Send ``request`` with the token in ``sealed``; a read once more where that can help.

        ``deadline`` is a time of ``time.monotonic()``. Whatever the network does comes back as a ``Reply``.

        Raises:
            UnsealError: nothing was sent.
        """
        started = time.monotonic()
        if not request.reads and started >= deadline:
            # It waited for the database too long. What would become of it nobody would wait for.
            return Reply(0, failure="timeout", detail="the time was up before it was sent", sent=False)
        origin = self._origin(connection, request.reads)
        message = self._message(connection, request, origin, self._open(connection, sealed))
        attempts = 0
        while True:
            attempts += 1
            sent = False
            try:
                async with asyncio.timeout(max(deadline - time.monotonic(), 0.001)), origin.slots:
                    exchange = origin.kept()
                    kept = exchange is not None
                    if exchange is None:
                        exchange = await self._connected(origin)
                    sent = True
                    reply = await origin.ask(exchange, message)
                if kept and request.reads and reply.status == 408:
                    # What a load balancer says of a kept connection that it closes, and nothing about this request.
                    reply = Reply(0, failure="disconnected", detail="408 on a kept connection")
            except NotConnected as error:
                reply = Reply(0, failure=error.failure, detail=str(error), sent=False)
            except TimeoutError:
                reply = Reply(0, failure="timeout", detail="no whole answer within the time limit", sent=sent)
            wait = self._wait_before_retry(reply, deadline) if request.reads and attempts < READ_ATTEMPTS else None
            if wait is None:
                seconds = time.monotonic() - started
                return Reply(
                    reply.status, reply.headers, reply.body, reply.failure, reply.detail, reply.sent, attempts, seconds
                )
            await asyncio.sleep(wait)

    def _origin(self, connection: Connection, reads: bool) -> _Origin:
        key = (connection.base_url, connection.id, reads)
        origin = self._origins.get(key)
        if origin is None:
            # The sandbox is where the environment says, on this host or near it: no proxy knows the way.
            simulated = connection.region == "sandbox"
            origin = self._origins[key] = _Origin(
                connection.base_url,
                public=not simulated,
                proxy=None if simulated else self._proxy,
                idle_seconds=IDLE_SECONDS if reads else WRITE_IDLE_SECONDS,
            )
        return origin

    async def _connected(self, origin: _Origin) -> _Exchange:
        try:
            async with asyncio.timeout(self.connect_limit):
                return await origin.connect(self._trust, self.answer_limit)
        except (OSError, UnicodeError) as error:
            raise _not_connected(error) from error

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
        opened = self._opened[connection.id] = _Opened(sealed, connection.auth, lines)
        return opened

    def _message(self, connection: Connection, request: Request, origin: _Origin, opened: _Opened) -> bytes:
        """The whole request, byte for byte: nothing in it is anybody else's."""
        target = origin.prefix + request.path + (f"?{request.query}" if request.query else "")
        if not _PLAIN.fullmatch(target):
            raise ValueError("The request's target was not encoded.")  # a space in it would end it
        message = f"{request.method} {target} HTTP/1.1\r\nHost: {origin.host}\r\n".encode("ascii") + opened.lines
        if not request.reads and connection.from_email:
            if not _PLAIN.fullmatch(connection.from_email):
                raise ValueError("Whom writes are from cannot stand in a header.")
            message += f"From: {connection.from_email}\r\n".encode("ascii")
        if request.body is not None:
            return message + (
                b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(request.body) + request.body
            )
        if request.method in ("POST", "PUT", "PATCH"):
            message += b"Content-Length: 0\r\n"
        return message + b"\r\n"

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


def _detail(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:200]


def _not_connected(error: OSError | UnicodeError) -> NotConnected:
    if isinstance(error, TimeoutError):
        failure = "connect_timeout"
    elif isinstance(error, ssl.SSLError):
        failure = "tls"
    elif isinstance(error, socket.gaierror | UnicodeError):  # a name that is none cannot even be asked for
        failure = "resolve"
    else:
        failure = "connect"
    return NotConnected(failure, _detail(error))
