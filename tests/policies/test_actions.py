"""Who may change what, and that every change leaves its ConfigChange, its entry and a moved version, or nothing at all."""

from __future__ import annotations

import datetime as dt
import json
import random
import string
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.db import connection, connections
from django.test import RequestFactory
from django.utils import timezone

from policies import actions, keys
from policies.actions import Refused
from policies.core.call import Risk, State, Tool
from policies.models import AgentKey, ConfigChange, Entry, Membership, Stop, Team, ToolSetting, User
from policies.snapshot import current_version, load_policy
from tests.conftest import PASSWORD, Cast

TOOLS = {
    name: Tool(name, name.title(), "incidents", Risk.LOW, writes, State.OFF if writes else State.ON, (name,), "x", {})
    for name, writes in (("list", False), ("get", False), ("note", True), ("resolve", True))
}


def newest() -> ConfigChange:
    return ConfigChange.objects.order_by("-id")[0]


def record() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Entry.objects.filter(kind="config").order_by("-id")[0].record)
    return found


def states(team: Team) -> dict[str, str]:
    return dict(ToolSetting.objects.filter(team=team).values_list("tool", "state"))


# Tools


def test_a_managers_change_is_on_record_with_who_when_why_before_and_after(cast: Cast) -> None:
    before = current_version()
    changed = actions.do_set_tools(cast.payments, states={"note": State.ON}, tools=TOOLS, by=cast.mina, reason="trial")
    assert changed == 1
    change = newest()
    assert (change.actor, change.team, change.action, change.target) == (
        "mina@example.com",
        "Payments",
        "set_tool",
        "note",
    )
    assert (change.before, change.after, change.reason) == ("off", "on", "trial")
    assert change.policy_version == current_version() > before
    assert record()["details"]["after"] == "on"
    assert record()["actor"] == f"user:{cast.mina.pk}"
    assert load_policy(current_version()).state(cast.payments.pk, TOOLS["note"]) is State.ON


def test_setting_a_tool_to_what_it_is_changes_nothing(cast: Cast) -> None:
    before = current_version()
    assert (
        actions.do_set_tools(cast.payments, states={"list": State.ON, "note": State.OFF}, tools=TOOLS, by=cast.mina)
        == 0
    )
    assert current_version() == before
    assert not ConfigChange.objects.exists()


@pytest.mark.parametrize("who", ["vic", "omar", "rhea", "zed"])
def test_members_others_auditors_and_outsiders_set_no_tools(cast: Cast, who: str) -> None:
    with pytest.raises(Refused, match="Only a manager of Payments"):
        actions.do_set_tools(cast.payments, states={"note": State.ON}, tools=TOOLS, by=getattr(cast, who))
    assert not ToolSetting.objects.exists()


def test_a_person_who_was_switched_off_changes_nothing(cast: Cast) -> None:
    cast.mina.is_active = False
    cast.mina.save()
    with pytest.raises(Refused):
        actions.do_set_tools(cast.payments, states={"note": State.ON}, tools=TOOLS, by=cast.mina)


def test_one_bad_tool_among_several_changes_none(cast: Cast) -> None:
    with pytest.raises(ValidationError, match="no tool 'nonsense'"):
        actions.do_set_tools(cast.payments, states={"note": State.ON, "nonsense": State.ON}, tools=TOOLS, by=cast.mina)
    assert not ToolSetting.objects.exists()
    assert not ConfigChange.objects.exists()
    assert not Entry.objects.filter(kind="config").exists()


def test_a_preset_sets_everything_but_what_is_locked(cast: Cast) -> None:
    actions.do_set_tool_rule("resolve", tools=TOOLS, by=cast.ada, locked=True, reason="review")
    preset = frozenset({"list", "note", "resolve"})
    assert actions.do_apply_preset(cast.payments, name="responder", preset=preset, tools=TOOLS, by=cast.mina) == 2
    assert states(cast.payments) == {"note": "on", "get": "off"}
    assert newest().reason == "preset responder"


def test_only_an_administrator_locks_and_raises_and_never_lowers(cast: Cast) -> None:
    with pytest.raises(Refused):
        actions.do_set_tool_rule("note", tools=TOOLS, by=cast.mina, locked=True)
    actions.do_set_tool_rule("note", tools=TOOLS, by=cast.ada, locked=True, risk="high", reason="review")
    policy = load_policy(current_version())
    assert policy.locked == {"note": "review"}
    assert policy.risks == {"note": Risk.HIGH}
    with pytest.raises(Refused, match="locked off"):
        actions.do_set_tools(cast.payments, states={"note": State.ON}, tools=TOOLS, by=cast.ada)
    high = {"note": Tool("note", "Note", "incidents", Risk.HIGH, True, State.OFF, ("x",), "x", {})}
    with pytest.raises(ValidationError, match="only be raised"):
        actions.do_set_tool_rule("note", tools=high, by=cast.ada, locked=False, risk="low")


def test_another_reason_alone_of_a_lock_is_on_record(cast: Cast) -> None:
    actions.do_set_tool_rule("note", tools=TOOLS, by=cast.ada, locked=True, reason="review")
    actions.do_set_tool_rule("note", tools=TOOLS, by=cast.ada, locked=True, reason="an incident")
    change = newest()
    assert change.before == {"locked": True, "risk": "", "reason": "review"}
    assert change.after == {"locked": True, "risk": "", "reason": "an incident"}
    assert load_policy(current_version()).locked == {"note": "an incident"}
    count = ConfigChange.objects.count()
    actions.do_set_tool_rule("note", tools=TOOLS, by=cast.ada, locked=True, reason="an incident")
    assert ConfigChange.objects.count() == count


def test_all_writes_off_in_one_go(cast: Cast) -> None:
    for team in (cast.payments, cast.search):
        actions.do_set_tools(team, states={"note": State.ON, "resolve": State.NEEDS_APPROVAL}, tools=TOOLS, by=cast.ada)
    assert actions.do_switch_all_writes_off(Team.objects.all(), tools=TOOLS, by=cast.ada) == 4
    assert states(cast.payments) == states(cast.search) == {"note": "off", "resolve": "off"}


HIGH = {**TOOLS, "delete": Tool("delete", "Delete", "incidents", Risk.HIGH, True, State.OFF, ("delete",), "x", {})}


def test_a_person_says_why_a_tool_of_high_risk_is_switched_on(cast: Cast) -> None:
    with pytest.raises(actions.ReasonMissing, match="Delete is of high risk: say why"):
        actions.do_set_tools(cast.payments, states={"delete": State.ON, "note": State.ON}, tools=HIGH, by=cast.mina)
    assert states(cast.payments) == {}
    actions.do_set_tools(cast.payments, states={"delete": State.NEEDS_APPROVAL}, tools=HIGH, by=cast.mina)
    actions.do_set_tools(cast.payments, states={"delete": State.ON}, tools=HIGH, by=cast.mina, reason="clean-up")
    assert newest().reason == "clean-up"
    actions.do_set_tools(cast.payments, states={"delete": State.OFF}, tools=HIGH, by=cast.mina)
    # An administrator may have raised what is high.
    actions.do_set_tool_rule("note", tools=HIGH, by=cast.ada, locked=False, risk="high")
    with pytest.raises(actions.ReasonMissing):
        actions.do_set_tools(cast.payments, states={"note": State.ON}, tools=HIGH, by=cast.mina)
    actions.do_set_tools(cast.payments, states={"note": State.ON, "delete": State.ON}, tools=HIGH, by="a command")


def test_a_change_that_is_based_on_an_old_state_is_refused_with_what_it_is_and_who_did_it(cast: Cast) -> None:
    actions.do_set_tools(cast.payments, states={"note": State.NEEDS_APPROVAL}, tools=TOOLS, by=cast.ada)
    with pytest.raises(ValidationError, match=r"Note was set to needs approval by ada@example\.com meanwhile"):
        actions.do_set_tools(
            cast.payments, states={"note": State.ON}, tools=TOOLS, by=cast.mina, seen={"note": State.OFF}
        )
    assert states(cast.payments) == {"note": "needs_approval"}
    # Where both want the same there is nothing to refuse.
    assert not actions.do_set_tools(
        cast.payments, states={"note": State.NEEDS_APPROVAL}, tools=TOOLS, by=cast.mina, seen={"note": State.OFF}
    )


def test_whoever_made_a_change_undoes_it_unless_somebody_changed_it_meanwhile(cast: Cast) -> None:
    def switch(state: State, by: User) -> ConfigChange:
        actions.do_set_tools(cast.payments, states={"delete": state}, tools=HIGH, by=by, reason="r")
        return newest()

    def undo(change: ConfigChange, by: User = cast.mina, team: Team = cast.payments) -> None:
        actions.do_undo_set_tool(team, change=change.pk, tools=HIGH, by=by)

    switch(State.ON, cast.mina)
    off = switch(State.OFF, cast.mina)
    undo(off)  # of high risk, and needs no reason anew
    assert states(cast.payments) == {"delete": "on"}
    assert (newest().before, newest().after, newest().reason) == ("off", "on", "undone: r")
    off = switch(State.OFF, cast.mina)
    switch(State.ON, cast.ada)
    on = switch(State.OFF, cast.ada)
    with pytest.raises(ValidationError, match=r"was changed by ada@example\.com meanwhile"):
        undo(off)
    with pytest.raises(ValidationError, match="Whoever made a change"):
        undo(on)
    with pytest.raises(Refused):
        undo(on, cast.vic)
    with pytest.raises(ValidationError, match="no such change"):
        undo(on, cast.ada, cast.search)
    ConfigChange.objects.filter(pk=on.pk).update(at=timezone.now() - dt.timedelta(minutes=11))
    with pytest.raises(ValidationError, match="for 10 minutes"):
        undo(on, cast.ada)
    on = switch(State.ON, cast.ada)
    off = switch(State.OFF, cast.ada)
    actions.do_set_tool_rule("delete", tools=HIGH, by=cast.ada, locked=True, reason="review")
    with pytest.raises(Refused, match="locked off"):
        undo(off, cast.ada)
    assert states(cast.payments) == {"delete": "off"}


def test_a_lock_needs_a_reason_and_keeps_who_made_it(cast: Cast) -> None:
    with pytest.raises(ValidationError, match="The reason is missing"):
        actions.do_set_tool_rule("note", tools=TOOLS, by=cast.ada, locked=True)
    assert (
        actions.do_set_tool_rule("note", tools=TOOLS, by=cast.ada, locked=True, reason="r").actor == "ada@example.com"
    )


def test_a_policy_is_cloned_as_it_was_looked_at_or_not_at_all(cast: Cast) -> None:
    def clone(seen: str, by: User = cast.ada) -> int:
        return actions.do_clone_policy(cast.payments, cast.search, tools=TOOLS, by=by, reason="same duty", seen=seen)

    actions.do_set_tools(cast.payments, states={"note": State.ON, "get": State.OFF}, tools=TOOLS, by=cast.mina)
    actions.do_set_tools(cast.search, states={"resolve": State.ON, "list": State.OFF}, tools=TOOLS, by=cast.omar)
    actions.do_set_tool_rule("resolve", tools=TOOLS, by=cast.ada, locked=True, reason="r")
    changes = actions.clone_changes(cast.payments, cast.search, tools=TOOLS)
    assert [(one.tool.name, one.before, one.after) for one in changes] == [
        ("list", State.OFF, State.ON),
        ("get", State.ON, State.OFF),
        ("note", State.OFF, State.ON),
    ]
    seen = actions.digest_of(changes)
    with pytest.raises(Refused):
        clone(seen, cast.omar)
    actions.do_set_tools(cast.payments, states={"list": State.OFF}, tools=TOOLS, by=cast.mina)
    with pytest.raises(ValidationError, match="changed meanwhile"):
        clone(seen)
    before = current_version()
    assert clone(actions.digest_of(actions.clone_changes(cast.payments, cast.search, tools=TOOLS))) == 2
    assert states(cast.search) == {"resolve": "on", "list": "off", "get": "off", "note": "on"}
    assert current_version() == before + 1
    assert newest().reason == "as Payments: same duty"
    assert [json.loads(row.record)["details"]["target"] for row in Entry.objects.order_by("-id")[:2]] == ["note", "get"]


def test_several_teams_are_set_in_one_stroke_by_an_administrator(cast: Cast) -> None:
    wanted = {"note": State.ON, "list": State.ON}
    teams = [cast.payments, cast.search]
    seen = actions.digest_of(actions.setting_changes(dict.fromkeys(teams, wanted), tools=TOOLS))

    def stroke(by: User) -> int:
        return actions.do_set_tools_of_teams(teams, states=wanted, tools=TOOLS, by=by, reason="r", seen=seen)

    with pytest.raises(Refused):
        stroke(cast.mina)
    assert stroke(cast.ada) == 2
    assert states(cast.payments) == states(cast.search) == {"note": "on"}
    with pytest.raises(ValidationError, match="changed meanwhile"):
        stroke(cast.ada)


# Keys


def test_a_key_is_shown_once_and_stored_as_a_peppered_digest(cast: Cast, settings: Any) -> None:
    key, secret = actions.do_issue_key(cast.payments, name="assistant", by=cast.mina, tools=TOOLS)
    parsed = keys.parse_key(secret)
    assert parsed is not None
    assert keys.matches(key.digest, *parsed)
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM policies_agentkey")
        rows = str(cursor.fetchall())
    assert parsed[1] not in rows + json.dumps(record()) + str(newest().after) + repr(key)
    settings.SECRET_KEY = "another"
    assert not keys.matches(key.digest, *parsed)  # a stolen table is of no use without the pepper


def test_a_key_has_the_default_limit_and_only_an_administrator_takes_it_away(cast: Cast) -> None:
    key, _ = actions.do_issue_key(cast.payments, name="a", by=cast.mina, tools=TOOLS)
    assert key.calls_per_minute == 300
    with pytest.raises(Refused, match="administrator"):
        actions.do_issue_key(cast.payments, name="b", by=cast.mina, tools=TOOLS, calls_per_minute=0)
    assert actions.do_issue_key(cast.payments, name="b", by=cast.ada, tools=TOOLS, calls_per_minute=0)[0]


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"name": " "}, "name is missing"),
        ({"name": "x" * 101}, "longer than"),
        ({"name": "y_NbAkKc66ryYTWUXYEu"}, "looks as if it held a token"),
        ({"reason": "was u+AbC3dEf9GhI2jKl5mN before"}, "looks as if it held a token"),
        ({"expires_at": dt.datetime(2020, 1, 1, tzinfo=dt.UTC)}, "expired already"),
        ({"networks": ["10.0.0.0/8", "nonsense"]}, "no CIDR block"),
        ({"narrowed_to": []}, "could do nothing"),
        ({"narrowed_to": ["nonsense"]}, "no tool 'nonsense'"),
        ({"calls_per_minute": 961}, "between 1 and 960"),
        ({"calls_per_minute": -1}, "between 1 and 960"),
    ],
)
def test_a_bad_key_is_refused_with_the_reason(cast: Cast, values: dict[str, Any], word: str) -> None:
    with pytest.raises(ValidationError, match=word):
        actions.do_issue_key(cast.payments, **{"name": "a", "by": cast.ada, "tools": TOOLS, **values})
    assert not AgentKey.objects.exists()


def test_a_revocation_is_final_on_record_and_the_managers_alone(cast: Cast) -> None:
    key, _ = actions.do_issue_key(cast.payments, name="a", by=cast.mina, tools=TOOLS)
    for who in (cast.vic, cast.omar, cast.rhea):
        with pytest.raises(Refused):
            actions.do_revoke_key(key, by=who)
    version = current_version()
    actions.do_revoke_key(key, by=cast.mina, reason="leaked")
    assert current_version() == version + 1
    assert newest().reason == "leaked"
    revoked = key.revoked_at
    actions.do_revoke_key(key, by=cast.mina)
    key.refresh_from_db()
    assert key.revoked_at == revoked


# The kill switch


def test_a_manager_stops_a_key_and_a_team_and_an_administrator_everything(cast: Cast) -> None:
    key, _ = actions.do_issue_key(cast.payments, name="night watch", by=cast.mina, tools=TOOLS)
    for who in (cast.vic, cast.omar, cast.rhea, cast.zed):
        with pytest.raises(Refused):
            actions.do_stop(by=who, reason="x", key=key)
        with pytest.raises(Refused):
            actions.do_stop(by=who, reason="x", team=cast.payments)
    for who in (cast.mina, cast.rhea):
        with pytest.raises(Refused):
            actions.do_stop(by=who, reason="x")
    version = current_version()
    actions.do_stop(by=cast.mina, reason="pages people.", key=key)
    actions.do_stop(by=cast.mina, reason="all of it", team=cast.payments)
    actions.do_stop(by=cast.ada, reason="incident 12")
    assert current_version() == version + 3
    assert load_policy(current_version()).stops == {
        f"key:{key.pk}": "pages people",
        f"team:{cast.payments.pk}": "all of it",
        "everything": "incident 12",
    }
    assert (newest().action, newest().actor, newest().reason) == ("stop", "ada@example.com", "incident 12")
    assert record()["details"]["action"] == "stop"


def test_a_stop_needs_a_reason_to_begin_and_to_end(cast: Cast) -> None:
    with pytest.raises(ValidationError, match="reason is missing"):
        actions.do_stop(by=cast.ada, reason="  ")
    stop = actions.do_stop(by=cast.ada, reason="drill")
    with pytest.raises(ValidationError, match="reason is missing"):
        actions.do_lift_stop(stop, by=cast.ada, reason="")
    assert Stop.objects.exists()


def test_what_an_administrator_stopped_a_manager_cannot_set_going(cast: Cast) -> None:
    own = actions.do_stop(by=cast.mina, reason="mine", team=cast.payments)
    actions.do_lift_stop(own, by=cast.mina, reason="over")
    assert not Stop.objects.exists()
    assert newest().action == "lift_stop"
    actions.do_stop(by=cast.ada, reason="hers", team=cast.payments)
    again = actions.do_stop(by=cast.mina, reason="mine too", team=cast.payments)  # takes nothing of hers away
    for who in (cast.mina, cast.omar, cast.rhea):
        with pytest.raises(Refused):
            actions.do_lift_stop(again, by=who, reason="over")
    actions.do_lift_stop(again, by=cast.ada, reason="over")
    assert not Stop.objects.exists()


def test_a_stop_that_an_administrator_took_over_meanwhile_is_not_a_managers_to_lift(cast: Cast) -> None:
    read = actions.do_stop(by=cast.mina, reason="mine", team=cast.payments)
    actions.do_stop(by=cast.ada, reason="hers", team=cast.payments)
    with pytest.raises(Refused):
        actions.do_lift_stop(read, by=cast.mina, reason="over")
    assert Stop.objects.exists()
    actions.do_lift_stop(read, by=cast.ada, reason="over")
    before = ConfigChange.objects.count()
    actions.do_lift_stop(read, by=cast.ada, reason="again")  # it is gone: nothing happens
    assert ConfigChange.objects.count() == before


def test_no_manager_goes_around_an_administrators_stop_with_another_key(cast: Cast) -> None:
    key, _ = actions.do_issue_key(cast.payments, name="bot", by=cast.mina, tools=TOOLS)
    stop = actions.do_stop(by=cast.ada, reason="it pages people", key=key)
    with pytest.raises(Refused, match="while it or one of its keys is stopped"):
        actions.do_issue_key(cast.payments, name="other bot", by=cast.mina, tools=TOOLS)
    actions.do_issue_key(cast.search, name="bot", by=cast.omar, tools=TOOLS)
    actions.do_issue_key(cast.payments, name="by her", by=cast.ada, tools=TOOLS)
    actions.do_lift_stop(stop, by=cast.ada, reason="mended")
    actions.do_issue_key(cast.payments, name="third bot", by=cast.mina, tools=TOOLS)


def test_the_command_stops_tells_and_lifts(cast: Cast) -> None:
    def run(*arguments: str) -> str:
        out = StringIO()
        call_command("kill_switch", *arguments, stdout=out)
        return out.getvalue()

    key, _ = actions.do_issue_key(cast.payments, name="night watch", by=cast.mina, tools=TOOLS)
    assert run("status") == "Nothing is stopped.\n"
    assert "night watch" in run("stop", "--key", f"pwk_{key.prefix}", "--reason", "loops")
    run("stop", "--team", "search", "--reason", "drill")
    run("stop", "--everything", "--reason", "fire")
    told = json.loads(run("status", "--json"))["stopped"]
    assert {row["reason"] for row in told} == {"loops", "drill", "fire"}
    assert {row["by"] for row in told} == {"the command kill_switch"}
    run("lift", "--everything", "--reason", "out")
    run("lift", "--team", "search", "--reason", "over")
    assert run("lift", "--key", key.prefix, "--reason", "mended") == "Nothing is stopped.\n"
    for arguments in (
        ("stop", "--reason", "x"),
        ("stop", "--everything"),
        ("stop", "--team", "nobodys", "--reason", "x"),
        ("stop", "--key", "zzzzzzzz", "--reason", "x"),
        ("lift", "--everything", "--reason", "x"),
    ):
        with pytest.raises(CommandError) as refused:
            run(*arguments)
        assert refused.value.returncode == 2
    assert not Stop.objects.exists()


@pytest.mark.parametrize(
    "name",
    [
        "Checkout-Production-v2-eu-west",
        "CheckoutServiceProductionV2",
        "INC-2024-Checkout-Down-P1-eu",
        "Payments_Responder_Assistant_2",
    ],
)
def test_plain_names_are_no_secrets(cast: Cast, name: str) -> None:
    assert actions.do_issue_key(cast.payments, name=name, by=cast.mina, tools=TOOLS)[0].name == name


@pytest.mark.parametrize(
    "token",
    [
        "u+AbC3dEf9GhI2jKl5mN",
        "y_NbAkKc66ryYTWUXYEu",
        "VPaTS-YXjmgre5qT3QcV",
        "fM87y3H98GwS_qiVDm4D",
        "pdus+_0XBPWQQ_83eeb31a-52c4-4a0d-9dd4-1ff46c8b7e10",
        "pwk_abcdefgh_abcdefghijkmnpqrstuvwxyz23456789",
    ],
)
def test_no_token_or_key_is_kept_in_a_name_or_a_reason(cast: Cast, token: str) -> None:
    for text in (token, f"was {token}, now gone"):
        with pytest.raises(ValidationError, match="held a token or a key"):
            actions.plain(text, "The reason", maximum=500)


def test_random_tokens_of_pagerdutys_form_are_taken_for_tokens() -> None:
    letters = string.ascii_letters + string.digits + "+_-"
    chance = random.Random(7)
    missed = 0
    for _ in range(2_000):
        token = "".join(chance.choice(letters) for _ in range(20))
        try:
            actions.plain(token, "The name", maximum=100)
        except ValidationError:
            continue
        missed += 1
    assert missed <= 20


def test_an_integration_key_is_taken_for_one_and_a_decision_id_is_not() -> None:
    with pytest.raises(ValidationError, match="held a token or a key"):
        actions.plain("was e93facc04764012d7bfb002500d5d1a6", "The reason", maximum=500)
    assert actions.plain("after 01a20b8fe9c8ff7c348099ac5130", "The reason", maximum=500)


@pytest.mark.django_db(transaction=True)
def test_tools_and_presets_are_changed_side_by_side_without_a_deadlock(cast: Cast) -> None:
    def change(number: int) -> None:
        try:
            preset = frozenset({"list", "note"} if number % 4 == 1 else {"get"})
            if number % 2:
                actions.do_apply_preset(cast.payments, name="x", preset=preset, tools=TOOLS, by="test", reason="y")
            else:
                wanted = {"resolve": State.ON, "list": State.OFF} if number % 4 else {"resolve": State.OFF}
                actions.do_set_tools(cast.payments, states=wanted, tools=TOOLS, by="test")
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(change, range(24)))


# People and teams


def test_people_sign_in_by_address_whatever_its_case(cast: Cast) -> None:
    assert User.objects.get_by_natural_key("MINA@Example.com") == cast.mina
    with pytest.raises(ValidationError):
        actions.do_create_user("Mina@example.COM", by=cast.ada, password="x")


def test_only_administrators_create_people_and_shared_teams(cast: Cast) -> None:
    with pytest.raises(Refused):
        actions.do_create_user("new@example.com", by=cast.mina, password="x")
    with pytest.raises(Refused):
        actions.do_create_team("New", by=cast.mina)
    team = actions.do_create_team("Payments", by=cast.ada)
    assert team.slug == "payments-2"
    person = actions.do_create_user("New@Example.com ", by=cast.ada, password="a long pass phrase")
    assert person.email == "new@example.com"
    assert "long pass" not in str(record())


def test_each_person_has_one_personal_workspace_of_which_they_are_the_manager(cast: Cast) -> None:
    workspace = actions.do_create_personal_workspace(cast.vic, by=cast.vic)
    assert Membership.objects.get(team=workspace, user=cast.vic).role == "manager"
    with pytest.raises(ValidationError, match="exists already"):
        actions.do_create_personal_workspace(cast.vic, by=cast.vic)
    with pytest.raises(Refused, match="owner alone"):
        actions.do_set_membership(workspace, user=cast.zed, role="member", by=cast.vic)
    with pytest.raises(Refused):
        actions.do_create_personal_workspace(cast.zed, by=cast.vic)
    with pytest.raises(Refused, match="auditor"):
        actions.do_create_personal_workspace(cast.rhea, by=cast.rhea)
    assert set(Team.objects.visible_to(cast.omar)) == {cast.search}


def test_members_are_chosen_by_managers_who_leave_one_of_them(cast: Cast) -> None:
    actions.do_set_membership(cast.payments, user=cast.zed, role="member", by=cast.mina)
    assert (newest().before, newest().after, newest().target) == (None, "member", "zed@example.com")
    with pytest.raises(Refused):
        actions.do_set_membership(cast.payments, user=cast.zed, role="manager", by=cast.vic)
    with pytest.raises(ValidationError, match="no such role"):
        actions.do_set_membership(cast.payments, user=cast.zed, role="owner", by=cast.mina)
    with pytest.raises(Refused, match="without a manager"):
        actions.do_remove_member(cast.payments, user=cast.mina, by=cast.mina)
    with pytest.raises(Refused, match="without a manager"):
        actions.do_set_membership(cast.payments, user=cast.mina, role="member", by=cast.mina)
    actions.do_remove_member(cast.payments, user=cast.zed, by=cast.mina)
    assert not Membership.objects.filter(user=cast.zed).exists()


def test_a_team_is_not_left_with_an_auditor_for_a_manager(cast: Cast) -> None:
    with pytest.raises(Refused, match="auditor"):
        actions.do_set_membership(cast.payments, user=cast.rhea, role="manager", by=cast.mina)
    actions.do_set_membership(cast.payments, user=cast.zed, role="manager", by=cast.mina)
    actions.do_update_user(cast.zed, by=cast.ada, role="auditor")
    with pytest.raises(Refused, match="without a manager"):
        actions.do_remove_member(cast.payments, user=cast.mina, by=cast.mina)


def test_an_administrator_cannot_take_their_own_administration_away(cast: Cast) -> None:
    with pytest.raises(Refused):
        actions.do_update_user(cast.ada, by=cast.ada, role="")
    with pytest.raises(Refused):
        actions.do_update_user(cast.ada, by=cast.ada, is_active=False)
    actions.do_update_user(cast.mina, by=cast.ada, is_active=False)
    assert newest().after == {"name": "Mina", "role": "", "is_active": False}


def test_a_password_change_is_on_record_without_the_password(cast: Cast) -> None:
    actions.do_set_password(cast.mina, by=cast.mina, password="another long phrase")
    cast.mina.refresh_from_db()
    assert cast.mina.check_password("another long phrase")
    assert "phrase" not in json.dumps(record())
    with pytest.raises(Refused):
        actions.do_set_password(cast.mina, by=cast.omar, password="x")


@pytest.mark.parametrize("password", ["short", "password123", "mina@example.com"])
def test_a_poor_password_is_refused(cast: Cast, password: str) -> None:
    with pytest.raises(ValidationError):
        actions.do_set_password(cast.mina, by=cast.mina, password=password)
    with pytest.raises(ValidationError):
        actions.do_create_user("mina2@example.com", by=cast.ada, password=password, name="mina@example.com")
    cast.mina.refresh_from_db()
    assert cast.mina.check_password(PASSWORD)
    assert not User.objects.filter(email="mina2@example.com").exists()


def test_sign_ins_and_refused_ones_are_entries(cast: Cast, client: Any) -> None:
    from django.contrib.auth import authenticate, login

    request = RequestFactory().post("/", REMOTE_ADDR="192.0.2.7")
    request.session = client.session
    assert authenticate(request, username="mina@example.com", password="wrong") is None
    user = authenticate(request, username="mina@example.com", password=PASSWORD)
    assert user is not None
    login(request, user)
    refused, signed_in = Entry.objects.filter(kind="sign_in").order_by("id")
    assert json.loads(refused.record)["details"]["what"] == "refused"
    assert json.loads(signed_in.record)["details"]["ip"] == "192.0.2.7"
    assert signed_in.actor == f"user:{cast.mina.pk}"
    assert "wrong" not in refused.record
    assert timezone.now() - signed_in.at < dt.timedelta(minutes=1)
