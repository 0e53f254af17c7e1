"""PagerDuty, as the pipeline sees it."""

from __future__ import annotations

import dataclasses

from integrations.gateway.integration import Connection, Reply, Resolution
from integrations.pagerduty import catalog, masking, resolve
from integrations.pagerduty.transport import Transport
from policies.core.call import Call

UNBOUNDED_READS = frozenset({"listAbilities", "getCurrentUser"})
"""Operations that show nothing of any team: a connection test needs them."""


class PagerDuty:
    """One for each event loop: make it there."""

    job_tools = catalog.JOB_READS

    def __init__(self) -> None:
        self._transport = Transport()

    def resolve(self, call: Call) -> Resolution:
        return resolve.resolve(call)

    def bound(self, resolution: Resolution, connection: Connection) -> str:
        if connection.bounds.whole_account:
            return ""
        if resolution.operation is not None and resolution.operation.id in UNBOUNDED_READS:
            return ""
        return (
            f"The connection {connection.name} is bound to a part of the PagerDuty account, and calls cannot be held inside "
            "such bounds yet: only connections that an administrator opened for the whole account can be used."
        )

    async def send(self, resolution: Resolution, connection: Connection, deadline: float, sealed: bytes) -> Reply:
        assert resolution.request is not None  # noqa: S101  (the pipeline sees to both)
        assert resolution.operation is not None  # noqa: S101
        reply = await self._transport.send(connection, resolution.request, deadline, sealed)
        if reply.failure or reply.status >= 400 or not masking.masks(resolution.operation.id):
            return reply
        try:
            return dataclasses.replace(reply, body=masking.mask(reply.body))
        except ValueError:
            # What cannot be read cannot be masked, and is not shown.
            return Reply(
                reply.status, failure="malformed", detail="not JSON", attempts=reply.attempts, seconds=reply.seconds
            )

    async def close(self) -> None:
        await self._transport.close()
