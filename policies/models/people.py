"""People, their teams, and the keys that a team hands to its assistants."""

from __future__ import annotations

import uuid
from typing import Any, ClassVar

from django.contrib.auth.models import AbstractBaseUser, BaseUserManager
from django.db import models
from django.db.models.functions import Lower
from django.utils import timezone

from policies.querysets import OwnedQuerySet, TeamQuerySet, UserQuerySet


class UserManager(BaseUserManager["User"]):
    def get_queryset(self) -> UserQuerySet[User]:
        return UserQuerySet(self.model, using=self._db)

    def visible_to(self, user: User | Any) -> UserQuerySet[User]:
        return self.get_queryset().visible_to(user)

    def get_by_natural_key(self, username: str | None) -> User:
        """E-mail addresses are compared without regard to case, at sign-in too."""
        return self.get_queryset().of_address(username or "").get()

    def create_user(self, email: str, password: str | None = None, **fields: Any) -> User:
        user = self.model(email=email.strip().lower(), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> User:
        return self.create_user(email, password, role=User.Role.ADMINISTRATOR, **fields)


class User(AbstractBaseUser):
    """A person who signs in by e-mail."""

    class Role(models.TextChoices):
        """What a person is in the whole portal; what they are in a team is their membership."""

        NONE = "", "no portal-wide role"
        ADMINISTRATOR = "administrator", "administrator"
        AUDITOR = "auditor", "auditor"

    email = models.EmailField("e-mail", unique=True)
    name = models.CharField(max_length=150, blank=True)
    role = models.CharField(max_length=16, choices=Role.choices, default=Role.NONE, blank=True)
    is_active = models.BooleanField("active", default=True, help_text="Switch off instead of deleting.")
    date_joined = models.DateTimeField(default=timezone.now, editable=False)
    time_zone = models.CharField(
        max_length=64,
        blank=True,
        help_text="In which pages tell them times, such as Europe/Berlin; empty: the browser's.",
    )
    weekly_digest = models.BooleanField(default=True, help_text="Whether they get the weekly digest by e-mail.")

    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []
    objects: ClassVar[UserManager] = UserManager()

    class Meta:
        constraints = [models.UniqueConstraint(Lower("email"), name="user_email_regardless_of_case")]
        ordering = ["email"]

    def __str__(self) -> str:
        return self.name or self.email

    @property
    def is_administrator(self) -> bool:
        return self.role == self.Role.ADMINISTRATOR

    @property
    def is_auditor(self) -> bool:
        return self.role == self.Role.AUDITOR

    # What Django's admin asks of a user: administrators may enter, and each ModelAdmin says what it lets them change.
    @property
    def is_staff(self) -> bool:
        return self.is_administrator

    @property
    def is_superuser(self) -> bool:
        return self.is_administrator

    def has_perm(self, perm: str, obj: object = None) -> bool:
        return self.is_active and self.is_administrator

    def has_perms(self, perms: list[str], obj: object = None) -> bool:
        return self.is_active and self.is_administrator

    def has_module_perms(self, app_label: str) -> bool:
        return self.is_active and self.is_administrator


class Team(models.Model):
    """A group of people with its own connections, policy and agent keys; a personal workspace is a team of one."""

    class Kind(models.TextChoices):
        SHARED = "shared", "shared team"
        PERSONAL = "personal", "personal workspace"

    name = models.CharField(max_length=100)
    slug = models.SlugField(unique=True)
    kind = models.CharField(max_length=8, choices=Kind.choices, default=Kind.SHARED)
    owner = models.ForeignKey(
        User,
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="personal_teams",
        help_text="Whose personal workspace this is; empty for a shared team.",
    )
    members = models.ManyToManyField(User, through="Membership", related_name="teams")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = TeamQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(fields=["owner"], name="one_personal_workspace_a_person"),
            models.CheckConstraint(
                condition=models.Q(kind="shared", owner__isnull=True) | models.Q(kind="personal", owner__isnull=False),
                name="personal_workspaces_have_an_owner",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Membership(models.Model):
    class Role(models.TextChoices):
        MANAGER = "manager", "manager"
        MEMBER = "member", "member"

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=8, choices=Role.choices, default=Role.MEMBER)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = OwnedQuerySet.as_manager()

    class Meta:
        ordering = ["user__email"]
        constraints = [models.UniqueConstraint(fields=["team", "user"], name="one_membership_a_team")]

    def __str__(self) -> str:
        return f"{self.user} in {self.team}"


class AgentKey(models.Model):
    """What an assistant shows at a door: ``pwk_<prefix>_<secret>``. Only the prefix and a peppered HMAC are stored."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="agent_keys")
    name = models.CharField(max_length=100)
    prefix = models.CharField(max_length=16, unique=True, editable=False)
    digest = models.CharField(max_length=64, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    created_by = models.CharField(max_length=254, editable=False, help_text="The e-mail of whoever issued it.")
    kept_by = models.CharField(
        max_length=254, blank=True, editable=False, help_text="The e-mail of whoever it was handed over to."
    )
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    wrote_at = models.DateTimeField(null=True, blank=True, editable=False, help_text="When it first wrote.")
    networks = models.JSONField(
        default=list, blank=True, help_text="CIDR blocks it may come from; empty: from anywhere."
    )
    tools = models.JSONField(
        null=True, blank=True, help_text="Tool names it is narrowed to; empty (null): not narrowed."
    )
    calls_per_minute = models.PositiveIntegerField(default=300, help_text="0: no limit.")

    objects = OwnedQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.name} (pwk_{self.prefix}_…)"

    @property
    def is_usable(self) -> bool:
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > timezone.now())


class SignInFailures(models.Model):
    """Passwords that were guessed wrong of late, for one account or from one address. Here, because every process must see
    them. ``subject`` is a keyed digest: what was typed as an account may be somebody's password."""

    subject = models.CharField(max_length=64, primary_key=True)
    began_at = models.DateTimeField(db_index=True)
    count = models.PositiveIntegerField(default=0)

    class Meta:
        verbose_name_plural = "sign-in failures"

    def __str__(self) -> str:
        return f"{self.count} since {self.began_at:%H:%M}"


class Invitation(models.Model):
    """Somebody is asked to come: into the portal, with a role, or into a team. Of the link only a keyed digest is kept."""

    class State(models.TextChoices):
        WAITING = "waiting", "waiting"
        ACCEPTED = "accepted", "accepted"
        REVOKED = "revoked", "revoked"
        EXPIRED = "expired", "expired"

    email = models.EmailField("e-mail")
    role = models.CharField(max_length=16, choices=User.Role.choices, default=User.Role.NONE, blank=True)
    team = models.ForeignKey(Team, null=True, blank=True, on_delete=models.CASCADE, related_name="invitations")
    team_role = models.CharField(max_length=8, choices=Membership.Role.choices, default=Membership.Role.MEMBER)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    invited_by = models.ForeignKey(User, on_delete=models.CASCADE, related_name="invitations", editable=False)
    sent_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(editable=False)
    accepted_at = models.DateTimeField(null=True, blank=True, editable=False)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = OwnedQuerySet.as_manager()

    class Meta:
        ordering = ["-sent_at"]

    def __str__(self) -> str:
        return self.email

    @property
    def state(self) -> State:
        if self.accepted_at:
            return self.State.ACCEPTED
        if self.revoked_at:
            return self.State.REVOKED
        return self.State.WAITING if self.expires_at > timezone.now() else self.State.EXPIRED


class BrowserSession(models.Model):
    """Where somebody is signed in. Ends with Django's own session, which it names."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="sessions")
    session_key = models.CharField(max_length=40, unique=True, editable=False)
    ip = models.CharField(max_length=45, blank=True, editable=False)
    device = models.CharField(max_length=200, blank=True, editable=False, help_text="As the browser calls itself.")
    how = models.CharField(max_length=200, blank=True, editable=False, help_text="What it was opened with.")
    began_at = models.DateTimeField(default=timezone.now, editable=False)
    seen_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["-seen_at"]

    def __str__(self) -> str:
        return f"{self.user} from {self.ip}"


class Digest(models.Model):
    """The weekly digest of one person, claimed by whoever sends it: one a week, however many workers there are."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="digests")
    week = models.DateField(help_text="The Monday that it was due on.")
    at = models.DateTimeField(default=timezone.now, help_text="When it was claimed.")

    class Meta:
        ordering = ["-week", "user__email"]
        constraints = [models.UniqueConstraint(fields=["user", "week"], name="one_digest_a_week")]

    def __str__(self) -> str:
        return f"{self.user_id} in the week of {self.week}"
