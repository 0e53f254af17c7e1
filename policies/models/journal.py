"""The journal's rows. ``policies/journal.py`` writes them; nothing else does."""

from __future__ import annotations

import datetime as dt
from typing import Self

from django.db import models

from policies.models.people import User
from policies.querysets import ViaTeamIdQuerySet

DENIED = models.Q(kind="result") & ~models.Q(verdict="allow")
"""Results of calls that were not allowed."""


class Stream(models.Model):
    """One hash chain: one a writer process, and ``configuration``, which is appended to under a lock."""

    name = models.CharField(max_length=120, unique=True)
    created_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.name


class EntryQuerySet(ViaTeamIdQuerySet["Entry"]):
    def denied_to(self, user: User, since: dt.datetime) -> Self:
        """Calls that were not allowed, of those that ``user`` reads, the newest first: by an index of their own, however long
        the journal is."""
        # A sum is in no index: else all that a team ever called is read through the teams' index for its few denials.
        rows = self.annotate(of_team=models.F("team_id") + 0).filter(DENIED, at__gte=since).order_by("-at")
        rows.team_path = "of_team"
        return rows.visible_to(user)


class Entry(models.Model):
    """One entry. The columns are for filtering; ``record`` (canonical ASCII JSON) is what is hashed and what counts."""

    id = models.BigAutoField(primary_key=True)
    stream = models.ForeignKey(Stream, on_delete=models.PROTECT, related_name="entries", db_index=False)
    seq = models.BigIntegerField()
    at = models.DateTimeField()
    kind = models.CharField(max_length=8)
    decision_id = models.CharField(max_length=32, db_index=True)
    team_id = models.BigIntegerField(null=True)
    actor = models.CharField(max_length=254)
    tool = models.CharField(max_length=64)
    verdict = models.CharField(max_length=16)
    outcome = models.CharField(max_length=10)
    resource = models.CharField(max_length=64)
    record = models.TextField()
    hash = models.CharField(max_length=64)

    objects = EntryQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "entries"
        constraints = [models.UniqueConstraint(fields=["stream", "seq"], name="one_entry_a_place")]
        # Four indexes with the key's and the unique one's: they are what an append costs.
        indexes = [
            models.Index(fields=["team_id", "id"], name="entry_team"),
            models.Index(fields=["at"], name="entry_intent_at", condition=models.Q(kind="intent")),
            # What is let through does not pay for it. ``denied_to`` asks in these very words, or it is not used.
            models.Index(fields=["at", "team_id"], name="entry_denied_at", condition=DENIED),
        ]

    def __str__(self) -> str:
        return f"{self.stream_id}/{self.seq} {self.kind} {self.decision_id}"


class Checkpoint(models.Model):
    """A signed list of every stream's head at one moment; also written to a file outside the database."""

    at = models.DateTimeField()
    document = models.TextField(help_text="Canonical JSON: what is signed.")
    signature = models.CharField(max_length=128)
    public_key = models.CharField(max_length=64)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"checkpoint of {self.at:%Y-%m-%d %H:%M:%S}"


class LastVerification(models.Model):
    """One row: what the newest verification of the whole journal found. A hint for people; the proof is to verify."""

    class Status(models.TextChoices):
        INTACT = "intact", "intact"
        BROKEN = "broken", "broken"
        UNKNOWN = "unknown", "cannot tell"

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    at = models.DateTimeField()
    status = models.CharField(max_length=8, choices=Status.choices)
    entries = models.BigIntegerField(default=0)
    told = models.CharField(max_length=2_000, help_text="The finding as a sentence.")

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="one_last_verification")]

    def __str__(self) -> str:
        return f"{self.status} at {self.at:%Y-%m-%d %H:%M:%S}"


class JournalCheck(models.Model):
    """A verification of the whole journal that somebody asked for on a page: the worker does it."""

    class State(models.TextChoices):
        WAITING = "waiting", "waiting for the worker"
        RUNNING = "running", "under way"
        INTACT = "intact", "intact"
        BROKEN = "broken", "broken"
        UNKNOWN = "unknown", "cannot tell"

    at = models.DateTimeField(help_text="When it was asked for.")
    actor = models.CharField(max_length=254, help_text="E-mail of the person.")
    held = models.TextField(blank=True, help_text="The checkpoint that they hold, as JSON; empty: the newest there is.")
    state = models.CharField(max_length=8, choices=State.choices, default=State.WAITING)
    done = models.BigIntegerField(default=0, help_text="Entries that were gone through.")
    total = models.BigIntegerField(default=0, help_text="About how many there are.")
    seen_at = models.DateTimeField(help_text="When it last got on.")
    told = models.CharField(max_length=2_000, blank=True, help_text="The finding as a sentence.")

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.state}, asked for at {self.at:%Y-%m-%d %H:%M:%S}"
