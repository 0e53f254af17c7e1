"""A team's policy: what it says of each tool, what an administrator says of a tool for all, and every change of either."""

from __future__ import annotations

from typing import Self

from django.contrib.auth.models import AnonymousUser
from django.db import models
from django.utils import timezone

from policies.models.people import Membership, Team, User
from policies.querysets import OwnedQuerySet, ViaTeamIdQuerySet, known


class State(models.TextChoices):
    """The values of ``policies.core.call.State``, with the words for people."""

    ON = "on", "on"
    OFF = "off", "off"
    NEEDS_APPROVAL = "needs_approval", "needs approval"


class Risk(models.TextChoices):
    LOW = "low", "low"
    MEDIUM = "medium", "medium"
    HIGH = "high", "high"


class ToolSetting(models.Model):
    """What a team says of a tool. A tool without a row is at the catalogue's default."""

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="tool_settings")
    tool = models.CharField(max_length=64)
    state = models.CharField(max_length=16, choices=State.choices)
    updated_at = models.DateTimeField(auto_now=True)

    objects = OwnedQuerySet.as_manager()

    class Meta:
        ordering = ["team", "tool"]
        constraints = [models.UniqueConstraint(fields=["team", "tool"], name="one_setting_a_tool")]

    def __str__(self) -> str:
        return f"{self.tool}: {self.get_state_display()}"


class ToolRule(models.Model):
    """What an administrator says of a tool for all teams: locked off, or of a higher risk than the catalogue has it."""

    tool = models.CharField(max_length=64, unique=True)
    locked = models.BooleanField(default=False, help_text="Off for all teams, whatever they say.")
    risk = models.CharField(max_length=8, choices=Risk.choices, blank=True, help_text="Only ever raises the risk.")
    reason = models.CharField(max_length=500, blank=True)
    actor = models.CharField(max_length=254, blank=True, help_text="E-mail of the person, or the command.")
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["tool"]

    def __str__(self) -> str:
        return self.tool


class Reveal(models.Model):
    """One kind of what is masked in answers that an administrator lets those who call for a team see. No row: masked."""

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="reveals")
    kind = models.CharField(max_length=32, help_text="The integration's word: addresses, calendars or keys.")

    objects = OwnedQuerySet.as_manager()

    class Meta:
        ordering = ["team", "kind"]
        constraints = [models.UniqueConstraint(fields=["team", "kind"], name="one_reveal_a_kind")]

    def __str__(self) -> str:
        return f"{self.team}: {self.kind}"


class StopQuerySet(ViaTeamIdQuerySet["Stop"]):
    def visible_to(self, user: User | AnonymousUser | None) -> Self:
        """Whoever is held by it is told, members too."""
        if (person := known(user)) is None:
            return self.none()
        if person.is_administrator or person.is_auditor:
            return self
        teams = Membership.objects.filter(user=person).values("team_id")
        return self.filter(models.Q(team_id=None) | models.Q(team_id__in=teams))

    def editable_by(self, user: User | AnonymousUser | None) -> Self:
        """Those that somebody may lift: what an administrator stopped only an administrator sets going again."""
        if (person := known(user)) is None or person.is_auditor:
            return self.none()
        return (
            self
            if person.is_administrator
            else self._of_teams(person, {"role": "manager"}).filter(by_administrator=False)
        )


class Stop(models.Model):
    """The kill switch, pulled: while the row is there nothing goes out of what it names."""

    subject = models.CharField(max_length=64, unique=True, help_text="everything, team:<number> or key:<id>")
    target = models.CharField(max_length=200, help_text="Its name, as it was.")
    team_id = models.BigIntegerField(null=True)
    reason = models.CharField(max_length=500)
    actor = models.CharField(max_length=254, help_text="E-mail of the person, or the command.")
    kept_by = models.CharField(
        max_length=254, blank=True, editable=False, help_text="The e-mail of whoever it was handed over to."
    )
    by_administrator = models.BooleanField(help_text="Then only an administrator lifts it.")
    at = models.DateTimeField(default=timezone.now)

    objects = StopQuerySet.as_manager()

    class Meta:
        ordering = ["-at"]

    def __str__(self) -> str:
        return f"{self.target} stopped by {self.actor}"


class ReadsGoOn(models.Model):
    """One row, while it is so: when the database is away reads are decided by what was confirmed last, for at most so long."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    minutes = models.PositiveSmallIntegerField()
    reason = models.CharField(max_length=500)
    actor = models.CharField(max_length=254, help_text="E-mail of the person, or the command.")
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        verbose_name_plural = "reads go on"
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="one_reads_go_on")]

    def __str__(self) -> str:
        return f"{self.minutes} minutes"


class PolicyVersion(models.Model):
    """One row: the number that moves with every change of who may do what. Writers of the journal read it, changes lock it."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    version = models.BigIntegerField(default=1)
    moved_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="one_policy_version")]

    def __str__(self) -> str:
        return str(self.version)


class ConfigChange(models.Model):
    """Who changed what, when, why, from what to what. Names are copied: the row outlives what it names."""

    at = models.DateTimeField(default=timezone.now)
    actor = models.CharField(max_length=254, help_text="E-mail of the person, or the command or job.")
    team_id = models.BigIntegerField(null=True, db_index=True)
    team = models.CharField(max_length=100, blank=True)
    action = models.CharField(max_length=64)
    target = models.CharField(max_length=200)
    before = models.JSONField(null=True)
    after = models.JSONField(null=True)
    reason = models.CharField(max_length=500, blank=True)
    policy_version = models.BigIntegerField()

    objects = ViaTeamIdQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.action} {self.target} by {self.actor}"
