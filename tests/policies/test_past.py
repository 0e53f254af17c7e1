"""What the configuration was on an earlier day, and who could do what then: reconstructed from the journal alone."""

from __future__ import annotations

import contextlib
import datetime as dt
import re
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from integrations.pagerduty.catalog import JOB_READS, TOOLS
from policies import actions, past
from policies.access import Found, who_could
from policies.core.call import Kind, Risk, State
from policies.core.decide import decide
from policies.models import AgentKey, PolicyVersion, Stop, Team
from policies.snapshot import current_version, load_policy
from tests.conftest import Cast

ROOT = Path(__file__).parents[2]
READ, WRITE = "list_users", "resolve_incident"
DAY = dt.timedelta(days=1)


def issue(cast: Cast, name: str = "bot", **more: Any) -> AgentKey:
    return actions.do_issue_key(cast.payments, name=name, by=cast.ada, tools=TOOLS, **more)[0]


def switch(cast: Cast, name: str, state: State) -> None:
    actions.do_set_tools(cast.payments, states={name: state}, tools=TOOLS, by=cast.mina, reason="drill")


def change_key(cast: Cast, key: AgentKey, narrowed_to: list[str] | None, expires_at: dt.datetime | None) -> None:
    values: dict[str, Any] = {"tools": TOOLS, "narrowed_to": narrowed_to, "expires_at": expires_at, "networks": []}
    with contextlib.suppress(ValidationError):  # it was revoked
        try:
            actions.do_change_key(key, by=cast.ada, calls_per_minute=300, **values)
        except actions.Widens as widens:
            actions.do_change_key(key, by=cast.ada, calls_per_minute=300, widening=widens.sentences, **values)


def changes(cast: Cast, key: AgentKey) -> list[Any]:
    """Every kind of change that a decision depends on; each can be made again and again."""

    def stop(**of: Any) -> None:
        if (standing := Stop.objects.first()) is not None:
            actions.do_lift_stop(standing, by=cast.ada, reason="mended")
        else:
            actions.do_stop(by=cast.ada, reason="it loops", **of)

    def rule(**values: Any) -> None:
        actions.do_set_tool_rule(WRITE, tools=TOOLS, by=cast.ada, reason="an outage", **values)

    return [
        *(lambda state=state: switch(cast, WRITE, state) for state in State),
        lambda: switch(cast, READ, State.OFF),
        lambda: switch(cast, READ, State.ON),
        lambda: rule(locked=True, risk="high"),
        lambda: rule(locked=False),
        lambda: stop(),
        lambda: stop(team=cast.payments),
        lambda: stop(key=key),
        lambda: actions.do_set_membership(cast.payments, user=cast.vic, role="manager", by=cast.ada),
        lambda: actions.do_set_membership(cast.payments, user=cast.zed, role="member", by=cast.ada),
        lambda: actions.do_remove_member(cast.payments, user=cast.vic, by=cast.ada),
        lambda: actions.do_update_user(cast.omar, by=cast.ada, role="administrator"),
        lambda: actions.do_update_user(cast.omar, by=cast.ada, role=""),
        lambda: actions.do_update_user(cast.zed, by=cast.ada, is_active=False),
        lambda: actions.do_set_reveals(cast.payments, kinds=["keys"], known=["keys"], by=cast.ada, reason="drill"),
        lambda: change_key(cast, key, [READ], timezone.now() + DAY),
        lambda: change_key(cast, key, None, None),
        lambda: actions.do_revoke_key(key, by=cast.mina),
        lambda: issue(cast, "another", narrowed_to=[READ]),
    ]


def seen(cast: Cast) -> tuple[int, dict[tuple[str, str], str]]:
    """What is decided now, by the configuration as the pipeline loads it."""
    policy = load_policy(current_version())
    there = past.present([cast.payments.pk])
    return policy.version, _decided(policy, there, cast)


def _decided(policy: Any, there: past.Configuration, cast: Cast) -> dict[tuple[str, str], str]:
    team = cast.payments.pk
    principals = [there.agent(key) for key in there.keys.values() if not key.is_revoked]
    principals += [there.person(person, team) for person in there.people.values()]
    return {
        (principal.id, name): decide(policy, principal, TOOLS[name], "").rule
        for principal in principals
        for name in (READ, WRITE)
    }


@pytest.mark.django_db
@hypothesis_settings(max_examples=6, suppress_health_check=list(HealthCheck))
@given(picked=st.lists(st.integers(0, 20), min_size=10, max_size=20))
def test_each_version_is_found_again_whatever_has_changed_since(cast: Cast, picked: list[int]) -> None:
    key = issue(cast, f"bot {timezone.now():%H%M%S%f}")
    was = dict([seen(cast)])
    for number in picked:
        key.refresh_from_db()
        known = changes(cast, key)
        with contextlib.suppress(actions.Refused):  # what is locked is not switched
            known[number % len(known)]()
        version, decided = seen(cast)
        was[version] = decided
    for version, decided in was.items():
        there = past.at_version(version, cast.payments.pk)
        assert there.version == version
        assert _decided(there.policy(), there, cast) == decided
        assert not there.unknown


def test_whoever_called_is_found_as_they_were(cast: Cast) -> None:
    key = issue(cast, narrowed_to=[READ])
    there = past.present([cast.payments.pk])
    team = cast.payments.pk
    agent = there.principal(f"key:{key.pk}", team, JOB_READS)
    assert agent is not None
    assert (agent.name, agent.narrowed_to) == ("bot", frozenset({READ}))
    job = there.principal("job:sync", team, JOB_READS)
    assert job is not None
    assert job.kind is Kind.JOB
    assert there.principal("key:none", team, JOB_READS) is None


def test_a_change_of_an_unknown_kind_is_said_not_guessed(cast: Cast) -> None:
    version = current_version()
    from django.db import transaction

    with transaction.atomic():
        actions.record_change(by=cast.ada, team=cast.payments, action="new_thing", target="x", before=None, after=1)
    assert past.at_version(version, cast.payments.pk).unknown == {"new_thing"}


def test_no_kind_of_change_is_forgotten() -> None:
    """Every name of an action that the source records."""
    source = "".join(
        path.read_text()
        for folder in ("policies", "integrations", "portal")
        for path in (ROOT / folder).rglob("*.py")
        if not {"sandbox", "management", "migrations"} & set(path.parts)
    )
    names = set(re.findall(r"\b(?:action=|action = |action, said = |\"action\": |_record\(row, by, )\"(\w+)\"", source))
    names |= {name for pair in re.findall(r"action=\"(\w+)\" if \w+ else \"(\w+)\"", source) for name in pair}
    names |= {name for pair in re.findall(r"by, \"(\w+)\" if \w+ else \"(\w+)\"", source) for name in pair}
    assert len(names) > 45
    there = past.Configuration(1, None)
    for name in names:
        before = {"tools": None} if name in ("widen_key", "narrow_key") else None
        details = {"action": name, "target": "bot (pwk_abcdefgh)", "before": before}
        if not (name == "set_tool" or name == "update_user"):
            there.undo(past.Change(1, timezone.now(), 1, details))
    assert not there.unknown


# Access


def could(cast: Cast, begin: dt.datetime, end: dt.datetime, *names: str, risk: Risk | None = None) -> Found:
    return who_could([cast.payments.pk, cast.search.pk], {name: TOOLS[name] for name in names}, begin, end, risk)


def told(found: Found) -> dict[str, list[str]]:
    return {f"{row.holder.name} of {row.holder.team}": list(row.tools) for row in found.rows}


def test_whoever_could_at_any_time_of_the_day_is_named_with_when(cast: Cast) -> None:
    key = issue(cast)
    begin = timezone.now()
    assert told(could(cast, begin - DAY, begin, WRITE)) == {}
    switch(cast, WRITE, State.ON)
    on = timezone.now()
    switch(cast, WRITE, State.OFF)
    end = timezone.now()
    found = could(cast, begin, end, WRITE)
    assert told(found) == {"bot of Payments": [WRITE], "Ada of Payments": [WRITE], "Mina of Payments": [WRITE]}
    [(since, until)] = found.rows[0].tools[WRITE]
    assert begin < since < on < until < end
    assert not found.all_day([(since, until)])
    assert found.rows[0].holder.known_by == f"pwk_{key.prefix}"
    assert [row.holder.as_what for row in found.rows] == ["not narrowed", "manager", "manager"]
    # What was switched off since is not what was so then; and of what came later nothing is told.
    assert found.all_day(could(cast, since, until, WRITE).rows[0].tools[WRITE]) is False
    assert told(could(cast, end, timezone.now(), WRITE)) == {}


def test_keys_count_from_their_issue_to_their_end(cast: Cast) -> None:
    begin = timezone.now()
    soon = issue(cast, "soon gone", expires_at=timezone.now() + dt.timedelta(hours=1))
    revoked = issue(cast, "revoked", narrowed_to=[READ])
    actions.do_revoke_key(revoked, by=cast.mina)
    end = timezone.now()
    names = {row.holder.name: row for row in could(cast, begin, end, READ).rows if row.holder.kind is Kind.AGENT}
    assert set(names) == {"soon gone", "revoked"}
    assert names["revoked"].holder.as_what == "narrowed to 1 tool"
    [(_, until)] = names["revoked"].tools[READ]
    assert until < end
    AgentKey.objects.filter(pk=soon.pk).update(expires_at=begin + (end - begin) / 2)
    assert "soon gone" not in told(could(cast, end, timezone.now(), READ))
    assert not [row for row in could(cast, begin - DAY, begin, READ).rows if row.holder.kind is Kind.AGENT]


def test_members_read_auditors_nothing_and_a_stop_holds_all(cast: Cast) -> None:
    begin = timezone.now()
    found = told(could(cast, begin, timezone.now(), READ))
    assert found == {
        "Ada of Payments": [READ], "Mina of Payments": [READ], "Vic of Payments": [READ],
        "Ada of Search": [READ], "Omar of Search": [READ],
    }  # fmt: skip
    actions.do_stop(by=cast.ada, reason="fire")
    stopped = timezone.now()
    assert told(could(cast, stopped, timezone.now(), READ)) == {}
    assert told(could(cast, begin, timezone.now(), READ)) == found


def test_a_risk_finds_the_tools_that_were_of_it_then(cast: Cast) -> None:
    begin = timezone.now()
    before = could(cast, begin, timezone.now(), READ, risk=Risk.HIGH)
    actions.do_set_tool_rule(READ, tools=TOOLS, by=cast.ada, locked=False, risk="high")
    raised = timezone.now()
    assert told(before) == {}
    assert "Vic of Payments" in told(could(cast, raised, timezone.now(), READ, risk=Risk.HIGH))


def test_a_team_that_was_not_there_yet_held_nobody(cast: Cast) -> None:
    before = timezone.now()
    made = actions.do_create_team("Later", by=cast.ada)
    found = who_could([made.pk], {READ: TOOLS[READ]}, before - DAY, before)
    assert found.rows == []
    assert found.entries > 0


def test_more_than_one_look_back_reads_is_said(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(past, "STEP", 2)
    monkeypatch.setattr(past, "MAXIMUM", 4)
    for number in range(6):
        switch(cast, READ, State.ON if number % 2 else State.OFF)
    with pytest.raises(past.TooFar, match="More than 4 changes"):
        could(cast, timezone.now() - DAY, timezone.now(), READ)
    assert PolicyVersion.objects.get().version == 6
    assert Team.objects.count() == 2
