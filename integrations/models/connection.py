"""A team's registered PagerDuty token, the keys that use it, and what its tests found."""

from __future__ import annotations

import datetime as dt
import uuid

from django.conf import settings
from django.db import models
from django.utils import timezone

from integrations.fields import Sealed, SealedTokenField
from policies.models import AgentKey, Team
from policies.querysets import OwnedQuerySet


class Connection(models.Model):
    """One token of one PagerDuty account in one region. The token is sealed with this row's id inside."""

    class Region(models.TextChoices):
        US = "us", "United States (api.pagerduty.com)"
        EU = "eu", "Europe (api.eu.pagerduty.com)"
        SANDBOX = "sandbox", "Sandbox (simulated PagerDuty)"

    class Kind(models.TextChoices):
        ACCOUNT = "account", "account API key"
        USER = "user", "user API key"
        OAUTH = "oauth", "OAuth bearer token"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="connections")
    name = models.CharField(max_length=100)
    region = models.CharField(max_length=8, choices=Region.choices, default=Region.US)
    kind = models.CharField(max_length=8, choices=Kind.choices)
    # What the newest test took the token for: an account key that was registered as something less is held back.
    detected_kind = models.CharField(max_length=8, choices=Kind.choices, blank=True, editable=False)
    token: Sealed = SealedTokenField()
    last4 = models.CharField(max_length=4, editable=False)
    fingerprint = models.CharField(max_length=64, unique=True, editable=False)
    token_since = models.DateTimeField(default=timezone.now, editable=False)
    token_expires_at = models.DateTimeField(
        null=True, blank=True, help_text="When PagerDuty stops accepting it, if known."
    )
    token_version = models.PositiveIntegerField(default=1, editable=False)
    # A replacement waits here until it has passed its test; the old token serves meanwhile.
    candidate: Sealed | None = SealedTokenField(null=True, blank=True)
    candidate_last4 = models.CharField(max_length=4, blank=True, editable=False)
    # Null where there is none, for empty strings would not be unique.
    candidate_fingerprint = models.CharField(max_length=64, null=True, unique=True, editable=False)  # noqa: DJ001
    candidate_expires_at = models.DateTimeField(null=True, blank=True, editable=False)
    # The threshold (days before the token's end) that managers were last reminded at; empty: not yet.
    reminded_days = models.PositiveSmallIntegerField(null=True, blank=True, editable=False)
    from_email = models.EmailField(help_text="Who PagerDuty sees as the author of writes (From).")
    # Acting as somebody else waits here for an administrator's signature.
    from_email_proposed = models.EmailField(blank=True)
    whole_account = models.BooleanField(default=False)
    bound_team_ids = models.JSONField(default=list, blank=True)
    bound_service_ids = models.JSONField(default=list, blank=True)
    # Names of tools that bounds cannot hold, and that an administrator allowed all the same.
    account_wide_tools = models.JSONField(default=list, blank=True)
    is_enabled = models.BooleanField(default=True)
    registered_by = models.CharField(max_length=254, editable=False)
    # Whoever it was handed over to when that person left; empty: nobody.
    kept_by = models.CharField(max_length=254, blank=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    # What the newest test found: visible wherever the connection is used.
    health = models.CharField(max_length=16, default="untested", editable=False)
    health_at = models.DateTimeField(null=True, blank=True, editable=False)
    health_message = models.CharField(max_length=500, blank=True, editable=False)

    objects = OwnedQuerySet.as_manager()

    class Meta:
        ordering = ["team", "name"]
        constraints = [models.UniqueConstraint(fields=["team", "name"], name="one_connection_a_name")]

    def __str__(self) -> str:
        return f"{self.name} ({self.get_region_display()})"

    @property
    def token_ends_at(self) -> dt.datetime | None:
        """When the token must have been replaced: at its maximum age here, or when PagerDuty stops accepting it."""
        ends = [] if self.token_expires_at is None else [self.token_expires_at]
        if settings.TOKEN_MAXIMUM_AGE_DAYS:
            ends.append(self.token_since + dt.timedelta(days=settings.TOKEN_MAXIMUM_AGE_DAYS))
        return min(ends, default=None)


class ConnectionKey(models.Model):
    """Which connection an agent key uses: a fact on this side, for ``policies`` knows no connection."""

    key = models.OneToOneField(AgentKey, on_delete=models.CASCADE, related_name="+", primary_key=True)
    connection = models.ForeignKey(Connection, on_delete=models.CASCADE, related_name="keys")

    def __str__(self) -> str:
        return f"{self.key} → {self.connection}"


class ConnectionTestQuerySet(OwnedQuerySet["ConnectionTest"]):
    team_path = "connection__team"


class ConnectionTest(models.Model):
    """The outcome of one test of a connection. The newest are kept, and of the newest few all that they found."""

    connection = models.ForeignKey(Connection, on_delete=models.CASCADE, related_name="tests")
    at = models.DateTimeField(default=timezone.now)
    of_candidate = models.BooleanField(default=False)
    passed = models.BooleanField()
    problem = models.CharField(max_length=32, blank=True, help_text="Empty, or which failure it was.")
    message = models.CharField(max_length=500)
    latency_ms = models.FloatField(null=True, help_text="PagerDuty's quickest answer; empty: none came.")
    findings = models.JSONField(default=dict)
    asked_by = models.CharField(max_length=254)

    objects = ConnectionTestQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.connection_id}: {self.message}"


class RunningTest(models.Model):
    """A test that somebody asked for on a page, while it runs and until the next one: how far it came."""

    connection = models.OneToOneField(
        Connection, on_delete=models.CASCADE, related_name="running_test", primary_key=True
    )
    begun_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    of_candidate = models.BooleanField()
    asked_by = models.CharField(max_length=254)
    steps = models.JSONField(default=list, help_text="[what was asked, what came of it], the last one last.")
    passed = models.BooleanField(null=True, help_text="Empty: it runs, or could not be made.")
    told = models.CharField(max_length=1_000, blank=True, help_text="What was found, or why it could not be made.")

    def __str__(self) -> str:
        return f"{self.connection_id}: {'ended' if self.ended_at else 'running'}"
