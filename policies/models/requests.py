"""What people ask managers for, where they may not change it themselves."""

from __future__ import annotations

from typing import Self

from django.contrib.auth.models import AnonymousUser
from django.db import models
from django.utils import timezone

from policies.models.people import Team, User
from policies.querysets import OwnedQuerySet, known


class ToolRequestQuerySet(OwnedQuerySet["ToolRequest"]):
    """``editable_by``: whoever may answer. ``visible_to``: they, auditors, and whoever asked while they see the team."""

    def visible_to(self, user: User | AnonymousUser | None) -> Self:
        person = known(user)
        if person is None:
            return self.none()
        if person.is_administrator or person.is_auditor:
            return self
        managed = Team.objects.editable_by(person).values("pk")
        seen = Team.objects.visible_to(person).values("pk")
        return self.filter(models.Q(team__in=managed) | models.Q(user=person, team__in=seen))

    def open(self) -> Self:
        return self.filter(closed_at=None)


class ToolRequest(models.Model):
    """Somebody asks that a tool be allowed: to an agent, or to themselves. Names are copied, but for the team's and theirs."""

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="tool_requests")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="tool_requests")
    subject = models.CharField(max_length=64, help_text="The principal that it is for: key:<id> or user:<id>.")
    subject_name = models.CharField(max_length=150)
    tool = models.CharField(max_length=64)
    why = models.CharField(max_length=500)
    rule = models.CharField(max_length=32, help_text="What stood in its way when it was asked for.")
    at = models.DateTimeField(default=timezone.now)
    mail_due_at = models.DateTimeField(null=True, db_index=True, help_text="Empty: nothing is left to be mailed.")
    closed_at = models.DateTimeField(null=True)
    closed_by = models.CharField(max_length=254, blank=True)
    allowed = models.BooleanField(default=False)
    word = models.CharField(max_length=500, blank=True, help_text="What whoever answered said.")

    objects = ToolRequestQuerySet.as_manager()

    class Meta:
        ordering = ["-at"]
        constraints = [
            models.UniqueConstraint(
                fields=["team", "user", "subject", "tool"],
                condition=models.Q(closed_at=None),
                name="one_open_request_a_person_agent_and_tool",
            )
        ]

    def __str__(self) -> str:
        return f"{self.tool} for {self.subject_name}, by {self.user}"
