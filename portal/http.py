"""Requests as the pages see them, and the one way from an address to a team that the asker may see or manage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest
from django.shortcuts import get_object_or_404
from django_htmx.middleware import HtmxDetails

from policies.actions import Refused
from policies.models import Team, User

M = TypeVar("M", bound=Model)


class Request(HttpRequest):
    """A request of a signed-in person: ``LoginRequiredMiddleware`` lets no other reach a page."""

    user: User
    htmx: HtmxDetails


def visible_team(request: Request, slug: str) -> Team:
    """The team, or 404: whoever may not see it does not learn that it exists."""
    return get_object_or_404(Team.objects.visible_to(request.user), slug=slug)


def may_manage(request: Request, team: Team) -> bool:
    return Team.objects.editable_by(request.user).filter(pk=team.pk).exists()


def managed_team(request: Request, slug: str) -> Team:
    """The team for a change: 404 for whoever does not see it, 403 for whoever sees it and does not manage it."""
    team = visible_team(request, slug)
    if not may_manage(request, team):
        raise PermissionDenied(f"Only a manager of {team.name} or an administrator may change this.")
    return team


def one_of(rows: QuerySet[M], pk: str | None) -> M:
    """The row that a form names, or 404: for what is no key at all too."""
    try:
        return get_object_or_404(rows, pk=pk)
    except (ValueError, ValidationError) as error:
        raise Http404 from error


def sentences(error: ValidationError | Refused) -> list[str]:
    return error.messages if isinstance(error, ValidationError) else [str(error)]


def told(request: HttpRequest, action: Callable[[], str]) -> bool:
    """Do ``action`` and show what it returns, or why it was refused. Whether it was done."""
    try:
        messages.success(request, action())
    except (ValidationError, Refused) as error:
        for sentence in sentences(error):
            messages.error(request, sentence)
        return False
    return True


@contextmanager
def refusals_in(form: forms.Form) -> Iterator[None]:
    """What an action refuses becomes the form's own error: what was typed is not lost."""
    try:
        yield
    except (ValidationError, Refused) as error:
        for sentence in sentences(error):
            form.add_error(None, sentence)
