"""The one way out to PagerDuty. The token is unsealed here and nowhere else, and no write is ever sent twice.

Reads go through aiohttp (a tenth of httpx's cost a call), which may silently send an idempotent request again when a reused
connection drops: harmless for a read, never for a write. Writes go through httpx's own transport without retries, where only
a failure to connect means that nothing was sent; whatever fails later leaves an unknown outcome.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
import time
import uuid
from typing import Final

import aiohttp
import certifi
import httpx
from cryptography.fernet import InvalidToken
from django.conf import settings
from httpx_aiohttp import AiohttpTransport

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
        # No cookies: one tenant's would go out with another's call. No proxies or .netrc of the environment.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=tls, limit=0, limit_per_host=100, keepalive_timeout=30),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )
        self._reads: httpx.AsyncBaseTransport = AiohttpTransport(verify=tls, trust_env=False, client=self._session)
        self._writes: httpx.AsyncBaseTransport = httpx.AsyncHTTPTransport(
            verify=tls, trust_env=False, retries=0, limits=httpx.Limits(max_connections=100, keepalive_expiry=3)
        )
        # The headers of a connection, with the ciphertext that its token came from: opening it costs 60 µs, building them 20.
        self._opened: dict[str, tuple[bytes, str, httpx.Headers]] = {}
        # Parsing costs 40 µs, and assistants ask the same again and again.
        self._url = functools.lru_cache(maxsize=256)(httpx.URL)
        limit = self.connect_limit
        self._extensions = {"timeout": {"connect": limit, "pool": limit, "read": None, "write": None}}

    async def close(self) -> None:
        self._opened.clear()
        await self._reads.aclose()
        await self._writes.aclose()

    async def send(self, connection: Connection, request: Request, deadline: float, sealed: bytes) -> Reply:
        """Send ``request`` with the token in ``sealed``; a read once more where that can help.

        ``deadline`` is a time of ``time.monotonic()``. Whatever the network does comes back as a ``Reply``.

        Raises:
            UnsealError: nothing was sent.
        """
        started = time.monotonic()
        outgoing = self._build(connection, request, sealed)
        attempts = 0
        while True:
            attempts += 1
            try:
                async with asyncio.timeout(max(deadline - time.monotonic(), 0.001)):
                    reply = await self._once(outgoing, request.reads)
            except TimeoutError:
                reply = Reply(status=0, failure="timeout", detail="no whole answer within the time limit", sent=True)
            wait = self._wait_before_retry(reply, deadline) if request.reads and attempts < READ_ATTEMPTS else None
            if wait is None:
                seconds = time.monotonic() - started
                return Reply(
                    reply.status, reply.headers, reply.body, reply.failure, reply.detail, reply.sent, attempts, seconds
                )
            await asyncio.sleep(wait)

    def _build(self, connection: Connection, request: Request, sealed: bytes) -> httpx.Request:
        headers = self._headers(connection, sealed)
        if request.body is not None or not request.reads:
            headers = headers.copy()
        if request.body is not None:
            headers["Content-Type"] = "application/json"
        if not request.reads and connection.from_email:
            headers["From"] = connection.from_email
        url = self._url(connection.base_url + request.path + (f"?{request.query}" if request.query else ""))
        return httpx.Request(request.method, url, headers=headers, content=request.body, extensions=self._extensions)

    def _headers(self, connection: Connection, sealed: bytes) -> httpx.Headers:
        known = self._opened.get(connection.id)
        if known is not None and known[0] == sealed and known[1] == connection.auth:
            return known[2]
        scheme = "Bearer " if connection.auth == "bearer" else "Token token="
        headers = httpx.Headers(
            {
                "Host": httpx.URL(connection.base_url).netloc.decode("ascii"),
                "Authorization": scheme + unseal(sealed, connection.id),
                "Accept": ACCEPT,
                "Accept-Encoding": "identity",
                "User-Agent": USER_AGENT,
            },
            encoding="ascii",
        )
        if len(self._opened) > 1_000:
            self._opened.clear()
        self._opened[connection.id] = (sealed, connection.auth, headers)
        return headers

    async def _once(self, outgoing: httpx.Request, reads: bool) -> Reply:
        transport = self._reads if reads else self._writes
        try:
            response = await transport.handle_async_request(outgoing)
        except ssl.SSLError as error:
            return Reply(0, failure="tls", detail=str(error)[:200], sent=False)
        except Exception as error:
            return _failed(error, connecting=True)
        try:
            body = await self._read(response)
        except TooLarge:
            return Reply(response.status_code, failure="too_large", detail=f"over {self.answer_limit} bytes")
        except Exception as error:
            return _failed(error, connecting=False)
        finally:
            await response.aclose()
        return Reply(
            response.status_code,
            tuple((k.decode("latin-1").lower(), v.decode("latin-1")) for k, v in response.headers.raw),
            body,
        )

    async def _read(self, response: httpx.Response) -> bytes:
        # Identity was asked for; a server that compresses all the same is decoded, under the same limit.
        plain = response.headers.get("content-encoding", "identity") == "identity"
        chunks: list[bytes] = []
        size = 0
        async for chunk in response.stream if plain else response.aiter_bytes():  # type: ignore[union-attr]  # always async
            size += len(chunk)
            if size > self.answer_limit:
                raise TooLarge
            chunks.append(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

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


def _failed(error: Exception, *, connecting: bool) -> Reply:
    """What a transport's exception means: which failure, and whether the request may have reached PagerDuty."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    detail = f"{type(error).__name__}: {error}"[:200]
    if connecting:
        # aiohttp says "disconnected" as a kind of connection error, although the request was sent: not before this line.
        if any(isinstance(link, aiohttp.ServerDisconnectedError) for link in chain):
            return Reply(0, failure="disconnected", detail=detail)
        if any(isinstance(link, ssl.SSLError | aiohttp.ClientSSLError) for link in chain):
            return Reply(0, failure="tls", detail=detail, sent=False)
        if any(isinstance(link, socket.gaierror | aiohttp.ClientConnectorDNSError) for link in chain):
            return Reply(0, failure="resolve", detail=detail, sent=False)
        if any(isinstance(link, aiohttp.ConnectionTimeoutError) for link in chain):
            return Reply(0, failure="connect_timeout", detail=detail, sent=False)
        if isinstance(error, httpx.PoolTimeout) or (
            type(error) is httpx.ConnectTimeout
            and len(chain) > 1
            and not any(isinstance(link, aiohttp.ClientError) for link in chain)
        ):
            return Reply(0, failure="connect_timeout", detail=detail, sent=False)
        if any(isinstance(link, aiohttp.ClientConnectorError) for link in chain):
            return Reply(0, failure="connect", detail=detail, sent=False)
        if type(error) is httpx.ConnectError and not any(isinstance(link, aiohttp.ClientError) for link in chain):
            return Reply(0, failure="connect", detail=detail, sent=False)
    if isinstance(error, httpx.TimeoutException) and not any(isinstance(link, aiohttp.ClientOSError) for link in chain):
        return Reply(0, failure="timeout", detail=detail)
    malformed = isinstance(error, httpx.RemoteProtocolError) and "disconnect" not in str(error).lower()
    if malformed or any(isinstance(link, aiohttp.ClientResponseError) for link in chain):
        return Reply(0, failure="malformed", detail=detail)
    return Reply(0, failure="disconnected", detail=detail)
