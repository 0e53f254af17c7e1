"""Send one person the digest of the last seven days now, or print it."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from policies.models import User
from portal.digest import WEEK, digest, week_of


class Command(BaseCommand):
    help = "Send one person the digest of the last seven days, whether or not theirs of this week was sent."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--to", required=True, metavar="EMAIL", help="whose digest, and where it goes")
        parser.add_argument("--dry-run", action="store_true", help="print it, and send nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.get_queryset().of_address(options["to"]).filter(is_active=True).first()
        if user is None:
            raise CommandError(f"Nobody who may sign in has the address {options['to']}.")
        now = timezone.now()
        mail = digest(user, week_of(now - WEEK, now), now - WEEK, now)
        if options["dry_run"]:
            self.stdout.write(f"To: {mail.to}\nSubject: {mail.subject}\n\n{mail.text}")
            return
        mail.send()
        self.stdout.write(f"Sent to {mail.to}: {mail.subject}")
