"""What is stopped, as every page says it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from policies.core.decide import EVERYTHING
from policies.models import Stop, Team, User


@dataclass(frozen=True)
class Standing:
    """A stop, for whoever looks."""

    stop: Stop
    name: str
    may_lift: bool

    @property
    def holds_key(self) -> UUID | None:
        """The one key that it holds, if it holds one alone."""
        kind, _, which = self.stop.subject.partition(":")
        return UUID(which) if kind == "key" else None


def in_force(user: User) -> list[Standing]:
    """The stops that hold anything of somebody's, the newest first. One look-up while nothing is stopped."""
    stops = list(Stop.objects.visible_to(user))
    if not stops:
        return []
    mine = set(Stop.objects.editable_by(user).values_list("pk", flat=True))
    teams = dict(Team.objects.filter(pk__in={stop.team_id for stop in stops}).values_list("pk", "name"))
    return [Standing(stop, name_of(stop, teams.get(stop.team_id or 0, "")), stop.pk in mine) for stop in stops]


def name_of(stop: Stop, team: str) -> str:
    """``team``: the name that its team has; of a key it says whose it is."""
    if stop.subject == EVERYTHING:
        return "Everything"
    return f"{stop.target} of {team}" if team and stop.subject.startswith("key:") else stop.target


def shown(request: HttpRequest) -> dict[str, Any]:
    """A context processor: ``stops``, looked up where a page shows it."""
    user = getattr(request, "user", None)
    return {"stops": SimpleLazyObject(lambda: in_force(user) if isinstance(user, User) and user.is_active else [])}
