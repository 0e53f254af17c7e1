"""``/teams/<slug>/connections/``: register tokens, test them, replace them, bound them, delete them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db.models import Count, Q
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from integrations import actions
from integrations.gateway.integration import Bounds
from integrations.leaving import ending_of
from integrations.models import Connection, ConnectionTest, RunningTest
from integrations.pagerduty.bounds import Meaning, Work, meanings
from integrations.pagerduty.catalog import TOOLS
from integrations.pagerduty.diagnose import Finding
from policies.actions import Refused
from policies.counts import Calls, calls_of_agents
from policies.models import Team
from portal.forms import (
    AccountWideForm,
    BoundsForm,
    ConnectionForm,
    DeleteConnectionForm,
    ExpiryForm,
    ExplainForm,
    FromForm,
    MeaningForm,
    PageForm,
    ReplaceTokenForm,
)
from portal.http import Request, managed_team, may_manage, refusals_in, sentences, told, visible_team

T = TypeVar("T")
SHOWN_TESTS = 6


@sensitive_post_parameters("token")
@require_http_methods(["GET", "HEAD", "POST"])
def index(request: Request, slug: str) -> HttpResponse:
    team = managed_team(request, slug) if request.method == "POST" else visible_team(request, slug)
    form = ConnectionForm(request.user, request.POST or None)
    if request.method == "POST" and form.is_valid():
        values = form.cleaned_data
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
                token_expires_at=values["token_expires_on"],
                by=request.user,
                reason=values["reason"],
            )
            messages.success(request, f"The token of {made.name} is sealed. Test it before assistants rely on it.")
            return redirect("connection", team.slug, made.pk)
    now = timezone.now()
    live = Q(keys__key__revoked_at=None) & (Q(keys__key__expires_at=None) | Q(keys__key__expires_at__gt=now))
    rows = list(team.connections.annotate(live_keys=Count("keys", filter=live)))
    candidates = actions.told_of_candidates(rows, now)
    context = {
        "team": team,
        "rows": [(row, actions.warnings(row, now, candidates)) for row in rows],
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
        "replace": ReplaceTokenForm(auto_id="replace_%s"),
        "expiry": ExpiryForm(auto_id="expiry_%s", initial={"token_expires_on": connection.token_expires_at}),
        "bounds": BoundsForm(
            auto_id="bounds_%s",
            initial={
                "whole_account": connection.whole_account,
                "team_ids": connection.bound_team_ids,
                "service_ids": connection.bound_service_ids,
            },
        ),
        "account_wide": AccountWideForm(auto_id="account_wide_%s", initial={"tools": connection.account_wide_tools}),
        "from": FromForm(auto_id="from_%s", initial={"email": connection.from_email_proposed or connection.from_email}),
        "explain": ExplainForm(auto_id="explain_%s"),
    }
    explained: Finding | None = None
    wrong = False
    if request.method == "POST":
        action = request.POST.get("action", "")
        if action == "explain":
            form = forms["explain"] = ExplainForm(request.POST, auto_id="explain_%s")
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
                filled = forms[action] = kind(request.POST, auto_id=f"{action}_%s")
                if filled.is_valid():
                    with refusals_in(filled):
                        messages.success(request, save(request, connection, filled.cleaned_data))
                        return redirect("connection", team.slug, connection.pk)
                wrong = True
            elif action in BUTTONS:
                if action in TESTS and request.htmx:
                    return _begin(request, team, connection, candidate=action == "test_replacement")
                button = BUTTONS[action]
                told(request, lambda: button(request, connection))
                return redirect("connection", team.slug, connection.pk)
            else:
                raise Http404
    return render(
        request,
        "connections/detail.html",
        _context(request, team, connection) | {"forms": forms, "explained": explained},
        status=422 if wrong else 200,
    )


def _begin(request: Request, team: Team, connection: Connection, *, candidate: bool) -> HttpResponse:
    """A test that is watched. Without a script it is waited for instead."""
    try:
        running, wrong = actions.begin_test(connection, by=request.user, candidate=candidate), ""
    except (ValidationError, Refused) as error:
        running, wrong = None, " ".join(sentences(error))
    context = {"team": team, "connection": connection, "running": running, "wrong": wrong}
    return render(request, "connections/_running.html", context)


@require_http_methods(["GET", "HEAD"])
def test(request: Request, slug: str, pk: str) -> HttpResponse:
    """How far the test came that somebody watches; once it has ended, the connection's page with what it found."""
    team = visible_team(request, slug)
    connection = get_object_or_404(team.connections, pk=pk)
    page = reverse("connection", args=[team.slug, connection.pk])
    running = RunningTest.objects.filter(pk=connection.pk).first()
    if not request.htmx:
        return redirect(page)
    if running is not None and actions.is_running(running, timezone.now()):
        return render(
            request, "connections/_running.html", {"team": team, "connection": connection, "running": running}
        )
    if running is None or running.ended_at is None:
        messages.error(request, "The test did not end: the process that made it is gone. Test again.")
    elif running.asked_by == request.user.email:
        (messages.success if running.passed else messages.error)(request, running.told)
    return HttpResponse(status=204, headers={"HX-Redirect": page})


# pytest would take it for a test of its own wherever it is imported.
test.__test__ = False  # type: ignore[attr-defined]  # a function takes any attribute


@require_http_methods(["GET", "HEAD", "POST"])
def delete(request: Request, slug: str, pk: str) -> HttpResponse:
    """Says what stops, and asks for the connection's name where keys would; then it is gone for good."""
    team = managed_team(request, slug)
    connection = get_object_or_404(team.connections.select_related("team"), pk=pk)
    now = timezone.now()
    ending = ending_of(connection, now)
    form = DeleteConnectionForm(connection, bool(ending.keys), request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        with refusals_in(form):
            revoked = actions.do_delete_connection(
                connection,
                by=request.user,
                reason=form.cleaned_data["reason"],
                seen=request.POST.getlist("key"),
            )
            count = len(revoked)
            keys = f"{count} agent key{'s are' if count != 1 else ' is'} revoked" if count else "no agent key used it"
            messages.success(
                request, f"{connection.name} is deleted with its sealed token; {keys}. The record of it all stays."
            )
            return redirect("team-connections", team.slug)
    week = calls_of_agents(team.pk, now).of if ending.keys else {}
    context = {
        "team": team,
        "connection": connection,
        "ending": ending,
        "keys": [(key, week.get(f"key:{key.pk}", Calls())) for key in ending.keys],
        "form": form,
        "may_manage": True,
    }
    return render(request, "connections/delete.html", context, status=422 if form.errors else 200)


@require_http_methods(["GET", "HEAD"])
def bounds(request: Request, slug: str) -> HttpResponse:
    """What bounds mean, tool by tool, before they are set."""
    team = visible_team(request, slug)
    form = MeaningForm(request.GET or None)
    told: list[tuple[Work, list[Meaning]]] = []
    if form.is_bound and form.is_valid():
        values = form.cleaned_data
        told = meanings(Bounds(False, frozenset(values["team_ids"]), frozenset(values["service_ids"])))
    template = "connections/_meaning.html" if request.htmx else "connections/bounds.html"
    return render(request, template, {"team": team, "form": form, "meanings": told})


def _context(request: Request, team: Team, connection: Connection) -> dict[str, Any]:
    newest = _test_of_token_in_service(connection)
    tests = list(connection.tests.all()[:SHOWN_TESTS])
    history = list(connection.tests.defer("findings"))
    now = timezone.now()
    running = RunningTest.objects.filter(pk=connection.pk).first()
    return {
        "running": running if running is not None and actions.is_running(running, now) else None,
        "history": history,
        "chart": _chart(history),
        "team": team,
        "connection": connection,
        "told": actions.warnings(connection, now),
        "remaining": _remaining(actions.days_left(connection, now)),
        "newest": newest,
        "tests": tests,
        "meanings": [] if connection.whole_account else meanings(actions.bounds_of(connection)),
        "keys": [link.key for link in connection.keys.select_related("key")],
        "may_manage": may_manage(request, team),
        # An auditor reads none of PagerDuty.
        "may_explain": not request.user.is_auditor,
        "differs": connection.detected_kind and connection.detected_kind != connection.kind,
    }


def _test_of_token_in_service(connection: Connection) -> ConnectionTest | None:
    """A replacement's test that passed is the newest of the token in service: what it told the health of."""
    if connection.health_at is not None and (test := connection.tests.filter(at=connection.health_at).first()):
        return test
    return connection.tests.filter(of_candidate=False).first()


@dataclass(frozen=True)
class Bar:
    """One test in the chart. Lengths are in the units of the picture, which is ``WIDTH`` by ``HEIGHT``."""

    test: ConnectionTest
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Chart:
    """The tests that are kept, the oldest first: how long PagerDuty's quickest answer took, and which failed."""

    bars: list[Bar]
    passed: int
    slowest_ms: float
    width: int
    height: int


WIDTH, HEIGHT = 600, 80
WIDEST_BAR = 12.0


def _chart(history: Sequence[ConnectionTest]) -> Chart | None:
    """``history``: the newest first. None: one test is no history."""
    if len(history) < 2:
        return None
    slowest = max((test.latency_ms or 0 for test in history if test.passed), default=0) or 1.0
    step = min(WIDTH / len(history), WIDEST_BAR)
    bars = []
    for place, test in enumerate(reversed(history)):
        # What failed stands out at its full height, with a sign; what is quick still shows.
        height = max(HEIGHT * min((test.latency_ms or 0) / slowest, 1), 3) if test.passed else HEIGHT
        bars.append(
            Bar(test, round(place * step, 1), round(HEIGHT - height, 1), round(step * 0.75, 1), round(height, 1))
        )
    return Chart(bars, sum(test.passed for test in history), slowest, WIDTH, HEIGHT)


def _remaining(days: int | None) -> str:
    """How long a token has yet, in words."""
    if days is None:
        return ""
    if days > 0:
        return f"{days} day{'s' if days != 1 else ''} left"
    return "ended less than a day ago" if days == 0 else f"ended {-days} day{'s' if days != -1 else ''} ago"


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
    if candidate:
        connection.refresh_from_db(fields=["last4"])
        return f"The token …{connection.last4} is in service now; the one before it is gone."
    return found.message


def _reason(request: Request) -> str:
    return request.POST.get("reason", "")


def _replace(request: Request, connection: Connection, values: dict[str, Any]) -> str:
    actions.do_replace_token(
        connection,
        token=values["token"],
        token_expires_at=values["token_expires_on"],
        by=request.user,
        reason=values["reason"],
    )
    return "The replacement is sealed. Test it now: once it passes it goes into service."


def _expiry(request: Request, connection: Connection, values: dict[str, Any]) -> str:
    row = actions.do_set_token_expiry(
        connection, token_expires_at=values["token_expires_on"], by=request.user, reason=values["reason"]
    )
    if row.token_expires_at is None:
        return "When the token expires is not known now."
    return f"The token expires at the end of {row.token_expires_at:%Y-%m-%d}, UTC."


def _bounds(request: Request, connection: Connection, values: dict[str, Any]) -> str:
    row = actions.do_set_bounds(connection, by=request.user, **values)
    return "The connection spans the whole account now." if row.whole_account else "The bounds are set."


def _account_wide(request: Request, connection: Connection, values: dict[str, Any]) -> str:
    row = actions.do_set_account_wide(connection, tools=values["tools"], by=request.user, reason=values["reason"])
    titles = [TOOLS[name].title for name in row.account_wide_tools]
    return f"Allowed account-wide: {', '.join(titles)}." if titles else "Nothing is allowed account-wide."


def _from(request: Request, connection: Connection, values: dict[str, Any]) -> str:
    row = actions.do_propose_from_email(connection, email=values["email"], by=request.user, reason=values["reason"])
    if row.from_email_proposed:
        return f"Acting as {row.from_email_proposed} waits for an administrator's signature."
    return f"Writes are now made as {row.from_email}."


def _approve(request: Request, connection: Connection) -> str:
    email = request.POST.get("email", "")
    row = actions.do_approve_from_email(connection, email=email, by=request.user, reason=_reason(request))
    return f"Writes are now made as {row.from_email}."


def _discard_from(request: Request, connection: Connection) -> str:
    actions.do_discard_from_email(connection, by=request.user, reason=_reason(request))
    return "The proposed address is withdrawn."


def _discard(request: Request, connection: Connection) -> str:
    actions.do_discard_candidate(connection, by=request.user, reason=_reason(request))
    return "The replacement token is thrown away."


def _kind(request: Request, connection: Connection) -> str:
    actions.do_set_kind(connection, kind=connection.detected_kind, by=request.user, reason=_reason(request))
    return "The token is now registered as what it is."


def _switch_on(request: Request, connection: Connection) -> str:
    row = actions.do_set_enabled(connection, True, by=request.user, reason=_reason(request))
    return f"{row.name} is switched on."


def _switch_off(request: Request, connection: Connection) -> str:
    row = actions.do_set_enabled(connection, False, by=request.user, reason=_reason(request))
    return f"{row.name} is switched off: every call through it is denied."


BUTTONS: dict[str, Callable[[Request, Connection], str]] = {
    "test": _test,
    "test_replacement": lambda request, connection: _test(request, connection, candidate=True),
    "discard": _discard,
    "approve": _approve,
    "discard_from": _discard_from,
    "kind": _kind,
    # Two, not a toggle: what was seen on a stale page must not be turned round by a second click.
    "switch_on": _switch_on,
    "switch_off": _switch_off,
}
TESTS = ("test", "test_replacement")
WITH_FORM: dict[str, tuple[type[PageForm], Callable[[Request, Connection, dict[str, Any]], str]]] = {
    "replace": (ReplaceTokenForm, _replace),
    "expiry": (ExpiryForm, _expiry),
    "bounds": (BoundsForm, _bounds),
    "account_wide": (AccountWideForm, _account_wide),
    "from": (FromForm, _from),
}
