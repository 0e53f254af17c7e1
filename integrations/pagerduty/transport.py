"""The one way out to PagerDuty. The token is unsealed here and nowhere else, and no write is ever sent twice.

Reads go through aiohttp: 0.14 ms of processor time a call with the server's own part, where the same through httpx's interface
to it costs 0.27 and through httpx alone 2. It may silently send a GET again when a reused connection drops: harmless for a
read, never for a write. Writes go through httpx's own transport without retries, where only a failure to connect means that
nothing was sent; whatever fails later leaves an unknown outcome.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
import time
import uuid
from collections.abc import AsyncIterable, Iterable
from typing import Final

import aiohttp
import certifi
import httpx
from cryptography.fernet import InvalidToken
from django.conf import settings
from multidict import CIMultiDict
from yarl import URL

from integrations.fields import crypter
from integrations.gateway.integration import Connection, Reply, Request

ACCEPT: Final = "application/vnd.pagerduty+json;version=2"
USER_AGENT: Final = "Pagewarden/0.1"
READ_ATTEMPTS: Final = 2


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


class Transport:
    """Sends requests from one event loop, on which it must be made and closed."""

    def __init__(self) -> None:
        self.answer_limit: int = settings.ANSWER_LIMIT
        self.connect_limit: float = settings.CONNECT_TIME_LIMIT
        tls = ssl.create_default_context(cafile=certifi.where())
        if settings.PAGERDUTY_CA_FILE:
            tls.load_verify_locations(settings.PAGERDUTY_CA_FILE)
        limit = self.connect_limit
        # No cookies: one tenant's would go out with another's call. No proxies or .netrc of the environment.
        self._reads = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=tls, limit=0, limit_per_host=100, keepalive_timeout=30),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=limit),
        )
        self._writes = httpx.AsyncHTTPTransport(
            verify=tls, trust_env=False, retries=0, limits=httpx.Limits(max_connections=100, keepalive_expiry=3)
        )
        self._extensions = {"timeout": {"connect": limit, "pool": limit, "read": None, "write": None}}
        # The headers of a connection, with the ciphertext that its token came from: opening it costs 60 µs.
        self._opened: dict[str, tuple[bytes, str, CIMultiDict[str]]] = {}
        # Parsing costs 40 µs, and assistants ask the same again and again.
        self._url = functools.lru_cache(maxsize=256)(functools.partial(URL, encoded=True))

    async def close(self) -> None:
        self._opened.clear()
        await self._reads.close()
        await self._writes.aclose()

    async def send(self, connection: Connection, request: Request, deadline: float, sealed: bytes) -> Reply:
        """Send ``request`` with the token in ``sealed``; a read once more where that can help.

        ``deadline`` is a time of ``time.monotonic()``. Whatever the network does comes back as a ``Reply``.

        Raises:
            UnsealError: nothing was sent.
        """
        started = time.monotonic()
        headers = self._headers(connection, sealed)
        if request.body is not None:
            headers = headers.copy()
            headers["Content-Type"] = "application/json"
        url = connection.base_url + request.path + (f"?{request.query}" if request.query else "")
        attempts = 0
        while True:
            attempts += 1
            try:
                async with asyncio.timeout(max(deadline - time.monotonic(), 0.001)):
                    if request.reads:
                        reply = await self._read(request, url, headers)
                    else:
                        reply = await self._write(request, url, headers, connection.from_email)
            except TimeoutError:
                reply = Reply(status=0, failure="timeout", detail="no whole answer within the time limit", sent=True)
            wait = self._wait_before_retry(reply, deadline) if request.reads and attempts < READ_ATTEMPTS else None
            if wait is None:
                seconds = time.monotonic() - started
                return Reply(
                    reply.status, reply.headers, reply.body, reply.failure, reply.detail, reply.sent, attempts, seconds
                )
            await asyncio.sleep(wait)

    def _headers(self, connection: Connection, sealed: bytes) -> CIMultiDict[str]:
        known = self._opened.get(connection.id)
        if known is not None and known[0] == sealed and known[1] == connection.auth:
            return known[2]
        scheme = "Bearer " if connection.auth == "bearer" else "Token token="
        headers = CIMultiDict(
            {
                "Authorization": scheme + unseal(sealed, connection.id),
                "Accept": ACCEPT,
                "Accept-Encoding": "identity",
                "User-Agent": USER_AGENT,
            }
        )
        if len(self._opened) > 1_000:
            self._opened.clear()
        self._opened[connection.id] = (sealed, connection.auth, headers)
        return headers

    async def _read(self, request: Request, url: str, headers: CIMultiDict[str]) -> Reply:
        try:
            async with self._reads.request(
                request.method, self._url(url), headers=headers, data=request.body, allow_redirects=False
            ) as response:
                size = response.content_length
                if size is not None and size <= self.answer_limit and "Content-Encoding" not in response.headers:
                    body = await response.read()
                else:
                    # Identity was asked for; a server that compresses all the same is decoded, under the same limit.
                    body = await self._within_limit(response.content.iter_any())
                return Reply(response.status, _decoded(response.raw_headers), body)
        except TooLarge:
            return Reply(response.status, failure="too_large", detail=f"over {self.answer_limit} bytes")
        except (aiohttp.ClientError, OSError) as error:
            if isinstance(error, TimeoutError) and not isinstance(error, aiohttp.ClientError):
                raise  # the time limit of the whole call
            return _failed_read(error)

    async def _write(self, request: Request, url: str, headers: CIMultiDict[str], from_email: str) -> Reply:
        sent = httpx.Headers(list(headers.items()), encoding="ascii")
        if from_email:
            sent["From"] = from_email
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


def _failed_read(error: Exception) -> Reply:
    """What aiohttp's exception means: which failure, and whether the request may have reached PagerDuty."""
    detail = _detail(error)
    # Subclasses first: a failure of TLS or of the name is a failure to connect, too.
    for kind, failure in (
        (aiohttp.ClientSSLError, "tls"),
        (aiohttp.ClientConnectorDNSError, "resolve"),
        (aiohttp.ConnectionTimeoutError, "connect_timeout"),
        (aiohttp.ClientConnectorError, "connect"),
    ):
        if isinstance(error, kind):
            return Reply(0, failure=failure, detail=detail, sent=False)
    if isinstance(error, aiohttp.ServerTimeoutError):
        return Reply(0, failure="timeout", detail=detail)
    malformed = isinstance(error, aiohttp.ClientResponseError | aiohttp.InvalidURL)
    return Reply(0, failure="malformed" if malformed else "disconnected", detail=detail)


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
