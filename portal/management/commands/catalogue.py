"""``manage.py catalogue [--check]``: write ``docs/catalogue.md``, or say whether it is what would be written."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from integrations.pagerduty.listing import markdown


class Command(BaseCommand):
    help = (
        "Write docs/catalogue.md: every tool, and every refused operation. With --check: exit 1 if it is out of date."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the file is out of date")

    def handle(self, *args: Any, check: bool, **options: Any) -> None:
        path = Path(settings.BASE_DIR) / "docs" / "catalogue.md"
        wanted = markdown()
        if not check:
            path.write_text(wanted, "utf-8")
            self.stdout.write(f"{path.relative_to(settings.BASE_DIR)} is written.")
        elif not path.is_file() or path.read_text("utf-8") != wanted:
            self.stderr.write("docs/catalogue.md is out of date: manage.py catalogue writes it.")
            sys.exit(1)
