"""Why a call is allowed or not: the very functions that the pipeline decides by, told step by step. Nothing is sent, and nothing
is recorded."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from integrations.gateway.identity import Identified, load_identities
from integrations.gateway.integration import LookFailed, Refusal
from integrations.gateway.pipeline import State, stopped_by, verdict_on
from integrations.gateway.use import operation_of
from integrations.pagerduty import tools
from integrations.pagerduty.bounds import Held
from integrations.pagerduty.catalog import BOUNDS_OF, JOB_READS
from integrations.pagerduty.listing import BOUNDS_TOLD
from integrations.pagerduty.resolve import resolve
from integrations.pagerduty.tools.definitions import is_reachable
from policies.core.call import Call, Decision, Principal, Tool, Verdict
from policies.core.decide import Policy, Said, Step, decide, deciding, steps
from policies.snapshot import current_version, load_policy

BARRED: Final = {
    "revoked": ("key_revoked", "The key was revoked: whatever comes with it is refused."),
    "expired": ("key_expired", "The key has expired: whatever comes with it is refused."),
}
"""Why a key is no good (``KnownKey.barred``) → a rule, and a sentence."""


@dataclass(frozen=True, slots=True)
class Foreseen:
    """One call that a use of a tool begins with."""

    asked: str
    """Method and path, as it would be sent."""
    tools: tuple[str, ...]
    """All that it needs."""
    verdict: Verdict
    open: str = ""
    """What is only told when it is made."""


@dataclass(frozen=True, slots=True)
class Explained:
    """A tool, and what every step says of its use by somebody."""

    principal: Principal
    tool: Tool
    steps: tuple[Step, ...]
    verdict: Verdict
    """Of all steps together; where calls are foreseen, that of the first one that is denied."""
    goes_on: bool
    """Whether a use gets as far as its calls: neither key nor policy keeps the tool from it."""
    calls: tuple[Foreseen, ...] = ()
    wrong: str = ""
    """What is wrong with the arguments: they are judged once the tool is allowed."""

    @property
    def decider(self) -> Step:
        return deciding(self.steps)[0]

    @property
    def standing(self) -> tuple[Step, ...]:
        """The steps that stand in the way: each of them must change."""
        return tuple(step for step in self.steps if step.objects)


def as_it_is(team_id: int) -> State:
    """The configuration that decides for one team, read now."""
    return State(load_policy(current_version(), team_id), load_identities(JOB_READS, team_id))


def explain(policy: Policy, identified: Identified, tool: Tool, barred: str = "") -> Explained:
    """What is said of any use of a tool, whatever its arguments. ``barred``: why the caller's key is no good."""
    found: list[Step] = []
    if barred:
        rule, told = BARRED[barred]
        remedy = f"Ask a manager of {identified.principal.team} for another key."
        found.append(Step("The key", told, Said(Decision.DENY, rule, told, remedy)))
    found += steps(policy, identified.principal, tool)
    found += _of_connection(policy, identified, tool)
    _, said = deciding(found)
    verdict = Verdict(
        said.decision,
        said.rule,
        said.reason,
        said.remedy,
        policy.version,
        "",
        tool.name,
        policy.risk(tool),
    )
    goes_on = not barred and decide(policy, identified.principal, tool, "").allowed
    return Explained(identified.principal, tool, tuple(found), verdict, goes_on)


def _of_connection(policy: Policy, identified: Identified, tool: Tool) -> list[Step]:
    """What the pipeline looks at once the policy has allowed a call."""
    connection = identified.connection
    allowed = Verdict(Decision.ALLOW, "", "", "", policy.version, "", tool.name)
    stopped = stopped_by(identified, allowed)
    verdict = stopped.verdict if stopped is not None else None
    told = f"{connection.name} can be used." if connection is not None else ""
    first = Step(
        "The connection to PagerDuty",
        verdict.reason if verdict else told,
        Said(verdict.decision, verdict.rule, verdict.reason, verdict.remedy) if verdict else None,
    )
    if connection is None:
        return [first, Step("The connection's bounds", "There is no connection, and so there are no bounds.")]
    if connection.bounds.whole_account:
        return [first, Step("The connection's bounds", f"{connection.name} spans the whole PagerDuty account.")]
    if not tool.operations:
        told = f"{connection.name} is bounded to a part of the account, and the portal's mirror of it holds no more."
        return [first, Step("The connection's bounds", told)]
    if not is_reachable(tool, connection.bounds):
        reason = f"{tool.name} reaches the whole PagerDuty account, and {connection.name} is bounded to a part of it."
        remedy = "An administrator can allow it account-wide on the connection's page."
        return [first, Step("The connection's bounds", reason, Said(Decision.DENY, "bounds", reason, remedy))]
    told = (
        f"{connection.name} is bounded to a part of the account: each call is held inside, or refused, when it is made."
    )
    return [first, Step("The connection's bounds", told)]


async def foresee(
    policy: Policy, identified: Identified, explained: Explained, arguments: Mapping[str, Any], call: Call
) -> Explained:
    """Also what is said of the calls that a use with these arguments begins with, as far as that can be told before
    PagerDuty has answered any. A tool that the portal answers from its own mirror makes none. ``call``: what the calls of a use
    have in common."""
    tool = explained.tool
    if not explained.goes_on:
        return explained
    calls: list[Foreseen] = []

    async def unsent(ask: tools.Ask) -> tools.Told:
        if ask.own is None:
            calls.append(await _foreseen(policy, identified, dataclasses.replace(call, **operation_of(ask))))
        return tools.Told(None, "failed", {"problem": "It was not sent."})

    wrong = ""
    try:
        await tools.serve(tool, tools.valid(tool, arguments), unsent)
    except tools.Wrong as error:
        wrong = f"{error} {error.remedy}".strip()
    except tools.Failed:
        pass
    denied = next((one.verdict for one in calls if not one.verdict.allowed), None)
    return dataclasses.replace(
        explained, calls=tuple(calls), wrong=wrong, verdict=denied if denied is not None else explained.verdict
    )


async def _foreseen(policy: Policy, identified: Identified, call: Call) -> Foreseen:
    resolution = resolve(call)
    names = tuple(tool.name for tool in resolution.tools)
    asked = f"{call.method} {resolution.request.path if resolution.request else resolution.shape}"
    verdict = verdict_on(policy, identified, resolution, "")
    stopped = stopped_by(identified, verdict)
    if stopped is not None and stopped.verdict is not None:
        return Foreseen(asked, names, stopped.verdict)
    connection = identified.connection
    if resolution.problem or connection is None or connection.bounds.whole_account:
        return Foreseen(asked, names, verdict, resolution.problem)
    try:
        held = await Held().bound(resolution, connection, _unlooked)
    except LookFailed as error:
        return Foreseen(asked, names, verdict, str(error))
    if isinstance(held, Refusal):
        denied = dataclasses.replace(
            verdict, decision=Decision.DENY, rule="bounds", reason=held.reason, remedy=held.remedy
        )
        return Foreseen(asked, names, denied)
    assert resolution.operation is not None  # noqa: S101  (else it was stopped above)
    word = BOUNDS_OF[resolution.operation.id]
    # Filters are in the request already; of the rest it is PagerDuty's answer that says whose it is.
    later = (
        "" if word in ("team_ids", "service_ids", "unbounded") else f"On a bounded connection {BOUNDS_TOLD[word][1]}."
    )
    return Foreseen(asked, names, verdict, later)


async def _unlooked(path: str, query: str) -> Any:
    raise LookFailed("Whether what it names is inside the connection's bounds is looked up when it is made.")
