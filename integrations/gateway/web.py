"""The web door for tools: whoever is signed in uses one as themselves, by the one pipeline like any assistant.

Pages are synchronous, and the pipeline is on the process's event loop: a page waits here for what comes of a use.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from django.conf import settings

from integrations.gateway import runtime
from integrations.gateway.pipeline import Answer, Known, NotFresh
from integrations.gateway.use import Use
from policies.core.call import Call, Client, Door, PersonCredential, Tool
from policies.models import Team, User

GRACE: Final = 5.0
"""Seconds over the time limit of a call that a page waits."""


@dataclass(frozen=True, slots=True)
class Done:
    """What came of one use."""

    content: Any
    """JSON-able; ``{"error": {"kind", "problem", "remedy", ...}}`` where it failed."""
    is_error: bool
    decisions: tuple[str, ...] = ()
    about: str = ""
    """The argument that is wrong, where it is one."""
    seconds: float = 0.0


def call_of(by: User, team: Team, connection_id: str, client: Client = Client()) -> Call:  # noqa: B008  (frozen)
    """What all calls that somebody makes from a page have in common."""
    credential = PersonCredential(by.pk, str(by), team.pk, team.name, connection_id)
    return Call(Door.WEB, credential, "", "", content_type="application/json", client=client, at=time.time())


def use_tool(
    tool: Tool,
    arguments: Mapping[str, Any],
    *,
    by: User,
    team: Team,
    connection_id: str,
    client: Client,
    idempotency_key: str = "",
) -> Done:
    """``by`` uses a tool of ``team`` through one of its connections. Must be called outside ``atomic()``. Whatever happens is
    told, nothing raised."""
    began = time.monotonic()
    call = call_of(by, team, connection_id, client)
    # What is told of a use that is not over in time: how far it came is in here.
    uses: list[Use] = []

    async def work(started: runtime.Runtime) -> Done:
        with contextlib.suppress(NotFresh):
            # A tool that was switched on, or a connection that was registered, a moment ago may not be in memory yet.
            await started.watch.refresh()
        known = await started.pipeline.known(call)
        if not isinstance(known, Known):
            return Done({"error": _UNCONFIRMED}, True)

        async def make(made: Call, writes: bool) -> Answer | None:
            return await started.pipeline.run(made)

        use = Use(tool.name, call, known, make, lambda: (), idempotency_key)
        uses.append(use)
        content, is_error = await use.serve(arguments)
        return Done(content, is_error, tuple(use.decisions), use.about, time.monotonic() - began)

    seconds = settings.CALL_TIME_LIMIT + GRACE
    try:
        return runtime.wait_for(work, seconds)
    except TimeoutError:
        decisions = tuple(uses[0].decisions) if uses else ()
        return Done({"error": _late(tool, seconds)}, True, decisions, seconds=time.monotonic() - began)


_UNCONFIRMED: Final = {
    "kind": "failed",
    "problem": "The configuration cannot be read now, so nothing can be allowed.",
    "remedy": "Try again shortly; tell an administrator if it stays.",
}


def _late(tool: Tool, seconds: float) -> dict[str, str]:
    problem = f"There was no answer within {seconds:.0f} seconds, so this page stopped waiting."
    if tool.writes:
        remedy = "It may have been done, and is on record when it is over: look at PagerDuty before you try again."
        return {"kind": "unknown", "problem": problem, "remedy": remedy}
    return {"kind": "failed", "problem": problem, "remedy": "Nothing was changed. Try again shortly, or ask for less."}
