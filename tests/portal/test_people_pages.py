"""People, and what is left when they leave a team or are switched off: listed, and dealt with in one step."""

from __future__ import annotations

import datetime as dt
import json
import re
from html import unescape
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.test import Client
from django.utils import timezone

from integrations.actions import do_issue_agent_key, do_propose_from_email, do_register_token
from integrations.leaving import END, do_let_go, held_by, holds_anything
from integrations.models import Connection
from integrations.pagerduty.catalog import TOOLS
from policies import actions
from policies.actions import Refused, do_create_personal_workspace, do_set_membership, do_stop, do_update_user
from policies.models import AgentKey, ConfigChange, Entry, Membership, Stop, Team, User
from policies.snapshot import current_version
from tests.conftest import Cast
from tests.portal.test_outside_text import HOSTILE

TOKEN = "y_NbAkKc66ryYTWUXYEu"


def as_(client: Client, cast: Cast, who: str) -> Client:
    client.force_login(getattr(cast, who))
    return client


def person(user: User) -> str:
    return f"/people/{user.pk}/"


class Holdings:
    """What Mina holds: two keys, a connection, a request, a stop, a team that she alone manages, and her own workspace."""

    def __init__(self, cast: Cast) -> None:
        mina, payments = cast.mina, cast.payments
        bounds = {"team_ids": ["PTEAM01"], "kind": "user", "region": "us"}
        self.main = do_register_token(payments, name="Main", token=TOKEN, by=mina, **bounds)  # type: ignore[arg-type]  # of all kinds
        self.other = do_register_token(payments, name="Other", token="u+" + TOKEN, by=cast.ada, **bounds)  # type: ignore[arg-type]  # of all kinds
        do_propose_from_email(self.other, email="mina@example.com", by="test")
        Connection.objects.filter(pk=self.other.pk).update(
            from_email_proposed="mina@example.com", from_email="x@example.com"
        )
        self.used, self.idle = (
            do_issue_agent_key(self.main, name=name, by=mina, tools=TOOLS)[0] for name in ("used bot", "idle bot")
        )
        AgentKey.objects.filter(pk=self.used.pk).update(last_used_at=dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC))
        do_issue_agent_key(self.main, name="foreign bot", by=cast.ada, tools=TOOLS)
        ended, _ = do_issue_agent_key(self.main, name="ended bot", by=mina, tools=TOOLS)
        actions.do_revoke_key(ended, by=mina)
        self.stop = do_stop(by=mina, reason="odd calls", key=self.idle)
        self.workspace = do_create_personal_workspace(mina, by=mina)
        own = do_register_token(self.workspace, name="Mine", token="w+" + TOKEN, by=mina, **bounds)  # type: ignore[arg-type]  # of all kinds
        self.own, _ = do_issue_agent_key(own, name="own bot", by=mina, tools=TOOLS)

    def ids(self) -> dict[str, str]:
        team = self.main.team_id
        return {
            "manager": f"manager-{team}",
            "workspace": f"workspace-{self.workspace.pk}",
            "idle": f"key-{self.idle.pk}",
            "used": f"key-{self.used.pk}",
            "connection": f"connection-{self.main.pk}",
            "request": f"request-{self.other.pk}",
            "stop": f"stop-{self.stop.pk}",
        }


@pytest.fixture
def holdings(cast: Cast) -> Holdings:
    return Holdings(cast)


def seen(client: Client, path: str) -> str:
    found = re.search(r'name="seen" value="(\w+)"', client.get(path).content.decode())
    assert found is not None
    return found[1]


# Switched off


def test_what_somebody_holds_is_listed_before_they_are_switched_off(
    client: Client, cast: Cast, holdings: Holdings
) -> None:
    assert [one.id for one in held_by(cast.mina, None, timezone.now())] == list(holdings.ids().values())
    page = unescape(as_(client, cast, "ada").get(person(cast.mina)).content.decode())
    for said in (
        "The team Payments, of which they are the only manager",
        "The personal workspace Mina's workspace",
        "1 usable key, 1 connection switched on.",
        f"The agent key used bot (pwk_{holdings.used.prefix}) of Payments",
        "It was last used on 2026-03-02 at 12:00 UTC.",
        "It was never used.",
        "The connection Main of Payments",
        "Writes are made as mina@example.com. Its token may be a person's own",
        "The request that the connection Other of Payments act as them",
        f"The stop of idle bot (pwk_{holdings.idle.prefix}) of Payments",
    ):
        assert said in page, said
    for other in ("foreign bot", "ended bot", "own bot"):
        assert other not in page
    assert holds_anything([cast.mina, cast.omar], timezone.now()) == {cast.mina.pk}


def test_each_thing_is_kept_by_somebody_or_ended_in_one_step_and_on_record(
    client: Client, cast: Cast, holdings: Holdings
) -> None:
    as_(client, cast, "ada")
    path, ids = person(cast.mina), holdings.ids()
    keep = {name: f"keep:{getattr(cast, name).pk}" for name in ("ada", "vic")}
    values = {
        "action": "leave",
        "seen": seen(client, path),
        "reason": "new job",
        "rest": keep["ada"],
        ids["manager"]: keep["vic"],
        ids["workspace"]: END,
        ids["idle"]: END,
    }
    version = current_version()
    said = unescape(client.post(path, values, follow=True).content.decode())
    assert (
        "Mina is switched off and signed out everywhere. 1 agent key kept by Ada; 1 agent key revoked; 1 connection kept by "
        "Ada; 1 personal workspace closed; 1 request kept by Ada; 1 stop kept by Ada; 1 team to manage kept by Vic."
        in said
    )
    cast.mina.refresh_from_db()
    assert not cast.mina.is_active
    assert Membership.objects.get(user=cast.vic, team=cast.payments).role == "manager"
    keys = {key.name: key for key in AgentKey.objects.all()}
    assert [name for name, key in keys.items() if key.revoked_at is None] == ["foreign bot", "used bot"]
    assert (keys["used bot"].created_by, keys["used bot"].kept_by) == ("mina@example.com", "ada@example.com")
    rows = {row.name: row for row in Connection.objects.all()}
    assert (rows["Main"].kept_by, rows["Main"].from_email, rows["Main"].is_enabled) == (
        "ada@example.com",
        "ada@example.com",
        True,
    )
    assert (rows["Other"].from_email, rows["Other"].from_email_proposed) == ("ada@example.com", "")
    assert not rows["Mine"].is_enabled
    assert (Stop.objects.get().actor, Stop.objects.get().kept_by) == ("mina@example.com", "ada@example.com")
    changes = list(ConfigChange.objects.filter(policy_version__gt=version).order_by("id"))
    assert sorted(change.action for change in changes) == [
        *("disable_connection", "hand_over_connection", "hand_over_key", "hand_over_stop", "let_go"),
        *("revoke_key", "revoke_key", "set_from_email", "set_membership", "update_user"),
    ]
    assert all("new job" in change.reason for change in changes)
    summary = json.loads(Entry.objects.filter(record__contains='"let_go"').get().record)["details"]
    assert f"the agent key used bot (pwk_{holdings.used.prefix}) of Payments: kept by Ada" in summary["after"]
    # Nothing is left, and who kept it is asked the next time.
    assert held_by(cast.mina, None, timezone.now()) == []
    assert {one.kind for one in held_by(cast.ada, None, timezone.now())} >= {"key", "connection", "stop"}


def test_nothing_is_done_unless_all_of_it_can_be(client: Client, cast: Cast, holdings: Holdings) -> None:
    as_(client, cast, "ada")
    path, ids = person(cast.mina), holdings.ids()
    given = {"action": "leave", "seen": seen(client, path)}
    count = ConfigChange.objects.count()
    for values, said in (
        ({}, "Say what becomes of the team Payments"),
        ({"rest": END, ids["used"]: f"keep:{cast.zed.pk}"}, "is not one of the available choices"),
        ({"rest": f"keep:{cast.vic.pk}"}, "is not one of the available choices"),
        ({"rest": END, "seen": "x"}, "What Mina holds has changed meanwhile"),
    ):
        answer = client.post(path, {**given, **values})
        assert (answer.status_code, said in unescape(answer.content.decode())) == (422, True), said
    # The last step is refused: whatever went before is taken back.
    with pytest.raises(Refused, match="without a manager"):
        do_let_go(cast.mina, by=cast.mina, team=cast.payments, choices={"": END})
    assert ConfigChange.objects.count() == count
    assert AgentKey.objects.filter(revoked_at=None).count() == 4
    cast.mina.refresh_from_db()
    assert cast.mina.is_active


def test_a_workspace_that_is_kept_becomes_a_shared_team(cast: Cast, holdings: Holdings) -> None:
    choices = {"": END, holdings.ids()["workspace"]: f"keep:{cast.ada.pk}"}
    said = do_let_go(cast.mina, by=cast.ada, team=None, choices=choices)
    assert "1 personal workspace kept by Ada" in said
    row = Team.objects.get(pk=holdings.workspace.pk)
    assert (row.kind, row.owner) == ("shared", None)
    assert [(one.user, one.role) for one in row.memberships.all()] == [(cast.ada, "manager")]
    holdings.own.refresh_from_db()
    assert holdings.own.revoked_at is None
    assert not Stop.objects.exists()
    assert Membership.objects.filter(team=cast.payments, role="manager", user__is_active=True).count() == 0


def test_whoever_was_switched_off_elsewhere_is_shown_as_long_as_they_hold_anything(
    client: Client, cast: Cast, holdings: Holdings
) -> None:
    do_update_user(cast.mina, by=cast.ada, is_active=False)
    as_(client, cast, "ada")
    assert "holds things still" in client.get("/people/").content.decode()
    path = person(cast.mina)
    assert "Deal with it" in client.get(path).content.decode()
    client.post(path, {"action": "leave", "seen": seen(client, path), "rest": END})
    assert "holds things still" not in client.get("/people/").content.decode()
    assert not AgentKey.objects.filter(created_by="mina@example.com", revoked_at=None).exists()


def test_who_holds_nothing_is_switched_off_and_on_again(client: Client, cast: Cast) -> None:
    as_(client, cast, "ada")
    path = person(cast.zed)
    assert "They hold nothing that goes on without them" in client.get(path).content.decode()
    client.post(path, {"action": "leave", "seen": seen(client, path)})
    cast.zed.refresh_from_db()
    assert not cast.zed.is_active
    assert "may sign in again" in client.post(path, {"action": "return"}, follow=True).content.decode()
    cast.zed.refresh_from_db()
    assert cast.zed.is_active


# Leaving a team


def test_a_manager_lets_a_member_go_and_deals_with_what_is_of_this_team_alone(
    client: Client, cast: Cast, holdings: Holdings
) -> None:
    do_set_membership(cast.payments, user=cast.zed, role="manager", by="test")
    do_set_membership(cast.search, user=cast.mina, role="manager", by="test")
    row = do_register_token(
        cast.search, name="Elsewhere", token="s+" + TOKEN, kind="user", region="us", team_ids=["PTEAM02"], by=cast.mina
    )
    client.force_login(cast.zed)
    member = Membership.objects.get(user=cast.mina, team=cast.payments)
    path = f"/teams/payments/members/{member.pk}/leave/"
    # Of the list too, in case somebody has an old page open.
    old = client.post("/teams/payments/members/", {"action": "remove", "membership": member.pk}, follow=True)
    assert "holds things here: say what becomes of each first" in old.content.decode()
    page = unescape(client.get(path).content.decode())
    assert "Elsewhere" not in page
    assert "workspace" not in page
    values = {"seen": seen(client, path), "rest": f"keep:{cast.zed.pk}", holdings.ids()["stop"]: END, "reason": "moves"}
    said = unescape(client.post(path, values, follow=True).content.decode())
    assert (
        "Mina is no longer in Payments. 2 agent keys kept by Zed; 1 connection kept by Zed; 1 request kept by Zed; 1 stop lifted."
        in said
    )
    assert not Membership.objects.filter(pk=member.pk).exists()
    row.refresh_from_db()
    assert (row.from_email, row.is_enabled) == ("mina@example.com", True)
    cast.mina.refresh_from_db()
    assert cast.mina.is_active
    assert ConfigChange.objects.get(action="let_go").team == "Payments"


def test_acting_as_somebody_else_still_waits_for_an_administrator(cast: Cast, holdings: Holdings) -> None:
    """What a manager hands over to another goes out under the manager's own name until it is signed."""
    do_set_membership(cast.payments, user=cast.zed, role="manager", by="test")
    do_set_membership(cast.payments, user=cast.omar, role="manager", by="test")
    choices = {"": END, holdings.ids()["connection"]: f"keep:{cast.omar.pk}"}
    do_let_go(cast.mina, by=cast.zed, team=cast.payments, choices=choices)
    holdings.main.refresh_from_db()
    assert (holdings.main.from_email, holdings.main.from_email_proposed) == ("zed@example.com", "omar@example.com")


@pytest.mark.parametrize(("who", "status"), [("vic", 403), ("rhea", 403), ("omar", 404), ("zed", 404)])
def test_only_managers_let_members_go(client: Client, cast: Cast, who: str, status: int) -> None:
    member = Membership.objects.get(user=cast.vic)
    as_(client, cast, who)
    for method in (client.get, client.post):
        assert method(f"/teams/payments/members/{member.pk}/leave/").status_code == status
    with pytest.raises(Refused):
        do_let_go(cast.vic, by=getattr(cast, who), team=cast.payments, choices={})
    assert as_(client, cast, "ada").get(f"/teams/search/members/{member.pk}/leave/").status_code == 404


def test_a_team_is_left_without_a_manager_only_by_an_administrator_who_says_so(client: Client, cast: Cast) -> None:
    own = Membership.objects.get(user=cast.mina)
    as_(client, cast, "ada")
    answer = client.post(
        "/teams/payments/members/", {"action": "set", "membership": own.pk, "role": "member"}, follow=True
    )
    assert "without a manager" in answer.content.decode()
    with pytest.raises(ValidationError, match="Say what becomes of the team Payments"):
        do_let_go(cast.mina, by=cast.ada, team=cast.payments, choices={})
    do_let_go(cast.mina, by=cast.ada, team=cast.payments, choices={f"manager-{cast.payments.pk}": END})
    assert not Membership.objects.filter(user=cast.mina).exists()


# The list of people


@pytest.mark.parametrize(("who", "reads"), [("ada", 200), ("rhea", 200), ("mina", 403), ("vic", 403), ("zed", 403)])
def test_people_are_for_administrators_and_auditors_read(client: Client, cast: Cast, who: str, reads: int) -> None:
    as_(client, cast, who)
    for path in ("/people/", person(cast.vic)):
        assert client.get(path).status_code == reads
    assert ("/people/" in client.get("/").content.decode()) is (reads == 200)
    if who != "ada":
        for action in ("role", "leave", "return"):
            assert client.post(person(cast.vic), {"action": action, "role": "administrator"}).status_code == 403
        cast.vic.refresh_from_db()
        assert (cast.vic.role, cast.vic.is_active) == ("", True)


def test_the_list_tells_who_is_what_and_is_filtered(client: Client, cast: Cast) -> None:
    User.objects.get_queryset().filter(pk=cast.omar.pk).update(last_login=timezone.now() - dt.timedelta(days=3))
    do_update_user(cast.zed, by=cast.ada, is_active=False)

    def found(query: str = "") -> list[str]:
        page = client.get(f"/people/{query}").content.decode()
        return re.findall(r'<th scope="row"><a href="[^"]+">(\w+)</a>', page)

    as_(client, cast, "ada")
    assert found() == ["Ada", "Mina", "Omar", "Rhea", "Vic", "Zed"]
    page = " ".join(client.get("/people/").content.decode().replace("\xa0", " ").split())
    assert re.search(r"Omar</a>.*?>Search</a> \(manager\).*?3 days ago.*?active", page)
    for query, names in {
        "?text=MINA@": ["Mina"],
        "?role=auditor": ["Rhea"],
        "?role=none": ["Mina", "Omar", "Vic", "Zed"],
        "?state=off": ["Zed"],
        "?state=never": ["Mina", "Rhea", "Vic", "Zed"],
        "?state=nonsense": [],
        "?text=nobody": [],
    }.items():
        assert found(query) == names, query


def test_a_role_is_changed_and_the_last_administrator_stays(client: Client, cast: Cast) -> None:
    as_(client, cast, "ada")
    values = {"action": "role", "role": "administrator", "reason": "stands in"}
    assert "Vic: administrator." in client.post(person(cast.vic), values, follow=True).content.decode()
    assert ConfigChange.objects.get(action="update_user").reason == "stands in"
    # One's own role is another's to change; and of two administrators one stays, whoever asks.
    assert client.post(person(cast.ada), {"action": "role", "role": ""}).status_code == 422
    cast.ada.refresh_from_db()
    assert cast.ada.role == "administrator"
    cast.vic.refresh_from_db()
    do_update_user(cast.ada, by=cast.vic, role="")
    for change in ({"role": ""}, {"is_active": False}):
        with pytest.raises(Refused, match="last administrator"):
            do_update_user(cast.vic, by="a command", **change)
    assert client.post(person(cast.vic), {"action": "nonsense"}).status_code == 403  # Ada administers no more


def test_what_looks_like_ones_address_is_somebody_elses(cast: Cast, holdings: Holdings) -> None:
    """To PostgreSQL's capitals a dotless i is an i."""
    twin = User.objects.create_user("mına@example.com", name="Mına")
    now = timezone.now()
    assert held_by(twin, None, now) == []
    assert holds_anything([cast.mina, twin], now) == {cast.mina.pk}


def test_lists_cost_the_same_for_few_and_for_many(
    client: Client, cast: Cast, holdings: Holdings, django_assert_num_queries: Any
) -> None:
    as_(client, cast, "ada")
    member = Membership.objects.get(user=cast.mina, team=cast.payments)
    paths = {
        "/people/": 14,
        person(cast.mina): 18,
        "/teams/payments/members/": 10,
        f"/teams/payments/members/{member.pk}/leave/": 15,
    }
    do_update_user(cast.zed, by=cast.ada, is_active=False)
    for path, number in paths.items():
        with django_assert_num_queries(number):
            client.get(path)
    for number in range(8):
        user = User.objects.create_user(f"n{number}@example.com", name=f"N{number}", is_active=number % 2 == 0)
        do_set_membership(cast.payments, user=user, role="member", by="test")
        do_issue_agent_key(holdings.main, name=f"k{number}", by=cast.mina, tools=TOOLS)
    for path, number in paths.items():
        with django_assert_num_queries(number):
            client.get(path)


@pytest.mark.parametrize("text", [HOSTILE, "<script>alert(1)</script>", "W" * 500])
def test_hostile_names_of_people_and_of_what_they_hold_are_shown_as_text(
    client: Client, cast: Cast, holdings: Holdings, text: str
) -> None:
    User.objects.get_queryset().filter(pk=cast.mina.pk).update(name=text[:150])
    AgentKey.objects.update(name=text[:100])
    Connection.objects.filter(pk=holdings.main.pk).update(name=text[:100])
    Stop.objects.update(target=text[:200], reason=text[:500])
    Team.objects.filter(pk=holdings.workspace.pk).update(name=text[:100])
    member = Membership.objects.get(user=cast.mina, team=cast.payments)
    as_(client, cast, "ada")
    leave = f"/teams/payments/members/{member.pk}/leave/"
    for path in ("/people/", person(cast.mina), "/teams/payments/members/", leave, f"/people/?text={text[:90]}"):
        answer = client.get(path)
        assert answer.status_code == 200
        assert "<script>alert" not in answer.content.decode()


# The personal workspace


def test_a_workspace_is_made_by_one_click_and_is_ones_own(client: Client, cast: Cast) -> None:
    as_(client, cast, "zed")
    answer = client.post("/teams/", {"action": "workspace"}, follow=True)
    assert answer.redirect_chain[-1][0] == "/teams/zeds-workspace/connections/"
    assert "Zed&#x27;s workspace is yours." in answer.content.decode()
    assert "your personal workspace" in client.get("/teams/").content.decode()
    assert "This workspace is yours alone" in client.get("/teams/zeds-workspace/members/").content.decode()
    pages = [f"/teams/zeds-workspace/{page}/" for page in ("tools", "connections", "agents", "members")]
    for path in pages:
        page = client.get(path).content.decode()
        assert "anager of the team" not in page, path
    # Nobody else sees into it, but for those who govern and review all of it.
    for who, status in (("mina", 404), ("vic", 404), ("omar", 404), ("ada", 200), ("rhea", 200)):
        as_(client, cast, who)
        assert {client.get(path).status_code for path in pages} == {status}, who
    member = Membership.objects.get(user=cast.zed)
    assert as_(client, cast, "ada").get(f"/teams/zeds-workspace/members/{member.pk}/leave/").status_code == 404


def test_where_workspaces_are_not_wanted_nobody_makes_one_for_themselves(
    client: Client, cast: Cast, settings: Any
) -> None:
    settings.PERSONAL_WORKSPACES = False
    as_(client, cast, "zed")
    for path in ("/", "/teams/"):
        assert 'value="workspace"' not in client.get(path).content.decode()
    answer = client.post("/teams/", {"action": "workspace"}, follow=True)
    assert "This portal has no personal workspaces" in answer.content.decode()
    assert not Team.objects.filter(owner=cast.zed).exists()
    do_create_personal_workspace(cast.zed, by=cast.ada)
