"""Signing in by a provider: a certified one that runs beside the tests, asked over HTTP as any would be."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx
import pytest
from allauth.socialaccount.models import SocialAccount
from django.core.exceptions import ImproperlyConfigured
from django.test import Client

from policies.actions import do_invite
from policies.models import ConfigChange, Entry, Membership, User
from portal.oidc import read_providers
from tests.conftest import PASSWORD, Cast
from tests.gateway.processes import ROOT, free_port, wait_for_port
from tests.portal.test_sign_in import signed_in, told

TOOLS = ROOT / ".tools"
BACK = "http://127.0.0.1:8000/sign-in/with/corp/back/"


@dataclass(frozen=True)
class Corp:
    issuer: str
    accounts: Path

    def knows(self, **people: dict[str, Any]) -> None:
        self.accounts.write_text(json.dumps(people))

    def settings(self, **more: Any) -> str:
        values = {
            "id": "corp",
            "name": "Corp",
            "issuer": self.issuer,
            "client_id": "pagewarden",
            "client_secret": "the-client-secret",
            "token_auth_method": "client_secret_basic",
            **more,
        }
        return json.dumps([values])


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Corp]:
    if shutil.which("npm") is None:
        if os.environ.get("REQUIRE_NODE"):
            pytest.fail("npm is not on the PATH, and the tests with an OIDC provider are required here.")
        pytest.skip("node and npm are not installed")
    library = TOOLS / "oidc-provider" / "node_modules" / "oidc-provider" / "lib" / "index.js"
    node = TOOLS / "conformance" / "node_modules" / ".bin" / "node"
    for needed in (library, node):
        assert needed.exists(), f"{needed} is not there: make test installs it."
    port, accounts = free_port(), tmp_path_factory.mktemp("oidc") / "accounts.json"
    accounts.write_text("{}")
    script = str(Path(__file__).with_name("oidc_provider.mjs"))
    with (accounts.parent / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(node), script, str(library), str(port), str(accounts), BACK], stdout=log, stderr=log
        )
        try:
            wait_for_port(port, process)
            yield Corp(f"http://127.0.0.1:{port}", accounts)
        finally:
            process.kill()
            process.wait()


@pytest.fixture
def corp(provider: Corp, settings: Any) -> Corp:
    settings.OIDC_PROVIDERS = provider.settings()
    return provider


def leave(client: Client, **values: str) -> str:
    """Press the button; the address at the provider that the page leads to."""
    shown = client.post("/sign-in/with/corp/", values).content.decode()
    found = re.search(r'http-equiv="refresh" content="0; url=([^"]+)"', shown)
    assert found is not None, shown
    return found[1].replace("&amp;", "&")


def at_provider(address: str, subject: str) -> str:
    """What a browser does there: it types who it is. The path that it is sent back to."""
    with httpx.Client() as browser:
        answer = browser.get(address)
        for _ in range(8):
            if answer.is_redirect:
                address = urljoin(str(answer.url), answer.headers["location"])
                if address.startswith(BACK):
                    return address.removeprefix("http://127.0.0.1:8000")
                answer = browser.get(address)
                continue
            form = re.search(r'<form[^>]* action="([^"]+)"', answer.text)
            assert form is not None, answer.text
            answer = browser.post(form[1], data={"prompt": "login", "login": subject, "password": "any"})
    raise AssertionError(f"the provider did not send {subject} back")


def sign_in(client: Client, subject: str, **values: str) -> str:
    """The page that comes of signing in by the provider."""
    path = at_provider(leave(client, **values), subject)
    return client.get(path, follow=True).content.decode()


def person(email: str = "", *groups: str, verified: bool = True, **more: Any) -> dict[str, Any]:
    return {"email": email, "email_verified": verified, "groups": list(groups), "name": email.split("@")[0], **more}


def link(client: Client, user: User, subject: str) -> str:
    """A person links the provider's account to theirs, having said again who they are."""
    client.force_login(user)
    client.post("/sign-in/again/", {"password": PASSWORD})
    return sign_in(client, subject, link="yes")


def test_whoever_linked_an_account_signs_in_by_it(client: Client, cast: Cast, corp: Corp) -> None:
    corp.knows(s1=person("mina@example.com"))
    shown = link(client, cast.mina, "s1")
    assert "Corp signs you in from now on" in shown
    assert "linked as mina@example.com" in shown
    row = SocialAccount.objects.get()
    assert (row.provider, row.uid, row.user) == (corp.issuer, "s1", cast.mina)
    other = Client()
    address = leave(other, next="/teams/payments/tools/")
    asked = parse_qs(urlsplit(address).query)
    assert asked["code_challenge_method"] == ["S256"]
    assert asked["redirect_uri"] == [BACK]
    answer = other.get(at_provider(address, "s1"))
    assert answer["Location"] == "/teams/payments/tools/"
    assert signed_in(other)
    assert told()[-1]["how"] == f"OIDC provider {corp.issuer}"
    # A code that was used, or that is another's, signs nobody in.
    path = at_provider(leave(Client()), "s1")
    thief = Client()
    assert "did not sign you in" in thief.get(path, follow=True).content.decode()
    assert not signed_in(thief)
    kept = str(dict(other.session)) + str(list(SocialAccount.objects.values()))
    assert "access_token" not in kept
    assert "id_token" not in kept


def test_linking_asks_first_who_one_is(client: Client, cast: Cast, corp: Corp) -> None:
    client.force_login(cast.mina)
    answer = client.post("/sign-in/with/corp/", {"link": "yes"})
    assert answer["Location"].startswith("/sign-in/again/")
    assert Client().post("/sign-in/with/corp/", {"link": "yes"})["Location"] == "/sign-in/"
    assert client.get("/sign-in/with/corp/").status_code == 405
    assert client.post("/sign-in/with/elsewhere/").status_code == 404


@pytest.mark.parametrize("verified", [True, False])
def test_an_address_alone_links_nothing(client: Client, cast: Cast, corp: Corp, verified: bool) -> None:
    corp.knows(s2=person("ada@example.com", verified=verified))
    assert "link Corp under your account" in sign_in(client, "s2")
    assert not signed_in(client)
    assert not SocialAccount.objects.exists()
    [refused] = told()
    assert (refused["what"], refused["who"], refused["how"]) == ("refused", "ada@example.com", "OIDC provider")


def test_one_provider_is_believed_of_its_own_subjects_alone(
    client: Client, cast: Cast, corp: Corp, settings: Any
) -> None:
    """Another provider under the same id, and of the same subject, is somebody else."""
    SocialAccount.objects.create(user=cast.ada, provider="https://former.example", uid="s3")
    corp.knows(s3=person("new@example.com"))
    assert "nobody here is linked" in sign_in(client, "s3")
    settings.OIDC_PROVIDERS = corp.settings(issuer=f"{corp.issuer}/elsewhere")
    assert "did not sign you in" in client.post("/sign-in/with/corp/", follow=True).content.decode()
    settings.OIDC_PROVIDERS = corp.settings(issuer="http://127.0.0.1:9")
    assert "did not sign you in" in client.post("/sign-in/with/corp/", follow=True).content.decode()


def test_an_unknown_person_gets_an_account_where_that_is_set(
    client: Client, cast: Cast, corp: Corp, settings: Any
) -> None:
    corp.knows(s4=person("new@example.com"), s5=person("sly@example.com", verified=False))
    assert "nobody here is linked" in sign_in(client, "s4")
    settings.OIDC_PROVIDERS = corp.settings(create_accounts=True)
    assert "does not say that the address sly@example.com is yours" in sign_in(client, "s5")
    assert "Good to see you, new" in sign_in(client, "s4")
    made = User.objects.get_queryset().get(email="new@example.com")
    assert not made.has_usable_password()
    assert made.role == ""
    assert ConfigChange.objects.get(action="create_user").actor == "OIDC provider Corp"
    assert not User.objects.get_queryset().filter(email="sly@example.com").exists()


def test_a_provider_that_proves_addresses_links_by_them(client: Client, cast: Cast, corp: Corp, settings: Any) -> None:
    settings.OIDC_PROVIDERS = corp.settings(emails_are_proven=True)
    corp.knows(s6=person("Mina@Example.com", verified=False))
    assert "Good to see you, Mina" in sign_in(client, "s6")
    assert SocialAccount.objects.get().user == cast.mina


def test_an_invitation_is_accepted_by_way_of_the_provider(client: Client, cast: Cast, corp: Corp) -> None:
    _, token = do_invite("nina@example.com", by=cast.mina, team=cast.payments)
    assert "Come in with Corp" in client.get(f"/invitation/{token}/").content.decode()
    corp.knows(s7=person("nina@corp.example"))
    assert "Good to see you, nina" in sign_in(client, "s7", invitation=token)
    made = SocialAccount.objects.get(uid="s7").user
    assert made.email == "nina@example.com"
    assert Membership.objects.get(user=made).team == cast.payments
    corp.knows(s8=person("other@corp.example"))
    assert "no longer open" in sign_in(Client(), "s8", invitation=token)


def test_groups_give_roles_and_take_them_at_the_next_sign_in(
    client: Client, cast: Cast, corp: Corp, settings: Any
) -> None:
    corp.knows(s9=person("vic@example.com"))
    link(client, cast.vic, "s9")
    settings.OIDC_PROVIDERS = corp.settings(
        roles={"pw-admins": "administrator", "pw-audit": "auditor"},
        teams={"oncall": {"search": "member"}, "leads": {"search": "manager", "gone": "member"}},
    )

    def as_member_of(*groups: str) -> tuple[str, str]:
        corp.knows(s9=person("vic@example.com", *groups))
        sign_in(Client(), "s9")
        cast.vic.refresh_from_db()
        found = Membership.objects.filter(user=cast.vic, team=cast.search).first()
        return cast.vic.role, found.role if found else ""

    assert as_member_of("oncall", "pw-admins", "others") == ("administrator", "member")
    assert as_member_of("oncall", "leads") == ("", "manager")
    assert as_member_of("pw-audit", "leads") == ("auditor", "member")
    assert as_member_of() == ("", "")
    # What the mapping does not name stays as it was.
    assert Membership.objects.filter(user=cast.vic, team=cast.payments).exists()
    by = ConfigChange.objects.filter(actor="OIDC provider Corp").order_by("pk").values_list("action", flat=True)
    assert list(by) == [
        *("update_user", "set_membership"),
        *("update_user", "set_membership"),
        *("update_user", "set_membership"),
        *("update_user", "remove_member"),
    ]
    assert Entry.objects.filter(record__contains="OIDC provider Corp").exists()


def test_whoever_is_switched_off_does_not_come_in_by_the_provider(client: Client, cast: Cast, corp: Corp) -> None:
    corp.knows(s10=person("mina@example.com"))
    link(client, cast.mina, "s10")
    User.objects.filter(pk=cast.mina.pk).update(is_active=False)
    other = Client()
    assert "switched off" in sign_in(other, "s10")
    assert not signed_in(other)


def test_the_providers_second_factor_counts_where_that_is_set(
    client: Client, cast: Cast, corp: Corp, settings: Any
) -> None:
    settings.REQUIRE_MFA = ["managers"]
    settings.OIDC_PROVIDERS = corp.settings(emails_are_proven=True)
    corp.knows(s11=person("mina@example.com"))
    User.objects.filter(pk=cast.mina.pk).update(password="!")
    assert "You need one here" in sign_in(client, "s11")
    # Without a password, a sign-in of a moment ago says who one is.
    assert client.get("/account/second-factor/app/").status_code == 200
    session = client.session
    for record in session["account_authentication_methods"]:
        record["at"] -= 600
    session.save()
    assert "Sign in with Corp" in client.get("/account/second-factor/app/", follow=True).content.decode()
    asked = leave(client, again="yes", next="/account/second-factor/app/")
    assert parse_qs(urlsplit(asked).query)["prompt"] == ["login"]
    assert "QR code" in client.get(at_provider(asked, "s11"), follow=True).content.decode()
    settings.OIDC_PROVIDERS = corp.settings(second_factor=True)
    other = Client()
    assert "Good to see you" in sign_in(other, "s11")


def test_an_account_is_unlinked_unless_nothing_else_signs_one_in(client: Client, cast: Cast, corp: Corp) -> None:
    corp.knows(s12=person("mina@example.com"))
    link(client, cast.mina, "s12")
    row = SocialAccount.objects.get()
    assert Client().post("/account/", {"action": "unlink", "account": row.pk}).status_code == 302
    omar = Client()
    omar.force_login(cast.omar)
    assert omar.post("/account/", {"action": "unlink", "account": row.pk}).status_code == 404
    assert "signs somebody else in" in link(omar, cast.omar, "s12")
    old = User.objects.get_queryset().get(pk=cast.mina.pk).password
    User.objects.filter(pk=cast.mina.pk).update(password="!")
    client.force_login(User.objects.get_queryset().get(pk=cast.mina.pk))
    values = {"action": "unlink", "account": row.pk}
    assert "Nothing else signs you in" in client.post("/account/", values, follow=True).content.decode()
    User.objects.filter(pk=cast.mina.pk).update(password=old)
    client.force_login(User.objects.get_queryset().get(pk=cast.mina.pk))
    assert "no longer signs you in" in client.post("/account/", values, follow=True).content.decode()
    assert not SocialAccount.objects.exists()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"issuer": "http://idp.example"}, "not an https address"),
        ({"id": "a/b"}, "part of an address"),
        ({"scopes": ["profile"]}, "lack openid"),
        ({"roles": {"g": "boss"}}, "name boss"),
        ({"teams": {"g": {"t": "owner"}}}, "the role owner"),
        ({"client_sercet": "x"}, "client_sercet"),
    ],
    ids=["issuer", "id", "scopes", "roles", "teams", "unknown"],
)
def test_settings_that_are_wrong_say_so_and_no_secret(changed: dict[str, Any], said: str) -> None:
    text = Corp("https://idp.example", Path()).settings(**changed)
    with pytest.raises(ImproperlyConfigured, match=said) as caught:
        read_providers(text)
    assert "the-client-secret" not in str(caught.value)
