"""``manage.py catalogue_diff SCHEMA.json [--json]``: exit 0 no difference, 1 differences, 2 the file cannot be read."""

from __future__ import annotations

import dataclasses
import json
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand

from integrations.pagerduty.catalog import OPERATIONS
from integrations.pagerduty.schema_diff import Difference, UnreadableSchema, compare, read, skeleton

SAME, DIFFERENT, UNREADABLE = 0, 1, 2
HEADINGS = {
    "new": "New operations",
    "renamed": "Renamed operations",
    "gone": "Operations that are gone",
    "changed": "Changed operations",
    "parameter": "What operations of tools take",
    "word": "Words that operations of tools take",
}


class Command(BaseCommand):
    help = (
        "Compare the catalogue with a newer OpenAPI schema that PagerDuty published, and print what is to be decided. "
        "Exit status: 0 no difference, 1 differences, 2 the file cannot be read."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("schema", type=Path, help="the schema, as JSON")
        parser.add_argument("--json", action="store_true", help="print JSON alone")

    def handle(self, *args: Any, schema: Path, **options: Any) -> None:
        as_json: bool = options["json"]
        try:
            found = read(schema)
        except UnreadableSchema as error:
            if as_json:
                self.stdout.write(json.dumps({"error": str(error)}))
            else:
                self.stderr.write(str(error))
            sys.exit(UNREADABLE)
        differences = compare(found)
        pasted = skeleton(found, differences)
        if as_json:
            document = {
                "published": len(found),
                "known": len(OPERATIONS),
                "differences": [dataclasses.asdict(each) for each in differences],
                "skeleton": pasted,
            }
            self.stdout.write(json.dumps(document, indent=2))
        else:
            self._print(len(found), differences, pasted)
        sys.exit(DIFFERENT if differences else SAME)

    def _print(self, published: int, differences: list[Difference], pasted: dict[str, str]) -> None:
        count = (
            f"{len(differences)} difference{'' if len(differences) == 1 else 's'}" if differences else "No difference"
        )
        self.stdout.write(f"{count}: {published} operations are published, {len(OPERATIONS)} are known.")
        for kind, heading in HEADINGS.items():
            rows = [each for each in differences if each.kind == kind]
            if rows:
                self.stdout.write(f"\n{heading}")
            for each in rows:
                self.stdout.write(f"  {each.operation}: {each.what}\n    {each.means}")
        for where, text in pasted.items():
            self.stdout.write(
                f"\n# For integrations/pagerduty/{where}; look at each before you paste it.\n{text.strip()}"
            )
