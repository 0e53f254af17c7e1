"""The admin: a way in for administrators alone, through the same actions, with the token write-only and the record read-only."""

from __future__ import annotations

from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.test import Client
from django.urls import reverse

from integrations.fields import seal
from integrations.models import Connection
from policies.models import AgentKey, ConfigChange, Entry, ToolRule, ToolSetting, User
from tests.conftest import Cast

TOKEN = "y_NbAkKc66ryYTWUXYEu"
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


@pytest.mark.parametrize("model", OURS, ids=lambda model: model.__name__)
def test_every_list_opens_and_shows_no_secret(ada: Client, cast: Cast, model: Any) -> None:
    row = connection_of(cast)
    answer = ada.get(reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist"))
    assert answer.status_code == 200
    assert TOKEN not in answer.content.decode()
    assert row.token.ciphertext.decode() not in answer.content.decode()


@pytest.mark.parametrize("who", ["mina", "vic", "rhea", "zed"])
def test_nobody_but_administrators_gets_in(client: Client, cast: Cast, who: str) -> None:
    client.force_login(getattr(cast, who))
    assert client.get("/admin/").status_code == 302
    assert client.get("/admin/policies/user/").status_code == 302


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
    chosen = {"action": "revoke", "_selected_action": [str(key.pk)]}
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
    chosen = {"action": "lift", "_selected_action": [str(stop.pk)]}
    assert "The reason is missing" in ada.post("/admin/policies/stop/", chosen, follow=True).content.decode()
    assert Stop.objects.exists()
    ada.post("/admin/policies/stop/", {**chosen, "reason": "mended"})
    assert not Stop.objects.exists()
    assert ConfigChange.objects.get(action="lift_stop").reason == "mended"


def test_a_refused_token_says_why_and_registers_nothing(ada: Client, cast: Cast) -> None:
    answer = ada.post("/admin/integrations/connection/add/", typed(cast, "short"), follow=True)
    assert "16 to 512 letters, digits and signs" in answer.content.decode()
    assert not Connection.objects.exists()


@pytest.mark.parametrize("model", [Entry, ConfigChange, AgentKey, ToolSetting], ids=lambda model: model.__name__)
def test_the_record_is_read_only(ada: Client, cast: Cast, model: Any) -> None:
    path = f"/admin/policies/{model._meta.model_name}/add/"
    assert ada.get(path).status_code == 403
    assert ada.post(path, {}).status_code == 403
    assert "Delete selected" not in ada.get(f"/admin/policies/{model._meta.model_name}/").content.decode()


def test_all_writes_are_switched_off_for_several_teams_at_once(ada: Client, cast: Cast) -> None:
    from integrations.pagerduty.catalog import TOOLS
    from policies.actions import do_set_tools
    from policies.core.call import State

    for team in (cast.payments, cast.search):
        do_set_tools(team, states={"resolve_incident": State.ON}, tools=TOOLS, by=cast.ada)
    chosen = {"action": "switch_all_writes_off", "_selected_action": [cast.payments.pk, cast.search.pk]}
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
