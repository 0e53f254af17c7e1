"""The pages, asked by each of the cast: who sees what, who changes what, and what is said when it is refused."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from django.test import Client
from django.utils.html import strip_tags

from integrations.actions import do_issue_agent_key, do_register_token
from integrations.models import Connection
from integrations.pagerduty.catalog import TOOLS
from integrations.pagerduty.tools.definitions import tokens
from policies.actions import do_set_tools
from policies.core.call import EntryKind, State
from policies.models import AgentKey, ConfigChange, Entry, Membership, Team, ToolSetting
from portal.audit.rows import _changed
from tests.conftest import PASSWORD, Cast

TOKEN = "y_NbAkKc66ryYTWUXYEu"
PAGES = ("tools", "connections", "agents", "members")


@pytest.fixture
def connection(cast: Cast) -> Connection:
    return do_register_token(
        cast.payments, name="Main", token=TOKEN, kind="account", region="us", by=cast.ada, whole_account=True
    )


def as_(client: Client, cast: Cast, who: str) -> Client:
    client.force_login(getattr(cast, who))
    return client


# Who sees what


@pytest.mark.parametrize("who", ["vic", "rhea"])
def test_readers_see_no_buttons(client: Client, cast: Cast, connection: Connection, who: str) -> None:
    as_(client, cast, who)
    for page in (*PAGES, f"connections/{connection.pk}"):
        shown = client.get(f"/teams/payments/{page}/").content.decode()
        assert 'name="action" value="test"' not in shown
        assert 'name="state" value=' not in shown
        assert 'value="issue"' not in shown
        assert 'value="remove"' not in shown


def test_every_page_has_a_policy_that_allows_nothing_inline(client: Client, cast: Cast) -> None:
    policy = as_(client, cast, "mina").get("/teams/payments/tools/")["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "default-src 'self'" in policy
    shown = client.get("/teams/payments/tools/").content.decode()
    assert "style=" not in shown
    assert "onclick" not in shown


# Signing in


def test_people_sign_in_by_e_mail_whatever_its_case_and_out_again(client: Client, cast: Cast) -> None:
    answer = client.post("/sign-in/", {"username": "MINA@example.com", "password": PASSWORD})
    assert (answer.status_code, answer["Location"]) == (302, "/")
    assert client.get("/").status_code == 200
    assert client.post("/sign-out/").status_code == 302
    assert client.get("/").status_code == 302


def test_a_wrong_password_is_refused_and_on_record(client: Client, cast: Cast) -> None:
    answer = client.post("/sign-in/", {"username": "mina@example.com", "password": "wrong"})
    assert "Please enter a correct" in answer.content.decode()
    [row] = Entry.objects.filter(kind="sign_in")
    assert json.loads(row.record)["details"]["what"] == "refused"
    assert "mina@example.com" in as_(client, cast, "rhea").get("/audit/?verdict=deny").content.decode()


def test_somebody_who_was_switched_off_does_not_get_in(client: Client, cast: Cast) -> None:
    cast.mina.is_active = False
    cast.mina.save()
    assert client.post("/sign-in/", {"username": "mina@example.com", "password": PASSWORD}).status_code == 200
    assert client.get("/").status_code == 302


# Tools


def test_a_manager_switches_a_tool_and_sees_it_said(client: Client, cast: Cast) -> None:
    values = {"tool": "resolve_incident", "state": "on"}
    answer = as_(client, cast, "mina").post("/teams/payments/tools/", values, follow=True)
    assert "Resolve incident is on for Payments." in answer.content.decode()
    assert ToolSetting.objects.get().state == "on"
    assert "mina@example.com" in answer.content.decode()


def test_htmx_gets_the_row_alone_with_what_was_done(client: Client, cast: Cast) -> None:
    values = {"tool": "resolve_incident", "state": "needs_approval"}
    answer = as_(client, cast, "mina").post("/teams/payments/tools/", values, headers={"HX-Request": "true"})
    shown = answer.content.decode()
    assert shown.strip().startswith("<tr")
    assert "Resolve incident needs approval for Payments." in shown
    assert "Denied until approvals exist." in shown
    assert 'class="state-needs_approval"' in shown


@pytest.mark.parametrize(
    ("values", "status", "word"),
    [
        ({"tool": "nonsense", "state": "on"}, 404, ""),
        ({"tool": "resolve_incident", "state": "maybe"}, 200, "There is no such state"),
        ({"preset": "nonsense"}, 404, ""),
    ],
)
def test_nonsense_changes_no_tool(client: Client, cast: Cast, values: dict[str, str], status: int, word: str) -> None:
    answer = as_(client, cast, "mina").post("/teams/payments/tools/", values, follow=True)
    assert answer.status_code == status
    assert word in answer.content.decode()
    assert not ToolSetting.objects.exists()


PRESET = "/teams/payments/tools/preset/responder/"


def confirmed(client: Client) -> dict[str, Any]:
    """What the page of a preset would send back."""
    lines = re.findall(r'name="change" value="([^"]+)"', client.get(PRESET).content.decode())
    return {"change": lines, "reason": "on call starts"}


def test_a_preset_lists_what_it_would_change_and_changes_it_once_it_is_confirmed(client: Client, cast: Cast) -> None:
    shown = as_(client, cast, "mina").get(PRESET).content.decode()
    assert "Resolve incident" in shown
    assert "high" in shown or "medium" in shown
    assert not ToolSetting.objects.exists()
    values = confirmed(client)
    assert "resolve_incident:off:on" in values["change"]
    answer = client.post(PRESET, values, follow=True)
    assert f"The preset responder is set: {len(values['change'])} tools changed." in answer.content.decode()
    assert ToolSetting.objects.filter(state="on", tool="resolve_incident").exists()
    assert ConfigChange.objects.filter(action="set_tool").count() == len(values["change"])
    assert set(ConfigChange.objects.filter(action="set_tool").values_list("reason", flat=True)) == {
        "preset responder: on call starts"
    }
    assert "would change nothing" in client.get(PRESET).content.decode()


def test_a_preset_without_a_reason_or_of_a_stale_page_changes_nothing(client: Client, cast: Cast) -> None:
    as_(client, cast, "mina")
    values = confirmed(client)
    assert client.post(PRESET, {**values, "reason": ""}).status_code == 422
    do_set_tools(cast.payments, states={"list_incidents": State.OFF}, tools=TOOLS, by=cast.ada)
    answer = client.post(PRESET, values)
    assert answer.status_code == 422
    assert "were changed meanwhile" in answer.content.decode()
    assert "list_incidents:off:on" in answer.content.decode()
    assert client.post(PRESET, {**values, "change": ["nonsense"]}).status_code == 422
    assert list(ToolSetting.objects.values_list("tool", "state")) == [("list_incidents", "off")]


@pytest.mark.parametrize(("who", "status"), [("vic", 403), ("rhea", 403), ("omar", 404), ("zed", 404)])
def test_only_managers_reach_a_preset(client: Client, cast: Cast, who: str, status: int) -> None:
    as_(client, cast, who)
    assert client.get(PRESET).status_code == status
    assert client.post(PRESET, {"reason": "x"}).status_code == status
    assert as_(client, cast, "mina").get(PRESET.replace("responder", "nonsense")).status_code == 404
    assert client.delete(PRESET).status_code == 405


def test_the_reason_for_a_tool_is_kept_and_the_count_comes_with_the_row(client: Client, cast: Cast) -> None:
    as_(client, cast, "mina")
    before = re.search(
        r"(\d+) of (\d+) tools are on, none of them writes", client.get("/teams/payments/tools/").content.decode()
    )
    assert before is not None
    on, total = map(int, before.groups())
    values = {"tool": "resolve_incident", "state": "on", "reason": "trial week"}
    shown = client.post("/teams/payments/tools/", values, headers={"HX-Request": "true"}).content.decode()
    assert f"{on + 1} of {total} tools are on, 1 of them writes." in shown
    assert 'hx-swap-oob="true"' in shown
    assert ConfigChange.objects.get().reason == "trial week"
    assert "(trial week)" in client.get("/teams/payments/tools/").content.decode()


def test_the_cost_in_tokens_follows_what_an_assistant_is_shown(client: Client, cast: Cast) -> None:
    as_(client, cast, "mina")

    def cost(tool: str, state: str) -> list[int]:
        values = {"tool": tool, "state": state}
        shown = client.post("/teams/payments/tools/", values, headers={"HX-Request": "true"}).content.decode()
        found = re.search(r"takes about ([\d,]+) tokens .* to the core, about ([\d,]+) tokens\.", shown)
        assert found is not None
        return [int(number.replace(",", "")) for number in found.groups()]

    reads = [tool for tool in TOOLS.values() if not tool.writes and tool.default is State.ON]
    before = cost("resolve_incident", "off")
    assert before[0] == round(tokens(reads), -2)
    for state in ("on", "needs_approval"):
        assert all(after > least for after, least in zip(cost("resolve_incident", state), before, strict=True))
    assert cost("resolve_incident", "off") == before
    assert cost("snooze_incident", "on")[1] == before[1]


# Connections


def registration(**changes: str) -> dict[str, str]:
    return {"name": "Ours", "region": "us", "kind": "user", "token": TOKEN, "team_ids": "PTEAM01, PTEAM02", **changes}


def test_a_manager_registers_a_token_that_is_never_shown_again(client: Client, cast: Cast) -> None:
    as_(client, cast, "mina")
    answer = client.post("/teams/payments/connections/", registration(), follow=True)
    shown = answer.content.decode()
    assert "is sealed" in shown
    assert TOKEN[-4:] in shown
    row = Connection.objects.get()
    assert (row.bound_team_ids, row.from_email) == (["PTEAM01", "PTEAM02"], "mina@example.com")
    pages = ["/", "/audit/", "/teams/payments/connections/", f"/teams/payments/connections/{row.pk}/"]
    everything = shown + "".join(client.get(page).content.decode() for page in pages)
    assert TOKEN not in everything
    assert row.token.ciphertext.decode() not in everything


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"kind": "account"}, "administrator"),
        ({"whole_account": "on", "team_ids": ""}, "administrator"),
        ({"token": "short"}, "16 to 512 letters, digits and signs"),
        ({"token": "pwk_abcdefgh_abcdefghijkmnpqrstuvwxyz23456789"}, "agent key of this portal"),
        ({"team_ids": ""}, "Name at least one"),
        ({"team_ids": "not an id!"}, "id"),
        ({"name": ""}, "required"),
        ({"region": "mars"}, "valid choice"),
        ({"region": "sandbox"}, "valid choice"),
        ({"token_expires_on": "2020-01-01"}, "past"),
    ],
)
def test_a_refused_registration_says_why_and_keeps_nothing(
    client: Client, cast: Cast, changes: dict[str, str], word: str
) -> None:
    answer = as_(client, cast, "mina").post("/teams/payments/connections/", registration(**changes))
    assert answer.status_code == 422
    assert word in answer.content.decode()
    assert TOKEN not in answer.content.decode()
    assert not Connection.objects.exists()


def test_the_same_token_is_refused_in_any_team(client: Client, cast: Cast, connection: Connection) -> None:
    answer = as_(client, cast, "omar").post("/teams/search/connections/", registration())
    assert "already registered in this portal, by a team that you do not see" in answer.content.decode()
    answer = as_(client, cast, "mina").post("/teams/payments/connections/", registration())
    assert "it is the connection Main of Payments" in answer.content.decode()


def test_a_connection_of_another_team_is_not_found(client: Client, cast: Cast, connection: Connection) -> None:
    as_(client, cast, "omar")
    assert client.get(f"/teams/search/connections/{connection.pk}/").status_code == 404
    assert client.post(f"/teams/search/connections/{connection.pk}/", {"action": "delete"}).status_code == 404


def test_the_life_of_a_connection(client: Client, cast: Cast, connection: Connection) -> None:
    as_(client, cast, "ada")
    path = f"/teams/payments/connections/{connection.pk}/"

    def post(**values: str) -> str:
        return client.post(path, values, follow=True).content.decode()

    assert "switched off" in post(action="switch_off")
    assert "switched on" in post(action="switch_on")
    assert "replacement is sealed" in post(action="replace", token="u+" + TOKEN)
    assert "A replacement token" in client.get(path).content.decode()
    assert "thrown away" in post(action="discard")
    assert "bounds are set" in post(action="bounds", team_ids="PTEAM01")
    assert "What works inside the bounds" in client.get(path).content.decode()
    assert "Writes are now made as ada@example.com" in post(action="from", email="ada@example.com")
    assert client.post(path, {"action": "nonsense"}).status_code == 404
    key, _ = do_issue_agent_key(connection, name="a", by=cast.ada, tools=TOOLS)
    deleted = client.post(f"{path}delete/", {"typed": "Main", "key": [str(key.pk)]}, follow=True)
    assert "is deleted with its sealed token" in deleted.content.decode()
    key.refresh_from_db()
    assert key.revoked_at is not None


def test_somebody_elses_address_waits_for_an_administrator(client: Client, cast: Cast) -> None:
    as_(client, cast, "mina").post("/teams/payments/connections/", registration())
    row = Connection.objects.get()
    path = f"/teams/payments/connections/{row.pk}/"
    answer = client.post(path, {"action": "from", "email": "boss@example.com"}, follow=True)
    assert "waits for an administrator" in answer.content.decode()
    answer = client.post(path, {"action": "approve", "email": "boss@example.com"}, follow=True)
    assert "Only an administrator may" in answer.content.decode()
    answer = as_(client, cast, "ada").post(path, {"action": "approve", "email": "boss@example.com"}, follow=True)
    assert "Writes are now made as boss@example.com" in answer.content.decode()


# Agents


def test_a_key_is_shown_once_with_the_answer_that_made_it(client: Client, cast: Cast, connection: Connection) -> None:
    as_(client, cast, "mina")
    values = {
        "action": "issue",
        "name": "helper",
        "connection": str(connection.pk),
        "days": "30",
        "calls_per_minute": "60",
    }
    answer = client.post("/teams/payments/agents/", {**values, "tools": ["list_incidents"], "networks": "10.0.0.0/8"})
    shown = answer.content.decode()
    key = AgentKey.objects.get()
    assert f"pwk_{key.prefix}_" in shown
    secret = shown.split(f"pwk_{key.prefix}_")[1][:32]
    assert (key.tools, key.networks, key.calls_per_minute) == (["list_incidents"], ["10.0.0.0/8"], 60)
    assert secret not in client.get("/teams/payments/agents/").content.decode()
    assert "no-store" in answer["Cache-Control"]
    assert f"Authorization: Token token=pwk_{key.prefix}_" in shown
    assert "/pagerduty/incidents?limit=1" in shown
    # Another usable key of the same name would be taken for this one.
    again = client.post("/teams/payments/agents/", {**values, "name": "Helper"})
    assert (again.status_code, "is called Helper already" in again.content.decode()) == (422, True)
    revoking = {"action": "revoke", "key": str(key.pk)}
    for nobodys in ("", "nonsense", "7c9e6679-7425-40de-944b-e07fc1f90ae7"):
        assert client.post("/teams/payments/agents/", {**revoking, "key": nobodys}).status_code == 404
    key.refresh_from_db()
    assert key.revoked_at is None
    answer = client.post("/teams/payments/agents/", {**revoking, "reason": "leaked"}, follow=True)
    assert "helper is revoked: its next call" in answer.content.decode()
    assert ConfigChange.objects.get(action="revoke_key").reason == "leaked"
    assert "shown this once" in client.post("/teams/payments/agents/", values).content.decode()


@pytest.mark.parametrize(
    ("changes", "word"),
    [({"networks": "nonsense"}, "CIDR"), ({"calls_per_minute": "0"}, "administrator"), ({"name": ""}, "required")],
)
def test_a_refused_key_says_why(
    client: Client, cast: Cast, connection: Connection, changes: dict[str, str], word: str
) -> None:
    values = {
        "action": "issue",
        "name": "helper",
        "connection": str(connection.pk),
        "calls_per_minute": "60",
        **changes,
    }
    answer = as_(client, cast, "mina").post("/teams/payments/agents/", values)
    assert (answer.status_code, word in answer.content.decode()) == (422, True)
    assert not AgentKey.objects.exists()


def test_a_key_cannot_use_another_teams_connection(client: Client, cast: Cast, connection: Connection) -> None:
    values = {"action": "issue", "name": "helper", "connection": str(connection.pk), "calls_per_minute": "60"}
    assert as_(client, cast, "omar").post("/teams/search/agents/", values).status_code == 422
    assert not AgentKey.objects.exists()


# Members and teams


def test_members_come_change_and_go(client: Client, cast: Cast) -> None:
    as_(client, cast, "mina")
    client.post("/teams/payments/members/", {"action": "add", "email": "zed@example.com", "role": "member"})
    member = Membership.objects.get(user=cast.zed)
    client.post("/teams/payments/members/", {"action": "set", "membership": member.pk, "role": "manager"})
    member.refresh_from_db()
    assert member.role == "manager"
    client.post("/teams/payments/members/", {"action": "remove", "membership": member.pk})
    assert not Membership.objects.filter(user=cast.zed).exists()
    answer = client.post("/teams/payments/members/", {"action": "add", "email": "nobody@example.com", "role": "member"})
    assert "Nobody signs in with this address" in answer.content.decode()
    own = Membership.objects.get(user=cast.mina)
    # What somebody holds is dealt with first: the team itself, where nobody else manages it.
    answer = client.post("/teams/payments/members/", {"action": "remove", "membership": own.pk}, follow=True)
    assert "The team Payments, of which they are the only manager" in answer.content.decode()
    answer = client.post(
        "/teams/payments/members/", {"action": "set", "membership": own.pk, "role": "member"}, follow=True
    )
    assert "without a manager" in answer.content.decode()
    assert Membership.objects.get(user=cast.mina).role == "manager"


def test_why_somebody_comes_changes_or_goes_is_kept(client: Client, cast: Cast) -> None:
    path = "/teams/payments/members/"
    as_(client, cast, "mina")
    client.post(path, {"action": "add", "email": "zed@example.com", "role": "member", "reason": "joins"})
    own = {"membership": Membership.objects.get(user=cast.zed).pk}
    client.post(path, {**own, "action": "set", "role": "manager", "reason": "stands in"})
    client.post(path, {**own, "action": "remove", "reason": "leaves"})
    as_(client, cast, "ada").post("/teams/", {"action": "create", "name": "Mobile", "reason": "new product"})
    made = ConfigChange.objects.order_by("id").values_list("action", "reason")
    assert list(made) == [
        ("set_membership", "joins"),
        ("set_membership", "stands in"),
        ("remove_member", "leaves"),
        ("create_team", "new product"),
    ]


def test_an_auditor_is_not_made_a_manager(client: Client, cast: Cast) -> None:
    values = {"action": "add", "email": "rhea@example.com", "role": "manager"}
    answer = as_(client, cast, "mina").post("/teams/payments/members/", values)
    assert "is an auditor, who changes nothing" in answer.content.decode()
    assert not Membership.objects.filter(user=cast.rhea).exists()


def test_everybody_makes_one_workspace_and_administrators_make_teams(client: Client, cast: Cast) -> None:
    as_(client, cast, "zed")
    assert "You are in no team yet" in client.get("/").content.decode()
    assert "is yours" in client.post("/teams/", {"action": "workspace"}, follow=True).content.decode()
    assert Team.objects.get(owner=cast.zed).kind == "personal"
    assert "exists already" in client.post("/teams/", {"action": "workspace"}, follow=True).content.decode()
    answer = client.post("/teams/", {"action": "create", "name": "Mine"})
    assert answer.status_code == 403
    assert "Only an administrator may create shared teams" in answer.content.decode()
    as_(client, cast, "ada")
    assert client.post("/teams/", {"action": "create", "name": "Mobile"}).status_code == 302
    assert client.get("/teams/mobile/").status_code == 302


# The audit


def test_the_record_is_filtered_by_who_asks_and_by_what_is_asked(
    client: Client, cast: Cast, connection: Connection
) -> None:
    for who, count in (("ada", 1), ("rhea", 1), ("mina", 1), ("omar", 0), ("vic", 0)):
        as_(client, cast, who)
        shown = client.get("/audit/?kind=config").content.decode()
        assert shown.count("register token: Main") == count, who
    as_(client, cast, "rhea")
    assert "Nothing here" in client.get("/audit/?verdict=deny").content.decode()
    row = Entry.objects.get(record__contains="register_token")
    assert "register token" in client.get(f"/audit/?decision_id={row.decision_id}").content.decode()
    assert "register token" in client.get(f"/audit/?team={cast.payments.pk}").content.decode()
    assert client.get("/audit/?team=nonsense").status_code == 200
    entry = client.get(f"/audit/{row.pk}/").content.decode()
    assert row.hash in entry
    assert "Configuration change: register token: Main" in strip_tags(entry)
    assert as_(client, cast, "omar").get(f"/audit/{row.pk}/").status_code == 404


def test_a_change_shows_what_became_of_what_and_words_are_the_same_everywhere(client: Client, cast: Cast) -> None:
    do_set_tools(cast.payments, states={"resolve_incident": State.ON}, tools=TOOLS, by=cast.ada)
    shown = as_(client, cast, "ada").get("/audit/").content.decode()
    assert "set tool: Resolve incident" in shown
    assert "off → on" in shown
    assert ">Resolve incident</option>" in shown
    assert ">Configuration change</option>" in shown
    assert "just now" not in shown  # no checkpoint yet
    assert "just now" in client.get("/teams/payments/tools/").content.decode()


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (None, {"name": "Main", "bounds": []}, "name: none → Main"),
        ({"is_enabled": True, "x": 1}, {"is_enabled": False, "x": 1}, "is enabled: yes → no"),
        ("off", "needs_approval", "off → needs approval"),
        (None, dict.fromkeys("abcde", "z" * 50), f"a: none → {'z' * 39}…"),
        ({"teams": ["A"]}, {"teams": ["A", "B"]}, "teams: A → A, B"),
        ({"networks": None}, {"networks": [], "name": "my_bot"}, "name: none → my_bot"),
        (None, {"expires_at": "2027-02-22T23:32:50.577834+00:00"}, "expires at: none → 2027-02-22 23:32 UTC"),
    ],
)
def test_what_became_of_what_is_said_in_short(before: Any, after: Any, said: str) -> None:
    told = _changed(before, after)
    assert told.startswith(said)
    assert told.endswith("; and 2 more") is (len(after) == 5)


def test_long_records_are_paged_and_cost_the_same_queries(
    client: Client, cast: Cast, connection: Connection, django_assert_max_num_queries: Any
) -> None:
    from django.db import transaction
    from django.utils import timezone

    from policies.core.call import Entry as NewEntry
    from policies.journal import append_in_transaction

    with transaction.atomic():
        for number in range(70):
            append_in_transaction(
                NewEntry(
                    EntryKind.RESULT, timezone.now(), f"d{number}", cast.payments.pk, "key:1", "list_incidents", "allow"
                )
            )
    as_(client, cast, "mina")
    with django_assert_max_num_queries(16):
        first = client.get("/audit/").content.decode()
    assert first.count("<time") == 50
    older = first.split("<main")[1].split('hx-get="')[1].split('"')[0].replace("&amp;", "&")
    rest = client.get(older, headers={"HX-Request": "true"}).content.decode()
    assert rest.count("<time") >= 20
    assert "<html" not in rest
    # A filter that is set on an older page starts from the newest again.
    assert 'name="before"' not in client.get(older).content.decode()
    assert client.get("/audit/?before=nonsense").status_code == 200
    assert client.get(f"/audit/?before={'9' * 30}").status_code == 200


def test_members_are_told_who_reads_the_record(client: Client, cast: Cast, connection: Connection) -> None:
    shown = as_(client, cast, "vic").get("/audit/").content.decode()
    assert "Managers, auditors and administrators read the record." in shown
    assert "nothing happened" not in shown
    for who in ("omar", "rhea", "ada"):
        shown = as_(client, cast, who).get("/audit/?verdict=deny").content.decode()
        assert "Managers, auditors and administrators" not in shown
    assert "Times are in UTC" in shown


@pytest.mark.parametrize("page", ["/", "/teams/", *(f"/teams/payments/{page}/" for page in PAGES)])
def test_pages_cost_a_fixed_number_of_queries(
    client: Client, cast: Cast, connection: Connection, django_assert_max_num_queries: Any, page: str
) -> None:
    for number in range(8):
        do_issue_agent_key(connection, name=f"k{number}", by=cast.ada, tools=TOOLS)
    as_(client, cast, "mina")
    with django_assert_max_num_queries(18):
        assert client.get(page).status_code == 200


def test_what_is_stopped_is_said_where_its_people_look(client: Client, cast: Cast) -> None:
    from policies.actions import do_stop

    do_stop(by=cast.mina, reason="it loops", team=cast.payments)
    client.force_login(cast.mina)
    for page in ("/", "/teams/payments/tools/"):
        shown = client.get(page).content.decode()
        assert "<strong>Payments has been stopped</strong> by mina@example.com" in shown
        assert "it loops" in shown
    client.force_login(cast.omar)
    for page in ("/", "/teams/search/tools/"):
        assert "has been stopped" not in client.get(page).content.decode()
    do_stop(by=cast.ada, reason="fire")
    for page in ("/", "/teams/search/tools/"):
        assert "<strong>Everything has been stopped</strong>" in client.get(page).content.decode()


def test_what_was_denied_says_what_it_was_and_to_whom(client: Client, cast: Cast) -> None:
    import datetime as dt

    from policies.core.call import Entry as Made
    from policies.core.call import EntryKind, Outcome
    from policies.journal import append_in_transaction

    details = {
        "method": "DELETE",
        "path": "/users/{id}",
        "actor": {"kind": "agent", "id": "key:1", "name": "night bot"},
    }
    for decision, told in (("d1", details), ("d2", {"rule": "error"})):
        append_in_transaction(
            Made(EntryKind.RESULT, dt.datetime.now(dt.UTC), decision, cast.payments.pk, "key:1", verdict="deny",
                 outcome=Outcome.DENIED, details=told)
        )  # fmt: skip
    client.force_login(cast.mina)
    shown = client.get("/").content.decode()
    assert "DELETE /users/{id}</a> by night bot" in shown
    assert "a call</a> by key:1" in shown
