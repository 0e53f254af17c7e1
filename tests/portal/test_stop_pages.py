"""The kill switch on the pages: who may pull it, what it says before, who sees it until who lifts it; and its rehearsal."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest
from django.db import connection as database
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from integrations.actions import do_issue_agent_key
from integrations.models import Connection
from integrations.pagerduty.catalog import TOOLS
from policies.actions import Refused, do_lift_stop, do_rehearse_stop, do_revoke_key, do_set_tools, do_stop
from policies.core.call import Entry as NewEntry
from policies.core.call import EntryKind, Outcome, State
from policies.journal import append_in_transaction
from policies.models import AgentKey, ConfigChange, Entry, Stop, ToolSetting
from policies.rehearsal import rehearse
from policies.snapshot import current_version, load_policy
from tests.conftest import Cast

TEAM = "/teams/payments/stop/"
WRITES = "/teams/payments/tools/writes-off/"
STOP = {"action": "stop", "reason": "it loops"}


@pytest.fixture
def key(cast: Cast, connection: Connection) -> AgentKey:
    return do_issue_agent_key(connection, name="night bot", by=cast.ada, tools=TOOLS)[0]


def as_(client: Client, cast: Cast, who: str) -> Client:
    client.force_login(getattr(cast, who))
    return client


def of(key: AgentKey) -> str:
    return f"/teams/payments/agents/{key.pk}/stop/"


# Who may


@pytest.mark.parametrize(
    ("who", "status"), [("ada", 200), ("mina", 200), ("vic", 403), ("rhea", 403), ("omar", 404), ("zed", 404)]
)
def test_a_team_its_agents_and_its_writes_are_stopped_by_who_manages_it(
    client: Client, cast: Cast, key: AgentKey, who: str, status: int
) -> None:
    before = Entry.objects.filter(kind="config").count()
    for path in (TEAM, WRITES, of(key)):
        assert as_(client, cast, who).get(path).status_code == status
        if status != 200:
            for action in ("stop", "rehearse"):
                assert client.post(path, {**STOP, "action": action}).status_code == status
    assert not Stop.objects.exists()
    assert Entry.objects.filter(kind="config").count() == before


@pytest.mark.parametrize(("who", "status"), [("mina", 403), ("vic", 403), ("rhea", 403), ("zed", 403)])
def test_everything_is_stopped_by_administrators_alone(client: Client, cast: Cast, who: str, status: int) -> None:
    as_(client, cast, who)
    assert client.get("/stop/").status_code == status
    assert client.post("/stop/", STOP).status_code == status
    assert client.post("/stop/", {**STOP, "action": "rehearse"}).status_code == status
    assert not Stop.objects.exists()
    assert "/stop/" not in client.get("/").content.decode()


def test_strangers_are_sent_to_the_sign_in(client: Client, cast: Cast, key: AgentKey) -> None:
    stop = do_stop(by=cast.mina, reason="it loops", team=cast.payments)
    for path in ("/stop/", TEAM, WRITES, of(key), f"/stops/{stop.pk}/"):
        assert client.post(path, STOP)["Location"].startswith("/sign-in/")
    assert "has been stopped" not in client.get("/sign-in/").content.decode()


def test_another_teams_key_is_not_found(client: Client, cast: Cast, key: AgentKey) -> None:
    as_(client, cast, "omar")
    assert client.post(f"/teams/search/agents/{key.pk}/stop/", STOP).status_code == 404
    assert not Stop.objects.exists()


def test_a_look_changes_nothing_whatever_the_address_says(client: Client, cast: Cast, key: AgentKey) -> None:
    stop = do_stop(by=cast.mina, reason="it loops", team=cast.payments)
    as_(client, cast, "ada")
    before = ConfigChange.objects.count()
    for path in ("/stop/", of(key), WRITES, f"/stops/{stop.pk}/"):
        assert client.get(path, STOP).status_code == 200
        assert client.put(path).status_code == 405
    assert Stop.objects.get() == stop
    assert ConfigChange.objects.count() == before


def test_a_click_from_elsewhere_does_nothing(cast: Cast, key: AgentKey) -> None:
    stop = do_stop(by=cast.ada, reason="it loops", team=cast.payments)
    client = Client(enforce_csrf_checks=True)
    client.force_login(cast.ada)
    for path in ("/stop/", of(key), WRITES, f"/stops/{stop.pk}/"):
        assert client.post(path, STOP).status_code == 403
    assert Stop.objects.get() == stop


# Stopped


def test_a_manager_stops_an_agent_after_being_told_what_that_does(client: Client, cast: Cast, key: AgentKey) -> None:
    as_(client, cast, "mina")
    assert f'href="{of(key)}"' in client.get("/teams/payments/agents/").content.decode()
    shown = client.get(of(key)).content.decode()
    assert "the next write at once, the next read within a second" in shown
    assert "What is under way already completes, and is recorded" in shown
    assert "The key is not revoked" in shown
    answer = client.post(of(key), STOP, follow=True)
    assert answer.redirect_chain == [("/teams/payments/agents/", 302)]
    shown = answer.content.decode()
    assert f"<strong>night bot (pwk_{key.prefix}) of Payments has been stopped</strong> by mina@example.com" in shown
    assert "<strong>Stopped</strong>" in shown
    assert f'href="/stops/{Stop.objects.get().pk}/"' in shown
    assert load_policy(current_version()).stops == {f"key:{key.pk}": "it loops"}
    change = ConfigChange.objects.get(action="stop")
    assert (change.actor, change.team_id, change.reason) == ("mina@example.com", cast.payments.pk, "it loops")
    assert Entry.objects.filter(kind="config", record__contains='"action":"stop"').exists()


def test_a_team_and_everything_are_stopped_likewise(client: Client, cast: Cast) -> None:
    as_(client, cast, "ada")
    assert f'href="{TEAM}"' in client.get("/teams/payments/tools/").content.decode()
    assert 'href="/stop/"' in client.get("/").content.decode()
    assert "of its people on these pages" in client.get(TEAM).content.decode()
    assert "Nothing at all goes out" in client.get("/stop/").content.decode()
    client.post(TEAM, STOP)
    assert client.post("/stop/", {**STOP, "reason": "fire"}, follow=True).redirect_chain == [("/", 302)]
    assert load_policy(current_version()).stops == {"everything": "fire", f"team:{cast.payments.pk}": "it loops"}
    assert "It is stopped already" in client.get(TEAM).content.decode()


@pytest.mark.parametrize("reason", ["", "  ", "x" * 501, "pwk_abcdefgh_" + "a" * 43])
def test_a_stop_without_a_fit_reason_is_refused_and_nothing_is_stopped(client: Client, cast: Cast, reason: str) -> None:
    answer = as_(client, cast, "mina").post(TEAM, {**STOP, "reason": reason})
    assert answer.status_code == 422
    assert 'role="alert"' in answer.content.decode()
    assert not Stop.objects.exists()


def test_a_form_that_does_not_say_what_is_refused(client: Client, cast: Cast) -> None:
    as_(client, cast, "mina")
    for values in ({"reason": "x"}, {"reason": "x", "action": "lift"}):
        assert client.post(TEAM, values).status_code == 404
    assert not Stop.objects.exists()


# Seen


PAGES = ("/", "/teams/", "/audit/", "/account/", "/catalogue/", "/nothing/", "/audit/999999/")


def test_a_stop_stands_on_every_page_of_whom_it_holds(client: Client, cast: Cast, key: AgentKey) -> None:
    do_stop(by=cast.mina, reason="it <b>loops</b>", team=cast.payments)
    for who in ("ada", "mina", "vic", "rhea"):
        as_(client, cast, who)
        for page in (*PAGES, *(f"/teams/payments/{name}/" for name in ("tools", "connections", "agents", "members"))):
            shown = client.get(page).content.decode()
            assert "<strong>Payments has been stopped</strong> by mina@example.com: it &lt;b&gt;loops" in shown, page
            assert ("Lift the stop …" in shown) is (who in ("ada", "mina"))
    for who in ("omar", "zed"):
        as_(client, cast, who)
        assert all("has been stopped" not in client.get(page).content.decode() for page in PAGES)
    do_stop(by=cast.ada, reason="fire")
    for who in ("omar", "zed", "mina"):
        as_(client, cast, who)
        shown = client.get("/catalogue/").content.decode()
        assert "<strong>Everything has been stopped</strong> by ada@example.com: fire" in shown


def test_it_stands_in_the_administration_too(client: Client, cast: Cast) -> None:
    as_(client, cast, "ada")
    assert "has been stopped" not in client.get("/admin/").content.decode()
    stop = do_stop(by=cast.ada, reason="fire <i>")
    for page in ("/admin/", "/admin/policies/stop/"):
        shown = client.get(page).content.decode()
        assert "Everything has been stopped by ada@example.com: fire &lt;i&gt;" in shown
        assert f'href="/stops/{stop.pk}/"' in shown


def test_many_stops_are_folded_and_cost_no_more_look_ups(client: Client, cast: Cast, key: AgentKey) -> None:
    as_(client, cast, "mina")
    do_stop(by=cast.mina, reason="one", key=key)
    client.get("/catalogue/")
    with CaptureQueriesContext(database) as one:
        client.get("/catalogue/")
    for number in range(6):
        Stop.objects.create(
            subject=f"key:00000000-0000-4000-8000-00000000000{number}",
            target=f"bot {number}",
            team_id=cast.payments.pk,
            reason="x",
            actor="y",
            by_administrator=False,
        )
    with CaptureQueriesContext(database) as seven:
        shown = client.get("/catalogue/").content.decode()
    assert len(seven) == len(one)
    assert "And 4 more stops are in force" in shown
    assert shown.count("has been stopped") == 7


# Lifted


def test_whoever_pulled_it_lifts_it_after_being_told_what_that_does(client: Client, cast: Cast, key: AgentKey) -> None:
    do_stop(by=cast.mina, reason="it loops", team=cast.payments)
    stop = do_stop(by=cast.mina, reason="this one most", key=key)
    as_(client, cast, "mina")
    shown = client.get(f"/stops/{stop.pk}/").content.decode()
    assert "this one most" in shown
    assert "may call again within a second" in shown
    assert "These stay stopped" in shown
    assert client.post(f"/stops/{stop.pk}/", {"reason": " "}).status_code == 422
    assert Stop.objects.filter(pk=stop.pk).exists()
    answer = client.post(f"/stops/{stop.pk}/", {"reason": "mended"}, follow=True)
    assert "The stop is lifted" in answer.content.decode()
    assert [row.subject for row in Stop.objects.all()] == [f"team:{cast.payments.pk}"]
    assert ConfigChange.objects.get(action="lift_stop").reason == "mended"
    assert client.post(f"/stops/{stop.pk}/", {"reason": "again"}).status_code == 404


@pytest.mark.parametrize(
    ("who", "seen", "lifted"),
    [
        ("ada", 200, 302),
        ("mina", 200, 302),
        ("vic", 200, 403),
        ("rhea", 200, 403),
        ("omar", 404, 404),
        ("zed", 404, 404),
    ],
)
def test_a_managers_stop_is_lifted_by_managers_and_administrators(
    client: Client, cast: Cast, who: str, seen: int, lifted: int
) -> None:
    stop = do_stop(by=cast.mina, reason="it loops", team=cast.payments)
    as_(client, cast, who)
    answer = client.get(f"/stops/{stop.pk}/")
    assert answer.status_code == seen
    if seen == 200:
        assert ('type="submit">Lift the stop' in answer.content.decode()) is (lifted == 302)
        assert "A manager of the team, or an administrator" in answer.content.decode()
    assert client.post(f"/stops/{stop.pk}/", {"reason": "mended"}).status_code == lifted
    assert Stop.objects.exists() is (lifted != 302)


@pytest.mark.parametrize("everything", [True, False])
def test_an_administrators_stop_is_lifted_by_administrators_alone(client: Client, cast: Cast, everything: bool) -> None:
    stop = do_stop(by=cast.ada, reason="fire", team=None if everything else cast.payments)
    as_(client, cast, "mina")
    shown = client.get(f"/stops/{stop.pk}/").content.decode()
    assert "ask an administrator" in shown
    assert client.post(f"/stops/{stop.pk}/", {"reason": "mended"}).status_code == 403
    with pytest.raises(Refused):
        do_lift_stop(stop, by=cast.mina, reason="mended")
    as_(client, cast, "ada")
    assert client.post(f"/stops/{stop.pk}/", {"reason": "over"}).status_code == 302
    assert not Stop.objects.exists()


def test_rows_are_filtered_by_who_asks(cast: Cast, key: AgentKey) -> None:
    mine = do_stop(by=cast.mina, reason="x", key=key)
    theirs = do_stop(by=cast.ada, reason="x", team=cast.search)
    all_ = do_stop(by=cast.ada, reason="x")
    seen = {"ada": {mine, theirs, all_}, "rhea": {mine, theirs, all_}, "mina": {mine, all_}, "vic": {mine, all_}}
    seen |= {"omar": {theirs, all_}, "zed": {all_}}
    edited: dict[str, set[Stop]] = {"ada": {mine, theirs, all_}, "mina": {mine}}
    for who in seen:
        assert set(Stop.objects.visible_to(getattr(cast, who))) == seen[who]
        assert set(Stop.objects.editable_by(getattr(cast, who))) == edited.get(who, set())
    cast.mina.is_active = False
    assert not Stop.objects.visible_to(cast.mina).exists()
    assert not Stop.objects.editable_by(None).exists()


# Rehearsed


def called(key: AgentKey, *, kind: EntryKind = EntryKind.RESULT, minutes: int = 1, **given: Any) -> None:
    at = timezone.now() - dt.timedelta(minutes=minutes)
    values = {"actor": f"key:{key.pk}", "tool": "list_incidents", "verdict": "allow", **given}
    append_in_transaction(
        NewEntry(kind, at, f"d{Entry.objects.count()}", key.team_id, outcome=Outcome.DONE, details={}, **values)
    )


def test_a_rehearsal_shows_what_would_be_stopped_and_stops_nothing(client: Client, cast: Cast, key: AgentKey) -> None:
    connection = cast.payments.connections.get()
    do_issue_agent_key(connection, name="quiet bot", by=cast.ada, tools=TOOLS)
    gone, _ = do_issue_agent_key(connection, name="gone bot", by=cast.ada, tools=TOOLS)
    do_revoke_key(gone, by=cast.ada)
    for minutes in (1, 2, 59, 61):
        called(key, minutes=minutes)
    called(key, kind=EntryKind.INTENT)
    called(key, actor="user:1")
    called(gone)
    as_(client, cast, "mina")
    version, changes = current_version(), ConfigChange.objects.count()
    answer = client.post(TEAM, {"action": "rehearse", "reason": ""})
    shown = answer.content.decode()
    assert answer.status_code == 200
    assert "<strong>Nothing was stopped</strong>" in shown
    assert "It would have held 2 usable keys" in shown
    assert "5 calls, 2 of them by people" in shown
    assert shown.index("night bot") < shown.index("quiet bot")
    assert '<td data-label="Calls in the last hour">3</td>' in shown
    assert '<td data-label="Writes let through">1</td>' in shown
    assert "gone bot" not in shown
    assert not Stop.objects.exists()
    assert (current_version(), ConfigChange.objects.count()) == (version, changes)
    entry = Entry.objects.order_by("-id")[0]
    details = json.loads(entry.record)["details"]
    assert (entry.kind, entry.team_id, details["action"], details["by"]) == (
        "config",
        cast.payments.pk,
        "rehearse_stop",
        "mina@example.com",
    )
    assert details["after"] == {"keys": 2, "calls": 5}
    assert client.get(f"/audit/{entry.pk}/").status_code == 200


def test_a_rehearsal_of_a_key_and_of_everything(client: Client, cast: Cast, key: AgentKey) -> None:
    called(key)
    called(key, actor="user:1")
    as_(client, cast, "ada")
    shown = client.post(of(key), {"action": "rehearse", "reason": "drill"}).content.decode()
    assert "It would have held 1 usable key. In the last hour: 1 call." in shown
    do_stop(by=cast.ada, reason="x", team=cast.payments)
    shown = client.post("/stop/", {"action": "rehearse", "reason": "drill"}).content.decode()
    assert "2 calls, 1 of them by people" in shown
    assert "night bot (stopped already)" in shown
    assert Stop.objects.count() == 1


def test_nobody_rehearses_what_they_may_not_stop(cast: Cast, key: AgentKey) -> None:
    for by, given in ((cast.mina, {}), (cast.vic, {"team": cast.payments}), (cast.rhea, {}), (cast.omar, {"key": key})):
        with pytest.raises(Refused):
            do_rehearse_stop(by=by, **given)


def test_a_flood_is_said_to_be_one(cast: Cast, key: AgentKey, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        called(key)
    assert rehearse(cast.payments, None, timezone.now()).whole_hour
    monkeypatch.setattr("policies.rehearsal.LOOKED_AT", 2)
    found = rehearse(cast.payments, None, timezone.now())
    assert (found.whole_hour, found.calls) == (False, 2)


# All writes off


def test_all_writes_of_a_team_go_off_after_they_were_listed(client: Client, cast: Cast) -> None:
    for team, by in ((cast.payments, cast.mina), (cast.search, cast.omar)):
        do_set_tools(
            team,
            states={"create_incident": State.ON, "resolve_incident": State.ON},
            tools=TOOLS,
            by=by,
            reason="a test",
        )
    as_(client, cast, "mina")
    assert f'href="{WRITES}"' in client.get("/teams/payments/tools/").content.decode()
    shown = client.get(WRITES).content.decode()
    assert "Create incident" in shown
    assert "List incidents" not in shown
    assert "Switch 2 tools off" in shown
    assert client.post(WRITES, {"reason": ""}).status_code == 422
    assert ToolSetting.objects.filter(team=cast.payments, state="on").count() == 2
    answer = client.post(WRITES, {"reason": "a quiet night"}, follow=True)
    assert "All writes of Payments are off: 2 tools changed." in answer.content.decode()
    policy = load_policy(current_version())
    assert not [t for t in TOOLS.values() if t.writes and policy.state(cast.payments.pk, t) is not State.OFF]
    assert policy.state(cast.payments.pk, TOOLS["list_incidents"]) is State.ON
    assert ToolSetting.objects.filter(team=cast.search, state="on").count() == 2
    changes = ConfigChange.objects.filter(reason="a quiet night")
    assert {change.target for change in changes} == {"create_incident", "resolve_incident"}
    assert "It would change nothing" in client.get(WRITES).content.decode()
