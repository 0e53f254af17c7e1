"""What a team is told of its on-call without asking: gaps that were noticed, standing checks, and what was sent about them."""

from __future__ import annotations

import uuid

from django.db import models
from django.utils import timezone

from integrations.fields import Sealed, SealedTokenField
from integrations.models.connection import Connection
from policies.models import Team
from policies.querysets import OwnedQuerySet


class NoticeSettings(models.Model):
    """What a team chose; without a row it is as the defaults say. Whoever compares what is with what was told holds this row."""

    team = models.OneToOneField(Team, on_delete=models.CASCADE, related_name="notice_settings", primary_key=True)
    horizon_days = models.PositiveSmallIntegerField(default=14, help_text="How far ahead is looked.")
    by_email = models.BooleanField(default=True, help_text="Whether its managers are mailed.")

    objects = OwnedQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "notice settings"

    def __str__(self) -> str:
        return f"{self.team}: {self.horizon_days} days"


class Webhook(models.Model):
    """Where a team's notices are posted to. Its address and its secrets are sealed: chat programs' addresses are secrets, too."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    team = models.OneToOneField(Team, on_delete=models.CASCADE, related_name="webhook")
    hint = models.CharField(max_length=300, help_text="What people recognise the address by.")
    address: Sealed = SealedTokenField()
    secret: Sealed = SealedTokenField()
    # The secret that was replaced signs beside the new one for a day.
    replaced: Sealed | None = SealedTokenField(null=True, blank=True)
    replaced_until = models.DateTimeField(null=True, blank=True)
    # Which secret this is, for it is sealed with it: the one before is one less.
    generation = models.PositiveIntegerField(default=1)
    set_by = models.CharField(max_length=254)
    set_at = models.DateTimeField(default=timezone.now)

    objects = OwnedQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.team}: {self.hint}"


class Delivery(models.Model):
    """One notice by one channel: written with what it tells of, in one transaction, and sent by whoever claims it."""

    class Channel(models.TextChoices):
        EMAIL = "email", "e-mail"
        WEBHOOK = "webhook", "webhook"

    class Event(models.TextChoices):
        GAP_OPENED = "gap_opened", "Gap noticed"
        GAP_CLOSED = "gap_closed", "Gap closed"
        CHECK_FAILED = "check_failed", "Check fails"
        CHECK_HOLDS = "check_holds", "Check holds again"
        TEST = "test", "Test"

    class State(models.TextChoices):
        WAITING = "waiting", "waiting"
        SENT = "sent", "sent"
        GIVEN_UP = "given_up", "given up"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="deliveries")
    channel = models.CharField(max_length=8, choices=Channel.choices)
    event = models.CharField(max_length=12, choices=Event.choices)
    subject = models.CharField(max_length=300, help_text="In a sentence.")
    text = models.TextField(help_text="Of an e-mail; of a webhook's document what it says in words.")
    document = models.JSONField(default=dict, help_text="What a webhook is told besides.")
    asked_by = models.CharField(max_length=254, blank=True, help_text="Of a test: who.")
    created_at = models.DateTimeField()
    due_at = models.DateTimeField(null=True, db_index=True, help_text="Empty: nothing is left to be sent.")
    state = models.CharField(max_length=8, choices=State.choices, default=State.WAITING)
    attempts = models.PositiveSmallIntegerField(default=0)
    attempt = models.CharField(
        max_length=32, blank=True, help_text="The decision id of an attempt that has not ended, as the journal has it."
    )
    status = models.PositiveSmallIntegerField(null=True, help_text="HTTP's, of the last attempt that got one.")
    told = models.CharField(max_length=300, blank=True, help_text="What came of the last attempt.")
    tried_at = models.DateTimeField(null=True)

    objects = OwnedQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at", "channel"]
        verbose_name_plural = "deliveries"

    def __str__(self) -> str:
        return f"{self.get_event_display()} by {self.get_channel_display()}: {self.get_state_display()}"


class Watch(models.Model):
    """When a connection's mirror was last looked through for gaps, and what it was then."""

    connection = models.OneToOneField(Connection, on_delete=models.CASCADE, related_name="watch", primary_key=True)
    at = models.DateTimeField()
    as_of = models.DateTimeField(null=True, help_text="Of the mirror that was looked through last.")
    version = models.PositiveBigIntegerField(
        default=0, help_text="Of the mirror, likewise: it moves with what is read."
    )
    told = models.CharField(max_length=300, blank=True, help_text="Why it could not be judged; empty: it was.")

    class Meta:
        verbose_name_plural = "watches"

    def __str__(self) -> str:
        return f"{self.connection}: {self.told or self.at}"


class NoticedGapQuerySet(OwnedQuerySet["NoticedGap"]):
    def open(self) -> NoticedGapQuerySet:
        return self.filter(ended="")


class NoticedGap(models.Model):
    """A time at which an escalation policy reaches nobody, as it was noticed. While it is open, what overlaps it is the same
    one."""

    class End(models.TextChoices):
        CLOSED = "closed", "closed"
        PASSED = "passed", "came and went"
        INTENDED = "intended", "marked as intended"
        GONE = "gone", "the policy is gone"

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="noticed_gaps")
    connection = models.ForeignKey(Connection, on_delete=models.CASCADE, related_name="noticed_gaps")
    policy_id = models.CharField(max_length=40)
    policy_name = models.CharField(max_length=300)
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    is_endless = models.BooleanField(help_text="No end of it was in sight.")
    noticed_at = models.DateTimeField()
    ended = models.CharField(max_length=8, choices=End.choices, blank=True, help_text="Empty: it is open.")
    ended_at = models.DateTimeField(null=True)

    objects = NoticedGapQuerySet.as_manager()

    class Meta:
        ordering = ["starts_at", "policy_name"]
        indexes = [models.Index(fields=["team", "policy_id"], name="noticed_gap_open", condition=models.Q(ended=""))]

    def __str__(self) -> str:
        return f"{self.policy_name} from {self.starts_at:%Y-%m-%d %H:%M} UTC"


class StandingCheck(models.Model):
    """An expectation of a team's: at this hour of these days, whoever an incident pages must be of these, within so long."""

    class Kind(models.TextChoices):
        SERVICE = "service", "service"
        POLICY = "policy", "escalation policy"

    class Whom(models.TextChoices):
        ANYBODY = "anybody", "anybody"
        TEAM = "team", "somebody of a PagerDuty team"
        PEOPLE = "people", "one of these people"

    class State(models.TextChoices):
        NEW = "new", "not run yet"
        HOLDS = "holds", "holds"
        FAILS = "fails", "fails"
        UNKNOWN = "unknown", "cannot tell"

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="standing_checks")
    connection = models.ForeignKey(Connection, on_delete=models.CASCADE, related_name="standing_checks")
    kind = models.CharField(max_length=8, choices=Kind.choices)
    about_id = models.CharField(max_length=40)
    about_name = models.CharField(max_length=300, help_text="As it was called last.")
    weekdays = models.JSONField(help_text="Monday 1 to Sunday 7.")
    clock = models.TimeField(help_text="By the clock of the time zone.")
    time_zone = models.CharField(max_length=64)
    whom = models.CharField(max_length=8, choices=Whom.choices)
    whom_ids = models.JSONField(default=list, blank=True, help_text="PagerDuty's ids: of one team, or of people.")
    whom_names = models.JSONField(default=list, blank=True, help_text="As they were called last.")
    within_minutes = models.PositiveSmallIntegerField()
    made_by = models.CharField(max_length=254)
    made_at = models.DateTimeField(default=timezone.now)
    state = models.CharField(max_length=8, choices=State.choices, default=State.NEW)
    state_since = models.DateTimeField(null=True)
    told_state = models.CharField(max_length=8, blank=True, help_text="What the team was told last: empty, or fails.")
    run_at = models.DateTimeField(null=True)
    run_told = models.CharField(max_length=300, blank=True)

    objects = OwnedQuerySet.as_manager()

    class Meta:
        ordering = ["about_name", "clock", "pk"]

    def __str__(self) -> str:
        return f"{self.about_name} at {self.clock:%H:%M} ({self.time_zone})"


class CheckRunQuerySet(OwnedQuerySet["CheckRun"]):
    team_path = "standing__team"


class CheckRun(models.Model):
    """What a standing check found, once. The newest are kept."""

    standing = models.ForeignKey(StandingCheck, on_delete=models.CASCADE, related_name="runs")
    at = models.DateTimeField()
    as_of = models.DateTimeField(null=True, help_text="Of the mirror that was asked.")
    state = models.CharField(max_length=8, choices=StandingCheck.State.choices)
    told = models.CharField(max_length=300)
    occurrences = models.JSONField(
        default=list, help_text="{at: Unix time, holds, told}: each time that was looked at, the next one first."
    )
    asked_by = models.CharField(max_length=254)

    objects = CheckRunQuerySet.as_manager()

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"{self.standing_id}: {self.told}"
