"""``manage.py rotate_keys``: seal every token, every second factor's secret and every webhook's, anew under the first key of
FIELD_ENCRYPTION_KEY."""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

from cryptography.fernet import InvalidToken
from django.core.management.base import BaseCommand

from integrations.actions import do_reseal_tokens
from integrations.webhooks.actions import do_reseal_webhooks
from portal.sign_in import reseal


class Command(BaseCommand):
    help = (
        "Seal every token, second factor and webhook anew under the first key of FIELD_ENCRYPTION_KEY. To change the key: put "
        "the new one "
        "before the old one, "
        "restart, run this, take the old one away, restart. No call fails meanwhile. Exit 1: some token opens "
        "with no key."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        counts: Counter[str] = do_reseal_tokens(by="manage.py rotate_keys")
        self.stdout.write(
            f"{counts['resealed']} resealed, {counts['current']} already under the first key, "
            f"{counts['unreadable']} unreadable."
        )
        try:
            factors = reseal()
        except InvalidToken:
            self.stderr.write("Keep the old keys: a second factor's secret opens with none that is set.")
            sys.exit(1)
        if factors:
            self.stdout.write(f"{factors} secrets of second factors resealed.")
        webhooks = do_reseal_webhooks(by="manage.py rotate_keys")
        if webhooks["resealed"]:
            self.stdout.write(f"{webhooks['resealed']} webhooks resealed.")
        if webhooks["unreadable"]:
            self.stderr.write("Keep the old keys: a webhook's address or secret opens with none that is set.")
            sys.exit(1)
        if counts["unreadable"]:
            self.stderr.write(
                "Keep the old keys: the unreadable tokens open with none that is set (see manage.py check "
                "--database default)."
            )
            sys.exit(1)
