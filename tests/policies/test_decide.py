"""The decision: who may use which tool, in which words, and never more when something is taken away."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.core.call import Decision, Kind, Principal, Risk, Role, State, Tool
from policies.core.decide import Policy, decide, decide_all

NAMES = ("read_a", "read_b", "write_a", "write_b")


def tool(name: str, *, default: State | None = None, risk: Risk = Risk.LOW) -> Tool:
    writes = name.startswith("write")
    return Tool(
        name, name, "incidents", risk, writes, default or (State.OFF if writes else State.ON), (name,), "Does it.", {}
    )


TOOLS = {name: tool(name) for name in NAMES}
AGENT = Principal(Kind.AGENT, "key:1", "assistant", 1, "Payments")


def agent(**changes: Any) -> Principal:
    return dataclasses.replace(AGENT, **changes)


def test_reads_are_on_and_writes_are_off_until_somebody_says_otherwise() -> None:
    policy = Policy()
    assert decide(policy, AGENT, TOOLS["read_a"], "d").decision is Decision.ALLOW
    denied = decide(policy, AGENT, TOOLS["write_a"], "d")
    assert (denied.decision, denied.rule) == (Decision.DENY, "tool_off")
    assert "switched off for Payments" in denied.reason
    assert "Ask a manager of Payments" in denied.remedy
    assert (denied.policy_version, denied.decision_id, denied.tool, denied.risk) == (0, "d", "write_a", Risk.LOW)


def test_a_tool_that_needs_approval_is_not_allowed_and_says_so() -> None:
    policy = Policy(3, {1: {"write_a": State.NEEDS_APPROVAL}})
    verdict = decide(policy, AGENT, TOOLS["write_a"], "d")
    assert verdict.decision is Decision.NEEDS_APPROVAL
    assert not verdict.allowed
    assert "approval" in verdict.reason
    assert verdict.policy_version == 3


def test_another_teams_settings_do_not_count() -> None:
    policy = Policy(1, {2: {"write_a": State.ON}})
    assert not decide(policy, AGENT, TOOLS["write_a"], "d").allowed
    assert decide(policy, agent(team_id=2), TOOLS["write_a"], "d").allowed


def test_a_principal_without_a_team_may_nothing() -> None:
    assert not decide(Policy(), agent(team_id=None), TOOLS["read_a"], "d").allowed


def test_a_lock_stops_everybody_jobs_too_and_gives_its_reason() -> None:
    policy = Policy(1, {1: {"read_a": State.ON}}, {"read_a": "under review"})
    job = Principal(Kind.JOB, "job:sync", "sync", 1, "Payments", narrowed_to=frozenset({"read_a"}))
    for principal in (AGENT, job, agent(kind=Kind.PERSON, role=Role.MANAGER)):
        verdict = decide(policy, principal, TOOLS["read_a"], "d")
        assert (verdict.decision, verdict.rule) == (Decision.DENY, "locked")
        assert verdict.reason.endswith("under review.")


@pytest.mark.parametrize("subject", ["everything", "team:1", "key:1"])
def test_a_stop_comes_before_everything_else_and_gives_its_reason(subject: str) -> None:
    policy = Policy(1, {1: {"read_a": State.ON}}, {"read_a": "under review"}, stops={subject: "it pages people"})
    verdict = decide(policy, AGENT, TOOLS["read_a"], "d")
    assert (verdict.decision, verdict.rule) == (Decision.DENY, "stopped")
    assert verdict.reason.endswith("has been stopped: it pages people.")
    assert verdict.remedy


def test_a_stop_binds_what_it_names_and_nobody_else() -> None:
    def allowed(principal: Principal, **stops: str) -> bool:
        policy = Policy(1, stops={name.replace("_", ":"): why for name, why in stops.items()})
        return decide(policy, principal, TOOLS["read_a"], "d").allowed

    job = Principal(Kind.JOB, "job:sync", "sync", 1, "Payments", narrowed_to=frozenset({"read_a"}))
    person = agent(kind=Kind.PERSON, id="user:1", role=Role.MANAGER)
    assert allowed(AGENT, key_2="x", team_2="x")
    assert not allowed(AGENT, key_1="x")
    assert allowed(person, key_1="x")
    assert allowed(job, key_1="x")
    for principal in (AGENT, job, person):
        assert not allowed(principal, team_1="x")
        assert not allowed(principal, everything="x")


def test_jobs_have_their_list_alone_and_never_write() -> None:
    off = Policy(1, {1: {"read_a": State.OFF}})
    job = Principal(Kind.JOB, "job:sync", "sync", 1, "Payments", narrowed_to=frozenset({"read_a", "write_a"}))
    assert decide(off, job, TOOLS["read_a"], "d").allowed  # a toggle for assistants does not blind the portal
    assert not decide(off, job, TOOLS["read_b"], "d").allowed
    assert not decide(Policy(1, {1: {"write_a": State.ON}}), job, TOOLS["write_a"], "d").allowed
    assert not decide(off, dataclasses.replace(job, narrowed_to=None), TOOLS["read_a"], "d").allowed


def test_members_read_managers_write_and_outsiders_neither() -> None:
    on = Policy(1, {1: {"write_a": State.ON}})

    def person(role: Role) -> Principal:
        return agent(kind=Kind.PERSON, role=role)

    assert decide(on, person(Role.MEMBER), TOOLS["read_a"], "d").allowed
    assert decide(on, person(Role.MEMBER), TOOLS["write_a"], "d").rule == "role"
    assert decide(on, person(Role.MANAGER), TOOLS["write_a"], "d").allowed
    for role in (Role.AUDITOR, Role.NONE):
        assert decide(on, person(role), TOOLS["read_a"], "d").rule == "role"


def test_switching_writes_on_never_widens_a_narrowed_key() -> None:
    on = Policy(1, {1: dict.fromkeys(NAMES, State.ON)})
    narrowed = agent(narrowed_to=frozenset({"read_a"}))
    assert decide(on, narrowed, TOOLS["read_a"], "d").allowed
    verdict = decide(on, narrowed, TOOLS["write_a"], "d")
    assert (verdict.decision, verdict.rule) == (Decision.DENY, "narrowed_key")


def test_a_risk_is_only_ever_raised() -> None:
    policy = Policy(1, risks={"read_a": Risk.HIGH, "write_a": Risk.LOW})
    assert policy.risk(TOOLS["read_a"]) is Risk.HIGH
    assert policy.risk(tool("write_a", risk=Risk.MEDIUM)) is Risk.MEDIUM


def test_a_call_of_several_tools_needs_all_of_them() -> None:
    policy = Policy(1, {1: {"write_a": State.ON, "write_b": State.NEEDS_APPROVAL}})
    assert decide_all(policy, AGENT, [TOOLS["read_a"], TOOLS["write_a"]], "d").allowed
    assert decide_all(policy, AGENT, [TOOLS["write_a"], TOOLS["write_b"]], "d").decision is Decision.NEEDS_APPROVAL
    off = Policy(1, {1: {"read_a": State.OFF, "write_b": State.NEEDS_APPROVAL}})
    assert decide_all(off, AGENT, [TOOLS["write_b"], TOOLS["read_a"]], "d").tool == "read_a"
    with pytest.raises(ValueError):
        decide_all(policy, AGENT, [], "d")


SUBJECTS = ("everything", "team:1", "team:2", "x")
states = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(list(State)), max_size=4)
policies = st.builds(
    Policy,
    st.just(1),
    st.dictionaries(st.integers(1, 2), states, max_size=2),
    st.dictionaries(st.sampled_from(NAMES), st.text(max_size=3), max_size=2),
    st.dictionaries(st.sampled_from(NAMES), st.sampled_from(list(Risk)), max_size=2),
    st.dictionaries(st.sampled_from(SUBJECTS), st.text(max_size=3), max_size=1),
)
narrowings = st.none() | st.frozensets(st.sampled_from(NAMES))
principals = st.builds(
    lambda kind, team, role, narrowed: Principal(kind, "x", "x", team, "Payments", role, narrowed),
    st.sampled_from(list(Kind)),
    st.sampled_from([None, 1, 2]),
    st.sampled_from(list(Role)),
    narrowings,
)
SEVERITY = {Decision.ALLOW: 0, Decision.NEEDS_APPROVAL: 1, Decision.DENY: 2}
STRICTER = {State.ON: (State.NEEDS_APPROVAL, State.OFF), State.NEEDS_APPROVAL: (State.OFF,), State.OFF: ()}
LESS = {Role.MANAGER: (Role.MEMBER, Role.AUDITOR, Role.NONE), Role.MEMBER: (Role.AUDITOR, Role.NONE)}


@given(policies, principals, st.data())
def test_taking_a_permission_away_never_allows_more(policy: Policy, principal: Principal, data: st.DataObject) -> None:
    """Whatever is taken away, of whomever: no tool's verdict becomes milder, alone or among others."""
    way = data.draw(st.sampled_from(["state", "lock", "stop", "narrow", "role"]))
    less_policy, less_principal = policy, principal
    if way == "state":
        name = data.draw(st.sampled_from(NAMES))
        for team in (1, 2):
            now = policy.state(team, TOOLS[name])
            if STRICTER[now]:
                stricter = data.draw(st.sampled_from(STRICTER[now]))
                teams = {**less_policy.teams, team: {**less_policy.teams.get(team, {}), name: stricter}}
                less_policy = dataclasses.replace(less_policy, teams=teams)
    elif way == "lock":
        locked = {**policy.locked, data.draw(st.sampled_from(NAMES)): ""}
        less_policy = dataclasses.replace(policy, locked=locked)
    elif way == "stop":
        stops = {**policy.stops, data.draw(st.sampled_from(SUBJECTS)): ""}
        less_policy = dataclasses.replace(policy, stops=stops)
    elif way == "narrow":
        fewer = data.draw(st.frozensets(st.sampled_from(NAMES)))
        if principal.narrowed_to is not None:
            fewer &= principal.narrowed_to
        # To a job the list is what it may do at all: having none is having less.
        less_principal = dataclasses.replace(principal, narrowed_to=fewer)
        if principal.kind is Kind.JOB and principal.narrowed_to is None:
            less_principal = principal
    elif principal.role in LESS:
        less_principal = dataclasses.replace(principal, role=data.draw(st.sampled_from(LESS[principal.role])))
    for each in TOOLS.values():
        before, after = decide(policy, principal, each, "d"), decide(less_policy, less_principal, each, "d")
        assert SEVERITY[after.decision] >= SEVERITY[before.decision]
    several = data.draw(st.lists(st.sampled_from(list(TOOLS.values())), min_size=1))
    before, after = decide_all(policy, principal, several, "d"), decide_all(less_policy, less_principal, several, "d")
    assert SEVERITY[after.decision] >= SEVERITY[before.decision]


@given(policies, principals)
def test_every_verdict_carries_its_rule_its_words_and_its_ids(policy: Policy, principal: Principal) -> None:
    for each in TOOLS.values():
        verdict = decide(policy, principal, each, "decision-1")
        assert verdict.rule
        assert verdict.reason.endswith(".") or verdict.rule == "locked"
        assert verdict.allowed or verdict.remedy
        assert (verdict.policy_version, verdict.decision_id) == (1, "decision-1")
        assert verdict.risk is not None
        assert verdict.risk.rank >= each.risk.rank
