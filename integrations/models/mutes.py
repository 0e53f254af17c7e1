"""What is wrong with an escalation policy and known to be."""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from integrations.models.connection import Connection
from policies.querysets import OwnedQuerySet


class MutedFindingQuerySet(OwnedQuerySet["MutedFinding"]):
    team_path = "connection__team"


class MutedFinding(models.Model):
    """A finding of the review of escalation policies (``analysis/escalation.py``) that a team does not want to be told of until a
    day. Like an intended gap it is the team's own word: other teams that mirror the same policy see the finding."""

    connection = models.ForeignKey(Connection, on_delete=models.CASCADE, related_name="muted_findings")
    policy_id = models.CharField(max_length=40, blank=True, help_text="Empty: it is about no policy.")
    policy_name = models.CharField(max_length=200, blank=True, help_text="As it was called then.")
    key = models.CharField(max_length=200, help_text="The rule, what it is about, and the level.")
    words = models.CharField(max_length=500, blank=True, help_text="What was found, as it was told then.")
    until = models.DateTimeField(help_text="From then on it is told again.")
    reason = models.CharField(max_length=500)
    made_by = models.CharField(max_length=254, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = MutedFindingQuerySet.as_manager()

    class Meta:
        ordering = ["until", "pk"]

    def __str__(self) -> str:
        return f"{self.key} until {self.until:%Y-%m-%d}"
