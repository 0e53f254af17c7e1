"""``manage.py setup_link``: the link that makes the first administrator."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from portal.set_up import link


class Command(BaseCommand):
    help = "Print the link that makes the first administrator. Exit 1: somebody is here already."

    def handle(self, *args: Any, **options: Any) -> None:
        if not (at := link()):
            raise CommandError("Somebody is here already: an administrator invites the others.")
        self.stdout.write(at)
