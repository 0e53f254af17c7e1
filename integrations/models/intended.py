"""Gaps that a team means to be there."""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from integrations.models.connection import Connection
from policies.querysets import OwnedQuerySet


class IntendedGapQuerySet(OwnedQuerySet["IntendedGap"]):
    team_path = "connection__team"


class IntendedGap(models.Model):
    """Hours in which an escalation policy need reach nobody: once, or every week by a clock (``analysis/intended.py`` says how
    that is read). It is the team's own word: another team that mirrors the same policy sees its gaps as they are."""

    connection = models.ForeignKey(Connection, on_delete=models.CASCADE, related_name="intended_gaps")
    policy_id = models.CharField(max_length=40)
    policy_name = models.CharField(max_length=200, blank=True, help_text="As it was called then.")
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField(help_text="Of the first time.")
    weekly = models.BooleanField(default=False)
    zone = models.CharField(max_length=40, default="UTC", help_text="By whose clock it comes again each week.")
    until = models.DateTimeField(help_text="From then on it is a gap like any other.")
    reason = models.CharField(max_length=500)
    made_by = models.CharField(max_length=254, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = IntendedGapQuerySet.as_manager()

    class Meta:
        ordering = ["starts_at", "pk"]

    def __str__(self) -> str:
        return f"{self.policy_name or self.policy_id} from {self.starts_at:%Y-%m-%d %H:%M}"
