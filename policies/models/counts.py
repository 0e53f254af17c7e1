"""How often tools were called: counted from the journal by ``policies/counts.py``, for pages. The journal is what counts."""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from policies.querysets import ViaTeamIdQuerySet


class ToolCalls(models.Model):
    """The calls of one team to one tool in six hours of UTC, and how many of them were not allowed."""

    team_id = models.BigIntegerField()
    begins = models.DateTimeField(help_text="The first of the six hours.")
    tool = models.CharField(max_length=64)
    calls = models.PositiveIntegerField()
    denied = models.PositiveIntegerField()

    objects = ViaTeamIdQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "tool calls"
        constraints = [models.UniqueConstraint(fields=["team_id", "begins", "tool"], name="one_count_in_six_hours")]
        indexes = [models.Index(fields=["begins"], name="tool_calls_begins")]

    def __str__(self) -> str:
        return f"{self.tool}: {self.calls}"


class AgentCalls(models.Model):
    """The calls of one agent key in six hours of UTC, and how many of them were not allowed."""

    team_id = models.BigIntegerField()
    begins = models.DateTimeField(help_text="The first of the six hours.")
    actor = models.CharField(max_length=64, help_text="key:<id>, as the journal names it.")
    calls = models.PositiveIntegerField()
    denied = models.PositiveIntegerField()

    objects = ViaTeamIdQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "agent calls"
        constraints = [models.UniqueConstraint(fields=["team_id", "begins", "actor"], name="one_agent_in_six_hours")]
        indexes = [models.Index(fields=["begins"], name="agent_calls_begins")]

    def __str__(self) -> str:
        return f"{self.actor}: {self.calls}"


class Counted(models.Model):
    """One row: how far the journal is counted."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    entry_id = models.BigIntegerField(default=0, help_text="Every entry up to this one is counted.")
    newest_id = models.BigIntegerField(default=0, help_text="The newest entry that there was at that time.")
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        verbose_name_plural = "counted"
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="one_counted")]

    def __str__(self) -> str:
        return f"up to entry {self.entry_id}"
