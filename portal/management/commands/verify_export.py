"""Hold an export with a proof against itself and a checkpoint: without the portal, its database and its settings."""

from __future__ import annotations

import dataclasses
import json
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any, NoReturn

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand

from policies.core import chain
from policies.core.proof import DOES_NOT_PROVE, PROVES, NoProof, examine, sentence
from policies.core.text import shown

INTACT, BROKEN, CANNOT_TELL = 0, 1, 2


class Command(BaseCommand):
    help = (
        "Verify an export that was taken with its proof. Needs no database. Exit status: 0 intact, 1 broken (the first bad "
        "entry is named), 2 cannot tell."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path, help="the export")
        parser.add_argument(
            "--checkpoint",
            type=Path,
            help="one that you kept elsewhere; else the signature is held against JOURNAL_SIGNING_KEY",
        )
        parser.add_argument("--json", action="store_true", help="print JSON alone")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            path: Path | None = options["checkpoint"]
            held = chain.Checkpoint.from_json(path.read_text()) if path else None
            with options["file"].open("rb") as file:
                found = examine(file, held=held, public_key="" if held else own_key())
        except (NoProof, OSError, ValueError) as error:
            self._cannot_tell(
                options, {}, str(error) if isinstance(error, NoProof) else f"{type(error).__name__}: {error}"
            )
        told: dict[str, Any] = {
            "entries": found.entries,
            "streams": found.streams,
            "public_key": found.public_key,
            "checkpoint": held.at if held else None,
            "compared": found.compared,
            "first_bad": dataclasses.asdict(found.fault) if found.fault else None,
        }
        if (opening := found.opening) is not None:
            told |= {name: getattr(opening, name) for name in ("at", "by", "query", "scope")}
            told |= {
                "checkpoints": [checkpoint.at for checkpoint in opening.checkpoints],
                "proves": PROVES[opening.scope],
                "does_not_prove": DOES_NOT_PROVE[opening.scope],
            }
        if found.doubt and found.fault is None:
            self._cannot_tell(options, told, found.doubt)
        broken = found.fault is not None
        self._tell(options, {"status": "broken" if broken else "intact", **told}, sentence(found, held))
        sys.exit(BROKEN if broken else INTACT)

    def _cannot_tell(self, options: dict[str, Any], told: dict[str, Any], why: str) -> NoReturn:
        self._tell(options, {"status": "unknown", "problem": why, **told}, f"Cannot tell: {why}")
        sys.exit(CANNOT_TELL)

    def _tell(self, options: dict[str, Any], document: dict[str, Any], text: str) -> None:
        # What is wrong may quote what somebody put into the file.
        self.stdout.write(json.dumps(document) if options["json"] else shown(text, 4_000))


def own_key() -> str:
    """The public half of JOURNAL_SIGNING_KEY; empty where this machine has no such setting. Raises ``ValueError``: it is none."""
    try:
        setting = settings.JOURNAL_SIGNING_KEY
    except (ImproperlyConfigured, OSError):
        return ""
    return chain.signing_key(setting).public_key().public_bytes_raw().hex()
