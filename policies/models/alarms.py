"""What was noticed of an agent key that may be in the wrong hands, and the networks that it is known to come from."""

from __future__ import annotations

from typing import Self, TypeVar

from django.contrib.auth.models import AnonymousUser
from django.db import models

from policies.models.people import AgentKey, User
from policies.querysets import OwnedQuerySet

M = TypeVar("M", bound=models.Model)


class OfKeyQuerySet(OwnedQuerySet[M]):
    """``editable_by``: whoever may revoke the key. ``visible_to``: they and auditors."""

    team_path = "key__team"

    def visible_to(self, user: User | AnonymousUser | None) -> Self:
        return super().visible_to(user) if getattr(user, "is_auditor", False) else self.editable_by(user)


class AlarmQuerySet(OfKeyQuerySet["Alarm"]):
    def open(self) -> Self:
        return self.filter(closed_at=None)


class KeyNetwork(models.Model):
    """A network that a key has come from: of IPv4 the /24, of IPv6 the /48. The first one is where it is at home."""

    key = models.ForeignKey(AgentKey, on_delete=models.CASCADE, related_name="seen_networks")
    network = models.CharField(max_length=49)
    first_at = models.DateTimeField()

    objects = OfKeyQuerySet.as_manager()

    class Meta:
        ordering = ["first_at"]
        constraints = [models.UniqueConstraint(fields=["key", "network"], name="one_row_a_network")]

    def __str__(self) -> str:
        return self.network


class Alarm(models.Model):
    """Something that a stolen key would do. While one of a kind is open, what happens again is added to it."""

    class Kind(models.TextChoices):
        NEW_NETWORK = "new_network", "was used from a new network"
        FIRST_WRITE = "first_write", "wrote for the first time"
        DENIALS = "denials", "was denied many times in a row"

    key = models.ForeignKey(AgentKey, on_delete=models.CASCADE, related_name="alarms")
    kind = models.CharField(max_length=12, choices=Kind.choices)
    at = models.DateTimeField(help_text="When it was noticed last.")
    count = models.PositiveIntegerField(help_text="How often; of denials, how many calls.")
    signs = models.JSONField(
        default=list,
        help_text="The newest: {at, ip, network, tool, decision_id, count, refused}, the last one last.",
    )
    mail_due_at = models.DateTimeField(null=True, db_index=True, help_text="Empty: nothing is left to be mailed.")
    mailed_at = models.DateTimeField(null=True)
    closed_at = models.DateTimeField(null=True)
    closed_by = models.CharField(max_length=254, blank=True)

    objects = AlarmQuerySet.as_manager()

    class Meta:
        ordering = ["-at"]
        constraints = [
            models.UniqueConstraint(
                fields=["key", "kind"], condition=models.Q(closed_at=None), name="one_open_alarm_a_kind"
            )
        ]

    def __str__(self) -> str:
        return f"{self.key.name} {self.get_kind_display()}"
