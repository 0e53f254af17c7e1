"""The journal's rows. ``policies/journal.py`` writes them; nothing else does."""

from __future__ import annotations

from django.db import models

from policies.querysets import ViaTeamIdQuerySet


class Stream(models.Model):
    """One hash chain: one a writer process, and ``configuration``, which is appended to under a lock."""

    name = models.CharField(max_length=120, unique=True)
    created_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.name


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

    objects = ViaTeamIdQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "entries"
        constraints = [models.UniqueConstraint(fields=["stream", "seq"], name="one_entry_a_place")]
        # Four indexes with the key's and the unique one's: they are what an append costs.
        indexes = [
            models.Index(fields=["team_id", "id"], name="entry_team"),
            models.Index(fields=["at"], name="entry_intent_at", condition=models.Q(kind="intent")),
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


class VerificationRun(models.Model):
    """What one walk along the whole journal found. It is for people to see; whoever wants proof walks again."""

    class Status(models.TextChoices):
        INTACT = "intact", "intact"
        BROKEN = "broken", "broken"
        UNKNOWN = "unknown", "cannot tell"

    at = models.DateTimeField(help_text="When it began.")
    status = models.CharField(max_length=8, choices=Status.choices)
    entries = models.BigIntegerField()
    last_id = models.BigIntegerField(help_text="The highest id of an entry when it began.")
    checkpoint = models.CharField(max_length=40, blank=True, help_text="The time of the one it was held against.")
    stream = models.CharField(max_length=120, blank=True, help_text="Where it is broken.")
    seq = models.BigIntegerField(null=True)
    entry_id = models.BigIntegerField(null=True)
    problem = models.CharField(max_length=500, blank=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.get_status_display()} at {self.at:%Y-%m-%d %H:%M:%S}"
