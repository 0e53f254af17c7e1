"""Signing in by the word of an OIDC provider: which there are (``OIDC_PROVIDERS``), what of their word is believed, and what
their groups make of a person here.

An account is linked by issuer and subject. An address alone links nothing, unless the provider is said to prove them.
"""

from __future__ import annotations

import functools
import logging
import time
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import msgspec
from allauth.core.exceptions import ImmediateHttpResponse
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from allauth.socialaccount.models import SocialAccount, SocialLogin
from allauth.socialaccount.providers.base import AuthProcess
from allauth.socialaccount.providers.oauth2.client import OAuth2Error
from allauth.socialaccount.providers.openid_connect.provider import OpenIDConnectProvider
from allauth.socialaccount.providers.openid_connect.views import OpenIDConnectOAuth2Adapter
from django.conf import settings
from django.contrib import messages
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.db import transaction
from django.http import HttpRequest
from django.shortcuts import redirect
from django.urls import reverse
from requests import Session
from requests.adapters import HTTPAdapter

from integrations.outbound import tls
from policies.actions import (
    Refused,
    do_accept_invitation,
    do_create_user,
    do_remove_member,
    do_set_membership,
    do_update_user,
    record_account_change,
    record_sign_in,
)
from policies.models import Membership, Team, User
from portal.sign_in import ip_of

log = logging.getLogger(__name__)
INVITATION = "invitation"
"""The session's key of an invitation that is being accepted by way of a provider."""
_CONFIGURATION_SECONDS: Final = 600
_LONGEST_SUBJECT: Final = 191  # as the column has it


class Provider(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of ``OIDC_PROVIDERS``. ``docs/operations.md`` says what each is for."""

    id: str
    name: str
    issuer: str
    client_id: str
    client_secret: str
    scopes: tuple[str, ...] = ("openid", "profile", "email")
    groups_claim: str = "groups"
    roles: dict[str, str] = msgspec.field(default_factory=dict)
    """Group → administrator or auditor. Empty: the portal's roles are not the provider's to give."""
    teams: dict[str, dict[str, str]] = msgspec.field(default_factory=dict)
    """Group → {team's slug: manager or member}. A team that is named here has its members from the provider alone."""
    create_accounts: bool = False
    emails_are_proven: bool = False
    second_factor: bool = False
    token_auth_method: Literal["", "client_secret_basic", "client_secret_post"] = ""
    """Empty: as it says that it takes them."""

    def faults(self) -> list[str]:
        """What is wrong with it, in sentences; none of them holds a secret."""
        at = urlsplit(self.issuer)
        local = at.hostname in ("localhost", "127.0.0.1", "::1")
        said = []
        if not self.id.replace("-", "").isalnum() or not self.id.isascii() or len(self.id) > 50:
            said.append("its id must be letters, digits and hyphens, for it is part of an address")
        if not at.hostname or at.query or at.fragment or not (at.scheme == "https" or (local and at.scheme == "http")):
            said.append("its issuer is not an https address")
        if len(self.issuer) > 200:
            said.append("its issuer is longer than 200 characters")
        if "openid" not in self.scopes:
            said.append("its scopes lack openid")
        if wrong := {role for role in self.roles.values() if role not in User.Role.values or not role}:
            said.append(f"its roles name {', '.join(sorted(wrong))}: a role is administrator or auditor")
        named = {role for teams in self.teams.values() for role in teams.values()}
        if wrong := named - set(Membership.Role.values):
            said.append(f"its teams name the role {', '.join(sorted(wrong))}: it is manager or member")
        return said


@functools.lru_cache(maxsize=4)
def read_providers(text: str) -> tuple[Provider, ...]:
    """``OIDC_PROVIDERS``, a JSON list. Raises ``ImproperlyConfigured``; the message holds no secret."""
    if not text.strip():
        return ()
    try:
        found = msgspec.json.decode(text, type=tuple[Provider, ...])
    except msgspec.ValidationError as error:
        raise ImproperlyConfigured(f"OIDC_PROVIDERS: {error}") from None
    except msgspec.DecodeError:
        raise ImproperlyConfigured("OIDC_PROVIDERS is not JSON.") from None
    for each in found:
        if faults := each.faults():
            raise ImproperlyConfigured(f"OIDC_PROVIDERS: of {each.id!r}, {'; '.join(faults)}.")
    for what in ("id", "issuer"):
        if len({getattr(each, what) for each in found}) < len(found):
            raise ImproperlyConfigured(f"OIDC_PROVIDERS: two have the same {what}.")
    return found


def providers() -> tuple[Provider, ...]:
    return read_providers(settings.OIDC_PROVIDERS)


def provider_of(issuer: str) -> Provider | None:
    return next((each for each in providers() if each.issuer == issuer), None)


class _Tls(HTTPAdapter):
    """Trusts whom the rest of the portal trusts."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs, ssl_context=tls(settings.OUTBOUND_CA_FILE))

    def proxy_manager_for(self, proxy: Any, **kwargs: Any) -> Any:
        return super().proxy_manager_for(proxy, **kwargs, ssl_context=tls(settings.OUTBOUND_CA_FILE))

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """The context above says whom to trust; files that the library would name besides are left aside."""
        conn.cert_reqs = "CERT_REQUIRED"


_configurations: dict[str, tuple[float, dict[str, Any]]] = {}


class OidcAdapter(OpenIDConnectOAuth2Adapter):
    """One sign-in by a provider. The code is exchanged over TLS with the provider itself, and with PKCE."""

    @property
    def openid_config(self) -> dict[str, Any]:
        """What the provider says of itself, remembered for ten minutes: strangers must not make the portal ask each time."""
        issuer = self.provider.issuer
        at, known = _configurations.get(issuer, (0.0, {}))
        if not known or time.monotonic() - at > _CONFIGURATION_SECONDS:
            known = dict(super().openid_config)
            if known.get("issuer") != issuer:
                raise OAuth2Error(f"It calls itself {known.get('issuer')!r}, and OIDC_PROVIDERS calls it {issuer!r}.")
            _configurations[issuer] = (time.monotonic(), known)
        return known

    @property
    def provider(self) -> Provider:
        return next(each for each in providers() if each.id == self.provider_id)

    def get_callback_url(self, request: HttpRequest, app: Any) -> str:
        """Never made from the request's Host header."""
        return f"{settings.PUBLIC_URL}{reverse('openid_connect_callback', args=[self.provider_id])}"

    def complete_login(self, request: HttpRequest, app: Any, token: Any, **kwargs: Any) -> SocialLogin:
        """The account is named by issuer and subject, both of the ID token, which must be there; what the user-info endpoint
        says is believed of the same subject alone (OpenID Connect Core, 5.3.2)."""
        if not isinstance(kwargs["response"].get("id_token"), str):
            raise OAuth2Error("There was no ID token in its answer.")
        login = super().complete_login(request, app, token, **kwargs)
        data = login.account.extra_data
        proven, more = data["id_token"], data.get("userinfo") or {}
        if more.get("sub") != proven["sub"]:
            raise OAuth2Error("Its ID token and its user-info endpoint speak of different people.")
        claims = {**proven, **more}
        groups = claims.get(self.provider.groups_claim)
        login.account.provider, login.account.uid = proven["iss"], proven["sub"]
        login.account.extra_data = {
            "email": claims.get("email") if isinstance(claims.get("email"), str) else "",
            "email_verified": claims.get("email_verified") is True,
            "name": claims.get("name") if isinstance(claims.get("name"), str) else "",
            "groups": [one for one in groups if isinstance(one, str)] if isinstance(groups, list) else [],
            "amr": proven["amr"] if isinstance(proven.get("amr"), list) else [],
        }
        return login


class OidcProvider(OpenIDConnectProvider):
    oauth2_adapter_class = OidcAdapter

    def extract_uid(self, data: dict[str, Any]) -> str:
        subject = data["id_token"].get("sub")
        if not isinstance(subject, str) or not 0 < len(subject) <= _LONGEST_SUBJECT:
            raise OAuth2Error("Its ID token names no subject, or one that is too long.")
        return subject


def refuse(request: HttpRequest, why: str, *, email: str = "", user: User | None = None, to: str = "sign-in") -> None:
    """End a sign-in by a provider: on record, and with a sentence for the person. Always raises."""
    record_sign_in(user=user, email=email, ip=ip_of(request), what="refused", how="OIDC provider")
    messages.error(request, why)
    raise ImmediateHttpResponse(redirect(to))


class SocialAdapter(DefaultSocialAccountAdapter):
    """What becomes of a provider's word."""

    def is_open_for_signup(self, request: HttpRequest, sociallogin: SocialLogin) -> bool:
        return False

    def list_apps(self, request: HttpRequest, provider: str | None = None, client_id: str | None = None) -> list[Any]:
        """Those of the settings; none of the database's."""
        from allauth.socialaccount.models import SocialApp

        return [
            SocialApp(
                provider="openid_connect",
                provider_id=each.id,
                name=each.name,
                client_id=each.client_id,
                secret=each.client_secret,
                settings={
                    "server_url": each.issuer,
                    "scope": list(each.scopes),
                    "oauth_pkce_enabled": True,
                    "token_auth_method": each.token_auth_method,
                },
            )
            for each in providers()
            if provider in (None, each.id, "openid_connect") and client_id in (None, each.client_id)
        ]

    def get_provider(self, request: HttpRequest, provider: str, client_id: str | None = None) -> OidcProvider:
        return OidcProvider(request, app=self.get_app(request, provider=provider, client_id=client_id))

    def get_requests_session(self) -> Session:
        """Straight to the provider, or by ``OIDC_PROXY``; never by what the environment says."""
        session: Session = super().get_requests_session()
        session.trust_env = False
        session.mount("https://", _Tls())
        if settings.OIDC_PROXY:
            session.proxies = {"https": settings.OIDC_PROXY, "http": settings.OIDC_PROXY}
        return session

    def on_authentication_error(
        self, request: HttpRequest, provider: Any, error: Any = None, exception: Any = None, extra_context: Any = None
    ) -> None:
        log.warning("A sign-in by the OIDC provider %s failed: %s", provider.app.name, exception or error)
        refuse(request, f"{provider.app.name} did not sign you in. Try again, or tell an administrator.")

    def pre_social_login(self, request: HttpRequest, sociallogin: SocialLogin) -> None:
        sociallogin.token = None  # used up; a session must not keep it
        account = sociallogin.account
        provider = provider_of(account.provider)
        assert provider is not None  # noqa: S101  # it has just answered
        said = account.extra_data
        invitation = request.session.pop(INVITATION, "")
        if sociallogin.state.get("process") == AuthProcess.CONNECT:
            self._link_own(request, sociallogin, provider)
        try:
            with transaction.atomic():
                user = sociallogin.user if sociallogin.is_existing else self._newcomer(provider, said, invitation)
                if not user.is_active:
                    raise Refused("This account is switched off: ask an administrator.")
                if not sociallogin.is_existing:
                    link(user, account, provider)
                follow_groups(user, provider, said["groups"])
        except (Refused, ValidationError) as error:
            why = " ".join(error.messages) if isinstance(error, ValidationError) else str(error)
            refuse(request, why, email=said["email"], user=sociallogin.user if sociallogin.is_existing else None)
        user.refresh_from_db()
        sociallogin.user = user
        request.vouched_second_factor = provider.second_factor  # type: ignore[attr-defined]  # for the session

    def _newcomer(self, provider: Provider, said: dict[str, Any], invitation: str) -> User:
        """Whom a provider's account that is linked to nobody is for: whoever holds an invitation, whoever has the address
        that the provider proves, or somebody new, where that is allowed."""
        email = said["email"].strip().lower()
        name = said["name"][:150]
        if invitation:
            return do_accept_invitation(invitation, name=name)
        proven = provider.emails_are_proven or said["email_verified"]
        known = User.objects.get_queryset().of_address(email).first() if email else None
        if known is not None:
            if provider.emails_are_proven:
                return known
            raise Refused(f"Sign in as before, and link {provider.name} under your account: then it signs you in.")
        if not provider.create_accounts:
            raise Refused(
                f"{provider.name} knows you, but nobody here is linked to that account: ask for an invitation."
            )
        if not proven:
            raise Refused(
                f"{provider.name} does not say that the address {email or '(none)'} is yours: ask an administrator."
            )
        return do_create_user(email, by=f"OIDC provider {provider.name}", password=None, name=name)

    def _link_own(self, request: HttpRequest, sociallogin: SocialLogin, provider: Provider) -> None:
        """A person who is signed in links a provider's account to their own. Always raises."""
        user = request.user
        if not isinstance(user, User):
            refuse(request, "Your session has ended: sign in, then link it again.")
        assert isinstance(user, User)  # noqa: S101
        if sociallogin.is_existing and sociallogin.user.pk != user.pk:
            refuse(request, f"That account of {provider.name} signs somebody else in.", user=user, to="account")
        if not sociallogin.is_existing:
            with transaction.atomic():
                link(user, sociallogin.account, provider)
        messages.success(request, f"{provider.name} signs you in from now on.")
        raise ImmediateHttpResponse(redirect("account"))


def link(user: User, account: SocialAccount, provider: Provider) -> None:
    """That account of the provider's signs this person in, from now on."""
    account.user = user
    account.save()
    record_account_change(user, by=user, action="link_provider", what=f"{provider.name}: {account.uid}")


@transaction.atomic
def do_unlink(account: SocialAccount, *, by: User) -> None:
    """Raises ``ValidationError`` where nothing else would sign the person in."""
    user = account.user
    others = SocialAccount.objects.filter(user=user).exclude(pk=account.pk).exists()
    if not user.has_usable_password() and not others:
        raise ValidationError("Nothing else signs you in: ask an administrator for a password first.")
    provider = provider_of(account.provider)
    account.delete()
    what = f"{provider.name if provider else account.provider}: {account.uid}"
    record_account_change(user, by=by, action="unlink_provider", what=what)


def follow_groups(user: User, provider: Provider, groups: list[str]) -> None:
    """What the provider's groups make of a person: the portal's role, and memberships of the teams that it gives. Whoever
    left a group loses what it gave. Without a mapping nothing is changed."""
    by = f"OIDC provider {provider.name}"
    if provider.roles:
        given = {role for group, role in provider.roles.items() if group in groups}
        role = next((each for each in ("administrator", "auditor") if each in given), "")
        if role != user.role:
            do_update_user(user, by=by, role=role)
    given_in: dict[str, set[str]] = {slug: set() for teams in provider.teams.values() for slug in teams}
    for group, teams in provider.teams.items():
        for slug, in_team in teams.items() if group in groups else ():
            given_in[slug].add(in_team)
    for team in Team.objects.filter(slug__in=given_in, kind=Team.Kind.SHARED):
        if roles := given_in[team.slug]:
            # An auditor changes nothing, and so is a member at most.
            manages = "manager" in roles and not user.is_auditor
            do_set_membership(team, user=user, role="manager" if manages else "member", by=by)
        else:
            do_remove_member(team, user=user, by=by)
