"""What both doors make of an HTTP request before they know what is asked: its headers, its caller, its body."""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import re
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from integrations.gateway.pipeline import Answer, Known, Pipeline
from policies.core.call import Call

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

SINGLE = frozenset({b"host", b"content-type", b"content-length", b"content-encoding", b"transfer-encoding"})
"""Headers that say what a request is: of two, this door could go by one and what stands before it by the other."""
IDEMPOTENCY_FORM = re.compile(r"[ -~]{1,255}", re.ASCII)
"""What a caller may call a write by, so that a second try of it is known."""
_TOKEN = re.compile(r'(?:Token +token=|Bearer +)"?([!-~]{1,256}?)"? *', re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Head:
    """A request before its body."""

    headers: dict[bytes, bytes]
    """In lower case; of one that comes twice the last, but of X-Forwarded-For all."""
    repeated: frozenset[bytes] | set[bytes]
    credential: str
    ip: str
    plain: bool
    """Whether no body follows."""
    problem: str
    status: int

    def text(self, name: bytes) -> str:
        return self.headers.get(name, b"").decode("latin-1")


@dataclass(frozen=True, slots=True)
class Body:
    """What came after the head. ``content`` is None where the caller went away before it was whole."""

    content: bytes | None
    problem: str = ""
    status: int = 0


class Requests:
    """Reads requests within the limits of the settings."""

    def __init__(self) -> None:
        self._header_limit: int = settings.REQUEST_HEADER_LIMIT
        self._body_limit: int = settings.REQUEST_BODY_LIMIT
        self._time_limit: float = settings.CALL_TIME_LIMIT
        self._proxies = tuple(ipaddress.ip_network(block) for block in settings.TRUSTED_PROXIES)

    def head(self, scope: Scope) -> Head:
        headers: dict[bytes, bytes] = {}
        repeated: set[bytes] = set()
        size = 0
        for name, value in scope["headers"]:
            size += len(name) + len(value) + 4
            if name in headers:
                repeated.add(name)
                # One list, whether a proxy adds to it or writes a line of its own.
                if name == b"x-forwarded-for":
                    value = headers[name] + b"," + value
            headers[name] = value
        problem, status = "", 0
        if size > self._header_limit:
            problem, status = f"The request's headers are over {self._header_limit:,} bytes.", 431
        elif repeated and not SINGLE.isdisjoint(repeated):
            problem, status = "The request has one of its headers twice.", 400
        elif headers.get(b"transfer-encoding", b"chunked").lower() != b"chunked":
            problem, status = "The request's body must be sent as it is, or in chunks.", 400
        # HTTP/1.1 says in its headers whether a body follows: where none does, none is waited for.
        plain = (
            scope["http_version"] == "1.1" and b"content-length" not in headers and b"transfer-encoding" not in headers
        )
        credential = "" if b"authorization" in repeated else _credential(headers.get(b"authorization", b""))
        ip = client_ip(scope, headers.get(b"x-forwarded-for"), self._proxies)
        return Head(headers, repeated, credential, ip, plain, problem, status)

    async def body(self, receive: Receive, head: Head, *, keep: bool = True) -> Body:
        """The whole body; empty where it is not kept, is over the limit or does not come in time."""
        if head.plain:
            return Body(b"")
        try:
            async with asyncio.timeout(self._time_limit):
                content, too_long = await self._read(receive, head.headers, keep=keep)
        except TimeoutError:
            return Body(b"", f"The request's body did not arrive within {self._time_limit:.0f} seconds.", 408)
        if too_long and keep:
            return Body(b"", f"The request's body is over {self._body_limit:,} bytes.", 413)
        return Body(content)

    async def _read(
        self, receive: Receive, headers: dict[bytes, bytes], *, keep: bool = True
    ) -> tuple[bytes | None, bool]:
        """The whole body, empty and ``True`` when it is over the limit or not kept; None when the caller has gone."""
        declared = headers.get(b"content-length", b"0")
        too_long = not keep or (declared.isdigit() and int(declared[:12]) > self._body_limit)
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None, False
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > self._body_limit:
                too_long = True
            if too_long:
                chunks.clear()
                # What is under way is read off, within reason, so that the caller reads the answer and not a reset.
                if size > 4 * self._body_limit:
                    break
            elif chunk:
                chunks.append(chunk)
            if not message.get("more_body"):
                break
        return b"".join(chunks), too_long


async def answered(pipeline: Pipeline, call: Call, receive: Receive, known: Known | None) -> Answer | None:
    """The answer to a write; None: its caller went away before there was one, and so will not know of it."""
    running = asyncio.ensure_future(pipeline.run(call, known))
    leaving = asyncio.ensure_future(_left(receive))
    try:
        await asyncio.wait((running, leaving), return_when=asyncio.FIRST_COMPLETED)
        return running.result() if running.done() else None
    finally:
        running.cancel()
        leaving.cancel()


async def _left(receive: Receive) -> None:
    """Done when the caller has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _credential(header: bytes) -> str:
    match = _TOKEN.fullmatch(header.decode("latin-1"))
    return match[1] if match else ""


Networks = tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]


def client_ip(scope: Scope, forwarded: bytes | None, proxies: Networks) -> str:
    """The caller's address: the connection's own, or behind trusted proxies the last one that is none of them. An IPv4
    address that a dual-stack socket writes as IPv6 is given as IPv4: limits, networks and proxies are told in that form."""
    peer = _unmapped(str((scope.get("client") or ("", 0))[0]))
    if not forwarded or not proxies:
        return peer
    # Parsing addresses costs as much as all else that is done for a stranger. What callers make long is not kept.
    return (_forwarded if len(forwarded) <= 100 else _forwarded.__wrapped__)(peer, forwarded, proxies)


@functools.lru_cache(maxsize=2_048)
def _forwarded(peer: str, forwarded: bytes, proxies: Networks) -> str:
    hops = [_unmapped(hop.strip()) for hop in forwarded.decode("latin-1").split(",")[-20:]]
    address = peer
    while _is_trusted(address, proxies) and hops:
        address = hops.pop()
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        return peer


def _unmapped(text: str) -> str:
    if not text.lower().startswith("::ffff:"):
        return text
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        return text
    return str(address.ipv4_mapped or address)


def _is_trusted(address: str, proxies: Networks) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(parsed in proxy for proxy in proxies)
