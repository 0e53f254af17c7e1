"""The simulated PagerDuty as an ASGI app: tokens, paging, limits and errors as PagerDuty has them, and faults on demand.

``/_sandbox/…`` is for whoever runs it, and asks for no token: ``POST fault`` (``{"fault": "slow:2", "count": 1}``), ``POST
rate_limit`` (``{"enforce": true, "limit": 960}``), ``GET stats``, ``GET deliveries`` (the latest webhooks), ``POST reset``.
The next ``count`` calls with a valid token get the fault; a call without one gets its 401, as it would at a PagerDuty in
trouble, and uses none of them up. The faults:

- ``slow:2``: the true answer, 2 seconds later.
- ``401``, ``402``, ``403``, ``404``, ``429``, ``500``: that status in PagerDuty's error format, and nothing is done.
- ``malformed``: 200 and JSON that ends in the middle. ``html``: 200 and the page of a proxy that wants somebody to sign in.
- ``redirect``: 302 to ``/redirected`` of this same server, so that ``stats`` shows who followed it.
- ``truncated``: the connection is cut in the middle of the answer. ``reset``: it is cut before it.
- an empty name switches them off.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import email.utils
import json
import logging
import math
import os
import re
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final
from urllib.parse import parse_qs

from integrations.pagerduty.sandbox import operations  # noqa: F401  (fills the table of operations)
from integrations.pagerduty.sandbox.ask import (
    BODY_OPTIONAL,
    GATED,
    NEEDS_FROM,
    ROUTES,
    SCOPES,
    ApiError,
    Ask,
    invalid,
    not_found,
)
from integrations.pagerduty.sandbox.audit import recorded
from integrations.pagerduty.sandbox.deliveries import Deliveries
from integrations.pagerduty.sandbox.world import Token, demo_tokens, generate

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

log = logging.getLogger(__name__)

REFUSALS: Final[dict[str, tuple[str, int]]] = {
    "401": ("Unauthorized", 2006),
    "402": ("Account does not have the abilities", 2014),
    "403": ("Access Denied", 2010),
    "404": ("Not Found", 2100),
    "429": ("Rate Limit Exceeded", 2020),
    "500": ("Internal Server Error", 2000),
}
"""Faults that are an answer in PagerDuty's error format: message and code."""
FAULTS: Final = (*REFUSALS, "slow", "reset", "malformed", "truncated", "html", "redirect")
PROXY_PAGE: Final = (
    b"<!DOCTYPE html><title>Sign in</title><h1>Sign in to go on</h1><form method=post action=/login></form>"
)
_AUTHORIZATION: Final = re.compile(r"(?:Token\s+token=|Bearer\s+)\"?([^\s\"]+)\"?", re.IGNORECASE)


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path) + "/?")


# Literals before parameters: /users/me is nobody's id.
_PATHS: Final = sorted(((method, _pattern(path), path) for method, path in ROUTES), key=lambda row: row[2].count("{"))


class Sandbox:
    """One account. ``now``: its moment at the start; without it, the clock's own hour and time. ``kind``, ``size``: as for
    ``generate``."""

    def __init__(
        self,
        seed: int = 7,
        now: dt.datetime | None = None,
        *,
        kind: str = "demo",
        size: str = "demo",
        webhooks_anywhere: bool = False,
    ) -> None:
        self.seed = seed
        self.kind = kind
        self.size = size
        self._now = now
        self.deliveries = Deliveries(webhooks_anywhere)
        self._alarm: asyncio.TimerHandle | None = None
        self.reset()

    def reset(self) -> None:
        """The account as it was at the start."""
        self._offset = 0.0 if self._now is None else self._now.timestamp() - time.time()
        self.world = generate(self.seed, self._now or dt.datetime.now(dt.UTC), kind=self.kind, size=self.size)
        self.deliveries.stop()
        self._stop_alarm()
        self.deliveries = Deliveries(self.deliveries.anywhere)
        self.tokens: dict[str, Token] = {token.value: token for token in demo_tokens(self.seed).values()}
        self.fault: tuple[str, float, int] = ("", 0.0, 0)
        self.enforced = False
        self.limit = 960
        self.calls: Counter[str] = Counter()
        self.used: dict[str, tuple[int, int]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            while True:
                message = await receive()
                if message["type"] == "lifespan.shutdown":
                    self._stop_alarm()
                await send({"type": f"{message['type']}.complete"})
                if message["type"] == "lifespan.shutdown":
                    return
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        method, path = scope["method"], scope["path"]
        if path.startswith("/_sandbox/"):
            status, document = self._control(method, path, bytes(body))
            await _answer(send, status, document, {})
            return
        self.calls[f"{method} {path}"] += 1
        headers = {name.lower().decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        extra: dict[str, str] = {"x-request-id": f"sandbox-{sum(self.calls.values()):08x}"}
        try:
            token = self._token(headers)
        except ApiError as error:
            await _answer(send, error.status, error.document, extra)
            return
        kind, amount = self._due_fault()
        if kind == "slow":
            await asyncio.sleep(amount)
        elif kind:
            await self._faulty(kind, scope, send, extra)
            return
        try:
            extra |= self._count(token)
            status, document = self._operate(scope, method, path, headers, bytes(body), token)
            answer = b"" if status == 204 else json.dumps(document).encode()
        except ApiError as error:
            status, answer = error.status, json.dumps(error.document).encode()
            extra |= error.headers
        except Exception:
            # The last guard: a mistake of the sandbox is a 500 in PagerDuty's format too, and is told.
            log.exception("%s: %s %s failed by a mistake of the sandbox", extra["x-request-id"], method, path)
            status, answer = 500, json.dumps(_error("500")).encode()
        await _raw(send, status, answer, "application/json; charset=utf-8", extra)

    def _due_fault(self) -> tuple[str, float]:
        """The fault that this call gets, which uses it up; an empty name: none."""
        kind, amount, left = self.fault
        if not kind or left < 1:
            return "", 0.0
        self.fault = (kind, amount, left - 1)
        return kind, amount

    def _token(self, headers: dict[str, str]) -> Token:
        match = _AUTHORIZATION.fullmatch(headers.get("authorization", ""))
        token = self.tokens.get(match[1]) if match else None
        if token is None or token.revoked:
            raise ApiError(401, "Unauthorized", 2006)
        return token

    def _count(self, token: Token) -> dict[str, str]:
        minute, second = divmod(int(time.time()), 60)
        before = self.used.get(token.value, (minute, 0))
        used = before[1] + 1 if before[0] == minute else 1
        self.used[token.value] = (minute, used)
        shown = {
            "ratelimit-limit": str(self.limit),
            "ratelimit-remaining": str(max(0, self.limit - used)),
            "ratelimit-reset": str(60 - second),
        }
        if self.enforced and used > self.limit:
            limited = ApiError(429, "Rate Limit Exceeded", 2020)
            limited.headers = shown
            raise limited
        return shown

    def _operate(
        self, scope: Scope, method: str, path: str, headers: dict[str, str], body: bytes, token: Token
    ) -> tuple[int, Any]:
        found = [(m, p.fullmatch(path), template) for m, p, template in _PATHS]
        here = [(m, match, template) for m, match, template in found if match]
        if not here:
            raise not_found()
        by_method = {known: (match, template) for known, match, template in reversed(here)}
        if method not in by_method:
            raise ApiError(405, "Method Not Allowed", 2001)
        match, template = by_method[method]
        if token.read_only and method != "GET":
            raise ApiError(403, "Access Denied", 2010, ["This token reads only."])
        scope_needed = SCOPES[method, template]
        if token.scopes is not None and scope_needed and scope_needed not in token.scopes:
            raise ApiError(
                403,
                "Access Denied",
                2010,
                ["The token lacks a scope."],
                required_scopes=scope_needed,
                token_scopes=" ".join(sorted(token.scopes)),
            )
        if self.world.kind == "plan_gated" and (method, template) in GATED:
            raise ApiError(402, *REFUSALS["402"])
        document: Any = None
        if body or (method in ("POST", "PUT") and (method, template) not in BODY_OPTIONAL):
            try:
                document = json.loads(body, parse_constant=_no_number, parse_float=_finite)
            except (ValueError, RecursionError):
                raise invalid("The body is not JSON") from None
        query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        ask = Ask(
            self.world,
            time.time() + self._offset,
            token,
            self._sender(token, headers, (method, template)),
            match.groupdict(),
            query,
            document,
        )
        ask.include = ask.many("include")
        self.world.wake(ask.now)
        # At once, also where the call is refused: whose snooze is over is told of as it is now, before the call changes it.
        self.deliveries.send(self.world)
        if method != "GET":
            self.world.kept = None
        try:
            return recorded(ask, method, template, ROUTES[method, template])
        finally:
            # What is refused has told nothing.
            self.deliveries.send(self.world)
            self._set_alarm()

    def _stop_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _set_alarm(self) -> None:
        """Have the snooze that ends next end in time: whoever subscribed is told then, not at the next call."""
        self._stop_alarm()
        incidents = (self.world.incidents[place].extra for place in self.world.snoozed)
        ends = [extra.snoozed_until for extra in incidents if extra is not None and extra.snoozed_until is not None]
        if ends:
            delay = max(0.0, min(ends) - self._offset - time.time()) + 0.01
            self._alarm = asyncio.get_running_loop().call_later(delay, self._ring)

    def _ring(self) -> None:
        self.world.wake(time.time() + self._offset)
        self.deliveries.send(self.world)
        self._set_alarm()

    def _sender(self, token: Token, headers: dict[str, str], what: tuple[str, str]) -> int | None:
        if token.user is not None:
            return token.user
        address = headers.get("from", "").lower()
        for place, user in enumerate(self.world.users):
            if user["email"] == address:
                return place
        if address or what in NEEDS_FROM:
            raise ApiError(
                400, "Requester User Not Found", 1008, ["From must be the address of a user of the account."]
            )
        return None

    async def _faulty(self, kind: str, scope: Scope, send: Send, extra: dict[str, str]) -> None:
        if kind in REFUSALS:
            if kind == "429":
                extra |= {"ratelimit-limit": str(self.limit), "ratelimit-remaining": "0", "ratelimit-reset": "1"}
            await _answer(send, int(kind), _error(kind), extra)
        elif kind == "malformed":
            await _raw(send, 200, b'{"incidents": [{"id": ', "application/json; charset=utf-8", extra)
        elif kind == "html":
            await _raw(send, 200, PROXY_PAGE, "text/html; charset=utf-8")
        elif kind == "redirect":
            await _raw(send, 302, b"", "text/html; charset=utf-8", {"location": "/redirected"})
        elif kind == "truncated":
            # Half of what was promised: the server cuts the connection.
            headers = [(b"content-type", b"application/json"), (b"content-length", b"4000")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b'{"incidents": [', "more_body": True})
            _cut(scope)
        elif kind == "reset":
            _cut(scope)

    def _control(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        what = path.removeprefix("/_sandbox/")
        try:
            asked = json.loads(body) if body else {}
            if (method, what) == ("GET", "stats"):
                return 200, {"calls": dict(self.calls), "total": sum(self.calls.values())}
            if (method, what) == ("GET", "deliveries"):
                return 200, {"deliveries": [delivery.shown() for delivery in self.deliveries.kept]}
            if (method, what) == ("POST", "reset"):
                self.reset()
            elif (method, what) == ("POST", "fault"):
                kind, _, amount = str(asked.get("fault", "")).partition(":")
                if kind and kind not in FAULTS:
                    return 400, {"error": f"a fault is one of {', '.join(FAULTS)}"}
                self.fault = (kind, float(amount or 1), int(asked.get("count", 1)))
            elif (method, what) == ("POST", "rate_limit"):
                self.enforced, self.limit = bool(asked["enforce"]), int(asked.get("limit", 960))
                self.used.clear()
            else:
                return 404, {"error": "no such switch"}
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            return 400, {"error": f"not understood: {type(error).__name__}"}
        return 200, {"ok": True}


def _error(fault: str) -> dict[str, Any]:
    message, code = REFUSALS[fault]
    return {"error": {"message": message, "code": code}}


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is not JSON")


def _finite(text: str) -> float:
    """A number that can be written as JSON again: Python reads 1e999 as infinity."""
    number = float(text)
    return number if math.isfinite(number) else _no_number(text)


def _cut(scope: Scope) -> None:
    """End the caller's connection under the server's feet, as a crash would: ASGI itself has no way to."""
    caller = [str(part) for part in scope["client"][:2]]
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(descriptor))) as connection:
            if [str(part) for part in connection.getpeername()[:2]] == caller:
                connection.shutdown(socket.SHUT_RDWR)


async def _answer(send: Send, status: int, document: Any, headers: dict[str, str]) -> None:
    await _raw(send, status, json.dumps(document).encode(), "application/json; charset=utf-8", headers)


async def _raw(send: Send, status: int, body: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
    shown = {"date": email.utils.formatdate(usegmt=True)}
    if status != 204:
        shown |= {"content-type": kind, "content-length": str(len(body))}
    listed = [(name.encode(), value.encode()) for name, value in (shown | (headers or {})).items()]
    await send({"type": "http.response.start", "status": status, "headers": listed})
    await send({"type": "http.response.body", "body": body})
