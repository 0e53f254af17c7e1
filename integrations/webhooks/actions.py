"""What managers do to their team's webhook. State, ConfigChange, version and entry move in one transaction; no record holds the
address or a secret, only what the address is recognised by."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from typing import Any, Final

from cryptography.fernet import InvalidToken
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables

from integrations.fields import Sealed, reseal_for_webhook, seal_for_webhook
from integrations.models import Delivery, Webhook
from integrations.outbound import is_public
from integrations.webhooks.deliveries import put_test
from integrations.webhooks.message import address_of, new_secret, secret_name
from policies.actions import (
    By,
    clean_reason,
    hold_version,
    name_of,
    record_change,
    require_administrator,
    require_manager,
)
from policies.models import Team, User

BOTH_FOR: Final = dt.timedelta(days=1)
"""How long the secret that was replaced signs beside the new one."""
TESTS_A_MINUTE: Final = 5


def _facts(row: Webhook) -> dict[str, Any]:
    return {"address": row.hint, "secret": row.generation}


def _record(row: Webhook, by: By, action: str, before: Any, after: Any, reason: str) -> None:
    record_change(
        by=by, team=row.team, action=action, target=row.hint, before=before, after=after, reason=clean_reason(reason)
    )


@sensitive_variables("url", "secret", "where")
def do_set_webhook(team: Team, *, url: str, by: By, reason: str = "") -> tuple[Webhook, str]:
    """Set where a team's notices are posted to. Returns it with its signing secret, which is shown once; another address has
    another secret, so that whoever had the one before cannot sign for the next.

    Raises:
        Refused: ``by`` does not manage the team.
        ValidationError: notices may not be sent there.
    """
    require_manager(by, team, "set a webhook")
    try:
        where = address_of(url)
    except ValueError as error:
        raise ValidationError(str(error)) from None
    if where.is_ip and not is_public(where.host):
        raise ValidationError("The address is inside a network: notices go to public addresses alone.")
    secret = new_secret()
    with transaction.atomic():
        hold_version()
        row = Webhook.objects.select_for_update().filter(team=team).first()
        before = _facts(row) if row is not None else None
        if row is None:
            row = Webhook(team=team)
        else:
            row.generation += 1
        row.hint = where.hint[:300]
        row.address = seal_for_webhook(row.pk, "address", url.strip())
        row.secret = seal_for_webhook(row.pk, secret_name(row.generation), secret)
        row.replaced, row.replaced_until = None, None
        row.set_by, row.set_at = name_of(by), timezone.now()
        row.save()
        _record(row, by, "set_webhook", before, _facts(row), reason)
    return row, secret


@sensitive_variables("secret")
def do_renew_webhook_secret(team: Team, *, by: By, reason: str = "") -> tuple[Webhook, str]:
    """Make a new signing secret, which is shown once. The one before signs beside it for a day."""
    require_manager(by, team, "renew a webhook's secret")
    secret = new_secret()
    with transaction.atomic():
        hold_version()
        row = _row(team)
        before = _facts(row)
        row.replaced, row.replaced_until = row.secret, timezone.now() + BOTH_FOR
        row.generation += 1
        row.secret = seal_for_webhook(row.pk, secret_name(row.generation), secret)
        row.save(update_fields=["replaced", "replaced_until", "generation", "secret"])
        _record(row, by, "renew_webhook_secret", before, _facts(row), reason)
    return row, secret


def do_remove_webhook(team: Team, *, by: By, reason: str = "") -> None:
    """Nothing is posted any more; what waits is given up."""
    require_manager(by, team, "remove a webhook")
    with transaction.atomic():
        hold_version()
        row = _row(team)
        _record(row, by, "remove_webhook", _facts(row), None, reason)
        row.delete()


def _row(team: Team) -> Webhook:
    row = Webhook.objects.select_for_update().filter(team=team).first()
    if row is None:
        raise ValidationError("This team has no webhook.")
    return row


def do_send_test(team: Team, *, by: User) -> Delivery:
    """Leave a test to the worker: it goes to the webhook, signed like any notice, and has its entries."""
    require_manager(by, team, "send a test")
    with transaction.atomic():
        row = _row(team)
        now = timezone.now()
        since = now - dt.timedelta(minutes=1)
        if (
            Delivery.objects.filter(team=team, event=Delivery.Event.TEST, created_at__gt=since).count()
            >= TESTS_A_MINUTE
        ):
            raise ValidationError("Enough tests for a minute: look at what became of them below.")
        return put_test(row, name_of(by), now)


def do_reseal_webhooks(*, by: By) -> Counter[str]:
    """Seal addresses and secrets anew under the first key. Counts ``resealed`` and ``unreadable`` webhooks."""
    require_administrator(by, "reseal the webhooks")
    counts: Counter[str] = Counter()
    for pk in list(Webhook.objects.values_list("pk", flat=True)):
        with transaction.atomic():
            row = Webhook.objects.select_for_update().filter(pk=pk).first()
            if row is None:
                continue
            try:
                found: dict[str, Sealed | None] = {
                    name: reseal_for_webhook(sealed)
                    for name in ("address", "secret", "replaced")
                    if (sealed := getattr(row, name)) is not None
                }
            except InvalidToken:
                counts["unreadable"] += 1
                continue
            changed = {name: sealed for name, sealed in found.items() if sealed is not None}
            if changed:
                for name, sealed in changed.items():
                    setattr(row, name, sealed)
                row.save(update_fields=list(changed))
                counts["resealed"] += 1
    return counts
