"""``manage.py catalogue [--check]``: write what follows from ``catalog.toml``, or say whether it is what would be written.

That is ``docs/catalogue.md``, and ``refusals.toml`` without the operations that a tool serves.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from integrations.pagerduty.catalog import OVERRIDDEN
from integrations.pagerduty.listing import markdown, without


class Command(BaseCommand):
    help = (
        "Write docs/catalogue.md: every tool, and every refused operation; and take out of refusals.toml what a tool serves. "
        "With --check: exit 1 if either is out of date."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file is out of date")

    def handle(self, *args: Any, check: bool, **options: Any) -> None:
        path = Path(settings.BASE_DIR) / "docs" / "catalogue.md"
        refusals = Path(settings.BASE_DIR) / "integrations" / "pagerduty" / "refusals.toml"
        wanted = markdown()
        if not check:
            if OVERRIDDEN:
                refusals.write_text(without(refusals.read_text("utf-8"), OVERRIDDEN), "utf-8")
                self.stdout.write(f"refusals.toml no longer refuses {', '.join(sorted(OVERRIDDEN))}: a tool serves it.")
            path.write_text(wanted, "utf-8")
            self.stdout.write(f"{path.relative_to(settings.BASE_DIR)} is written.")
            return
        stale = [f"refusals.toml refuses {name}, which a tool serves" for name in sorted(OVERRIDDEN)]
        if not path.is_file() or path.read_text("utf-8") != wanted:
            stale.append("docs/catalogue.md is out of date")
        if stale:
            self.stderr.write(f"{'; '.join(stale)}: manage.py catalogue (make catalogue) mends it.")
            sys.exit(1)
