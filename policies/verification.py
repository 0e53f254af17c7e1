"""Verifying the whole journal against the newest checkpoint, and keeping what was found for people to see."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import json
import logging
from collections.abc import Callable
from typing import Final

from django.db import Error, transaction
from django.utils import timezone

from policies.core import chain
from policies.core.text import shown
from policies.journal import Verification, newest_checkpoint_file, own_connection, verify
from policies.models import Checkpoint, Entry, JournalCheck, LastVerification

log = logging.getLogger(__name__)
Status = LastVerification.Status


def verify_whole(
    checkpoint: chain.Checkpoint | None = None, progress: Callable[[int], None] = lambda done: None
) -> Verification:
    """Hold the journal against ``checkpoint``, else against the newest there is, and keep the finding.

    Raises:
        OSError, ValueError, django.db.Error: it cannot be told; that is kept too.
    """
    try:
        edited = None
        if checkpoint is None:
            checkpoint, edited = _newest_checkpoint()
        found = verify(checkpoint, progress)
    except (OSError, ValueError, Error) as error:
        _keep(Status.UNKNOWN, 0, f"Cannot tell: {type(error).__name__}: {error}")
        raise
    found = dataclasses.replace(found, fault=found.fault or edited)
    _keep(status_of(found), found.entries, sentence(found))
    return found


STALE: Final = dt.timedelta(minutes=10)
"""A check that did not get on for so long never will: its worker ended, or there is none."""


def run_check(pk: int) -> None:
    """Do a check that somebody asked for, unless another worker does, and keep how far it is and what was found."""
    mine = JournalCheck.objects.filter(pk=pk, state=JournalCheck.State.WAITING)
    about = Entry.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
    if not mine.update(state=JournalCheck.State.RUNNING, seen_at=timezone.now(), total=about):
        return
    held = JournalCheck.objects.values_list("held", flat=True).get(pk=pk)
    # The verification reads one moment of the database in a transaction of its own: what it got to is told beside it.
    beside = own_connection()

    def progress(done: int) -> None:
        now = beside.ops.adapt_datetimefield_value(timezone.now())
        with contextlib.suppress(Error), beside.cursor() as cursor:
            cursor.execute("UPDATE policies_journalcheck SET done = %s, seen_at = %s WHERE id = %s", [done, now, pk])

    done = 0
    try:
        found = verify_whole(chain.Checkpoint.from_json(held) if held else None, progress)
        state, told, done = str(status_of(found)), sentence(found), found.entries
    except (OSError, ValueError, Error) as error:
        state, told = str(Status.UNKNOWN), f"Cannot tell: {type(error).__name__}: {error}"
    finally:
        beside.close()
    JournalCheck.objects.filter(pk=pk).update(state=state, told=shown(told, 2_000), done=done, seen_at=timezone.now())


def status_of(found: Verification) -> LastVerification.Status:
    if found.fault is not None:
        return Status.BROKEN
    return Status.UNKNOWN if found.doubt else Status.INTACT


def sentence(found: Verification) -> str:
    """What was found, for people. It may quote what somebody put into the database or a file."""
    if found.fault is None and found.doubt:
        return f"Cannot tell: {found.doubt}"
    anchor = (
        f"against the checkpoint of {found.checkpoint}"
        if found.checkpoint
        else "unanchored: there is no checkpoint yet"
    )
    if found.fault is not None:
        return f"Broken ({anchor}). First bad entry: {found.fault}"
    return (
        f"Intact, {anchor}: {found.entries} entries in {found.streams} streams, {found.after_checkpoint} of them since. "
        f"{found.open_intents} writes are open."
    )


def _keep(status: LastVerification.Status, entries: int, told: str) -> None:
    values = {"at": timezone.now(), "status": status, "entries": entries, "told": shown(told, 2_000)}
    try:
        with transaction.atomic():
            LastVerification.objects.update_or_create(pk=1, defaults=values)
    except Error as error:
        # Of a copy that is only read, say. What was found counts, not that it is kept.
        log.warning("What the verification found could not be kept: %s", error)


def _newest_checkpoint() -> tuple[chain.Checkpoint | None, chain.Fault | None]:
    """The newest there is, in ``CHECKPOINT_DIR`` or in the database; and what is wrong with the database's newest, if it
    cannot even be read."""
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
