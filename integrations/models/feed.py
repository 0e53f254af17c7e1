"""The calendars that people's own calendar programs fetch: of one schedule, or of all that the person is on call for."""

from __future__ import annotations

from typing import Self

from django.contrib.auth.models import AnonymousUser
from django.db import models
from django.utils import timezone

from integrations.models.connection import Connection
from policies.models import User
from policies.querysets import known


class FeedQuerySet(models.QuerySet["Feed"]):
    """A feed is its person's own: a team's manager sees none of it."""

    def visible_to(self, user: User | AnonymousUser | None) -> Self:
        person = known(user)
        return self.none() if person is None else self.filter(user=person)


class Feed(models.Model):
    """An address that tells on-call times to whoever knows it, while the person it was made by may see them. Of its secret only
    a keyed digest is kept."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="feeds")
    connection = models.ForeignKey(
        Connection,
        null=True,
        on_delete=models.CASCADE,
        related_name="feeds",
        help_text="Whose mirror the schedule is in; empty: all that the person is on call for.",
    )
    schedule_id = models.CharField(max_length=64, blank=True)
    name = models.CharField(max_length=200, help_text="The schedule's, as it was.")
    digest = models.CharField(max_length=64, unique=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now)

    objects = FeedQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.name} of {self.user}"
