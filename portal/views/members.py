"""``/teams/<slug>/members/``: who is in a team, and as what; and what is left behind by whoever leaves it."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from integrations.leaving import do_let_go, held_by
from policies.actions import do_remove_member, do_set_membership
from policies.models import Membership, Team
from portal.forms import LeaveForm, MemberForm
from portal.http import Request, managed_team, may_manage, one_of, refusals_in, told, visible_team
from portal.views import invitations


@require_http_methods(["GET", "HEAD", "POST"])
def index(request: Request, slug: str) -> HttpResponse:
    team = managed_team(request, slug) if request.method == "POST" else visible_team(request, slug)
    action = request.POST.get("action")
    if action in ("set", "remove"):
        member = one_of(Membership.objects.filter(team=team).select_related("user"), request.POST.get("membership"))
        if action == "remove" and held_by(member.user, team, timezone.now()):
            messages.error(request, f"{member.user} holds things here: say what becomes of each first.")
            return redirect("member-leave", team.slug, member.pk)
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
            messages.success(request, f"{values['email']} is now a {values['role']} of {team.name}.")
            return redirect("team-members", team.slug)
    members = list(team.memberships.select_related("user"))
    context = {
        "team": team,
        "members": members,
        "managers": sum(row.role == "manager" and row.user.is_active and not row.user.is_auditor for row in members),
        "roles": Membership.Role.choices,
        "form": form,
        "may_manage": may_manage(request, team),
        **invitations.of_team(team),
    }
    return render(request, "members/index.html", context, status=422 if form.errors else 200)


@require_http_methods(["GET", "HEAD", "POST"])
def leave(request: Request, slug: str, pk: int) -> HttpResponse:
    """Says what somebody holds in the team; then they are out of it, and each of these is kept by somebody or ended."""
    team = managed_team(request, slug)
    member = get_object_or_404(team.memberships.select_related("user"), pk=pk, team__kind=Team.Kind.SHARED)
    held = held_by(member.user, team, timezone.now())
    form = LeaveForm(held, request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        with refusals_in(form):
            said = do_let_go(
                member.user,
                by=request.user,
                team=team,
                choices=form.choices(),
                seen=form.cleaned_data["seen"],
                reason=form.cleaned_data["reason"],
            )
            messages.success(request, said)
            # Whoever took themselves out does not see the team any more.
            return redirect("teams") if member.user == request.user else redirect("team-members", team.slug)
    context = {"team": team, "member": member, "held": held, "form": form, "may_manage": True}
    return render(request, "members/leave.html", context, status=422 if form.errors else 200)
