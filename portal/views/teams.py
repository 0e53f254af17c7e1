"""``/teams/``: the teams that one sees; administrators make shared ones, everybody their own workspace."""

from __future__ import annotations

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db.models import Count
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_safe

from policies.actions import do_create_personal_workspace, do_create_team
from policies.models import Team
from portal.forms import TeamForm
from portal.http import Request, refusals_in, told, visible_team


@require_http_methods(["GET", "HEAD", "POST"])
def index(request: Request) -> HttpResponse:
    form = TeamForm(request.POST or None) if request.POST.get("action") == "create" else TeamForm()
    if request.method == "POST" and request.POST.get("action") == "workspace":
        made: list[Team] = []

        def make() -> str:
            made.append(do_create_personal_workspace(request.user, by=request.user))
            return f"{made[0].name} is yours. Register a PagerDuty token of your own: assistants never see it."

        return redirect("team-connections", made[0].slug) if told(request, make) else redirect("teams")
    if form.is_bound and not request.user.is_administrator:
        raise PermissionDenied("Only an administrator may create shared teams.")
    if request.method == "POST" and form.is_valid():
        with refusals_in(form):
            team = do_create_team(**form.cleaned_data, by=request.user)
            return redirect("team-members", team.slug)
    teams = Team.objects.visible_to(request.user).annotate(
        people=Count("memberships", distinct=True), tokens=Count("connections", distinct=True)
    )
    context = {"teams": teams, "form": form, "may_own": may_own(request)}
    return render(request, "teams/index.html", context, status=_status(form))


def may_own(request: Request) -> bool:
    """Whether whoever asks may make a workspace of their own, and has none."""
    allowed = settings.PERSONAL_WORKSPACES and not request.user.is_auditor
    return allowed and not Team.objects.filter(owner=request.user).exists()


@require_safe
def team(request: Request, slug: str) -> HttpResponse:
    return redirect("team-tools", visible_team(request, slug).slug)


def _status(form: TeamForm) -> int:
    return 422 if form.is_bound and form.errors else 200
