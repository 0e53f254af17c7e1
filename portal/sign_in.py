"""How people prove who they are: django-allauth's steps, with this portal's limits, seals and words.

A sign-in is a password and, where somebody has one, a second factor (a code of an authenticator app, a recovery code, a
passkey); or a passkey alone, which is both in one; or an OIDC provider's word (``portal/oidc.py``). What a session was
opened with stays in it.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import time
from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.internal.flows.login import get_authentication_records, record_authentication
from allauth.core import context
from allauth.core.internal.cryptokit import compare_user_code
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.mfa.base.forms import AuthenticateForm, ReauthenticateForm
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value, yield_hotp_counters_from_time
from allauth.mfa.webauthn.forms import (
    AddWebAuthnForm,
    AuthenticateWebAuthnForm,
    LoginWebAuthnForm,
    ReauthenticateWebAuthnForm,
)
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import authenticate
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.debug import sensitive_variables

from policies.actions import (
    TooManyGuesses,
    count_begun,
    count_guess,
    do_end_sessions,
    forgive_guesses,
    record_account_change,
    record_sign_in,
    require_administrator,
    take_back_guess,
)
from policies.models import BrowserSession, Membership, User

ROLES = {"administrators": User.Role.ADMINISTRATOR, "auditors": User.Role.AUDITOR, "managers": None}
"""Whom ``REQUIRE_MFA`` may name; the portal-wide role that it stands for, None for those who manage a team."""

WAYS = {
    "totp": "authenticator app",
    "recovery_codes": "recovery code",
    "webauthn": "passkey",
    "provider": "second factor of the provider",
}


CONFIRMED_SECONDS = 300
"""How long who one is need not be said again."""
UNDER_WAY_SECONDS = 900
"""How long a sign-in may take."""


def ip_of(request: HttpRequest) -> str:
    return str(request.META.get("REMOTE_ADDR", ""))


def begin(request: HttpRequest) -> None:
    """A sign-in that keeps something of a stranger until it is complete: for a while, and not too often from one address.
    Raises ``TooManyGuesses``."""
    if not request.user.is_authenticated:
        count_begun(ip=ip_of(request))
        request.session.set_expiry(UNDER_WAY_SECONDS)


def has_second_factor(request: HttpRequest) -> bool:
    """Whether this session was opened or confirmed with a second factor: a code, a passkey, or one that the OIDC provider
    vouched for. Asks no database."""
    user = request.user if request.user.is_authenticated else None
    return any(record.get("method") == "mfa" for record in get_authentication_records(request, user))


def must_have_second_factor(user: User) -> bool:
    """Whether ``REQUIRE_MFA`` names what this person is."""
    if user.role and user.role in {ROLES.get(name) for name in settings.REQUIRE_MFA}:
        return True
    managers = Membership.objects.filter(user=user, role=Membership.Role.MANAGER)
    return "managers" in settings.REQUIRE_MFA and managers.exists()


def how(request: HttpRequest, user: User) -> str:
    """What a session was opened with, in words."""
    said = []
    for record in get_authentication_records(request, user):
        method = record.get("method")
        if method == "mfa":
            said.append(WAYS.get(str(record.get("type")), "second factor"))
        elif method == "socialaccount":
            said.append(f"OIDC provider {record.get('provider')}")
        elif method == "password":
            said.append("password")
    return ", ".join(dict.fromkeys(said))


class AccountAdapter(DefaultAccountAdapter):
    """Nobody signs up by themselves, and what there is to say is said by the views."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False

    def get_login_stages(self) -> list[str]:
        return ["allauth.mfa.stages.AuthenticateStage"]

    def add_message(
        self,
        request: HttpRequest,
        level: int,
        message_template: str | None = None,
        message_context: dict[str, Any] | None = None,
        extra_tags: str = "",
        message: str | None = None,
    ) -> None:
        """Templates of messages are the library's: the portal's views say it in its own words."""
        if message:
            messages.add_message(request, level, message, extra_tags=extra_tags)

    def get_client_ip(self, request: HttpRequest) -> str:
        return ip_of(request)

    def login(self, request: HttpRequest, user: User) -> None:
        request.signed_in_by = how(request, user)  # type: ignore[attr-defined]  # for the journal's entry
        super().login(request, user)
        request.session.set_expiry(None)  # it was for a sign-in under way
        if getattr(request, "vouched_second_factor", False):
            record_authentication(request, user, "mfa", type="provider")

    def respond_user_inactive(self, request: HttpRequest, user: User) -> HttpResponse:
        record_sign_in(user=user, email=user.email, ip=ip_of(request), what="refused")
        messages.error(request, "This account is switched off: ask an administrator.")
        return redirect("sign-in")

    def get_reauthentication_methods(self, user: Any) -> list[dict[str, Any]]:
        """Whoever has a second factor confirms with it: a password alone may not take it away. A passkey is offered first."""
        methods: list[dict[str, Any]] = super().get_reauthentication_methods(user)
        methods.sort(key=lambda method: method["id"] != "mfa_reauthenticate:webauthn")
        methods = [method for method in methods if method["id"] != "reauthenticate"] or methods
        again = {"id": "provider", "description": "Sign in with your provider again", "url": reverse("provider-again")}
        return methods or [again]

    def is_reauthentication_required(self, *, app: str, **kwargs: Any) -> bool:
        """Of whoever signs in by a provider alone, a sign-in of a moment ago is asked for."""
        user = context.request.user
        if user.has_usable_password() or Authenticator.objects.filter(user=user).exists():
            return True
        by_provider = [
            record["at"]
            for record in get_authentication_records(context.request, user)
            if record.get("method") == "socialaccount"
        ]
        return not by_provider or time.time() - by_provider[-1] > CONFIRMED_SECONDS

    @sensitive_variables("password")
    def reauthenticate(self, user: User, password: str) -> bool:
        """Behind the same limit as a sign-in: a session that somebody left open is no place to guess at."""
        request = context.request
        right = authenticate(request, username=user.email, password=password) is not None
        if right:
            forgive_guesses(email=user.email, ip=ip_of(request))
        return right


# Second factors


@functools.lru_cache(maxsize=4)
def _crypter(keys: tuple[str, ...]) -> MultiFernet:
    """Keys of its own, made from those of the tokens: what is sealed for one is not opened as the other."""
    derived = [hashlib.blake2b(key.encode(), person=b"second-factors", digest_size=32).digest() for key in keys]
    return MultiFernet([Fernet(base64.urlsafe_b64encode(key)) for key in derived])


def crypter() -> MultiFernet:
    return _crypter(tuple(settings.FIELD_ENCRYPTION_KEY))


class MFAAdapter(DefaultMFAAdapter):
    """Secrets are sealed at rest, and a passkey belongs to the address of ``PUBLIC_URL``, whatever a request calls its host."""

    @sensitive_variables("text")
    def encrypt(self, text: str) -> str:
        return crypter().encrypt(text.encode()).decode()

    @sensitive_variables()
    def decrypt(self, encrypted_text: str) -> str:
        return crypter().decrypt(encrypted_text.encode()).decode()

    def get_totp_label(self, user: User) -> str:
        return user.email

    def generate_authenticator_name(self, user: User, type: Any) -> str:
        taken = Authenticator.objects.filter(user=user, type=type).count()
        return f"Passkey {taken + 1}"

    def get_public_key_credential_rp_entity(self) -> dict[str, str]:
        # A passkey is never for a bare IP address: on this machine alone the portal is "localhost".
        return {"id": "localhost" if settings.LOOPBACK else settings.PUBLIC_HOST, "name": "Pagewarden"}

    def get_public_key_credential_user_entity(self, user: User) -> dict[str, Any]:
        return {**super().get_public_key_credential_user_entity(user), "name": user.email, "display_name": str(user)}


@transaction.atomic
def do_remove_second_factors(user: User, *, by: User) -> None:
    """For whoever lost a device and the recovery codes. They are signed out everywhere, and a password alone signs them in
    until they set up another."""
    require_administrator(by, "take a second factor away")
    kinds = list(Authenticator.objects.filter(user=user).values_list("type", flat=True))
    if kinds:
        Authenticator.objects.filter(user=user).delete()
        do_end_sessions(BrowserSession.objects.filter(user=user), by=by)
        what = ", ".join(sorted(WAYS[kind] for kind in kinds))
        record_account_change(user, by=by, action="remove_second_factors", what=what)


def reseal() -> int:
    """Seal every secret of a second factor anew under the first key. Returns how many were not."""
    resealed = 0
    for pk in list(Authenticator.objects.exclude(type=Authenticator.Type.WEBAUTHN).values_list("pk", flat=True)):
        with transaction.atomic():
            row = Authenticator.objects.select_for_update().filter(pk=pk).first()
            place = next((name for name in ("secret", "seed") if row is not None and name in row.data), "")
            if row is not None and place and not _under_the_first_key(row.data[place]):
                row.data[place] = crypter().rotate(row.data[place].encode()).decode()
                row.save(update_fields=["data"])
                resealed += 1
    return resealed


def _under_the_first_key(sealed: str) -> bool:
    try:
        _crypter(tuple(settings.FIELD_ENCRYPTION_KEY[:1])).extract_timestamp(sealed.encode())
    except InvalidToken:
        return False
    return True


@sensitive_variables()
def _used_before(authenticator: Authenticator, code: str) -> bool:
    """Whether this code of an app, or a later one, was taken already. The library remembers it in one process alone."""
    with transaction.atomic():
        row = Authenticator.objects.select_for_update().get(pk=authenticator.pk)
        secret = crypter().decrypt(row.data["secret"].encode()).decode()
        counters = (
            counter
            for counter in yield_hotp_counters_from_time()
            if compare_user_code(actual=code, expected=format_hotp_value(hotp_value(secret, counter)))
        )
        counter = next(counters, 0)
        if counter <= row.data.get("last_counter", 0):
            return True
        row.data["last_counter"] = counter
        row.save(update_fields=["data"])
    return False


class _Limited:
    """A code is a guess like a password, counted for the same account and address, and once more as a code: whoever knows
    the password must not start anew with it."""

    user: User
    authenticator: Authenticator

    def clean_code(self) -> str:
        request = context.request
        who: dict[str, str] = {"email": self.user.email, "ip": ip_of(request)}
        try:
            count_guess(**who, code=True)
        except TooManyGuesses:
            record_sign_in(user=self.user, **who, what="refused")
            raise
        try:
            code: str = super().clean_code()  # type: ignore[misc]  # the form's
            if self.authenticator.type == Authenticator.Type.TOTP and _used_before(self.authenticator, code):
                raise ValidationError("This code was used already: wait for the next one.")
        except ValidationError:
            record_sign_in(user=self.user, **who, what="refused")
            raise
        take_back_guess(ip=who["ip"])
        forgive_guesses(**who, code=True)
        return code


class CodeForm(_Limited, AuthenticateForm):
    pass


class CodeAgainForm(_Limited, ReauthenticateForm):
    pass


class _Passkey:
    """What a passkey answered is whatever somebody sent: what the library stumbles over is no answer."""

    def full_clean(self) -> None:
        try:
            super().full_clean()  # type: ignore[misc]  # the form's
        except (LookupError, AttributeError, TypeError, ValueError, RecursionError):
            self.add_error("credential", "This is no answer of a passkey.")  # type: ignore[attr-defined]  # the form's


class PasskeyAloneForm(_Passkey, LoginWebAuthnForm):
    pass


class PasskeySecondForm(_Passkey, AuthenticateWebAuthnForm):
    pass


class PasskeyAgainForm(_Passkey, ReauthenticateWebAuthnForm):
    pass


class PasskeyForm(_Passkey, AddWebAuthnForm):
    pass
