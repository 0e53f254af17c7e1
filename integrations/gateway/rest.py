"""The REST door: a drop-in for https://api.pagerduty.com, as a plain ASGI app.

A client changes its base URL to ``<PUBLIC_URL>/pagerduty`` and uses an agent key in place of the token. The door builds its
own request and its own answer: nothing of the caller's headers goes out but what is listed here, and nothing of PagerDuty's
comes back but what is listed here.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ipaddress
import json
import math
import re
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from http import HTTPStatus
from typing import Any

from django.conf import settings

from integrations.gateway import runtime
from integrations.gateway.identity import Rejected
from integrations.gateway.pipeline import Answer, Known
from policies.core.call import Call, Client, Door, KeyCredential, Outcome

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

PREFIX = "/pagerduty"
RELAYED = ("x-request-id", "date", "ratelimit-limit", "ratelimit-remaining", "ratelimit-reset")
"""PagerDuty's headers that clients rely on."""
_TOKEN = re.compile(r'(?:Token +token=|Bearer +)"?([!-~]{1,256}?)"? *', re.ASCII | re.IGNORECASE)
_IDEMPOTENCY_KEY = re.compile(r"[ -~]{1,255}", re.ASCII)
_UNUSUAL_SELF = re.compile(rb'"self"\s*:\s*"https:\\?/\\?/api\.(?:eu\.)?pagerduty\.com(?=[\\/"])')
_JSON = b"application/json"
CONTENT_TYPES = frozenset(
    {
        "application/json",
        "application/json; charset=utf-8",
        "application/json;charset=utf-8",
        "application/vnd.pagerduty+json",
    }
)
"""PagerDuty's that are told as they came; all else that it sends is JSON, and told as such."""
SINGLE = frozenset({b"host", b"content-type", b"content-length", b"content-encoding", b"transfer-encoding"})
"""Headers that say what a request is: of two, this door could go by one and what stands before it by the other."""
_CODES = {400: 2001, 401: 2006, 402: 2014, 403: 2010, 404: 2100, 429: 2020}
"""PagerDuty's error codes (its developer documentation, "Errors")."""


class RestDoor:
    """The ASGI app. ``path`` in the scope still carries the prefix."""

    def __init__(self) -> None:
        self._base = f"{settings.PUBLIC_URL}{PREFIX}".encode()
        self._self = b'"self":"' + self._base + b"/"
        self._header_limit: int = settings.REQUEST_HEADER_LIMIT
        self._body_limit: int = settings.REQUEST_BODY_LIMIT
        self._time_limit: float = settings.CALL_TIME_LIMIT
        self._proxies = tuple(ipaddress.ip_network(block) for block in settings.TRUSTED_PROXIES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
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
        pipeline, at = runtime.current().pipeline, time.time()
        known = pipeline.identify(credential, ip, at)
        if isinstance(known, Rejected):
            # As little as can be is done for strangers: their body is read, for else they would read no answer, and not kept.
            if not plain:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._time_limit):
                        await self._body(receive, headers, keep=False)
            await self._refuse(await pipeline.refuse(ip, known), scope["method"], send)
            return
        body: bytes | None = b""
        too_long = too_slow = False
        if not plain:
            known = None  # The key may be revoked until the body is whole.
            try:
                async with asyncio.timeout(self._time_limit):
                    body, too_long = await self._body(receive, headers)
            except TimeoutError:
                too_slow = True
        if body is None:
            # The caller went away before its request was whole, or framed it so that it has no end: there is no call to judge.
            await _broken_off(send)
            return
        if too_long and not problem:
            problem, status = f"The request's body is over {self._body_limit:,} bytes.", 413
        if too_slow and not problem:
            problem, status = f"The request's body did not arrive within {self._time_limit:.0f} seconds.", 408
        raw: bytes = scope.get("raw_path") or scope["path"].encode()
        idempotency_key = headers.get(b"idempotency-key", b"").decode("latin-1")
        if b"idempotency-key" in headers and not problem:
            if b"idempotency-key" in repeated:
                problem = "The Idempotency-Key is given more than once."
            elif not _IDEMPOTENCY_KEY.fullmatch(idempotency_key):
                problem = "The Idempotency-Key must have 1 to 255 printable ASCII characters."
        content_type = headers.get(b"content-type", b"").decode("latin-1")
        if b"content-encoding" in headers and headers[b"content-encoding"] not in (b"", b"identity"):
            problem, status = problem or "The request's body must not be compressed.", status or 415
        call = Call(
            door=Door.REST,
            credential=KeyCredential(credential),
            method=scope["method"],
            path=raw.decode("latin-1").removeprefix(PREFIX),
            query=scope["query_string"].decode("latin-1"),
            body=body,
            content_type=content_type,
            client=Client(
                ip=ip,
                name=headers.get(b"user-agent", b"").decode("latin-1"),
                request_id=headers.get(b"x-request-id", b"").decode("latin-1"),
            ),
            at=at if plain else time.time(),
            idempotency_key="" if problem else idempotency_key,
            problem=problem,
            problem_status=status,
        )
        answer = await self._answer(call, known, receive)
        if answer is not None:
            await self._reply(call, answer, send)

    async def _answer(self, call: Call, known: Known | None, receive: Receive) -> Answer | None:
        """The answer; None: the caller of a write went away before there was one, and so will not know of it."""
        pipeline = runtime.current().pipeline
        if call.method in ("GET", "HEAD"):
            return await pipeline.run(call, known)
        running = asyncio.ensure_future(pipeline.run(call))
        leaving = asyncio.ensure_future(_left(receive))
        try:
            await asyncio.wait((running, leaving), return_when=asyncio.FIRST_COMPLETED)
            return running.result() if running.done() else None
        finally:
            running.cancel()
            leaving.cancel()

    async def _body(
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

    async def _refuse(self, answer: Answer, method: str, send: Send) -> None:
        headers, body = _refusal(answer)
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})

    async def _reply(self, call: Call, answer: Answer, send: Send) -> None:
        headers: Headers = []
        if answer.verdict is not None:
            headers.append((b"x-pagewarden-decision", answer.verdict.decision_id.encode()))
        reply = answer.reply
        if answer.outcome is Outcome.UNKNOWN:
            headers.append((b"x-pagewarden-outcome", b"unknown"))
        if answer.replay_of:
            headers.append((b"x-pagewarden-replayed", answer.replay_of.encode()))
        if reply is not None and not answer.problem:
            for name, value in reply.headers:
                if name in RELAYED:
                    headers.append((name.encode(), value.encode("latin-1", "replace")))
            status, body = reply.status, self.rewrite(reply.body)
            if body:
                kind = reply.header("content-type").lower()
                headers.append((b"content-type", kind.encode() if kind in CONTENT_TYPES else _JSON))
            elif status >= 400:
                # PagerDuty's 429 may come bare; Go's client decodes every error.
                headers.append((b"content-type", _JSON))
                body = error_body(status, _message(answer), [])
        else:
            errors = [text for text in (answer.problem, answer.remedy) if text]
            status, body = answer.status, error_body(answer.status, _message(answer), errors)
            headers.append((b"content-type", _JSON))
            if answer.retry_after is not None:
                headers += _limit_headers(answer.limit, math.ceil(answer.retry_after))
            if status in (408, 413):
                headers.append((b"connection", b"close"))
        if status != 204:
            headers.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if status == 204 or call.method == "HEAD" else body})

    def rewrite(self, body: bytes) -> bytes:
        """Every ``self`` of PagerDuty's, however deep, as a URL of this door: clients refuse documents of another host."""
        body = body.replace(b'"self":"https://api.pagerduty.com/', self._self)
        # Seldom anything is left: another region's, or one that is spaced or escaped otherwise.
        return _UNUSUAL_SELF.sub(self._self[:-1], body) if b"api." in body else body


async def _broken_off(send: Send) -> None:
    body = error_body(400, "Invalid Input Provided", ["The request's body is not whole."])
    headers = [(b"content-type", _JSON), (b"content-length", str(len(body)).encode()), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 400, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _left(receive: Receive) -> None:
    """Done when the caller has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _credential(header: bytes) -> str:
    match = _TOKEN.fullmatch(header.decode("latin-1"))
    return match[1] if match else ""


def _message(answer: Answer) -> str:
    if answer.status == 403:
        return "Access Denied"
    if answer.status == 401:
        return "Unauthorized"
    if answer.status == 429:
        return "Rate Limit Exceeded"
    if answer.status == 400:
        return "Invalid Input Provided"
    return HTTPStatus(answer.status).phrase


def error_body(status: int, message: str, errors: Iterable[str]) -> bytes:
    """PagerDuty's error shape. ``errors`` is a list: Go's client does not decode anything else."""
    error = {"message": message, "code": _CODES.get(status, status), "errors": list(errors)}
    return json.dumps({"error": error}).encode()


@functools.lru_cache(maxsize=128)
def _refusal(answer: Answer) -> tuple[Headers, bytes]:
    """What a stranger gets, made once: the same bytes whatever was wrong with their key."""
    body = error_body(answer.status, _message(answer), (answer.problem, answer.remedy))
    limit = [] if answer.retry_after is None else _limit_headers(answer.limit, math.ceil(answer.retry_after))
    return [(b"content-type", _JSON), *limit, (b"content-length", str(len(body)).encode())], body


def _limit_headers(limit: int, seconds: int) -> Headers:
    """PagerDuty's own, which its clients rely on, and HTTP's."""
    return [
        (b"ratelimit-limit", str(limit).encode()),
        (b"ratelimit-remaining", b"0"),
        (b"ratelimit-reset", str(seconds).encode()),
        (b"retry-after", str(seconds).encode()),
    ]


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
