"""What reviewers of the record keep: queries that they come back to, and what they have looked through."""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from policies.models.people import User
from policies.querysets import ViaTeamIdQuerySet


class SavedView(models.Model):
    """A query of one person's own, by a name."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="saved_views")
    name = models.CharField(max_length=60)
    query = models.CharField(max_length=500, blank=True)

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["user", "name"], name="one_view_a_name")]

    def __str__(self) -> str:
        return self.name


class Review(models.Model):
    """Somebody looked through what a query finds between two entries. Names are copied: it outlives what it names."""

    at = models.DateTimeField(default=timezone.now)
    actor = models.CharField(max_length=254, help_text="E-mail of the person.")
    team_id = models.BigIntegerField(null=True, db_index=True, help_text="The only team that it is of.")
    team = models.CharField(max_length=100, blank=True)
    query = models.CharField(max_length=500, blank=True)
    first_id = models.BigIntegerField(help_text="The first entry of the range.")
    last_id = models.BigIntegerField(help_text="The last entry of the range.")
    note = models.CharField(max_length=500)

    objects = ViaTeamIdQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.first_id} to {self.last_id} by {self.actor}"
