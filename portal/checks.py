"""System checks: what is wrong with the settings, found at the start and not at the first call."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from cryptography.fernet import Fernet
from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError

from integrations.outbound import proxy_of, tls
from portal.oidc import providers
from portal.sign_in import ROLES

Messages = list[CheckMessage]
_NEW_FERNET = "python -c 'from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())'"
_NEW_SIGNING = "python -c 'import base64, os; print(base64.b64encode(os.urandom(32)).decode())'"


@register(Tags.security)
def encryption_keys(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> Messages:
    """The messages name a key by its place, never by what it is."""
    if not settings.FIELD_ENCRYPTION_KEY:
        return [
            Error(
                "FIELD_ENCRYPTION_KEY is empty: tokens cannot be sealed.",
                hint=f"Make one: {_NEW_FERNET}",
                id="portal.E001",
            )
        ]
    messages: Messages = []
    for place, key in enumerate(settings.FIELD_ENCRYPTION_KEY, 1):
        try:
            Fernet(key)
        except (ValueError, TypeError):
            messages.append(
                Error(
                    f"Key {place} of FIELD_ENCRYPTION_KEY is not 32 bytes in URL-safe base64.",
                    hint=f"Make one: {_NEW_FERNET}",
                    id="portal.E001",
                )
            )
    return messages


@register(Tags.security)
def signing_key(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> Messages:
    try:
        good = len(base64.b64decode(settings.JOURNAL_SIGNING_KEY, validate=True)) == 32
    except (ValueError, binascii.Error):
        good = False
    return (
        []
        if good
        else [
            Error(
                "JOURNAL_SIGNING_KEY is not 32 bytes in base64: checkpoints cannot be signed.",
                hint=f"Make one: {_NEW_SIGNING}",
                id="portal.E002",
            )
        ]
    )


@register(Tags.security)
def addresses(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> Messages:
    messages: Messages = []
    public = urlsplit(settings.PUBLIC_URL)
    if public.scheme != "https" and public.hostname not in ("localhost", "127.0.0.1", "::1"):
        messages.append(
            Error(
                "PUBLIC_URL is not https: agent keys and passwords would travel in clear.",
                hint="Put a proxy that speaks TLS in front, and set PUBLIC_URL to its https address.",
                id="portal.E003",
            )
        )
    if settings.PAGERDUTY_SANDBOX_URL:
        sandbox = urlsplit(settings.PAGERDUTY_SANDBOX_URL)
        plain = not (sandbox.query or sandbox.fragment or sandbox.username or sandbox.password)
        if sandbox.scheme not in ("http", "https") or not sandbox.hostname or not plain:
            messages.append(
                Error(
                    "PAGERDUTY_SANDBOX_URL is not an http or https address of a host.",
                    hint="Give it as http://127.0.0.1:8001, or leave it empty: then there is no sandbox.",
                    id="portal.E004",
                )
            )
        elif (sandbox.hostname or "").endswith("pagerduty.com"):
            messages.append(
                Warning(
                    "PAGERDUTY_SANDBOX_URL is PagerDuty itself: what is tried in the sandbox is done for real.",
                    id="portal.W001",
                )
            )
    return messages


@register(Tags.security)
def ways_out(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> Messages:
    messages: Messages = []
    for number, judge in (
        ("E006", lambda: proxy_of(settings.OUTBOUND_PROXY)),
        ("E007", lambda: tls(settings.OUTBOUND_CA_FILE)),
    ):
        try:
            judge()
        except ImproperlyConfigured as error:
            messages.append(Error(str(error), hint="docs/operations.md says what it may be.", id=f"portal.{number}"))
    return messages


@register(Tags.security)
def signing_in(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> Messages:
    messages: Messages = []
    if unknown := set(settings.REQUIRE_MFA) - set(ROLES):
        messages.append(
            Error(
                f"REQUIRE_MFA names {', '.join(sorted(unknown))}: nobody is called so here.",
                hint=f"It is a list of these: {', '.join(ROLES)}.",
                id="portal.E008",
            )
        )
    try:
        providers()
    except ImproperlyConfigured as error:
        messages.append(Error(str(error), hint="docs/operations.md says what it may be.", id="portal.E009"))
    return messages


@register(Tags.database)
def tokens_open(
    app_configs: Sequence[AppConfig] | None, databases: Sequence[str] | None = None, **kwargs: Any
) -> Messages:
    """Every sealed token is a canary: a wrong key is found here, and not by the first call of an assistant. Nothing is
    opened: a seal is checked by its signature."""
    from integrations.fields import sealed_by
    from integrations.models import Connection

    if not databases or "default" not in databases or encryption_keys(None):
        return []
    try:
        lost = [
            str(name)
            for name, *tokens in Connection.objects.values_list("name", "token", "candidate").iterator()
            if any(sealed is not None and sealed_by(sealed) is None for sealed in tokens)
        ]
    except DatabaseError:
        return []  # Not migrated yet: there is no token either.
    if not lost:
        return []
    names = ", ".join(lost[:5]) + (f" and {len(lost) - 5} more" if len(lost) > 5 else "")
    return [
        Error(
            f"The tokens of {len(lost)} connections do not open with FIELD_ENCRYPTION_KEY: {names}.",
            hint="Put the key that they were sealed with back, after the new one, and run manage.py rotate_keys; "
            "or replace the tokens.",
            id="portal.E005",
        )
    ]
