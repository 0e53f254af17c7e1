"""The admin: a way in for administrators alone, through the same actions, with the token write-only and the record read-only."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.db.models import Model
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from integrations.fields import seal
from integrations.models import (
    Attempt,
    CheckRun,
    Connection,
    ConnectionKey,
    ConnectionTest,
    Delivery,
    Feed,
    IntendedGap,
    Mirror,
    MirroredDocument,
    MirroredIncident,
    MirrorPart,
    MutedFinding,
    NoticedGap,
    NoticeSettings,
    PastKnown,
    PastShift,
    RunningTest,
    StandingCheck,
    Watch,
)
from integrations.webhooks.actions import do_set_webhook
from policies.actions import do_set_membership
from policies.models import (
    AgentCalls,
    AgentKey,
    Alarm,
    BrowserSession,
    Checkpoint,
    ConfigChange,
    Counted,
    Digest,
    Entry,
    Invitation,
    JournalCheck,
    KeyNetwork,
    LastVerification,
    Membership,
    ReadsGoOn,
    Reveal,
    Review,
    SavedView,
    SignInFailures,
    Stop,
    Stream,
    Team,
    ToolCalls,
    ToolRequest,
    ToolRule,
    ToolSetting,
    User,
)
from tests.conftest import PASSWORD, Cast

TOKEN = "y_NbAkKc66ryYTWUXYEu"
HOOK = "https://hooks.example.com/services/T0/B0/s3cr3tXYZ1"
OURS = [model for label in ("policies", "integrations") for model in apps.get_app_config(label).get_models()]


@pytest.fixture
def ada(client: Client, cast: Cast) -> Client:
    client.force_login(cast.ada)
    return client


def connection_of(cast: Cast) -> Connection:
    row = Connection(
        team=cast.payments, name="Main", kind="account", last4="XYEu", fingerprint="f" * 64, from_email="a@b.example"
    )
    row.token = seal(row.pk, TOKEN)
    row.save()
    return row


def typed(cast: Cast, token: str) -> dict[str, Any]:
    """What an administrator types to register a token."""
    values = {"name": "Main", "region": "us", "kind": "user", "from_email": "ada@example.com", "whole_account": "on"}
    return {**values, "team": cast.payments.pk, "new_token": token}


def test_every_model_is_there() -> None:
    assert {model for model in OURS if not admin.site.is_registered(model)} == set()


CHANGED: dict[type[Model], set[str]] = {
    User: {"add", "change"},
    Team: {"add", "change"},
    Membership: {"add", "change", "delete"},
    ToolSetting: {"add", "change"},
    ToolRule: {"add", "change"},
    Connection: {"add", "change", "delete"},
    IntendedGap: {"delete"},
    MutedFinding: {"delete"},
}
"""What administrators may do to rows; to all others nothing."""
ACTIONS: dict[type[Model], set[str]] = {
    AgentKey: {"revoke", "stop"},
    Team: {"switch_all_writes_off", "stop"},
    Membership: {"remove"},
    Stop: {"lift"},
    Connection: {"test", "switch_off", "remove"},
    IntendedGap: {"remove"},
    MutedFinding: {"remove"},
    Checkpoint: {"verify"},
    LastVerification: {"verify"},
    BrowserSession: {"end"},
    Feed: {"revoke"},
}


def mirror_of(row: Connection) -> None:
    now = timezone.now()
    Mirror.objects.create(connection=row, told="PagerDuty did not answer in time.")
    MirrorPart.objects.create(connection=row, kind="users", as_of=now, state={"queue": [["list", 0, 0]]})
    MirroredDocument.objects.create(
        connection=row, kind="users", remote_id="PUSR000", body=b"x", digest="d" * 64, read_at=now
    )
    MirroredIncident.objects.create(
        connection=row,
        remote_id="PI000000",
        created=1,
        read_at=2,
        change=1,
        body=b"packed-incident",
        entries=b"packed-entries",
    )
    PastShift.objects.create(connection=row, schedule_id="PSCH000", start=0, end=1, user_id="PUSR000")
    PastKnown.objects.create(connection=row, schedule_id="PSCH000", since=0, until=1)


def notices_of(cast: Cast, now: dt.datetime) -> None:
    """A row of each of what is noticed, checked and told."""
    of_team: dict[str, Any] = {"team": cast.payments, "connection": Connection.objects.get()}
    do_set_webhook(cast.payments, url=HOOK, by=cast.ada)
    NoticeSettings.objects.create(team=cast.payments)
    Delivery.objects.create(
        team=cast.payments, channel="webhook", event="test", subject="A test", text="A test.", created_at=now
    )
    Watch.objects.create(connection=of_team["connection"], at=now)
    NoticedGap.objects.create(
        **of_team,
        policy_id="PPOL000",
        policy_name="First",
        starts_at=now,
        ends_at=now,
        is_endless=False,
        noticed_at=now,
    )
    check = StandingCheck.objects.create(
        **of_team, kind="service", about_id="PSVC000", about_name="Shop", weekdays=[7], clock=dt.time(3),
        time_zone="UTC", whom="anybody", within_minutes=15, made_by="x",
    )  # fmt: skip
    CheckRun.objects.create(standing=check, at=now, state="holds", told="It holds.", occurrences=[], asked_by="x")


def rows_of_all(cast: Cast) -> dict[type[Model], Model]:
    """A row of every model, in the order of ``OURS``."""
    from integrations.actions import do_issue_agent_key
    from integrations.pagerduty.catalog import TOOLS
    from policies.actions import do_set_tool_rule, do_stop

    now = timezone.now()
    key, _ = do_issue_agent_key(connection_of(cast), name="bot", by=cast.ada, tools=TOOLS)
    do_stop(by=cast.ada, reason="tried", key=key)
    do_set_tool_rule("create_incident", tools=TOOLS, by=cast.ada, locked=True, reason="tried")
    ConnectionTest.objects.create(connection=Connection.objects.get(), passed=True, message="Fine.", asked_by="x")
    Attempt.objects.create(
        scope="s", request="r", is_keyed=True, actor="a", operation="o", decision_id="d", at=now, expires_at=now,
        answer="c2VhbGVk-answer",
    )  # fmt: skip
    ToolSetting.objects.create(team=cast.payments, tool="resolve_incident", state="off")
    Reveal.objects.create(team=cast.payments, kind="addresses")
    Alarm.objects.create(key=key, kind="denials", at=now, count=20)
    KeyNetwork.objects.create(key=key, network="192.0.2.0/24", first_at=now)
    ToolCalls.objects.create(team_id=cast.payments.pk, begins=now, tool="list_incidents", calls=2, denied=1)
    Counted.objects.create()
    Checkpoint.objects.create(at=now, document="{}", signature="x", public_key="y")
    LastVerification.objects.create(at=now, status="intact", told="Intact.")
    Review.objects.create(actor="x", first_id=1, last_id=2, note="n")
    SavedView.objects.create(user=cast.rhea, name="mine")
    SignInFailures.objects.create(subject="s", began_at=now)
    ReadsGoOn.objects.create(minutes=5, reason="r", actor="x")
    AgentCalls.objects.create(team_id=cast.payments.pk, begins=now, actor=f"key:{key.pk}", calls=2, denied=1)
    BrowserSession.objects.create(user=cast.mina, session_key="a-session-key")
    Invitation.objects.create(email="new@example.com", digest="a-digest", invited_by=cast.ada, expires_at=now)
    Feed.objects.create(user=cast.vic, connection=Connection.objects.get(), name="Nights", digest="a-feeds-digest")
    RunningTest.objects.create(connection=Connection.objects.get(), begun_at=now, of_candidate=False, asked_by="x")
    JournalCheck.objects.create(at=now, actor="x", seen_at=now, held="{}")
    Digest.objects.create(user=cast.ada, week=now.date())
    mirror_of(Connection.objects.get())
    IntendedGap.objects.create(
        connection=Connection.objects.get(), policy_id="PPOL000", starts_at=now, ends_at=now, until=now, reason="closed"
    )
    MutedFinding.objects.create(
        connection=Connection.objects.get(),
        policy_id="PPOL000",
        key="no_repeat:policy:PPOL000:0",
        until=now,
        reason="known",
    )
    notices_of(cast, now)
    ToolRequest.objects.create(
        team=cast.payments, user=cast.vic, subject="user:1", tool="list_teams", why="w", rule="r"
    )
    return {model: model._default_manager.order_by("pk")[0] for model in OURS}


def paths(row: Model) -> dict[str, str]:
    name = f"admin:{row._meta.app_label}_{row._meta.model_name}"
    one = {what: reverse(f"{name}_{what}", args=[row.pk]) for what in ("change", "delete", "history")}
    return {"list": reverse(f"{name}_changelist"), "add": reverse(f"{name}_add"), **one}


@pytest.mark.parametrize("model", OURS, ids=lambda model: model.__name__)
def test_administrators_change_what_there_are_actions_for_and_are_shown_no_secret(
    ada: Client, cast: Cast, model: Any
) -> None:
    row = rows_of_all(cast)[model]
    allowed = CHANGED.get(model, set())
    connection, key = Connection.objects.get(), AgentKey.objects.get()
    before = model.objects.count()
    for what, path in paths(row).items():
        for method in (ada.get, ada.post):
            answer = method(path)
            if what in ("add", "change", "delete") and what not in allowed and (method == ada.post or what != "change"):
                assert answer.status_code == 403, (what, method)
            elif method == ada.get:
                assert answer.status_code == 200, what
            told = answer.content.decode()
            for secret in (
                TOKEN,
                HOOK,
                connection.token.ciphertext.decode(),
                key.digest,
                "c2VhbGVk-answer",
                "a-feeds-digest",
                cast.ada.password,
            ):
                assert secret not in told, what
    offered = re.findall(
        r'<option value="(\w+)">', ada.get(paths(row)["list"]).content.decode().partition('name="action"')[2]
    )
    assert set(offered) - {"1", "0"} == ACTIONS.get(model, set())
    # Nor does anything come of an action that is not offered, or was not confirmed.
    for action in {"delete_selected", *ACTIONS.get(model, set())}:
        ada.post(paths(row)["list"], {"action": action, "_selected_action": [str(row.pk)], "post": "yes"})
    assert model.objects.count() == before
    row.refresh_from_db()


@pytest.mark.parametrize("who", ["mina", "vic", "rhea", "zed", None], ids=str)
def test_nobody_else_gets_anything_of_it(client: Client, cast: Cast, who: str | None) -> None:
    rows = rows_of_all(cast)
    if who:
        client.force_login(getattr(cast, who))
    before = {model: list(model._default_manager.order_by("pk").values()) for model in OURS}
    for path in ["/admin/", *(path for row in rows.values() for path in paths(row).values())]:
        for answer in (client.get(path), client.post(path, {"action": "remove", "confirmed": "remove", "post": "yes"})):
            assert answer.status_code == 302, path
            assert answer.headers["location"].startswith(("/admin/login/", "/sign-in/")), path
    if who:
        told = client.get("/admin/login/?next=/admin/")
        assert told.status_code == 403
        assert "for administrators" in told.content.decode()
    assert {model: list(model._default_manager.order_by("pk").values()) for model in OURS} == before


def test_it_is_for_who_gave_a_second_factor(ada: Client, cast: Cast, settings: Any) -> None:
    settings.ADMIN_REQUIRES_MFA = True
    stop = rows_of_all(cast)[Stop]
    lift = {"action": "lift", "confirmed": "lift", "_selected_action": [str(stop.pk)], "reason": "mended"}
    for records in ([], [{"method": "password", "at": 1.0, "email": "ada@example.com"}]):
        session = ada.session
        session["account_authentication_methods"] = records
        session["account_authentication_methods_user"] = str(cast.ada.pk)
        session.save()
        assert "asks for a second factor" in ada.get("/admin/", follow=True).content.decode()
        assert ada.post("/admin/policies/stop/", lift).status_code == 302
        assert Stop.objects.exists()
    session["account_authentication_methods"].append({"method": "mfa", "at": 2.0, "type": "totp"})
    session.save()
    assert ada.get("/admin/").status_code == 200
    ada.post("/admin/policies/stop/", lift)
    assert not Stop.objects.exists()


def test_a_password_is_changed_where_it_is_on_record(ada: Client, cast: Cast) -> None:
    given = {"old_password": PASSWORD, "new_password1": "a long pass phrase", "new_password2": "a long pass phrase"}
    assert ada.post("/admin/password_change/", given).headers["location"] == "/account/"
    cast.ada.refresh_from_db()
    assert cast.ada.check_password(PASSWORD)


def test_passwords_are_typed_at_one_door(client: Client, cast: Cast) -> None:
    answer = client.post(
        "/admin/login/?next=/admin/policies/user/", {"username": "ada@example.com", "password": PASSWORD}
    )
    assert answer.headers["location"] == "/sign-in/?next=/admin/policies/user/"
    assert "_auth_user_id" not in client.session


@pytest.mark.parametrize(
    "query",
    ["", "?p=2", "?p=3", "?kind=result", "?verdict=deny&p=2", "?q=d7", "?o=1", "?p=x", "?all=", "?_facets=True"],
)
def test_the_journal_is_opened_without_counting_it(ada: Client, cast: Cast, query: str) -> None:
    stream = Stream.objects.create(name="s", created_at=timezone.now())
    Entry.objects.bulk_create(
        Entry(
            stream=stream, seq=number, at=timezone.now(), kind="result", decision_id=f"d{number}", actor="key:1",
            verdict="deny", outcome="denied", record="{}",
        )
        for number in range(120)
    )  # fmt: skip
    with CaptureQueriesContext(connection) as asked:
        answer = ada.get(f"/admin/policies/entry/{query}")
    assert answer.status_code == 200
    of_entries = [one["sql"] for one in asked if "policies_entry" in one["sql"]]
    assert len(of_entries) <= 3
    assert len(asked) <= 7
    for sql in of_entries:
        assert "COUNT(" not in sql
        assert "DISTINCT" not in sql
        assert "LIMIT" in sql or '"decision_id" = ' in sql
    shown = answer.content.decode()
    assert shown.count('class="field-decision_id') == {"?p=3": Entry.objects.count() - 100, "?q=d7": 1}.get(query, 50)
    assert "120" not in shown.partition('class="paginator"')[2].partition("</p>")[0]


def test_filters_look_at_the_newest_of_the_journal(ada: Client, cast: Cast) -> None:
    stream = Stream.objects.create(name="s", created_at=timezone.now())
    Entry.objects.bulk_create(
        Entry(pk=pk, stream=stream, seq=pk, at=timezone.now(), kind="result", decision_id=f"d{pk}", record="{}")
        for pk in (101, 10_101, 10_102)
    )
    shown = ada.get("/admin/policies/entry/?kind=result").content.decode()
    assert ("d101<" in shown, "d10101<" in shown, "d10102<" in shown) == (False, True, True)
    assert "d101<" in ada.get("/admin/policies/entry/?q=d101").content.decode()
    assert ada.get("/admin/policies/entry/101/change/").status_code == 200


def test_nobody_finds_out_by_a_filter_what_no_list_shows(ada: Client, cast: Cast) -> None:
    BrowserSession.objects.create(user=cast.mina, session_key="k3y" * 10, ip="203.0.113.9")
    for asked in (
        "policies/browsersession/?session_key__startswith=k3",
        "policies/user/?password__startswith=argon2",
        "policies/agentkey/?digest__gt=7",
        "mfa/authenticator/?data__secret__startswith=g",
    ):
        assert ada.get(f"/admin/{asked}").status_code == 400
    assert "203.0.113.9" in ada.get("/admin/policies/browsersession/?ip__startswith=203").content.decode()


@pytest.mark.parametrize("model", OURS, ids=lambda model: model.__name__)
def test_a_list_costs_as_many_queries_however_many_rows(ada: Client, cast: Cast, model: Any) -> None:
    rows_of_all(cast)
    path = paths(model._default_manager.first())["list"]
    with CaptureQueriesContext(connection) as few:
        ada.get(path)
    for number in range(3):
        team = Team.objects.create(name=f"t{number}", slug=f"t{number}")
        person = User.objects.create_user(f"u{number}@example.com", PASSWORD)
        Membership.objects.create(team=team, user=person)
        SavedView.objects.create(user=person, name="n")
        ToolSetting.objects.create(team=team, tool="resolve_incident", state="on")
        Reveal.objects.create(team=team, kind="keys")
        row = Connection(
            team=team, name="x", kind="user", last4="XYEu", fingerprint=f"{number}", from_email="a@b.example"
        )
        row.token = seal(row.pk, TOKEN)
        row.save()
        key = AgentKey.objects.create(team=team, name="k", prefix=f"p{number}")
        ConnectionKey.objects.create(key=key, connection=row)
        ConnectionTest.objects.create(connection=row, passed=True, message="Fine.", asked_by="x")
        mirror_of(row)
        Alarm.objects.create(key=key, kind="denials", at=timezone.now(), count=20)
        KeyNetwork.objects.create(key=key, network="192.0.2.0/24", first_at=timezone.now())
    with CaptureQueriesContext(connection) as more:
        ada.get(path)
    assert len(more) == len(few) <= 10


def test_the_token_goes_in_and_never_comes_out(ada: Client, cast: Cast) -> None:
    answer = ada.post("/admin/integrations/connection/add/", typed(cast, TOKEN), follow=True)
    assert "sealed" in answer.content.decode()
    row = Connection.objects.get()
    assert row.last4 == TOKEN[-4:]
    shown = ada.get(f"/admin/integrations/connection/{row.pk}/change/").content.decode()
    assert TOKEN not in shown
    assert row.token.ciphertext.decode() not in shown
    assert 'type="password"' in shown
    ada.post(f"/admin/integrations/connection/{row.pk}/change/", {"new_token": "u_" + TOKEN[2:]})
    row.refresh_from_db()
    assert row.candidate_last4 == TOKEN[-4:]
    assert TOKEN not in str(list(ConfigChange.objects.values())) + str(list(Entry.objects.values()))


def test_the_add_form_takes_bounds_and_an_expiry(ada: Client, cast: Cast) -> None:
    values = typed(cast, TOKEN)
    del values["whole_account"]
    bounds = {"team_ids": "PTEAM01, PTEAM02", "service_ids": "PSVC001", "expires_on": "2099-03-01"}
    ada.post("/admin/integrations/connection/add/", {**values, **bounds})
    row = Connection.objects.get()
    assert (row.bound_team_ids, row.bound_service_ids) == (["PTEAM01", "PTEAM02"], ["PSVC001"])
    assert row.token_expires_at is not None
    assert row.token_expires_at.isoformat() == "2099-03-01T23:59:59+00:00"
    assert "PSVC001" in ada.get(f"/admin/integrations/connection/{row.pk}/change/").content.decode()


@pytest.mark.parametrize(
    ("path", "field"), [("integrations/connection", "new_token"), ("policies/user", "password")], ids=str
)
def test_what_is_secret_is_kept_out_of_error_reports(
    ada: Client, cast: Cast, monkeypatch: pytest.MonkeyPatch, path: str, field: str
) -> None:
    """As Django's report of an error would show the request."""
    from django.contrib.admin.options import ModelAdmin
    from django.http import HttpRequest
    from django.views.debug import SafeExceptionReporterFilter

    seen: dict[str, Any] = {}

    def look(self: Any, request: HttpRequest, *args: Any) -> Any:
        seen.update(SafeExceptionReporterFilter().get_post_parameters(request).items())
        return original(self, request, *args)

    original = ModelAdmin._changeform_view  # type: ignore[attr-defined]  # not in the stubs
    monkeypatch.setattr(ModelAdmin, "_changeform_view", look)
    ada.post(f"/admin/{path}/add/", {field: TOKEN, "name": "x"})
    assert seen[field] == SafeExceptionReporterFilter.cleansed_substitute
    assert seen["name"] == "x"


def test_groups_are_not_offered_for_they_give_no_rights(ada: Client) -> None:
    from django.contrib.auth.models import Group

    assert not admin.site.is_registered(Group)
    assert ada.get("/admin/auth/group/").status_code == 404


def test_revoking_in_the_admin_takes_a_reason(ada: Client, cast: Cast) -> None:
    from integrations.pagerduty.catalog import TOOLS
    from policies.actions import do_issue_key

    key, _ = do_issue_key(cast.payments, name="a", by=cast.ada, tools=TOOLS)
    chosen = {"action": "revoke", "confirmed": "revoke", "_selected_action": [str(key.pk)]}
    assert "Say why" in ada.post("/admin/policies/agentkey/", chosen, follow=True).content.decode()
    key.refresh_from_db()
    assert key.revoked_at is None
    ada.post("/admin/policies/agentkey/", {**chosen, "reason": "leaked"})
    key.refresh_from_db()
    assert key.revoked_at is not None
    assert ConfigChange.objects.get(action="revoke_key").reason == "leaked"


def test_a_stop_is_lifted_in_the_admin_with_a_reason(ada: Client, cast: Cast) -> None:
    from policies.actions import do_stop
    from policies.models import Stop

    stop = do_stop(by=cast.mina, reason="loops", team=cast.payments)
    chosen = {"action": "lift", "confirmed": "lift", "_selected_action": [str(stop.pk)]}
    assert "The reason is missing" in ada.post("/admin/policies/stop/", chosen, follow=True).content.decode()
    assert Stop.objects.exists()
    ada.post("/admin/policies/stop/", {**chosen, "reason": "mended"})
    assert not Stop.objects.exists()
    assert ConfigChange.objects.get(action="lift_stop").reason == "mended"


def test_a_refused_token_says_why_and_registers_nothing(ada: Client, cast: Cast) -> None:
    answer = ada.post("/admin/integrations/connection/add/", typed(cast, "short"), follow=True)
    assert "16 to 512 letters, digits and signs" in answer.content.decode()
    assert not Connection.objects.exists()


def test_all_writes_are_switched_off_for_several_teams_at_once(ada: Client, cast: Cast) -> None:
    from integrations.pagerduty.catalog import TOOLS
    from policies.actions import do_set_tools
    from policies.core.call import State

    for team in (cast.payments, cast.search):
        do_set_tools(team, states={"resolve_incident": State.ON}, tools=TOOLS, by=cast.ada)
    chosen = {"action": "switch_all_writes_off", "_selected_action": [cast.payments.pk, cast.search.pk]}
    asked = ada.post("/admin/policies/team/", chosen).content.decode()
    assert "Every tool that writes is switched off in these teams" in asked
    assert "<li>Payments</li>" in asked
    assert set(ToolSetting.objects.values_list("state", flat=True)) == {"on"}
    chosen["confirmed"] = "switch_all_writes_off"
    answer = ada.post("/admin/policies/team/", chosen, follow=True)
    assert "2 tools changed" in answer.content.decode()
    assert set(ToolSetting.objects.values_list("state", flat=True)) == {"off"}
    assert ConfigChange.objects.filter(action="set_tool", actor="ada@example.com", after="off").count() == 2


def test_people_and_rules_are_changed_by_the_actions(ada: Client, cast: Cast) -> None:
    values = {
        "email": "New@example.com",
        "name": "New",
        "role": "",
        "is_active": "on",
        "password": "a long pass phrase",
    }
    ada.post("/admin/policies/user/add/", values)
    person = User.objects.get(email="new@example.com")
    assert person.check_password("a long pass phrase")
    assert ConfigChange.objects.filter(action="create_user", target="new@example.com").exists()
    ada.post(f"/admin/policies/user/{person.pk}/change/", {"name": "Newer", "role": "auditor", "is_active": "on"})
    person.refresh_from_db()
    assert (person.name, person.role) == ("Newer", "auditor")
    answer = ada.post(
        f"/admin/policies/user/{cast.ada.pk}/change/", {"name": "Ada", "role": "", "is_active": "on"}, follow=True
    )
    assert "cannot take your own administration away" in answer.content.decode()
    rule = {"tool": "resolve_incident", "locked": "on", "risk": "high", "reason": "review"}
    ada.post("/admin/policies/toolrule/add/", rule)
    assert ToolRule.objects.get().locked
    assert ConfigChange.objects.filter(action="set_tool_rule").exists()
    answer = ada.post("/admin/policies/toolrule/add/", {"tool": "create_incident", "risk": "low"}, follow=True)
    assert "can only be raised" in answer.content.decode()


def journalled(action: str) -> int:
    """How many configuration changes of a kind stand in the journal."""
    return Entry.objects.filter(kind="config", record__contains=f'"action":"{action}"').count()


def test_members_are_named_by_the_actions_inline_and_in_their_list(ada: Client, cast: Cast) -> None:
    ada.post("/admin/policies/team/add/", {"name": "Platform", "slug": "platform"})
    team = Team.objects.get(slug="platform")
    assert journalled("create_team") == 1
    path, inline = f"/admin/policies/team/{team.pk}/change/", "memberships-"
    management = {f"{inline}INITIAL_FORMS": 0, f"{inline}MIN_NUM_FORMS": 0, f"{inline}MAX_NUM_FORMS": 1000}
    new = {
        f"{inline}0-user": cast.vic.pk,
        f"{inline}0-role": "manager",
        f"{inline}0-team": team.pk,
        f"{inline}0-id": "",
    }
    ada.post(path, {**management, f"{inline}TOTAL_FORMS": 1, **new})
    row = Membership.objects.get(team=team)
    assert (row.user, row.role, journalled("set_membership")) == (cast.vic, "manager", 1)
    # Somebody must go on managing it.
    do_set_membership(team, user=cast.mina, role="manager", by=cast.ada)
    others = Membership.objects.filter(team=team).exclude(user=cast.mina)
    # An auditor manages nothing: what the action refuses is told, and not done.
    management |= {f"{inline}INITIAL_FORMS": 1, f"{inline}TOTAL_FORMS": 2}
    kept = {**new, f"{inline}0-id": row.pk}
    auditor = {
        f"{inline}1-user": cast.rhea.pk,
        f"{inline}1-role": "manager",
        f"{inline}1-team": team.pk,
        f"{inline}1-id": "",
    }
    answer = ada.post(path, {**management, **kept, **auditor}, follow=True)
    assert "changes nothing: name another manager" in answer.content.decode()
    management[f"{inline}TOTAL_FORMS"] = 1
    ada.post(path, {**management, **kept, f"{inline}0-role": "member"})
    row.refresh_from_db()
    assert (row.role, journalled("set_membership")) == ("member", 3)
    ada.post(path, {**management, **kept, f"{inline}0-role": "member", f"{inline}0-DELETE": "on"})
    assert not others.exists()
    assert journalled("remove_member") == 1
    ada.post("/admin/policies/membership/add/", {"team": team.pk, "user": cast.zed.pk, "role": "member"})
    row = others.get()
    ada.post(f"/admin/policies/membership/{row.pk}/change/", {"role": "manager"})
    assert (others.get().role, journalled("set_membership")) == ("manager", 5)
    # Several at once, and from the page of one.
    chosen = {"action": "remove", "confirmed": "remove", "_selected_action": [row.pk], "reason": "left"}
    assert "Remove from their teams" in ada.post(f"/admin/policies/membership/{row.pk}/delete/").content.decode()
    assert others.exists()
    ada.post("/admin/policies/membership/", chosen)
    assert not others.exists()
    assert ConfigChange.objects.filter(action="remove_member").latest("pk").reason == "left"
    assert journalled("remove_member") == 2


def test_what_is_refused_of_one_is_done_to_none(ada: Client, cast: Cast) -> None:
    from policies.actions import do_create_personal_workspace

    do_create_personal_workspace(cast.zed, by=cast.zed)
    everybody = list(Membership.objects.order_by("pk").values_list("pk", flat=True))
    some = list(Membership.objects.filter(user__in=[cast.vic, cast.zed]).order_by("pk").values_list("pk", flat=True))
    chosen = {"action": "remove", "confirmed": "remove", "_selected_action": some}
    answer = ada.post("/admin/policies/membership/", chosen, follow=True).content.decode()
    assert "A personal workspace has its owner alone." in answer
    assert list(Membership.objects.order_by("pk").values_list("pk", flat=True)) == everybody
    assert journalled("remove_member") == 0


def test_a_tool_is_set_by_the_action_and_nobody_is_overwritten(ada: Client, cast: Cast) -> None:
    ada.post("/admin/policies/toolsetting/add/", {"team": cast.payments.pk, "tool": "resolve_incident", "state": "on"})
    row = ToolSetting.objects.get()
    assert (row.state, journalled("set_tool")) == ("on", 1)
    path = f"/admin/policies/toolsetting/{row.pk}/change/"
    ada.post(path, {"state": "needs_approval", "reason": "tried"})
    row.refresh_from_db()
    assert (row.state, journalled("set_tool")) == ("needs_approval", 2)
    answer = ada.post(
        "/admin/policies/toolsetting/add/",
        {"team": cast.payments.pk, "tool": "create_incident", "state": "on"},
        follow=True,
    )
    assert not ToolSetting.objects.filter(tool="create_incident").exists()  # it is of high risk, and nobody said why
    assert "why" in answer.content.decode()


def test_connections_are_deleted_with_what_hangs_on_them(ada: Client, cast: Cast) -> None:
    rows_of_all(cast)
    row = Connection.objects.get()
    asked = ada.get(f"/admin/integrations/connection/{row.pk}/delete/").content.decode()
    assert "the agent keys that use them are revoked" in asked
    ada.post(
        f"/admin/integrations/connection/{row.pk}/delete/",
        {"action": "remove", "confirmed": "remove", "_selected_action": [str(row.pk)], "reason": "moved"},
    )
    assert not Connection.objects.exists()
    assert AgentKey.objects.get().revoked_at is not None
    assert (journalled("delete_connection"), journalled("revoke_key")) == (1, 1)
    # Django's own history, which would keep what was typed, is not kept.
    assert not LogEntry.objects.exists()


def test_connections_are_tested_and_the_journal_is_verified_on_demand(
    ada: Client, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = rows_of_all(cast)
    tested: list[Any] = []

    def test(row: Connection, *, by: User) -> ConnectionTest:
        tested.append((row, by))
        return ConnectionTest(connection=row, passed=False, message="PagerDuty does not know the token.")

    asked: list[str] = []
    monkeypatch.setattr("integrations.admin.test_connection", test)
    monkeypatch.setattr("integrations.admin.verify_journal.enqueue", lambda: asked.append("verify"))
    for model, action, told in (
        (Connection, "test", "Main of Payments: PagerDuty does not know the token."),
        (Checkpoint, "verify", "The worker verifies the journal now"),
    ):
        chosen = {"action": action, "_selected_action": [str(rows[model].pk)]}
        assert told not in ada.post(paths(rows[model])["list"], chosen).content.decode()
        assert (tested, asked) == ([], []) or model is Checkpoint
        assert (
            told in ada.post(paths(rows[model])["list"], chosen | {"confirmed": action}, follow=True).content.decode()
        )
    assert tested == [(rows[Connection], cast.ada)]
    assert asked == ["verify"]
