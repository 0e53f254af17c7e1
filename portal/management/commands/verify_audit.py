"""Prove the journal intact, or name the first entry that is not."""

from __future__ import annotations

import dataclasses
import json
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any, NoReturn

from django.conf import settings
from django.core.management.base import BaseCommand
from django.db import Error

from policies.core import chain
from policies.core.text import shown
from policies.spool import count_waiting
from policies.verification import sentence, verify_whole

INTACT, BROKEN, CANNOT_TELL = 0, 1, 2


class Command(BaseCommand):
    help = "Verify the audit journal. Exit status: 0 intact, 1 broken (the first bad entry is named), 2 cannot tell."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--checkpoint", type=Path, help="hold the journal against this checkpoint; default: the newest"
        )
        parser.add_argument("--json", action="store_true", help="print JSON alone")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            path: Path | None = options["checkpoint"]
            found = verify_whole(chain.Checkpoint.from_json(path.read_text()) if path else None)
            spooled = count_waiting(settings.SPOOL_DIR)
        except (OSError, ValueError, Error) as error:
            self._cannot_tell(options, f"{type(error).__name__}: {error}")
        if found.doubt and found.fault is None:
            self._cannot_tell(options, found.doubt)
        broken = found.fault is not None
        document = {
            "status": "broken" if broken else "intact",
            "anchored": found.checkpoint is not None,
            "checkpoint": found.checkpoint,
            "entries": found.entries,
            "streams": found.streams,
            "open_intents": found.open_intents,
            "after_checkpoint": found.after_checkpoint,
            "spooled": spooled,
            "first_bad": dataclasses.asdict(found.fault) if found.fault else None,
        }
        text = sentence(found)
        if spooled:
            text += (
                f" {spooled} entries wait in the spool {settings.SPOOL_DIR}: they are brought in when a process runs."
            )
        self._tell(options, document, text)
        sys.exit(BROKEN if broken else INTACT)

    def _cannot_tell(self, options: dict[str, Any], why: str) -> NoReturn:
        self._tell(options, {"status": "unknown", "problem": why}, f"Cannot tell: {why}")
        sys.exit(CANNOT_TELL)

    def _tell(self, options: dict[str, Any], document: dict[str, Any], text: str) -> None:
        # What is wrong may quote what somebody put into the database or the file.
        self.stdout.write(json.dumps(document) if options["json"] else shown(text, 2_000))
