"""Choose beforehand whether reads go on when the database is away, and see what was chosen."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError

from policies.actions import MAXIMUM_MINUTES_OF_READS, do_set_reads_go_on
from policies.models import ReadsGoOn
from policies.spool import can_write, count_waiting

BY = "the command reads_go_on"


class Command(BaseCommand):
    help = (
        "reads_go_on on --minutes 15 --reason TEXT: when the database is away reads go on, by what was confirmed last, and "
        "their entries wait in a local file. No revocation, stop or other change binds them meanwhile, for at most so long. "
        "Writes never go on. reads_go_on off --reason TEXT. reads_go_on status [--json]."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("what", choices=("on", "off", "status"))
        parser.add_argument(
            "--minutes",
            type=int,
            default=15,
            help=f"how long reads may go on without the database, 1 to {MAXIMUM_MINUTES_OF_READS}; default: 15",
        )
        parser.add_argument("--reason", default="", help="why; it is kept in the record")
        parser.add_argument("--json", action="store_true", help="print JSON alone")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["what"] != "status":
            try:
                do_set_reads_go_on(
                    by=BY, on=options["what"] == "on", minutes=options["minutes"], reason=options["reason"]
                )
            except ValidationError as error:
                raise CommandError(" ".join(error.messages), returncode=2) from None
        self._tell(options["json"])

    def _tell(self, as_json: bool) -> None:
        chosen = ReadsGoOn.objects.first()
        # Not made here: it is to be the processes' own.
        folder = settings.SPOOL_DIR
        problem = can_write(folder) if chosen and folder.exists() else ""
        spooled = count_waiting(folder)
        if as_json:
            document = {
                "minutes": chosen.minutes if chosen else 0,
                "reason": chosen.reason if chosen else "",
                "by": chosen.actor if chosen else "",
                "at": chosen.at.isoformat() if chosen else None,
                "spool": str(folder),
                "problem": problem,
                "waiting": spooled,
            }
            self.stdout.write(json.dumps(document))
            return
        if chosen is None:
            self.stdout.write("When the database is away everything stops.")
        else:
            self.stdout.write(
                f"When the database is away reads go on for at most {chosen.minutes} minutes, by the choice of {chosen.actor} at "
                f"{chosen.at:%Y-%m-%d %H:%M} UTC: {chosen.reason}\n"
                "A revocation or a stop binds them only when it is back. Writes do not go on.\n"
                f"Their entries wait in {folder} on the machine of each process: here {spooled} do now."
            )
        if problem:
            self.stderr.write(f"{problem} Reads would not go on.")
