"""What is explained of a decision is what the pipeline decides: for keys, tools, policies, stops and connections at random."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from integrations.gateway.explain import explain, foresee
from integrations.gateway.identity import Identified, Identities, KnownKey, KnownPerson
from integrations.gateway.integration import Bounds, Connection, Reply
from integrations.gateway.pipeline import Answer, Known, Pipeline
from integrations.gateway.pipeline import State as Configured
from integrations.gateway.use import Use
from integrations.pagerduty.bounds import Held
from integrations.pagerduty.catalog import TOOLS
from integrations.pagerduty.integration import PagerDuty
from policies import keys
from policies.core.call import (
    Call,
    Client,
    Decision,
    Door,
    Entry,
    KeyCredential,
    Kind,
    PersonCredential,
    Principal,
    Risk,
    Role,
    State,
)
from policies.core.decide import Policy, decide, deciding, steps
from policies.core.redact import Redactor

PREFIX, SECRET = keys.new_key()
DIGEST = keys.digest_of(PREFIX, SECRET)
NOW = 1_800_000_000.0
ARGUMENTS: dict[str, dict[str, Any]] = {
    "list_incidents": {},
    "get_incident": {"incident_id": "PT4KHLK"},
    "list_services": {},
    "list_priorities": {},
    "list_oncalls": {},
    "get_user_data": {},
    "add_note_to_incident": {"incident_id": "PT4KHLK", "note": "Looked."},
    "update_incident": {"incident_id": "PT4KHLK", "status": "acknowledged"},
    "resolve_incident": {"incident_id": "PT4KHLK"},
    "create_incident": {"service_id": "Checkout", "title": "Disk is full"},
    "delete_escalation_policy": {"escalation_policy_id": "PPOL001"},
}
"""Tools of every kind: reads, writes, what bounds cannot hold, and one that first looks up a name, which takes another tool."""


class Unsent(PagerDuty):
    """PagerDuty, which answers everything and is asked nothing."""

    def __init__(self) -> None:
        self._held = Held()

    async def send(self, *given: Any) -> Reply:
        return Reply(200, (("content-type", "application/json"),), b"{}")


class Still:
    """A configuration that does not move, and a journal that takes everything."""

    def __init__(self, state: Configured) -> None:
        self.state = state

    def fresh(self) -> Configured:
        return self.state

    async def refresh(self) -> Configured:
        return self.state

    def last(self) -> None:
        return None

    def append(self, entry: Entry, *, verdict_version: int | None = None) -> asyncio.Future[None]:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done


class Nothing:
    """Signs, of which none is noticed, and tries, of which there was none before."""

    async def begin(self, *given: Any) -> None:
        return None

    def __getattr__(self, name: str) -> Any:
        return lambda *given, **more: None


NAMES = sorted(ARGUMENTS)


def seldom(usual: Any, strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Mostly nothing stands in the way: else few would get as far as their calls."""
    return st.one_of(*[st.just(usual)] * 5, strategy)


def connections() -> st.SearchStrategy[Connection | None]:
    bounds = st.sampled_from(
        [
            Bounds(True),
            Bounds(False, frozenset({"PTEAM01"})),
            Bounds(False, frozenset({"PTEAM01"}), frozenset({"PSVC001"}), frozenset({"list_priorities"})),
            Bounds(False, service_ids=frozenset({"PSVC001"})),
        ]
    )
    made = st.builds(
        lambda bounds, suspended: Connection(
            "c1",
            "Main",
            1,
            "Payments",
            "us",
            "https://api.pagerduty.com",
            "token",
            b"",
            "a@b.example",
            bounds,
            suspended=suspended,
            is_enabled=not suspended,
        ),
        bounds,
        seldom("", st.just("Main is switched off.")),
    )
    return st.one_of(*[made] * 7, st.none())


POLICIES = st.builds(
    lambda version, settings, locked, risks, stops: Policy(
        version, {1: dict.fromkeys(NAMES, State.ON) | settings}, locked, risks, stops
    ),
    st.integers(1, 9),
    st.dictionaries(st.sampled_from(NAMES), st.sampled_from(State), max_size=5),
    seldom({}, st.dictionaries(st.sampled_from(NAMES), st.sampled_from(["", "an outage"]), max_size=4)),
    st.dictionaries(st.sampled_from(NAMES), st.just(Risk.HIGH), max_size=2),
    seldom(
        {},
        st.dictionaries(st.sampled_from(["everything", "team:1", "team:2", "key:k1", "user:5"]), st.just("it loops")),
    ),
)
NARROWED = seldom(None, st.frozensets(st.sampled_from(NAMES), min_size=1))
PEOPLE = st.builds(
    KnownPerson,
    seldom("", st.sampled_from(["administrator", "auditor"])),
    seldom({1: "manager"}, st.sampled_from([{}, {1: "member"}])),
)


@hypothesis_settings(max_examples=400)
@given(
    policy=POLICIES,
    connection=connections(),
    name=st.sampled_from(sorted(ARGUMENTS)),
    narrowed=NARROWED,
    person=PEOPLE,
    as_person=st.booleans(),
    barred=seldom("", st.sampled_from(["revoked", "expired"])),
)
def test_what_is_explained_is_what_the_pipeline_decides(
    policy: Policy,
    connection: Connection | None,
    name: str,
    narrowed: frozenset[str] | None,
    person: KnownPerson,
    as_person: bool,
    barred: str,
) -> None:
    agent = Principal(Kind.AGENT, "key:k1", "bot", 1, "Payments", narrowed_to=narrowed)
    known = KnownKey(
        "k1", DIGEST, agent, "c1", (), NOW - 1 if barred == "expired" else float("inf"), 0, barred == "revoked"
    )
    identities = Identities({PREFIX: known}, {"c1": connection} if connection else {}, people={5: person})
    credential = (
        PersonCredential(5, "Vic", 1, "Payments", "c1") if as_person else KeyCredential(keys.shown(PREFIX, SECRET))
    )
    call = Call(Door.WEB, credential, "", "", content_type="application/json", client=Client("127.0.0.1"), at=NOW)
    tool = TOOLS[name]

    async def scenario() -> tuple[Any, list[Answer], int]:
        still = Still(Configured(policy, identities))
        nothing: Any = Nothing()
        pipeline = Pipeline(
            Unsent(),
            still,
            still,
            retries=nothing,
            redactor=Redactor(b"k" * 32),
            refuse=_refused,
            on_used=lambda key, at: None,
            signs=nothing,
        )
        answers: list[Answer] = []
        # As a page explains it, which has no secret of a key.
        identified = identities.identify(call) if as_person else identities.holder(known)
        assert isinstance(identified, Identified)
        explained = explain(policy, identified, tool, "" if as_person else known.barred(NOW))
        explained = await foresee(policy, identified, explained, ARGUMENTS[name], call)

        async def make(made: Call, writes: bool) -> Answer:
            answer = await pipeline.run(dataclasses.replace(made, at=NOW))
            answers.append(answer)
            return answer

        identified_now = await pipeline.known(call)
        if isinstance(identified_now, Known):
            await Use(name, call, identified_now, make, lambda: ()).serve(ARGUMENTS[name])
        else:
            answers.append(await pipeline.run(call))
        return explained, answers, len(answers)

    explained, answers, count = asyncio.run(scenario())
    first = answers[0]
    if first.verdict is None:
        assert first.status == 401
        assert explained.verdict.rule in ("key_revoked", "key_expired")
        assert explained.verdict.decision is Decision.DENY
        return
    told = [one.verdict for one in explained.calls] or [explained.verdict]
    opens = [one.open for one in explained.calls] or [""]
    for answer, verdict, open_ in zip(answers, told, opens, strict=False):
        assert answer.verdict is not None
        if open_ and answer.verdict.rule == "bounds":
            continue  # What is said to be told only when the call is made.
        assert (answer.verdict.decision, answer.verdict.rule) == (verdict.decision, verdict.rule), (explained, answers)
        if verdict.rule != "bounds":
            assert (answer.verdict.reason, answer.verdict.policy_version, answer.verdict.risk) == (
                verdict.reason, verdict.policy_version, verdict.risk,
            )  # fmt: skip
    assert count >= len(told)


async def _refused(ip: str, reason: str) -> float | None:
    return None


@given(
    policy=POLICIES,
    name=st.sampled_from(sorted(ARGUMENTS)),
    narrowed=NARROWED,
    kind=st.sampled_from(Kind),
    role=st.sampled_from(Role),
)
def test_the_steps_are_those_of_the_decision(
    policy: Policy, name: str, narrowed: frozenset[str] | None, kind: Kind, role: Role
) -> None:
    principal = Principal(kind, "key:k1", "bot", 1, "Payments", role, narrowed)
    verdict, found = decide(policy, principal, TOOLS[name], "d"), steps(policy, principal, TOOLS[name])
    _, said = deciding(found)
    assert (said.decision, said.rule, said.reason, said.remedy) == (
        verdict.decision, verdict.rule, verdict.reason, verdict.remedy,
    )  # fmt: skip
    assert any(step.objects for step in found) is not verdict.allowed
    assert all(step.told for step in found)
