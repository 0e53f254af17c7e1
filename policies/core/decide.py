"""Who may do what. Pure: a policy, a principal and a tool in, a verdict out.

Monotone: taking a permission away (a tool off, a lock, a narrower key, a lower role) never allows more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from policies.core.call import Decision, Kind, Principal, Risk, Role, State, Tool, Verdict

EVERYTHING = "everything"


@dataclass(frozen=True, slots=True)
class Policy:
    """Every team's policy at one version."""

    version: int = 0
    teams: Mapping[int, Mapping[str, State]] = field(default_factory=dict)
    """Team number → tool name → what the team says of it. A tool that is not there is at its default."""
    locked: Mapping[str, str] = field(default_factory=dict)
    """Tool name → why an administrator switched it off for all teams."""
    risks: Mapping[str, Risk] = field(default_factory=dict)
    """Tool name → the higher risk that an administrator gave it."""
    stops: Mapping[str, str] = field(default_factory=dict)
    """The kill switch: ``everything``, ``team:<number>`` or a principal's id → why nothing of it goes out."""
    reads_go_on: int = 0
    """Minutes for which reads are decided by this policy when the database is away; 0: they are not."""

    reveals: Mapping[int, frozenset[str]] = field(default_factory=dict)
    """Team number → the kinds of what is masked that its callers are shown. The words are the integration's."""

    def stopped(self, principal: Principal) -> tuple[str, str] | None:
        """What is stopped that the principal belongs to, in words, and why; None: nothing is."""
        for subject, name in (
            (EVERYTHING, "Everything"),
            (f"team:{principal.team_id}", f"All of {principal.team}"),
            (principal.id, principal.name),
        ):
            if subject in self.stops:
                return name, self.stops[subject]
        return None

    def state(self, team_id: int | None, tool: Tool) -> State:
        """What a team says of a tool, locks aside."""
        if team_id is None:
            return State.OFF
        return self.teams.get(team_id, {}).get(tool.name, tool.default)

    def risk(self, tool: Tool) -> Risk:
        """The catalogue's risk, or the higher one that an administrator gave."""
        return max(tool.risk, self.risks.get(tool.name, tool.risk), key=lambda risk: risk.rank)


class Said(NamedTuple):  # made for every call: a frozen dataclass takes three times as long
    """What a rule decides, why, and what to do about it."""

    decision: Decision
    rule: str
    reason: str
    remedy: str = ""


Rule = Callable[[Policy, Principal, Tool], Said | None]
"""None: it has nothing against it, and the next one is asked."""


def _stop(policy: Policy, principal: Principal, tool: Tool) -> Said | None:
    if not policy.stops or (stop := policy.stopped(principal)) is None:
        return None
    return Said(
        Decision.DENY,
        "stopped",
        f"{stop[0]} has been stopped: {stop[1]}.",
        "Ask an administrator whether the stop can be lifted."
        if EVERYTHING in policy.stops
        else f"Ask a manager of {principal.team}, or an administrator if they did it, whether the stop can be lifted.",
    )


def _lock(policy: Policy, principal: Principal, tool: Tool) -> Said | None:
    if tool.name not in policy.locked:
        return None
    why = policy.locked[tool.name]
    return Said(
        Decision.DENY,
        "locked",
        f"An administrator has switched {tool.name} off for all teams{f': {why}' if why else ''}.",
        "Ask an administrator whether the lock can be lifted.",
    )


def _job(policy: Policy, principal: Principal, tool: Tool) -> Said | None:
    if principal.kind is not Kind.JOB:
        return None
    if tool.writes or principal.narrowed_to is None or tool.name not in principal.narrowed_to:
        return Said(
            Decision.DENY,
            "job_list",
            f"{tool.name} is not among the reads that the portal's own jobs may make.",
            "This is fixed in the program: nothing can be set.",
        )
    return Said(Decision.ALLOW, "job_list", f"The portal's own jobs may use {tool.name}.")


def _key(policy: Policy, principal: Principal, tool: Tool) -> Said | None:
    if principal.narrowed_to is None or tool.name in principal.narrowed_to:
        return None
    off = policy.state(principal.team_id, tool) is not State.ON
    return Said(
        Decision.DENY,
        "narrowed_key",
        f"This agent key is narrowed to other tools than {tool.name}.",
        f"Use a key that includes {tool.name}, or ask a manager of {principal.team} to issue one"
        + (f" and to switch {tool.name} on, which it is not either." if off else "."),
    )


def _role(policy: Policy, principal: Principal, tool: Tool) -> Said | None:
    if principal.kind is not Kind.PERSON:
        return None
    if principal.role not in (Role.MANAGER, Role.MEMBER):
        return Said(
            Decision.DENY,
            "role",
            f"{principal.name} has no role in {principal.team} that lets them use its tools.",
            f"Ask a manager of {principal.team} to add them.",
        )
    if tool.writes and principal.role is not Role.MANAGER:
        return Said(
            Decision.DENY,
            "role",
            f"Members of {principal.team} read only, and {tool.name} writes.",
            f"Ask a manager of {principal.team} to do it.",
        )
    return None


def _setting(policy: Policy, principal: Principal, tool: Tool) -> Said:
    state = policy.state(principal.team_id, tool)
    if state is State.OFF:
        return Said(
            Decision.DENY,
            "tool_off",
            f"{tool.name} is switched off for {principal.team}.",
            f"Ask a manager of {principal.team} to switch {tool.name} on.",
        )
    if state is State.NEEDS_APPROVAL:
        return Said(
            Decision.NEEDS_APPROVAL,
            "needs_approval",
            f"{tool.name} needs a person's approval for {principal.team}, and approvals cannot be asked for yet.",
            f"Ask a manager of {principal.team} to do it, or to switch {tool.name} on.",
        )
    return Said(Decision.ALLOW, "tool_on", f"{tool.name} is switched on for {principal.team}.")


_RULES: Final[tuple[Rule, ...]] = (_stop, _lock, _job, _key, _role, _setting)
"""In the order in which they are asked. The last one always decides."""
_TOLD: Final[Mapping[Rule, tuple[Kind | None, str, str]]] = {
    _stop: (None, "The kill switch", "Nothing that it belongs to is stopped."),
    _lock: (None, "Locks of administrators", "The tool is not locked."),
    _job: (Kind.JOB, "The portal's own jobs", ""),
    _key: (Kind.AGENT, "What the key is narrowed to", "The key is not narrowed, or to tools that include this one."),
    _role: (Kind.PERSON, "The person's role", "Their role lets them use it."),
    _setting: (None, "What the team says of the tool", ""),
}
"""Of each rule whom it is about (None: everybody), what it looks at, and what is told where it has nothing against it."""


def decide(policy: Policy, principal: Principal, tool: Tool, decision_id: str) -> Verdict:
    """May ``principal`` use ``tool``? The first rule that says anything decides."""
    said: Said | None = None
    for rule in _RULES:
        if (said := rule(policy, principal, tool)) is not None:
            break
    assert said is not None  # noqa: S101  (the last rule always says something)
    return Verdict(
        said.decision,
        said.rule,
        said.reason,
        said.remedy,
        policy.version,
        decision_id,
        tool.name,
        policy.risk(tool),
    )


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a decision, in words: what is looked at, and what was found."""

    looks_at: str
    told: str
    said: Said | None = None
    """None: it has nothing against it."""

    @property
    def objects(self) -> bool:
        return self.said is not None and self.said.decision is not Decision.ALLOW


def steps(policy: Policy, principal: Principal, tool: Tool) -> list[Step]:
    """What each rule says, in the order of asking: those after the one that decided, too, for whoever wants to change the
    verdict must know what else stands in its way."""
    found: list[Step] = []
    for rule in _RULES:
        kind, looks_at, passes = _TOLD[rule]
        said = rule(policy, principal, tool)
        if kind in (None, principal.kind) or said is not None:
            found.append(Step(looks_at, said.reason if said else passes, said))
        if said is not None and said.decision is Decision.ALLOW:
            break
    return found


def deciding(found: Sequence[Step]) -> tuple[Step, Said]:
    """The step that decides, with what it says: the first that objects, or where none does the one that allows."""
    said = [(step, step.said) for step in found if step.said is not None]
    return next(((step, word) for step, word in said if step.objects), said[-1])


def reveals(policy: Policy, principal: Principal, asked: frozenset[str]) -> frozenset[str]:
    """Which kinds of what is masked ``principal`` is shown.

    An agent: what the policy of its team reveals. A person: of what they ask for, a manager all, a member what the policy
    reveals. A job: nothing, for what it reads stays.
    """
    granted = policy.reveals.get(principal.team_id, _NOTHING) if principal.team_id is not None else _NOTHING
    if principal.kind is Kind.AGENT:
        return granted
    if principal.kind is Kind.PERSON:
        return (
            asked if principal.role is Role.MANAGER else asked & granted if principal.role is Role.MEMBER else _NOTHING
        )
    return _NOTHING


_NOTHING: frozenset[str] = frozenset()
_SEVERITY = {Decision.ALLOW: 0, Decision.NEEDS_APPROVAL: 1, Decision.DENY: 2}


def decide_all(policy: Policy, principal: Principal, tools: Sequence[Tool], decision_id: str) -> Verdict:
    """The verdict on a call that needs every one of ``tools``: the worst of theirs, the first among equals.

    Raises:
        ValueError: no tool at all; such a call is refused before it gets here.
    """
    if not tools:
        raise ValueError("a call without a tool cannot be decided")
    verdicts = [decide(policy, principal, tool, decision_id) for tool in tools]
    return max(verdicts, key=lambda verdict: _SEVERITY[verdict.decision])
