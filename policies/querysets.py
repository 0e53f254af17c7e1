"""Who sees and who changes which rows. Every filter starts from nothing: whoever is not named below gets no row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, TypeVar

from django.contrib.auth.models import AnonymousUser
from django.db import models

if TYPE_CHECKING:
    from policies.models import User

M = TypeVar("M", bound=models.Model)


def known(user: User | AnonymousUser | None) -> User | None:
    """The user behind a request, if there is one who may still sign in."""
    if user is None or isinstance(user, AnonymousUser) or not user.is_active:
        return None
    return user


class OwnedQuerySet(models.QuerySet[M]):
    """Rows that belong to a team, named by ``team_path`` (``""``: the rows are teams themselves).

    ``visible_to``: an administrator and an auditor see all, a person the rows of the teams they are in.
    ``editable_by``: an administrator edits all, a manager the rows of the teams they manage.
    """

    team_path = "team"

    def visible_to(self, user: User | AnonymousUser | None) -> Self:
        if (person := known(user)) is None:
            return self.none()
        if person.is_administrator or person.is_auditor:
            return self
        return self._of_teams(person, {})

    def editable_by(self, user: User | AnonymousUser | None) -> Self:
        if (person := known(user)) is None or person.is_auditor:
            return self.none()
        if person.is_administrator:
            return self
        return self._of_teams(person, {"role": "manager"})

    def _of_teams(self, person: User, only: dict[str, Any]) -> Self:
        from policies.models import Membership

        teams = Membership.objects.filter(user=person, **only).values("team_id")
        return self.filter(**{f"{self.team_path}__in" if self.team_path else "pk__in": teams})


class TeamQuerySet(OwnedQuerySet[M]):
    team_path = ""


class ViaTeamIdQuerySet(OwnedQuerySet[M]):
    """Rows of the record: they copy the team's number, for they outlive the team."""

    team_path = "team_id"

    def visible_to(self, user: User | AnonymousUser | None) -> Self:
        """Administrators and auditors read all of it, managers what concerns their teams; members none."""
        if (person := known(user)) is None:
            return self.none()
        if person.is_administrator or person.is_auditor:
            return self
        return self._of_teams(person, {"role": "manager"})

    def editable_by(self, user: User | AnonymousUser | None) -> Self:
        """The record is not edited, by anyone."""
        return self.none()


class UserQuerySet(models.QuerySet[M]):
    """People: an administrator and an auditor see everybody, others those they share a team with."""

    def of_address(self, email: str) -> Self:
        """Whoever has this e-mail address, whatever its capitals. Addresses are kept in small letters, and compared here: to
        PostgreSQL's ``iexact`` a dotless ı is an i, and so another's address theirs."""
        return self.filter(email=email.strip().lower())

    def visible_to(self, user: User | AnonymousUser | None) -> Self:
        if (person := known(user)) is None:
            return self.none()
        if person.is_administrator or person.is_auditor:
            return self
        from policies.models import Membership

        teams = Membership.objects.filter(user=person).values("team_id")
        return self.filter(models.Q(memberships__team__in=teams) | models.Q(pk=person.pk)).distinct()

    def editable_by(self, user: User | AnonymousUser | None) -> Self:
        person = known(user)
        return self if person is not None and person.is_administrator else self.none()
