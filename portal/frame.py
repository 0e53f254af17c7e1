"""What stands about every page: where one may go, where one is, and the same page of another team."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse

from policies.models import Membership, Team, User

OFFERED: Final = 12
"""Teams that the switcher lists; the search finds the others."""


def _everybody(frame: Frame) -> bool:
    return True


def _readers(frame: Frame) -> bool:
    return frame.reads


def _overseers(frame: Frame) -> bool:
    return frame.oversees


def _administrators(frame: Frame) -> bool:
    return frame.user.is_administrator


@dataclass(frozen=True)
class Place:
    """One entry of the navigation."""

    name: str
    url: str
    """The name of its address; whatever lies under it belongs to it."""
    shown_to: Callable[[Frame], bool]
    query: str = ""
    """What it opens with, where one comes from the navigation."""


PLACES: Final = (
    Place("Teams", "teams", _everybody),
    Place("Catalogue", "catalogue", _everybody),
    Place("Schedules", "schedules", _everybody),
    Place("Coverage", "coverage", _everybody),
    Place("Escalations", "escalations", _everybody),
    Place("Load", "load", _everybody),
    # The portal's own calls are most of the record, and hardly ever what somebody came for.
    Place("Audit", "audit", _readers, "?q=jobs%3Ahidden"),
    Place("Explain", "explain", _everybody),
    Place("Access", "access", _readers),
    Place("Grid", "grid", _overseers),
    Place("People", "people", _overseers),
    Place("Administration", "admin:index", _administrators),
)


@dataclass(frozen=True)
class Link:
    """A place, or the page of another team that is of the same kind."""

    name: str
    path: str
    here: str
    """What ``aria-current`` says of it: ``page``, ``true`` (the page lies under it) or nothing."""


class Frame:
    """Looked up where a page shows it: what is swapped in costs nothing."""

    def __init__(self, request: HttpRequest, user: User) -> None:
        self.request = request
        self.user = user

    @cached_property
    def oversees(self) -> bool:
        return self.user.is_administrator or self.user.is_auditor

    @cached_property
    def _teams(self) -> list[tuple[str, str, bool]]:
        """Name and slug by the alphabet, and whether one may open all of its pages: every team that one is in; of all teams the
        first."""
        if self.oversees:
            teams = Team.objects.values_list("name", "slug")[: OFFERED + 1]
            return [(name, slug, self.user.is_administrator) for name, slug in teams]
        mine = Membership.objects.filter(user=self.user).order_by("team__name")
        known = mine.values_list("team__name", "team__slug", "role")
        return [(name, slug, role == Membership.Role.MANAGER) for name, slug, role in known]

    @cached_property
    def reads(self) -> bool:
        """Whether there is any team whose record one reads (``ViaTeamIdQuerySet`` says which)."""
        return self.oversees or any(manages for *_, manages in self._teams)

    @cached_property
    def places(self) -> list[Link]:
        offered = [(place, reverse(place.url)) for place in PLACES if place.shown_to(self)]
        return [Link(place.name, path + place.query, self._is_here(path)) for place, path in offered]

    def _is_here(self, path: str) -> str:
        if self.request.path == path:
            return "page"
        return "true" if self.request.path.startswith(path) else ""

    @cached_property
    def team(self) -> str:
        """The slug in the address."""
        match = self.request.resolver_match
        return str(match.kwargs.get("slug", "")) if match and match.route.startswith("teams/<slug:slug>/") else ""

    @cached_property
    def kind(self) -> str:
        """Which page of a team this is, such as ``connections``: of the page of one thing that of its list."""
        parts = self.request.path.split("/")
        return parts[3] if self.team and len(parts) > 3 else ""

    @cached_property
    def switches(self) -> list[Link]:
        return [
            Link(name, self._of(slug, all_of_it), "true" if slug == self.team else "")
            for name, slug, all_of_it in self._teams[:OFFERED]
        ]

    @cached_property
    def has_more(self) -> bool:
        return len(self._teams) > OFFERED

    def _of(self, slug: str, all_of_it: bool) -> str:
        match = self.request.resolver_match
        # What names a row besides names one of this team alone.
        if self.team and match and match.url_name and set(match.kwargs) <= {"slug", "name"} and all_of_it:
            return reverse(match.url_name, kwargs=match.kwargs | {"slug": slug})
        return page_of_team(slug, self.kind)


def page_of_team(slug: str, kind: str = "") -> str:
    """A team's page of a kind; its first one where there is no such kind."""
    try:
        return reverse(f"team-{kind}" if kind else "team", args=[slug])
    except NoReverseMatch:
        return reverse("team", args=[slug])


def shown(request: HttpRequest) -> dict[str, Any]:
    """A context processor."""
    user = getattr(request, "user", None)
    return {"frame": Frame(request, user) if isinstance(user, User) and user.is_active else None}
