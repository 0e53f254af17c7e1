"""What is kept of a connection's PagerDuty account, so that pages, alerts and tools need not ask for it. Only
``integrations/mirror.py`` writes it; what it holds is what the pipeline let out, masked."""

from __future__ import annotations

from django.db import models

from integrations.models.connection import Connection
from policies.querysets import OwnedQuerySet


class MirrorQuerySet(OwnedQuerySet["Mirror"]):
    team_path = "connection__team"


class Mirror(models.Model):
    """One connection's mirror: its version, and who reads for it now."""

    connection = models.OneToOneField(Connection, on_delete=models.CASCADE, related_name="mirror", primary_key=True)
    version = models.PositiveBigIntegerField(default=0, help_text="Moves with every document that changed.")
    bounds = models.CharField(max_length=64, blank=True, help_text="Digest of the bounds that it was read within.")
    # The lease: whoever holds it reads, alone. Its name is random, so that nobody takes another's run for their own.
    holder = models.CharField(max_length=32, blank=True)
    held_until = models.DateTimeField(null=True, blank=True)
    asked_at = models.DateTimeField(null=True, blank=True, help_text="When somebody asked to have it read anew.")
    asked_by = models.CharField(max_length=254, blank=True)
    begun_at = models.DateTimeField(null=True, blank=True, help_text="Of the newest run.")
    ended_at = models.DateTimeField(null=True, blank=True)
    calls = models.PositiveIntegerField(default=0, help_text="That the newest run made.")
    # Its own share of the rate limit, from run to run.
    minute = models.PositiveBigIntegerField(default=0, help_text="Minutes of Unix time.")
    minute_calls = models.PositiveIntegerField(default=0, help_text="That were made in that minute.")
    wait_until = models.DateTimeField(null=True, blank=True, help_text="PagerDuty asked not to be asked before.")
    told = models.CharField(max_length=500, blank=True, help_text="Why the newest run ended early; empty: it did not.")
    history = models.PositiveBigIntegerField(default=0, help_text="Moves with every incident that changed.")

    objects = MirrorQuerySet.as_manager()

    class Meta:
        ordering = ["connection"]

    def __str__(self) -> str:
        return f"{self.connection_id}: version {self.version}"


class MirrorPartQuerySet(OwnedQuerySet["MirrorPart"]):
    team_path = "connection__team"


class MirrorPart(models.Model):
    """One part of a mirror: when it was read whole last, and where the reading that is under way stands."""

    class Kind(models.TextChoices):
        SCHEDULES = "schedules", "schedules"
        SCHEDULES_V3 = "schedules_v3", "shift-based schedules"
        POLICIES = "policies", "escalation policies"
        SERVICES = "services", "services"
        USERS = "users", "people"
        TEAMS = "teams", "PagerDuty teams"
        ONCALLS = "oncalls", "who is on call"
        CHANGES = "changes", "overrides and changes of schedules"
        INCIDENTS = "incidents", "incidents an hour"
        HISTORY = "history", "incidents and what happened to them"
        SHIFTS = "shifts", "earlier shifts"
        EARLIER = "earlier", "earlier incidents"

    connection = models.ForeignKey(Connection, on_delete=models.CASCADE, related_name="mirror_parts")
    kind = models.CharField(max_length=16, choices=Kind.choices)
    begun_at = models.DateTimeField(
        null=True, blank=True, help_text="Of the reading under way, or of the newest that ended."
    )
    as_of = models.DateTimeField(
        null=True, blank=True, help_text="When the newest whole reading began: it is as fresh as that."
    )
    ended_at = models.DateTimeField(null=True, blank=True, help_text="Of the newest reading; empty: it is under way.")
    state = models.JSONField(
        default=dict, blank=True, help_text="Where the reading stands, so that it goes on from there."
    )
    count = models.PositiveIntegerField(default=0, help_text="Documents that are kept.")
    calls = models.PositiveIntegerField(default=0, help_text="That the reading has taken.")
    problem = models.CharField(max_length=500, blank=True, help_text="What could not be read, and why.")
    problem_at = models.DateTimeField(null=True, blank=True)
    # Of what happens all the time: from when to when it was read.
    since = models.BigIntegerField(null=True, blank=True, help_text="Unix time.")
    until = models.BigIntegerField(null=True, blank=True)

    objects = MirrorPartQuerySet.as_manager()

    class Meta:
        ordering = ["connection", "kind"]
        constraints = [models.UniqueConstraint(fields=["connection", "kind"], name="one_mirror_part_a_kind")]

    def __str__(self) -> str:
        return f"{self.connection_id}: {self.kind}"


class MirroredDocumentQuerySet(OwnedQuerySet["MirroredDocument"]):
    team_path = "connection__team"


class MirroredDocument(models.Model):
    """One document as PagerDuty answered it. What vanished there is kept as it was, with the time of that."""

    connection = models.ForeignKey(Connection, on_delete=models.CASCADE, related_name="mirrored")
    kind = models.CharField(max_length=16, choices=MirrorPart.Kind.choices)
    remote_id = models.CharField(
        max_length=64, help_text="PagerDuty's; of who is on call and of incidents, a name of ours."
    )
    body = models.BinaryField(help_text="JSON, deflated.")
    digest = models.CharField(max_length=64, help_text="SHA-256 of the JSON.")
    window_start = models.BigIntegerField(null=True, blank=True, help_text="Of what it renders: Unix time.")
    window_end = models.BigIntegerField(null=True, blank=True)
    read_at = models.DateTimeField(
        help_text="When it came as it is; what is read again unchanged is not written again."
    )
    gone_at = models.DateTimeField(null=True, blank=True, help_text="When it was no longer there; empty: it is.")

    objects = MirroredDocumentQuerySet.as_manager()

    class Meta:
        ordering = ["connection", "kind", "remote_id"]
        constraints = [
            models.UniqueConstraint(fields=["connection", "kind", "remote_id"], name="one_mirrored_document"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.remote_id}"


class MirroredIncidentQuerySet(OwnedQuerySet["MirroredIncident"]):
    team_path = "connection__team"


class MirroredIncident(models.Model):
    """One incident and what happened to it, as far as that was read: ``integrations/mirror_history.py`` packs and merges it."""

    connection = models.ForeignKey(Connection, on_delete=models.CASCADE, related_name="mirrored_incidents")
    remote_id = models.CharField(max_length=64, help_text="PagerDuty's.")
    created = models.BigIntegerField(
        help_text="Unix time; of one whose document was not read yet, of the first that is known to have happened to it."
    )
    is_open = models.BooleanField(default=False, help_text="Whether it was not resolved when it was read.")
    is_stale = models.BooleanField(
        default=False, help_text="Whether something happened to it after its document was read."
    )
    read_at = models.BigIntegerField(default=0, help_text="When its document was read: Unix time; 0: not yet.")
    change = models.BigIntegerField(help_text="The mirror's number when it changed last.")
    body = models.BinaryField(help_text="Itself and its steps; empty: PagerDuty tells of it no more.")
    entries = models.BinaryField(
        help_text="Digests of the ids of the log entries that its steps are of, in their order."
    )

    objects = MirroredIncidentQuerySet.as_manager()

    class Meta:
        ordering = ["connection", "created", "remote_id"]
        constraints = [models.UniqueConstraint(fields=["connection", "remote_id"], name="one_mirrored_incident")]
        indexes = [
            models.Index(fields=["connection", "change"], name="mirrored_incident_change"),
            models.Index(
                fields=["connection"],
                name="mirrored_incident_unsettled",
                condition=models.Q(is_open=True) | models.Q(is_stale=True),
            ),
        ]

    def __str__(self) -> str:
        return f"incident {self.remote_id}"


class PastShiftQuerySet(OwnedQuerySet["PastShift"]):
    team_path = "connection__team"


class PastShift(models.Model):
    """Who was on call, as PagerDuty's rendered schedule had it when that time was over. It is only ever added to: the past
    cannot be rendered again from a definition that was changed since."""

    connection = models.ForeignKey(Connection, on_delete=models.CASCADE, related_name="past_shifts")
    schedule_id = models.CharField(max_length=64)
    start = models.BigIntegerField(help_text="Unix time.")
    end = models.BigIntegerField()
    user_id = models.CharField(max_length=64, blank=True, help_text="Empty: a slot that nobody covered.")

    objects = PastShiftQuerySet.as_manager()

    class Meta:
        ordering = ["connection", "schedule_id", "start"]
        constraints = [
            models.UniqueConstraint(fields=["connection", "schedule_id", "start", "user_id"], name="one_past_shift"),
        ]

    def __str__(self) -> str:
        return f"{self.schedule_id}: {self.user_id or 'nobody'}"


class PastKnown(models.Model):
    """Up to when the past of a schedule is kept, also where nobody was on call in it."""

    connection = models.ForeignKey(Connection, on_delete=models.CASCADE, related_name="past_known")
    schedule_id = models.CharField(max_length=64)
    since = models.BigIntegerField(help_text="Unix time.")
    until = models.BigIntegerField()

    class Meta:
        ordering = ["connection", "schedule_id"]
        verbose_name_plural = "pasts known"
        constraints = [models.UniqueConstraint(fields=["connection", "schedule_id"], name="one_past_known")]

    def __str__(self) -> str:
        return self.schedule_id
