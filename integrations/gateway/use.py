"""One use of a tool, at whichever door it was asked for: judged, told its operations one by one, and answered."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode

import msgspec
from django.conf import settings

from integrations.gateway.http import IDEMPOTENCY_FORM
from integrations.gateway.pipeline import ARGUMENT, IDEMPOTENCY_KEY, Answer, Known
from integrations.pagerduty import tools
from integrations.pagerduty.tools.errors import refused
from policies.core.call import Call, Decision, Outcome, Tool
from policies.core.decide import decide

log = logging.getLogger(__name__)

FIXED: Final = frozenset({"not_in_catalogue", "refused_operation", "job_list"})
"""Rules that nobody's choice changes."""
Make = Callable[[Call, bool], Awaitable[Answer | None]]
"""How a door makes one of the calls; with whether it is of a tool that writes. None: the caller has gone meanwhile."""


class CallerGone(Exception):
    """Nobody waits for the answer any more."""


class Use:
    """One use of a tool: the calls that it takes, and what came of them."""

    def __init__(
        self, name: str, call: Call, known: Known, make: Make, listed: Callable[[], Sequence[str]], key: Any = ""
    ) -> None:
        """``call``: what all calls of this use have in common, whoever makes them among it. ``listed``: the names that may
        have been meant where a name is no tool's. ``key``: the caller's own name for a write."""
        self._call = dataclasses.replace(call, use=secrets.token_hex(8))
        self._name = name
        self._known = known
        self._make = make
        self._listed = listed
        self._key = key
        self._until = time.monotonic() + settings.CALL_TIME_LIMIT
        self._notes: list[str] = []
        self.may_be_done = False
        """A write of it was sent."""
        self.decisions: list[str] = []
        """The decision ids of its calls, in order of asking."""
        self.about = ""
        """The tool's own argument that is wrong, where it is one."""

    async def serve(self, arguments: Mapping[str, Any]) -> tuple[Any, bool]:
        """What the tool answers, JSON-able, and whether that is an error: ``{"error": {"kind", "problem", "remedy", ...}}``.

        Raises:
            CallerGone
        """
        tool: Tool | None = None
        try:
            tool, arguments = tools.told_apart(self._name, arguments)
            if tool is None:
                return await self._ended(self._name[:100], arguments, "There is no such tool.")
            self._name = tool.name
            verdict = decide(self._known.state.policy, self._known.identified.principal, tool, "")
            if not verdict.allowed:
                return await self._ended(tool.name, arguments, "The policy has moved meanwhile: try again.")
            if self._key and not (isinstance(self._key, str) and IDEMPOTENCY_FORM.fullmatch(self._key)):
                raise tools.Wrong(f"_meta's {IDEMPOTENCY_KEY} must be a text of 1 to 255 printable ASCII characters.")
            content = await tools.serve(tool, tools.valid(tool, arguments), functools.partial(self._ask, tool))
        except tools.Wrong as wrong:
            name = tool.name if tool else self._name
            return await self._ended(name, arguments, str(wrong), wrong)
        except tools.Failed as failed:
            return {"error": {"kind": failed.told.kind, **failed.told.error}}, True
        except CallerGone:
            raise
        except Exception:
            # A door would tell of it in a library's words, as if nothing had come of it.
            log.exception("A use of %s broke", self._name)
            return {"error": self._broken()}, True
        if self._notes and isinstance(content, dict):
            content = {**content, "notes": self._notes}
        return content, False

    def _broken(self) -> dict[str, str]:
        """What is told of a use that an error of the portal's own ended: of a write that was sent, never that it was not."""
        said = {"problem": "The portal could not make an answer of what came of this call."}
        if self.decisions:
            said["decision_id"] = self.decisions[-1]
        if self.may_be_done:
            remedy = "Look at PagerDuty before you try again: the write was sent, and may have been done."
            return {"kind": "unknown", **said, "remedy": remedy}
        remedy = "Nothing was changed. Tell an administrator: the portal's log says more."
        return {"kind": "failed", **said, "remedy": remedy}

    async def _ended(
        self, name: str, arguments: Mapping[str, Any], problem: str, wrong: tools.Wrong | None = None
    ) -> tuple[Any, bool]:
        """A use that goes no further than its verdict, on record: denied, or allowed and not to be understood."""
        self.about = wrong.about if wrong is not None else ""
        fault = f"{ARGUMENT}{self.about}" if self.about else "arguments"
        answer = await self._make(
            self._made("", "", tool=name, arguments=arguments, problem=problem, fault=fault), False
        )
        if answer is None:
            raise CallerGone
        told = self._told(answer)
        error = {"kind": told.kind, **told.error}
        if wrong is not None and told.kind == "invalid":
            error["remedy"] = wrong.remedy or error["remedy"]
            if wrong.candidates:
                error["candidates"] = list(wrong.candidates)
        if name not in tools.TOOLS and (near := difflib.get_close_matches(name, self._listed(), 3)):
            error["did_you_mean"] = near
        return {"error": error}, True

    async def _ask(self, tool: Tool, ask: tools.Ask) -> tools.Told:
        """One operation, as whoever uses the tool."""
        if time.monotonic() >= self._until:
            remedy = "Try again shortly, or ask for less at once."
            problem = "The time for this call is up: this part of it was not begun."
            return tools.Told(None, "failed", {"problem": problem, "remedy": remedy})
        writes = tool.writes and ask.method != "GET"
        # No tool makes two writes: a second one under the same key would be refused.
        answer = await self._make(
            self._made(**operation_of(ask), idempotency_key=self._key if writes else ""), tool.writes
        )
        if answer is None:
            raise CallerGone
        self.may_be_done = self.may_be_done or (writes and answer.reply is not None)
        if answer.fault.startswith(ARGUMENT):
            self.about = answer.fault.removeprefix(ARGUMENT)
        return self._told(answer)

    def _made(self, method: str, path: str, *, tool: str = "", **more: Any) -> Call:
        return dataclasses.replace(
            self._call, method=method, path=path, at=time.time(), tool=tool or self._name, **more
        )

    def _told(self, answer: Answer) -> tools.Told:
        """An answer of the pipeline's, to a tool."""
        reply, verdict = answer.reply, answer.verdict
        if verdict is not None:
            self.decisions.append(verdict.decision_id)
        if answer.replay_of and not answer.problem:
            self._notes.append(f"This write was done before (decision {answer.replay_of}) and was not sent again.")
        if answer.own is not None and not answer.problem:
            return tools.Told(answer.own.document)
        if not answer.problem and reply is not None:
            if reply.status >= 400:
                asked = {"tool": verdict.tool, "decision_id": verdict.decision_id} if verdict else {}
                return tools.Told(None, "refused", {**refused(reply.status, reply.body), **asked})
            return tools.Told(msgspec.json.decode(reply.body) if reply.body else None)
        error: dict[str, Any] = {"problem": answer.problem, "remedy": answer.remedy}
        if answer.candidates:
            error["candidates"] = list(answer.candidates)
        if verdict is not None:
            error |= {"tool": verdict.tool, "decision_id": verdict.decision_id}
            if not answer.allowed:
                error["rule"] = verdict.rule
                error |= {} if verdict.risk is None else {"risk": verdict.risk.value}
        if answer.retry_after is not None:
            error["retry_after_seconds"] = int(answer.retry_after) + 1
        if not answer.allowed and verdict is not None and verdict.rule not in FIXED:
            # For the person behind the assistant: why, and the way to change it or to ask whoever may.
            error["where"] = f"{settings.PUBLIC_URL}/explain/?decision={verdict.decision_id}"
        return tools.Told(None, _kind(answer), error)


def operation_of(ask: tools.Ask) -> dict[str, Any]:
    """What a call says of the operation that a tool asks for; or of what it asks the portal itself."""
    if ask.own is not None:
        return {"method": "", "path": "", "arguments": ask.own}
    body = b"" if ask.body is None else msgspec.json.encode(ask.body)
    return {"method": ask.method, "path": ask.path, "query": urlencode(ask.query), "body": body}


def _kind(answer: Answer) -> str:
    verdict = answer.verdict
    if verdict is not None and verdict.decision is Decision.NEEDS_APPROVAL:
        return "needs_approval"
    if answer.outcome is Outcome.DENIED:
        return "denied"
    if answer.outcome is Outcome.INVALID:
        return "invalid"
    return "unknown" if answer.outcome is Outcome.UNKNOWN else "failed"
