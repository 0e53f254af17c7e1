"""PagerDuty, as the pipeline sees it."""

from __future__ import annotations

import dataclasses
from typing import Final

import msgspec

from integrations.gateway.integration import Connection, Look, Own, Refusal, Reply, Request, Resolution
from integrations.pagerduty import catalog, masking, resolve
from integrations.pagerduty.answers import Mirrors
from integrations.pagerduty.bounds import Held
from integrations.pagerduty.transport import Transport
from policies.core.call import Call

JSON_TYPES: Final = frozenset({"application/json", "application/vnd.pagerduty+json"})


class PagerDuty:
    """One for each event loop: make it there."""

    job_tools = catalog.JOB_READS

    def __init__(self) -> None:
        self._transport = Transport()
        self._held = Held()
        self._mirrors = Mirrors()

    def resolve(self, call: Call) -> Resolution:
        return resolve.resolve(call)

    async def bound(self, resolution: Resolution, connection: Connection, look: Look) -> Resolution | Refusal:
        return await self._held.bound(resolution, connection, look)

    async def released(
        self, resolution: Resolution, connection: Connection, reply: Reply, look: Look
    ) -> Refusal | None:
        return await self._held.released(resolution, connection, reply, look)

    async def send(
        self,
        resolution: Resolution,
        connection: Connection,
        deadline: float,
        sealed: bytes,
        reveal: frozenset[str] = frozenset(),
    ) -> Reply:
        assert resolution.request is not None  # noqa: S101  (the pipeline sees to both)
        assert resolution.operation is not None  # noqa: S101
        request = resolution.request
        reply = await self._transport.send(connection, request, deadline, sealed)
        self._held.sent(resolution.operation, connection)
        if reply.failure:
            return reply
        if not _is_pagerdutys(reply, request):
            return _not_theirs(reply)
        try:
            return _masked(reply, resolution.operation.id, request, reveal)
        except ValueError:
            # What cannot be read cannot be masked, and is not shown.
            return _not_theirs(reply)

    async def answer(self, resolution: Resolution, connection: Connection) -> Own:
        [tool] = resolution.tools
        return await self._mirrors.answer(tool, resolution.arguments["arguments"], connection)

    async def close(self) -> None:
        self._mirrors.close()
        await self._transport.close()


def _masked(reply: Reply, operation_id: str, request: Request, reveal: frozenset[str]) -> Reply:
    """Raises ``ValueError`` where it cannot be read."""
    if reply.status == 401:
        return reply  # It is about the connection's token, not about the call: the pipeline answers in its place.
    if reply.status >= 400:
        return dataclasses.replace(reply, body=masking.mask_error(reply.body))
    if not masking.masks(operation_id, request, reply.body):
        return reply
    body, revealed = masking.mask(reply.body, reveal)
    return dataclasses.replace(reply, body=body, revealed=revealed)


def _is_pagerdutys(reply: Reply, request: Request) -> bool:
    """Whether an answer is one of PagerDuty's API: JSON in success and in failure, and never a redirect. What a proxy puts in
    its place says nothing of what became of a write.

    A write's answer is read whole, for its outcome hangs on it; of a read's, which is large, only the two ends are looked at.
    """
    if reply.status == 401:
        # PagerDuty has answered a wrong token with plain text (its Go client, issue 469); and it says only that nothing was done.
        return True
    if not reply.body:
        # PagerDuty's documentation: a 429 may come without a body.
        return reply.status in (202, 204, 429)
    if not 200 <= reply.status < 300 and reply.status < 400:
        return False
    if reply.header("content-type").split(";")[0].strip().lower() not in JSON_TYPES:
        return False
    if request.reads:
        return reply.body.lstrip()[:1] in (b"{", b"[") and reply.body.rstrip()[-1:] in (b"}", b"]")
    try:
        msgspec.json.decode(reply.body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return False
    return True


def _not_theirs(reply: Reply) -> Reply:
    return dataclasses.replace(reply, body=b"", failure="malformed", detail="not an answer of PagerDuty's API")
