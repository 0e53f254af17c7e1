"""``/teams/<slug>/members/``: who is in a team, and as what."""

from __future__ import annotations

from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from policies.actions import do_remove_member, do_set_membership
from policies.models import Membership
from portal.forms import MemberForm
from portal.http import Request, managed_team, may_manage, one_of, refusals_in, told, visible_team
from portal.views import invitations


@require_http_methods(["GET", "HEAD", "POST"])
def index(request: Request, slug: str) -> HttpResponse:
    team = managed_team(request, slug) if request.method == "POST" else visible_team(request, slug)
    action = request.POST.get("action")
    if action in ("set", "remove"):
        member = one_of(Membership.objects.filter(team=team), request.POST.get("membership"))

        reason = request.POST.get("reason", "")

        def change() -> str:
            if action == "remove":
                do_remove_member(team, user=member.user, by=request.user, reason=reason)
                return f"{member.user} is no longer in {team.name}."
            role = request.POST.get("role", "")
            do_set_membership(team, user=member.user, role=role, by=request.user, reason=reason)
            return f"{member.user} is now a {role} of {team.name}."

        told(request, change)
        return redirect("team-members", team.slug)
    form = MemberForm(request.POST if action == "add" else None)
    if action == "add" and form.is_valid():
        with refusals_in(form):
            values = form.cleaned_data
            do_set_membership(team, user=values["email"], role=values["role"], by=request.user, reason=values["reason"])
            return redirect("team-members", team.slug)
    context = {
        "team": team,
        "members": team.memberships.select_related("user"),
        "roles": Membership.Role.choices,
        "form": form,
        "may_manage": may_manage(request, team),
        **invitations.of_team(team),
    }
    return render(request, "members/index.html", context, status=422 if form.errors else 200)
