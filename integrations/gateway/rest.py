"""The REST door: a drop-in for https://api.pagerduty.com, as a plain ASGI app.

A client changes its base URL to ``<PUBLIC_URL>/pagerduty`` and uses an agent key in place of the token. The door builds its
own request and its own answer: nothing of the caller's headers goes out but what is listed here, and nothing of PagerDuty's
comes back but what is listed here.
"""

from __future__ import annotations

import functools
import json
import math
import re
import time
from collections.abc import Iterable
from http import HTTPStatus

from django.conf import settings

from integrations.gateway import runtime
from integrations.gateway.http import IDEMPOTENCY_FORM, Headers, Receive, Requests, Scope, Send, answered
from integrations.gateway.identity import Rejected
from integrations.gateway.pipeline import Answer
from policies.core.call import Call, Client, Door, KeyCredential, Outcome

PREFIX = "/pagerduty"
RELAYED = ("x-request-id", "date", "ratelimit-limit", "ratelimit-remaining", "ratelimit-reset")
"""PagerDuty's headers that clients rely on."""
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
_CODES = {400: 2001, 401: 2006, 402: 2014, 403: 2010, 404: 2100, 429: 2020}
"""PagerDuty's error codes (its developer documentation, "Errors")."""


class RestDoor:
    """The ASGI app. ``path`` in the scope still carries the prefix."""

    def __init__(self) -> None:
        self._base = f"{settings.PUBLIC_URL}{PREFIX}".encode()
        self._self = b'"self":"' + self._base + b"/"
        self._requests = Requests()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        head = self._requests.head(scope)
        pipeline, at = runtime.current().pipeline, time.time()
        known = pipeline.identify(head.credential, head.ip, at)
        if isinstance(known, Rejected):
            # As little as can be is done for strangers: their body is read, for else they would read no answer, and not kept.
            await self._requests.body(receive, head, keep=False)
            await self._refuse(await pipeline.refuse(head.ip, known), scope["method"], send)
            return
        body = await self._requests.body(receive, head)
        if body.content is None:
            # The caller went away before its request was whole, or framed it so that it has no end: there is no call to judge.
            await _broken_off(send)
            return
        problem, status = (head.problem, head.status) if head.problem else (body.problem, body.status)
        raw: bytes = scope.get("raw_path") or scope["path"].encode()
        idempotency_key = head.text(b"idempotency-key")
        if b"idempotency-key" in head.headers and not problem:
            if b"idempotency-key" in head.repeated:
                problem = "The Idempotency-Key is given more than once."
            elif not IDEMPOTENCY_FORM.fullmatch(idempotency_key):
                problem = "The Idempotency-Key must have 1 to 255 printable ASCII characters."
        if head.headers.get(b"content-encoding", b"") not in (b"", b"identity"):
            problem, status = problem or "The request's body must not be compressed.", status or 415
        call = Call(
            door=Door.REST,
            credential=KeyCredential(head.credential),
            method=scope["method"],
            path=raw.decode("latin-1").removeprefix(PREFIX),
            query=scope["query_string"].decode("latin-1"),
            body=body.content,
            content_type=head.text(b"content-type"),
            client=Client(
                ip=head.ip,
                name=head.text(b"user-agent"),
                request_id=head.text(b"x-request-id"),
            ),
            at=at if head.plain else time.time(),
            idempotency_key="" if problem else idempotency_key,
            problem=problem,
            problem_status=status,
        )
        reads = call.method in ("GET", "HEAD")
        answer = await (pipeline.run(call, known) if reads else answered(pipeline, call, receive, known))
        if answer is not None:
            await self._reply(call, answer, send)

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
