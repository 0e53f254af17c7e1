"""Second factors, where one is signed in, who must have more than a password, and the first administrator."""

from __future__ import annotations

import datetime as dt
import json
import re
import time
from io import StringIO
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value
from cryptography.fernet import Fernet
from django.contrib.sessions.models import Session
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from policies import actions
from policies.actions import BEGUN_FROM_AN_ADDRESS, GUESSES_OF_A_CODE, set_up_token
from policies.models import BrowserSession, Entry, User
from portal.sign_in import do_remove_second_factors
from tests.conftest import PASSWORD, Cast
from tests.portal.test_account import some_time_passes

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
APP = "/account/second-factor/app/"
CODES = "/account/second-factor/codes/"


def code(secret: str, step: int = 0) -> str:
    """What an authenticator app shows now, or some half minutes away."""
    return str(format_hotp_value(hotp_value(secret, int(time.time()) // 30 + step)))


def typed(who: str) -> dict[str, str]:
    return {"username": f"{who}@example.com", "password": PASSWORD}


def password(client: Client, who: str = "mina", **more: Any) -> Any:
    return client.post("/sign-in/", {**typed(who), **more})


def second(client: Client, code: str) -> Any:
    return client.post("/sign-in/second-factor/", {"code": code})


def confirmed(client: Client) -> Client:
    """Says again who one is, by password."""
    client.post("/sign-in/again/?next=/account/", {"password": PASSWORD})
    return client


def with_app(client: Client, who: str = "mina") -> tuple[str, list[str]]:
    """Sets an authenticator app up, as a person does: its secret and the recovery codes, which are shown once."""
    password(client, who)
    shown = confirmed(client).get(APP).content.decode()
    secret = re.search(r'<code class="secret">(\w+)</code>', shown)
    assert secret is not None
    assert client.post(APP, {"code": code(secret[1])})["Location"] == CODES
    codes = shown_once(client)
    assert len(codes) == 10
    return secret[1], codes


def shown_once(client: Client) -> list[str]:
    """The recovery codes, by the button that shows them. To look at its page shows none."""
    assert re.findall(r"\b\d{8}\b", client.get(CODES).content.decode()) == []
    return re.findall(r"\b\d{8}\b", client.post(CODES).content.decode())


def signed_in(client: Client) -> bool:
    return bool(client.get("/account/").status_code == 200)


def told(kind: str = "sign_in") -> list[dict[str, Any]]:
    return [json.loads(row.record)["details"] for row in Entry.objects.filter(kind=kind).order_by("pk")]


# A code


def test_with_an_app_the_password_alone_opens_nothing(client: Client, cast: Cast) -> None:
    secret, _ = with_app(client)
    client.post("/sign-out/")
    answer = password(client, next="/teams/payments/tools/")
    assert answer["Location"] == "/sign-in/second-factor/"
    assert not signed_in(client)
    answer = second(client, "000000")
    assert (answer.status_code, "Incorrect code" in answer.content.decode()) == (200, True)
    before = client.session.session_key
    answer = second(client, code(secret))
    assert answer["Location"] == "/teams/payments/tools/"
    assert signed_in(client)
    assert client.session.session_key != before  # whoever knew the name of the session before is not in it now
    assert [entry["what"] for entry in told()] == ["signed_in", "signed_out", "refused", "signed_in"]
    assert told()[-1]["how"] == "password, authenticator app"
    rhea = Client()
    rhea.force_login(cast.rhea)
    assert "signed in (password, authenticator app)" in rhea.get("/audit/").content.decode()
    [change] = told("config")
    assert (change["action"], change["target"]) == ("add_second_factor", "mina@example.com")


def test_a_code_serves_once(client: Client, cast: Cast) -> None:
    secret, codes = with_app(client)
    shown = code(secret)
    for secret_word, again in ((shown, "used already"), (codes[0], "Incorrect code")):
        client.post("/sign-out/")
        password(client)
        assert second(client, secret_word).status_code == 302
        client.post("/sign-out/")
        password(client)
        assert again in second(client, secret_word).content.decode()
    # Nor does one from before the one that was taken.
    assert "used already" in second(client, code(secret, -1)).content.decode()
    assert second(client, codes[1]).status_code == 302


def test_the_password_does_not_let_one_guess_on_at_the_code(client: Client, cast: Cast) -> None:
    secret, codes = with_app(client)
    for number in range(GUESSES_OF_A_CODE):
        guessing = Client(REMOTE_ADDR=f"198.51.100.{number}")
        password(guessing)
        assert second(guessing, "12345678").status_code == 200
    guessing = Client(REMOTE_ADDR="203.0.113.5")
    password(guessing)
    for right in (code(secret), codes[0]):
        answer = second(guessing, right)
        assert (answer.status_code, "Too many wrong guesses" in answer.content.decode()) == (429, True)
    assert not signed_in(guessing)
    # A session of hers that stays open is no place for it either.
    assert client.post("/sign-in/again/code/", {"code": codes[0]}).status_code == 429
    some_time_passes()
    password(guessing)
    assert second(guessing, codes[0]).status_code == 302


def test_secrets_are_sealed_at_rest_and_move_to_a_new_key(client: Client, cast: Cast, settings: Any) -> None:
    secret, codes = with_app(client)
    stored = str(list(Authenticator.objects.values_list("data", flat=True)))
    assert secret not in stored
    assert not any(each in stored for each in codes)
    old = settings.FIELD_ENCRYPTION_KEY
    settings.FIELD_ENCRYPTION_KEY = [Fernet.generate_key().decode(), *old]
    out = StringIO()
    call_command("rotate_keys", stdout=out)
    assert "2 secrets of second factors resealed" in out.getvalue()
    settings.FIELD_ENCRYPTION_KEY = settings.FIELD_ENCRYPTION_KEY[:1]
    client.post("/sign-out/")
    password(client)
    assert second(client, code(secret)).status_code == 302


def test_a_password_alone_takes_no_second_factor_away(client: Client, cast: Cast) -> None:
    secret, _ = with_app(client)
    session = client.session
    session["account_authentication_methods"] = []  # a session of before, whose password is known
    session.save()
    answer = client.get(f"{APP}remove/")
    assert answer["Location"] == f"/sign-in/again/code/?next={APP.replace('/', '%2F')}remove%2F"
    assert client.post("/sign-in/again/", {"password": PASSWORD})["Location"] == "/sign-in/again/code/"
    client.post("/sign-in/again/code/", {"code": code(secret)})
    assert client.post(f"{APP}remove/").status_code == 302
    assert not Authenticator.objects.exists()  # the recovery codes are gone with it
    assert [entry["action"] for entry in told("config")] == ["add_second_factor", "remove_second_factor"]
    client.post("/sign-out/")
    assert password(client)["Location"] == "/"


def test_new_recovery_codes_void_the_old(client: Client, cast: Cast) -> None:
    _, codes = with_app(client)
    assert shown_once(client) == []
    client.post(f"{CODES}new/")
    fresh = shown_once(client)
    assert len(fresh) == 10
    assert not set(fresh) & set(codes)
    client.post("/sign-out/")
    password(client)
    assert second(client, codes[0]).status_code == 200
    assert second(client, fresh[0]).status_code == 302


def test_who_lost_everything_is_helped_by_an_administrator(client: Client, cast: Cast) -> None:
    with_app(client)
    with pytest.raises(actions.Refused, match="Only an administrator"):
        do_remove_second_factors(cast.mina, by=cast.omar)
    ada = Client()
    ada.force_login(cast.ada)
    listed = ada.get("/admin/mfa/authenticator/").content.decode()
    assert "mina" in listed.lower()
    row = Authenticator.objects.filter(type="totp").get()
    assert row.data["secret"] not in ada.get(f"/admin/mfa/authenticator/{row.pk}/change/").content.decode()
    chosen = {"action": "take_away", "_selected_action": [str(row.pk)]}
    assert "signed out everywhere" in ada.post("/admin/mfa/authenticator/", chosen).content.decode()
    ada.post("/admin/mfa/authenticator/", {**chosen, "confirmed": "take_away"})
    assert not Authenticator.objects.exists()
    assert not signed_in(client)
    assert password(client)["Location"] == "/"
    assert told("config")[-1]["by"] == "ada@example.com"


def test_whoever_was_switched_off_between_the_steps_stays_out(client: Client, cast: Cast) -> None:
    secret, _ = with_app(client)
    client.post("/sign-out/")
    password(client)
    User.objects.filter(pk=cast.mina.pk).update(is_active=False)
    second(client, code(secret))
    assert not signed_in(client)


def test_whoever_is_switched_on_again_signs_in_again(client: Client, cast: Cast) -> None:
    """A session that somebody left open, or took, does not come back with them."""
    password(client)
    for on in (False, True):
        actions.do_update_user(cast.mina, by=cast.ada, is_active=on)
        assert not signed_in(client)
    assert not BrowserSession.objects.filter(user=cast.mina).exists()


def test_a_password_that_was_set_meanwhile_stays(cast: Cast) -> None:
    opened = User.objects.get(pk=cast.mina.pk)  # by an administrator, who looks at the page
    actions.do_set_password(cast.mina, by=cast.mina, password="another horse, another staple")
    actions.do_update_user(opened, by=cast.ada, name="Mina M.")
    assert User.objects.get(pk=cast.mina.pk).check_password("another horse, another staple")


@pytest.mark.parametrize("path", ["/sign-in/second-factor/", "/sign-in/passkey/"])
def test_a_second_factor_without_a_first_leads_back(client: Client, cast: Cast, path: str) -> None:
    assert client.get(path)["Location"] == "/sign-in/"
    assert client.post(path, {"credential": "{}", "code": "1"}, follow=True).redirect_chain[-1][0] == "/sign-in/"
    assert not signed_in(client)


@pytest.mark.parametrize(
    "sent",
    [
        "[" * 100_000,
        '{"id": null}',
        '{"id": "YQ", "rawId": "YQ", "type": "public-key", "response": {"clientDataJSON": "e30"}}',
        '{"response": {"userHandle": "OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk"}}',
    ],
    ids=["deep", "no id", "nothing in it", "nobody's"],
)
def test_what_is_no_answer_of_a_passkey_is_refused(client: Client, cast: Cast, sent: str) -> None:
    with_app(client)
    assert client.post("/account/second-factor/passkeys/", {"credential": sent, "name": "x"}).status_code == 200
    client.post("/sign-out/")
    client.post("/sign-in/passkey/", {"credential": ""})
    assert client.post("/sign-in/passkey/", {"credential": sent})["Location"] == "/sign-in/"
    password(client)
    assert client.post("/sign-in/second-factor/", {"credential": sent}).status_code == 200
    assert not signed_in(client)
    assert [entry["what"] for entry in told()][-2:] == ["refused", "refused"]


def test_strangers_do_not_fill_the_disk_with_sign_ins_that_they_begin(client: Client, cast: Cast) -> None:
    def begin(browser: Client) -> int:
        return int(browser.post("/sign-in/passkey/", {"credential": ""}, REMOTE_ADDR="198.51.100.4").status_code)

    for _ in range(BEGUN_FROM_AN_ADDRESS):
        assert begin(Client()) == 200
    kept = Session.objects.count()
    assert begin(Client()) == 429
    assert Session.objects.count() == kept
    # Whoever has a password there signs in, and one who completes what was begun takes it back.
    assert client.post("/sign-in/", typed("omar"), REMOTE_ADDR="198.51.100.4")["Location"] == "/"
    assert begin(Client()) == 200
    # They end soon, and so does what is kept of them; hers goes on.
    Session.objects.filter(expire_date__lt=timezone.now() + dt.timedelta(minutes=20)).update(expire_date=timezone.now())
    actions.forget_expired_sessions()
    assert Session.objects.count() == 1
    assert signed_in(client)


# Where a sign-in leads


@pytest.mark.parametrize("to", ["https://evil.example/", "//evil.example/", "/\\evil.example", "javascript:alert(1)"])
def test_nobody_is_sent_elsewhere(client: Client, cast: Cast, to: str) -> None:
    secret, _ = with_app(client, "omar")
    assert client.post(f"/sign-in/again/code/?next={to}", {"code": code(secret)})["Location"] == "/"
    client.post("/sign-out/")
    assert password(client, next=to)["Location"] == "/"
    client.post("/sign-out/")
    password(client, "omar", next=to)
    assert second(client, code(secret, 1))["Location"] == "/"


@pytest.mark.parametrize(
    "path", ["/sign-in/", "/sign-in/second-factor/", "/account/", APP, "/sign-out/", "/invitations/"]
)
def test_forms_of_other_sites_do_nothing(cast: Cast, path: str) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(cast.ada)
    assert client.post(path, {"code": "1"}).status_code == 403


# Who must have more than a password


@pytest.mark.parametrize(
    ("who", "held"), [("ada", True), ("mina", True), ("rhea", False), ("vic", False), ("zed", False)]
)
def test_who_must_have_a_second_factor_can_do_nothing_before(
    client: Client, cast: Cast, settings: Any, who: str, held: bool
) -> None:
    settings.REQUIRE_MFA = ["administrators", "managers"]
    assert password(client, who)["Location"] == "/"
    for path in ("/", "/account/", "/teams/", "/audit/", "/admin/"):
        led = client.get(path).headers.get("Location") == "/account/second-factor/"
        assert led is held, path
    if not held:
        return
    assert client.post("/teams/payments/tools/", {"tool": "x"}, headers={"HX-Request": "true"})["HX-Redirect"]
    shown = client.get("/account/second-factor/").content.decode()
    assert "You need one here" in shown
    client.post("/sign-out/")
    with_app(client, who)
    assert client.get("/").status_code == 200
    assert "You need one here" not in client.get("/account/second-factor/").content.decode()


def test_a_session_from_before_is_confirmed(client: Client, cast: Cast, settings: Any) -> None:
    secret, _ = with_app(client)
    old = Client()
    old.force_login(cast.mina)
    assert old.get("/").status_code == 200
    settings.REQUIRE_MFA = ["managers"]
    assert "confirm it now" in old.get("/", follow=True).content.decode()
    old.post("/sign-in/again/code/", {"code": code(secret)})
    assert old.get("/").status_code == 200


def test_settings_that_name_nobody_are_told(settings: Any) -> None:
    from portal.checks import signing_in

    settings.REQUIRE_MFA = ["administrators", "bosses"]
    [said] = signing_in(None)
    assert "bosses" in str(said.msg)


# Where one is signed in


def test_each_session_is_listed_and_ended_alone_or_with_all(client: Client, cast: Cast) -> None:
    phone = Client(REMOTE_ADDR="203.0.113.9", HTTP_USER_AGENT=FIREFOX)
    for browser in (client, phone):
        password(browser)
    password(Client(), "omar")
    shown = client.get("/account/").content.decode()
    assert "Firefox on Linux" in shown
    assert "203.0.113.9" in shown
    assert shown.count('name="session"') == 1  # this one is not offered
    omars = BrowserSession.objects.get(user=cast.omar)
    assert client.post("/account/", {"action": "end", "session": omars.pk}).status_code == 404
    row = BrowserSession.objects.get(ip="203.0.113.9")
    answer = client.post("/account/", {"action": "end", "session": row.pk}, follow=True)
    assert "Signed out of Firefox on Linux" in answer.content.decode()
    assert not signed_in(phone)
    assert signed_in(client)
    password(phone)
    answer = client.post("/account/", {"action": "end_all"}, follow=True)
    assert "signed out everywhere" in answer.content.decode()
    assert not signed_in(phone)
    assert not signed_in(client)
    assert [user.email for user in User.objects.filter(sessions__isnull=False)] == ["omar@example.com"]
    assert [entry["what"] for entry in told()].count("signed_out") == 3


def test_when_a_session_was_last_seen_is_written_now_and_then(
    client: Client, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    password(client)
    BrowserSession.objects.update(seen_at=timezone.now() - dt.timedelta(hours=1))
    assert signed_in(client)
    assert BrowserSession.objects.get().seen_at < timezone.now() - dt.timedelta(minutes=50)
    monkeypatch.setattr(actions, "_seen", {})  # five minutes later, or another process
    client.get("/account/", REMOTE_ADDR="203.0.113.77")
    row = BrowserSession.objects.get()
    assert row.seen_at > timezone.now() - dt.timedelta(minutes=1)
    assert row.ip == "203.0.113.77"


@pytest.mark.parametrize(("path", "most"), [("/account/", 12), ("/account/second-factor/", 9)])
def test_the_accounts_pages_cost_a_fixed_number_of_queries(
    client: Client, cast: Cast, django_assert_max_num_queries: Any, path: str, most: int
) -> None:
    for _ in range(5):
        password(Client())
    with_app(client)
    with django_assert_max_num_queries(most):
        assert client.get(path).status_code == 200


def test_the_sign_in_page_costs_one_query(client: Client, cast: Cast, django_assert_max_num_queries: Any) -> None:
    with django_assert_max_num_queries(1):
        assert client.get("/sign-in/").status_code == 200


# The first administrator


def setting_up(**more: str) -> dict[str, str]:
    return {"email": "first@example.com", "name": "First", "new": PASSWORD, "again": PASSWORD, **more}


@pytest.mark.django_db
def test_one_link_makes_the_first_administrator_once(client: Client) -> None:
    from portal import set_up

    for path in ("/", "/teams/", "/audit/", "/admin/", "/account/"):
        assert client.get(path, follow=True).redirect_chain[-1][0].startswith("/sign-in/")
    assert "Nobody is here yet" in client.get("/sign-in/").content.decode()
    link = set_up.link()
    out = StringIO()
    call_command("setup_link", stdout=out)
    assert out.getvalue().strip() == link
    path = link.removeprefix("http://127.0.0.1:8000")
    assert client.get(path).status_code == 200
    assert "too short" in client.post(path, setting_up(new="short", again="short")).content.decode()
    assert not User.objects.get_queryset().exists()
    answer = client.post(path, setting_up(), follow=True)
    assert answer.status_code == 200
    assert signed_in(client)
    assert User.objects.get_queryset().get().is_administrator
    for again in (client.get(path), client.post(path, setting_up(email="second@example.com"))):
        assert again.status_code == 410
    assert User.objects.get_queryset().count() == 1
    with pytest.raises(CommandError, match="already"):
        call_command("setup_link")
    assert "Nobody is here yet" not in Client().get("/sign-in/").content.decode()


@pytest.mark.django_db
@pytest.mark.parametrize("hours", [26, None], ids=["expired", "forged"])
def test_a_set_up_link_that_expired_or_was_made_up_sets_nothing_up(client: Client, hours: int | None) -> None:
    token = set_up_token(timezone.now() - dt.timedelta(hours=hours)) if hours else "eyJ1bnRpbCI6OTk5OTk5OTk5OTl9:x"
    assert client.post(f"/set-up/{token}/", setting_up()).status_code == 410
    assert not User.objects.get_queryset().exists()
