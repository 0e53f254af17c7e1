"""The kill switch: an agent, a team or everything is stopped, rehearsed and set going again; and all writes of a team off."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from integrations.pagerduty.catalog import TOOLS
from policies.actions import do_lift_stop, do_rehearse_stop, do_stop, do_switch_all_writes_off, writes_that_are_on
from policies.core.decide import EVERYTHING
from policies.models import AgentKey, Stop, Team
from policies.rehearsal import Rehearsal
from policies.snapshot import current_version, load_policy
from portal.forms import StopForm, WhyForm
from portal.http import Request, managed_team, refusals_in
from portal.stops import in_force, name_of


@dataclass(frozen=True)
class Subject:
    """What is to be stopped, and the page that one comes from."""

    name: str
    page: str
    id: str
    team: Team | None = None
    key: AgentKey | None = None


@require_http_methods(["GET", "HEAD", "POST"])
def everything(request: Request) -> HttpResponse:
    if not request.user.is_administrator:
        raise PermissionDenied("Only an administrator may stop everything.")
    return _stop(request, Subject("everything", reverse("home"), EVERYTHING))


@require_http_methods(["GET", "HEAD", "POST"])
def team(request: Request, slug: str) -> HttpResponse:
    of = managed_team(request, slug)
    return _stop(request, Subject(f"all of {of.name}", reverse("team-agents", args=[of.slug]), f"team:{of.pk}", of))


@require_http_methods(["GET", "HEAD", "POST"])
def agent(request: Request, slug: str, pk: UUID) -> HttpResponse:
    of = managed_team(request, slug)
    key = get_object_or_404(AgentKey.objects.select_related("team"), team=of, pk=pk)
    return _stop(request, Subject(key.name, reverse("team-agents", args=[of.slug]), f"key:{key.pk}", of, key))


def _stop(request: Request, subject: Subject) -> HttpResponse:
    """Says what a stop would do; then does it, or rehearses it."""
    action = request.POST.get("action")
    if request.method == "POST" and action not in ("stop", "rehearse"):
        raise Http404
    form = StopForm(request.POST if action else None, rehearsed=action == "rehearse")
    rehearsal: Rehearsal | None = None
    if form.is_valid():
        values = {"reason": form.cleaned_data["reason"], "team": subject.team, "key": subject.key}
        with refusals_in(form):
            if action == "stop":
                do_stop(by=request.user, **values)
                messages.success(request, f"You have stopped {subject.name}. It stays so until somebody lifts it.")
                return redirect(subject.page)
            rehearsal = do_rehearse_stop(by=request.user, **values)
            # Whoever goes on from there to the stop itself says why.
            form.fields["reason"].required = True
    context = {
        "subject": subject,
        "team": subject.team,
        "may_manage": True,
        "form": form,
        "rehearsal": rehearsal,
        "standing": Stop.objects.filter(subject=subject.id).first(),
    }
    return render(request, "stops/stop.html", context, status=422 if form.errors else 200)


@require_http_methods(["GET", "HEAD", "POST"])
def lift(request: Request, pk: int) -> HttpResponse:
    """A stop: who pulled it and why, who may lift it, what lifting it does; and the form, for those who may."""
    stop = get_object_or_404(Stop.objects.visible_to(request.user), pk=pk)
    may_lift = Stop.objects.editable_by(request.user).filter(pk=stop.pk).exists()
    if request.method == "POST" and not may_lift:
        raise PermissionDenied(f"{_who_lifts(stop).capitalize()} may lift this stop.")
    of = Team.objects.filter(pk=stop.team_id).first() if stop.team_id is not None else None
    name = name_of(stop, of.name if of else "")
    form = WhyForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        with refusals_in(form):
            do_lift_stop(stop, by=request.user, reason=form.cleaned_data["reason"])
            messages.success(request, f"The stop is lifted: {name} goes on.")
            return redirect("team-agents", of.slug) if of else redirect("home")
    context = {
        "stop": stop,
        "name": name,
        "team": of,
        "form": form,
        "may_lift": may_lift,
        "who_lifts": _who_lifts(stop),
        "others": [row for row in in_force(request.user) if _goes_on(stop, row.stop)],
    }
    return render(request, "stops/lift.html", context, status=422 if form.errors else 200)


def _who_lifts(stop: Stop) -> str:
    return "an administrator" if stop.by_administrator else "a manager of the team, or an administrator"


def _goes_on(lifted: Stop, other: Stop) -> bool:
    """Whether ``other`` holds something that is held by ``lifted`` too."""
    if other.pk == lifted.pk:
        return False
    if lifted.subject == EVERYTHING or other.subject == EVERYTHING:
        return True
    # A team and its keys; not one key and another.
    return other.team_id == lifted.team_id and "team:" in (lifted.subject[:5], other.subject[:5])


@require_http_methods(["GET", "HEAD", "POST"])
def writes_off(request: Request, slug: str) -> HttpResponse:
    """Which writing tools are on; then, confirmed with a reason, every one of them is off."""
    of = managed_team(request, slug)
    form = WhyForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        with refusals_in(form):
            teams = Team.objects.filter(pk=of.pk)
            changed = do_switch_all_writes_off(teams, tools=TOOLS, by=request.user, reason=form.cleaned_data["reason"])
            messages.success(request, f"All writes of {of.name} are off: {changed} tools changed.")
            return redirect("team-tools", of.slug)
    policy = load_policy(current_version())
    context = {
        "team": of,
        "may_manage": True,
        "form": form,
        "tools": [(tool, policy.risk(tool)) for tool in writes_that_are_on(of, tools=TOOLS)],
    }
    return render(request, "stops/writes_off.html", context, status=422 if form.errors else 200)
