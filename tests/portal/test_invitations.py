"""Who is invited, by whom, into what, and what a link is good for."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

import pytest
from django.core import mail
from django.test import Client
from django.utils import timezone

from policies.models import ConfigChange, Entry, Invitation, Membership, User
from tests.conftest import PASSWORD, Cast

NEW = {"name": "Nina", "new": PASSWORD, "again": PASSWORD}
TEAM = "/teams/payments/invitations/"


@pytest.fixture(autouse=True)
def mails(settings: Any) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"


def as_(client: Client, user: User) -> Client:
    client.force_login(user)
    return client


def invite(client: Client, email: str = "nina@example.com", path: str = TEAM, **more: str) -> str:
    return client.post(
        path, {"action": "invite", "email": email, "team_role": "member", **more}, follow=True
    ).content.decode()


def link() -> str:
    """The path in the newest mail."""
    found = re.search(r"http://127\.0\.0\.1:8000(/invitation/\S+)", str(mail.outbox[-1].body))
    assert found is not None
    return found[1]


def test_a_manager_invites_somebody_who_comes_in_once(client: Client, cast: Cast) -> None:
    assert "nina@example.com is invited" in invite(as_(client, cast.mina), "Nina@Example.com")
    assert mail.outbox[-1].to == ["nina@example.com"]
    assert "Mina (mina@example.com) invites you to the team Payments" in str(mail.outbox[-1].body)
    token = link().split("/")[2]
    assert token not in str(list(Invitation.objects.values())) + str(list(Entry.objects.values()))
    shown = client.get("/teams/payments/members/").content.decode()
    assert "nina@example.com" in shown
    assert "waiting, until" in shown
    nina = Client()
    assert "Mina invites <strong>nina@example.com</strong>" in nina.get(link()).content.decode()
    assert not User.objects.get_queryset().filter(email="nina@example.com").exists()
    answer = nina.post(link(), {**NEW, "new": "short", "again": "short"})
    assert (answer.status_code, "too short" in answer.content.decode()) == (422, True)
    assert nina.post(link(), NEW)["Location"] == "/"
    assert nina.get("/teams/payments/members/").status_code == 200
    made = User.objects.get_queryset().get(email="nina@example.com")
    assert (made.name, made.role, Membership.objects.get(user=made).role) == ("Nina", "", "member")
    for answer in (Client().get(link()), Client().post(link(), NEW)):
        assert answer.status_code == 410
    changes = ConfigChange.objects.order_by("pk").values_list("action", "actor")
    assert list(changes) == [
        ("invite", "mina@example.com"),
        ("create_user", "invitation by mina@example.com"),
        ("set_membership", "mina@example.com"),
        ("accept_invitation", "nina@example.com"),
    ]


@pytest.mark.parametrize(("who", "status"), [("vic", 403), ("rhea", 403), ("omar", 404), ("zed", 404)])
def test_nobody_else_invites_to_a_team(client: Client, cast: Cast, who: str, status: int) -> None:
    as_(client, getattr(cast, who))
    assert client.post(TEAM, {"action": "invite", "email": "n@example.com"}).status_code == status
    assert client.get(TEAM).status_code == 405
    assert not Invitation.objects.exists()
    assert "Invitations" not in client.get("/teams/payments/members/").content.decode()


@pytest.mark.parametrize("who", ["mina", "vic", "rhea", "zed"])
def test_administrators_alone_invite_to_the_portal(client: Client, cast: Cast, who: str) -> None:
    as_(client, getattr(cast, who))
    assert client.get("/invitations/").status_code == 403
    assert client.post("/invitations/", {"action": "invite", "email": "n@example.com"}).status_code == 403
    # Nor does a manager give a role of the portal, whatever the form says.
    if who == "mina":
        invite(client, role="administrator")
        assert Invitation.objects.get().role == ""


def test_an_administrator_invites_with_a_role_and_into_a_team(client: Client, cast: Cast) -> None:
    shown = invite(as_(client, cast.ada), path="/invitations/", role="auditor", team="search")
    assert "auditor, member of Search" in shown
    Client().post(link(), NEW)
    made = User.objects.get_queryset().get(email="nina@example.com")
    assert (made.role, Membership.objects.get(user=made).team) == ("auditor", cast.search)
    shown = invite(client, "o@example.com", path="/invitations/", role="auditor", team="search", team_role="manager")
    assert "manages no team" in shown


def test_a_link_is_void_once_it_is_revoked_sent_again_or_expired(client: Client, cast: Cast) -> None:
    invite(as_(client, cast.mina))
    first = link()
    row = Invitation.objects.get()
    assert "invited already" in invite(client)
    client.post(TEAM, {"action": "resend", "invitation": row.pk})
    second = link()
    assert second != first
    assert Client().post(first, NEW).status_code == 410
    Invitation.objects.update(expires_at=timezone.now() - dt.timedelta(minutes=1))
    assert Client().post(second, NEW).status_code == 410
    assert "expired" in client.get("/teams/payments/members/").content.decode()
    client.post(TEAM, {"action": "resend", "invitation": row.pk})
    assert Client().get(link()).status_code == 200
    client.post(TEAM, {"action": "revoke", "invitation": row.pk})
    assert Client().post(link(), NEW).status_code == 410
    assert (
        "revoked already" in client.post(TEAM, {"action": "resend", "invitation": row.pk}, follow=True).content.decode()
    )
    assert not User.objects.get_queryset().filter(email="nina@example.com").exists()


def test_another_teams_invitation_is_not_found(client: Client, cast: Cast) -> None:
    invite(as_(client, cast.mina))
    values = {"action": "revoke", "invitation": Invitation.objects.get().pk}
    assert as_(client, cast.omar).post("/teams/search/invitations/", values).status_code == 404


def test_what_the_inviter_may_no_longer_do_is_not_done(client: Client, cast: Cast) -> None:
    invite(as_(client, cast.mina))
    Membership.objects.filter(user=cast.mina).update(role="member")
    answer = Client().post(link(), NEW)
    assert "may no longer do so" in answer.content.decode()
    assert not User.objects.get_queryset().filter(email="nina@example.com").exists()


def test_somebody_who_signs_in_already_is_added_or_accepts_as_themselves(client: Client, cast: Cast) -> None:
    assert "signs in here already: add them" in invite(as_(client, cast.mina), "zed@example.com")
    invite(client)
    User.objects.create_user("nina@example.com", PASSWORD)  # another team was quicker
    stranger = Client()
    assert "You have an account already" in stranger.get(link()).content.decode()
    stranger.post(link(), NEW)
    assert as_(stranger, cast.zed).post(link(), follow=True).content.decode().count("This invitation is for") == 1
    assert not Membership.objects.filter(team=cast.payments, user__email="nina@example.com").exists()
    nina = User.objects.get_queryset().get(email="nina@example.com")
    assert "Welcome to Payments" in as_(Client(), nina).post(link(), follow=True).content.decode()
    assert Membership.objects.get(team=cast.payments, user=nina).role == "member"


def test_a_mail_that_is_not_sent_is_told(
    client: Client, cast: Cast, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    def fails(*_: Any) -> None:
        raise ConnectionRefusedError

    monkeypatch.setattr("portal.views.invitations.send_mail", fails)
    assert "the mail could not be sent" in invite(as_(client, cast.mina))
    monkeypatch.undo()
    settings.EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"
    assert "in the server&#x27;s output" in invite(client, "o@example.com").replace("&#39;", "&#x27;")
