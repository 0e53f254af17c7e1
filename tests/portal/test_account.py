"""Signing in, guessing passwords, changing one's own, and what an ended session says."""

from __future__ import annotations

import datetime as dt
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.contrib.auth import hashers
from django.db import connections, transaction
from django.test import Client
from django.utils import timezone

from policies import actions
from policies.actions import GUESSES_FROM_AN_ADDRESS, GUESSES_OF_AN_ACCOUNT_FROM_AN_ADDRESS
from policies.models import ConfigChange, Entry, User
from policies.models.people import SignInFailures
from tests.conftest import PASSWORD, Cast

NEW = "an entirely new phrase"


def sign_in(client: Client, email: str, password: str, *, ip: str = "192.0.2.1") -> Any:
    return client.post("/sign-in/", {"username": email, "password": password}, REMOTE_ADDR=ip)


def some_time_passes() -> None:
    for row in SignInFailures.objects.all():
        row.began_at -= dt.timedelta(minutes=16)
        row.save()


# Guessing


def test_an_account_is_guessed_at_ten_times_and_no_more_for_a_while(
    client: Client, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(GUESSES_OF_AN_ACCOUNT_FROM_AN_ADDRESS):
        assert sign_in(client, "Ada@example.com", f"wrong{number}", ip="198.51.100.9").status_code == 200
    hashed: list[str] = []
    check = hashers.check_password

    def counted(password: str, encoded: str, setter: Any = None) -> bool:
        hashed.append(encoded)
        return check(password, encoded, setter)

    monkeypatch.setattr("django.contrib.auth.base_user.check_password", counted)
    answer = sign_in(client, "ada@example.com", PASSWORD, ip="198.51.100.9")
    assert answer.status_code == 429
    assert "Try again after" in answer.content.decode()
    assert "UTC" in answer.content.decode()
    assert 0 < int(answer["Retry-After"]) <= 900
    assert hashed == []  # a flood of guesses costs no hashing
    assert client.get("/").status_code == 302
    # Others sign in meanwhile, and so does she once the time has passed.
    assert sign_in(client, "mina@example.com", PASSWORD).status_code == 302
    client.logout()
    some_time_passes()
    assert sign_in(client, "ada@example.com", PASSWORD, ip="198.51.100.9").status_code == 302
    assert hashed


def test_an_address_is_somebodys_to_the_letter(client: Client, cast: Cast) -> None:
    """To PostgreSQL a dotless ı is an i in capitals: whoever spells an account in another way guessed at it anew."""
    assert sign_in(client, "mına@example.com", PASSWORD).status_code == 200
    twin = User.objects.create_user("mına@example.com", "of somebody else")
    assert sign_in(client, "MINA@Example.com", PASSWORD).status_code == 302
    assert list(User.objects.get_queryset().of_address(" MıNA@example.com ")) == [twin]


def test_a_new_password_and_another_change_of_the_person_do_not_wait_for_each_other(
    transactional_db: None, cast: Cast
) -> None:
    def new_password() -> None:
        actions.do_set_password(cast.mina, by=cast.mina, password=NEW)
        connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            actions.hold_version()
            setting = pool.submit(new_password)
            time.sleep(0.5)  # it waits for the version by now
            User.objects.get_queryset().filter(pk=cast.mina.pk).update(name="Mina M.")
        setting.result(timeout=20)
    mina = User.objects.get(pk=cast.mina.pk)
    assert (mina.name, mina.check_password(NEW)) == ("Mina M.", True)


def test_the_administration_has_no_other_way_in(client: Client, cast: Cast) -> None:
    values = {"username": "ada@example.com", "password": PASSWORD}
    answer = client.post("/admin/login/?next=/admin/", values)
    assert (answer.status_code, answer["Location"]) == (302, "/sign-in/?next=/admin/")
    assert client.get("/admin/").status_code == 302


def test_one_source_of_guesses_keeps_nobody_out_of_their_account(client: Client, cast: Cast) -> None:
    for _ in range(GUESSES_FROM_AN_ADDRESS):
        sign_in(client, "ada@example.com", "wrong", ip="198.51.100.9")
    assert sign_in(client, "ada@example.com", PASSWORD).status_code == 302


def test_many_sources_do_until_there_is_a_new_password(
    client: Client, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actions, "GUESSES_OF_AN_ACCOUNT", 12)
    for number in range(12):
        sign_in(client, "mina@example.com", "wrong", ip=f"198.51.100.{number}")
    assert sign_in(client, "mina@example.com", PASSWORD).status_code == 429
    actions.do_set_password(cast.mina, by=cast.ada, password=NEW)
    assert sign_in(client, "mina@example.com", NEW).status_code == 302


def test_addresses_that_a_dual_stack_socket_writes_as_ipv6_are_told_apart(client: Client, cast: Cast) -> None:
    for number in range(GUESSES_FROM_AN_ADDRESS):
        sign_in(client, f"nobody{number}@example.com", "wrong", ip="::ffff:198.51.100.9")
    assert sign_in(client, "mina@example.com", PASSWORD, ip="::ffff:198.51.100.9").status_code == 429
    assert sign_in(client, "mina@example.com", PASSWORD, ip="::ffff:203.0.113.9").status_code == 302


def test_an_address_guesses_at_thirty_accounts_and_no_more(client: Client, cast: Cast) -> None:
    for number in range(GUESSES_FROM_AN_ADDRESS):
        assert sign_in(client, f"nobody{number}@example.com", "wrong").status_code == 200
    rows = SignInFailures.objects.count()
    assert sign_in(client, "mina@example.com", PASSWORD).status_code == 429
    assert SignInFailures.objects.count() == rows  # a stranger does not fill the table
    assert sign_in(client, "mina@example.com", PASSWORD, ip="192.0.2.2").status_code == 302


def test_one_ipv6_network_is_one_source(client: Client, cast: Cast) -> None:
    for number in range(GUESSES_FROM_AN_ADDRESS):
        sign_in(client, f"nobody{number}@example.com", "wrong", ip=f"2001:db8::{number + 1:x}")
    assert sign_in(client, "mina@example.com", PASSWORD, ip="2001:db8::ffff").status_code == 429
    assert sign_in(client, "mina@example.com", PASSWORD, ip="2001:db8:0:1::1").status_code == 302


def test_the_right_password_starts_the_count_anew(client: Client, cast: Cast) -> None:
    for _ in range(2):
        for _ in range(GUESSES_OF_AN_ACCOUNT_FROM_AN_ADDRESS - 1):
            assert sign_in(client, "mina@example.com", "wrong").status_code == 200
        assert sign_in(client, "mina@example.com", PASSWORD).status_code == 302
        client.logout()


def test_what_was_typed_is_kept_nowhere_and_the_refusal_is_on_record(client: Client, cast: Cast) -> None:
    for _ in range(GUESSES_OF_AN_ACCOUNT_FROM_AN_ADDRESS + 1):
        sign_in(client, "my password by mistake", "wrong", ip="198.51.100.77")
    assert "mistake" not in str(list(SignInFailures.objects.values())) + str(list(Entry.objects.values()))
    assert Entry.objects.filter(kind="sign_in", verdict="deny").count() >= GUESSES_OF_AN_ACCOUNT_FROM_AN_ADDRESS


# Where somebody comes from


@pytest.mark.parametrize(
    ("peer", "forwarded", "recorded"),
    [
        ("10.0.0.5", "203.0.113.7", "203.0.113.7"),
        ("10.0.0.5", "198.51.100.1, 203.0.113.7, 10.0.0.9", "203.0.113.7"),
        ("192.0.2.66", "203.0.113.7", "192.0.2.66"),
        ("10.0.0.5", "nonsense", "10.0.0.5"),
    ],
)
def test_sign_ins_are_recorded_with_the_address_that_trusted_proxies_tell(
    client: Client, cast: Cast, settings: Any, peer: str, forwarded: str, recorded: str
) -> None:
    settings.TRUSTED_PROXIES = ["10.0.0.0/8"]
    values = {"username": "mina@example.com", "password": PASSWORD}
    client.post("/sign-in/", values, REMOTE_ADDR=peer, headers={"X-Forwarded-For": forwarded})
    [row] = Entry.objects.filter(kind="sign_in")
    assert json.loads(row.record)["details"]["ip"] == recorded


# One's own password


def change(client: Client, old: str = PASSWORD, new: str = NEW, again: str = "") -> Any:
    return client.post("/account/", {"old": old, "new": new, "again": again or new}, follow=True)


@pytest.mark.parametrize("who", ["mina", "vic", "rhea", "zed"])
def test_everybody_changes_their_own_password_and_stays_signed_in(client: Client, cast: Cast, who: str) -> None:
    other = Client()
    for browser in (client, other):
        sign_in(browser, f"{who}@example.com", PASSWORD)
    assert "Your password is changed" in change(client).content.decode()
    assert client.get("/").status_code == 200
    assert other.get("/").status_code == 302  # whoever else sits in the account is out
    person = getattr(cast, who)
    person.refresh_from_db()
    assert person.check_password(NEW)
    assert ConfigChange.objects.get(action="set_password").actor == f"{who}@example.com"


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"old": "wrong"}, "not your password"),
        ({"again": "another phrase"}, "not the same"),
        ({"new": "short"}, "too short"),
        ({"new": "password123"}, "too common"),
        ({"new": "mina@example.com"}, "too similar"),
    ],
)
def test_a_refused_change_says_why(client: Client, cast: Cast, values: dict[str, str], word: str) -> None:
    client.force_login(cast.mina)
    answer = change(client, **values)
    assert (answer.status_code, word in answer.content.decode()) == (422, True)
    assert "wrong" not in answer.content.decode()
    cast.mina.refresh_from_db()
    assert cast.mina.check_password(PASSWORD)


def test_a_session_left_open_is_no_place_to_guess_at(client: Client, cast: Cast) -> None:
    client.force_login(cast.mina)
    for _ in range(GUESSES_OF_AN_ACCOUNT_FROM_AN_ADDRESS):
        assert change(client, old="wrong").status_code == 422
    assert change(client).status_code == 429


def test_the_account_is_for_whoever_signed_in(client: Client, cast: Cast) -> None:
    assert client.get("/account/").status_code == 302
    client.force_login(cast.vic)
    shown = client.get("/account/").content.decode()
    assert "vic@example.com" in shown
    assert "Payments" in shown
    assert client.delete("/account/").status_code == 405


# A session that ended


def test_htmx_is_sent_to_the_sign_in_as_a_page_of_its_own(client: Client, cast: Cast) -> None:
    headers = {"HX-Request": "true", "HX-Current-URL": "http://testserver/teams/payments/tools/"}
    answer = client.post("/teams/payments/tools/", {"tool": "x"}, headers=headers)
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer["HX-Redirect"] == "/sign-in/?next=/teams/payments/tools/"
    assert client.post("/teams/payments/tools/", {"tool": "x"}).status_code == 302
    headers["HX-Current-URL"] = "http://testserver/audit/?team=3"
    assert client.get("/audit/", headers=headers)["HX-Redirect"] == "/sign-in/?next=/audit/%3Fteam%3D3"
    headers["HX-Current-URL"] = "http://["
    assert client.get("/audit/", headers=headers)["HX-Redirect"] == "/sign-in/?next=/"
    client.force_login(cast.mina)
    assert client.get("/audit/", headers=headers).status_code == 200


def test_guesses_of_long_ago_are_forgotten(client: Client, cast: Cast) -> None:
    sign_in(client, "mina@example.com", "wrong")
    some_time_passes()
    sign_in(client, "vic@example.com", "wrong")
    assert {row.count for row in SignInFailures.objects.all()} == {1}
    assert all(row.began_at > timezone.now() - dt.timedelta(minutes=1) for row in SignInFailures.objects.all())


@pytest.mark.django_db(transaction=True)
def test_guesses_made_side_by_side_are_all_counted(cast: Cast) -> None:
    def guess(number: int) -> int:
        try:
            return int(sign_in(Client(), "mina@example.com", f"wrong{number}").status_code)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(guess, range(24)))
    assert answers.count(200) == GUESSES_OF_AN_ACCOUNT_FROM_AN_ADDRESS
    assert answers.count(429) == 24 - GUESSES_OF_AN_ACCOUNT_FROM_AN_ADDRESS
