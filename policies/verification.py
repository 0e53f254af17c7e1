"""Walks along the whole journal, against the newest checkpoint, and what the newest of them found."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from pathlib import Path

from django.db import Error
from django.utils import timezone

from policies.core import chain
from policies.core.text import shown
from policies.journal import Verification, newest_checkpoint_file, verify
from policies.models import Checkpoint, Entry, VerificationRun


def verify_now(path: Path | None = None) -> Verification:
    """Verify the journal against the checkpoint in the file ``path``, else the newest one, and keep what was found for the pages.

    Raises:
        OSError, ValueError: the checkpoint's file cannot be read, or is none.
        Error: the journal cannot be read.
    """
    at = timezone.now()
    last = Entry.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
    checkpoint, edited = _checkpoint(path)
    found = verify(checkpoint)
    found = dataclasses.replace(found, fault=found.fault or edited)
    status = VerificationRun.Status.UNKNOWN if found.doubt else VerificationRun.Status.INTACT
    run = VerificationRun(
        at=at,
        status=status,
        entries=found.entries,
        last_id=last,
        checkpoint=found.checkpoint or "",
        problem=found.doubt[:500],
    )
    if (fault := found.fault) is not None:
        run.status, run.stream = VerificationRun.Status.BROKEN, shown(fault.stream, 120)
        run.seq, run.entry_id, run.problem = fault.seq, fault.id, shown(fault.problem, 500)
    # A database that can only be read is verified all the same; so is one that is older than this.
    with contextlib.suppress(Error):
        run.save()
    return found


def _checkpoint(path: Path | None) -> tuple[chain.Checkpoint | None, chain.Fault | None]:
    """The one that was named, else the newest there is, in ``CHECKPOINT_DIR`` or in the database; and what is wrong with the
    database's newest, if it cannot even be read."""
    if path is not None:
        return chain.Checkpoint.from_json(path.read_text()), None
    found, fault = [], None
    if (file := newest_checkpoint_file()) is not None:
        found.append(chain.Checkpoint.from_json(file.read_text()))
    if (row := Checkpoint.objects.order_by("-id").first()) is not None:
        stored = {"document": row.document, "signature": row.signature, "public_key": row.public_key}
        try:
            found.append(chain.Checkpoint.from_json(json.dumps(stored)))
        except ValueError:
            fault = chain.Fault(
                "(checkpoint)", None, row.pk, "the newest one in the database cannot be read: it was edited"
            )
    return max(found, key=lambda checkpoint: checkpoint.at, default=None), fault
