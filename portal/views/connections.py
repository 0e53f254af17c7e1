"""``/teams/<slug>/connections/``: register tokens, test them, replace them, bound them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any, TypeVar

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from integrations import actions
from integrations.models import Connection
from integrations.pagerduty.diagnose import Finding
from policies.models import Team
from portal.forms import BoundsForm, ConnectionForm, ExplainForm, FromForm, PageForm, ReplaceTokenForm
from portal.http import Request, managed_team, may_manage, refusals_in, told, visible_team

T = TypeVar("T")


@sensitive_post_parameters("token")
@require_http_methods(["GET", "HEAD", "POST"])
def index(request: Request, slug: str) -> HttpResponse:
    team = managed_team(request, slug) if request.method == "POST" else visible_team(request, slug)
    form = ConnectionForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        values = form.cleaned_data
        expires: dt.date | None = values["token_expires_on"]
        with refusals_in(form):
            made = actions.do_register_token(
                team,
                name=values["name"],
                token=values["token"],
                kind=values["kind"],
                region=values["region"],
                from_email=values["from_email"],
                whole_account=values["whole_account"],
                team_ids=values["team_ids"],
                service_ids=values["service_ids"],
                token_expires_at=None if expires is None else dt.datetime.combine(expires, dt.time(), dt.UTC),
                by=request.user,
            )
            messages.success(request, f"The token of {made.name} is sealed. Test it before assistants rely on it.")
            return redirect("connection", team.slug, made.pk)
    now = timezone.now()
    context = {
        "team": team,
        "rows": [(row, actions.warnings(row, now)) for row in team.connections.all()],
        "form": form,
        "may_manage": may_manage(request, team),
    }
    return render(request, "connections/index.html", context, status=422 if form.errors else 200)


@sensitive_post_parameters("token")
@require_http_methods(["GET", "HEAD", "POST"])
def detail(request: Request, slug: str, pk: str) -> HttpResponse:
    team = visible_team(request, slug)
    connection = get_object_or_404(team.connections.select_related("team"), pk=pk)
    forms: dict[str, PageForm] = {
        "replace": ReplaceTokenForm(),
        "bounds": BoundsForm(
            initial={
                "whole_account": connection.whole_account,
                "team_ids": connection.bound_team_ids,
                "service_ids": connection.bound_service_ids,
            }
        ),
        "from": FromForm(initial={"email": connection.from_email_proposed or connection.from_email}),
        "explain": ExplainForm(),
    }
    explained: Finding | None = None
    wrong = False
    if request.method == "POST":
        action = request.POST.get("action", "")
        if action == "explain":
            form = forms["explain"] = ExplainForm(request.POST)
            if form.is_valid():
                with refusals_in(form):
                    explained = _tested(
                        lambda: actions.explain_object(connection, by=request.user, **form.cleaned_data)
                    )
            wrong = bool(form.errors)
        else:
            managed_team(request, slug)
            if action in WITH_FORM:
                kind, save = WITH_FORM[action]
                filled = forms[action] = kind(request.POST)
                if filled.is_valid():
                    with refusals_in(filled):
                        messages.success(request, save(request, connection, filled.cleaned_data))
                        return redirect("connection", team.slug, connection.pk)
                wrong = True
            elif action in BUTTONS:
                button = BUTTONS[action]
                told(request, lambda: button(request, connection))
                if action == "delete" and not Connection.objects.filter(pk=connection.pk).exists():
                    return redirect("team-connections", team.slug)
                return redirect("connection", team.slug, connection.pk)
            else:
                raise Http404
    return render(
        request,
        "connections/detail.html",
        _context(request, team, connection) | {"forms": forms, "explained": explained},
        status=422 if wrong else 200,
    )


def _context(request: Request, team: Team, connection: Connection) -> dict[str, Any]:
    tests = list(connection.tests.all()[:6])
    now = timezone.now()
    return {
        "team": team,
        "connection": connection,
        "told": actions.warnings(connection, now),
        "days_left": actions.days_left(connection, now),
        "newest": next((test for test in tests if not test.of_candidate), None),
        "tests": tests,
        "keys": [link.key for link in connection.keys.select_related("key")],
        "may_manage": may_manage(request, team),
        "differs": connection.detected_kind and connection.detected_kind != connection.kind,
    }


def _tested(run: Callable[[], T]) -> T:
    """``CannotTest`` as a sentence for the page."""
    try:
        return run()
    except actions.CannotTest as error:
        raise ValidationError(str(error)) from error


def _test(request: Request, connection: Connection, *, candidate: bool = False) -> str:
    found = _tested(lambda: actions.test_connection(connection, by=request.user, candidate=candidate))
    if not found.passed:
        raise ValidationError([found.message, found.findings.get("remedy", "")])
    return found.message


def _replace(request: Request, connection: Connection, values: dict[str, Any]) -> str:
    actions.do_replace_token(connection, token=values["token"], by=request.user)
    return "The replacement is sealed. Test it now: once it passes it goes into service."


def _bounds(request: Request, connection: Connection, values: dict[str, Any]) -> str:
    actions.do_set_bounds(connection, by=request.user, **values)
    return "The bounds are set."


def _from(request: Request, connection: Connection, values: dict[str, Any]) -> str:
    row = actions.do_propose_from_email(connection, email=values["email"], by=request.user)
    if row.from_email_proposed:
        return f"Acting as {row.from_email_proposed} waits for an administrator's signature."
    return f"Writes are now made as {row.from_email}."


def _approve(request: Request, connection: Connection) -> str:
    row = actions.do_approve_from_email(connection, email=request.POST.get("email", ""), by=request.user)
    return f"Writes are now made as {row.from_email}."


def _discard_from(request: Request, connection: Connection) -> str:
    actions.do_discard_from_email(connection, by=request.user)
    return "The proposed address is withdrawn."


def _discard(request: Request, connection: Connection) -> str:
    actions.do_discard_candidate(connection, by=request.user)
    return "The replacement token is thrown away."


def _kind(request: Request, connection: Connection) -> str:
    actions.do_set_kind(connection, kind=connection.detected_kind, by=request.user)
    return "The token is now registered as what it is."


def _enable(request: Request, connection: Connection) -> str:
    row = actions.do_set_enabled(connection, not connection.is_enabled, by=request.user)
    return f"{row.name} is switched {'on' if row.is_enabled else 'off: every call through it is denied'}."


def _delete(request: Request, connection: Connection) -> str:
    name = connection.name
    actions.do_delete_connection(connection, by=request.user)
    return f"{name} is deleted with its sealed token, and its agent keys are revoked."


BUTTONS: dict[str, Callable[[Request, Connection], str]] = {
    "test": _test,
    "test_replacement": lambda request, connection: _test(request, connection, candidate=True),
    "discard": _discard,
    "approve": _approve,
    "discard_from": _discard_from,
    "kind": _kind,
    "enable": _enable,
    "delete": _delete,
}
WITH_FORM: dict[str, tuple[type[PageForm], Callable[[Request, Connection, dict[str, Any]], str]]] = {
    "replace": (ReplaceTokenForm, _replace),
    "bounds": (BoundsForm, _bounds),
    "from": (FromForm, _from),
}
