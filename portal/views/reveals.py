"""``/teams/<slug>/tools/reveals/``: what those who call for a team are shown unmasked."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from integrations.pagerduty.masking import REVEALABLE
from policies.actions import do_set_reveals
from policies.models import ConfigChange
from portal.forms import RevealsForm
from portal.http import Request, managed_team, may_manage, refusals_in, visible_team


@require_http_methods(["GET", "HEAD", "POST"])
def index(request: Request, slug: str) -> HttpResponse:
    """What is shown and who changed it, for whoever sees the team; the form, for whoever manages it."""
    team = managed_team(request, slug) if request.method == "POST" else visible_team(request, slug)
    now = sorted(team.reveals.values_list("kind", flat=True))
    form = RevealsForm(request.user, now, request.POST if request.method == "POST" else None)
    if form.is_valid():
        kinds = form.kinds()
        with refusals_in(form):
            changed = do_set_reveals(
                team, kinds=kinds, known=REVEALABLE, by=request.user, reason=form.cleaned_data["reason"]
            )
            said = f"Shown unmasked for {team.name} now: {', '.join(kinds) or 'nothing'}."
            messages.success(request, said if changed else "Nothing was changed.")
            return redirect("team-tools", team.slug)
    context = {
        "team": team,
        "form": form,
        "revealed": {kind: REVEALABLE.get(kind, "nothing any more") for kind in now},
        "may_manage": may_manage(request, team),
        "changes": ConfigChange.objects.visible_to(request.user).filter(team_id=team.pk, action="set_reveals")[:20],
    }
    return render(request, "reveals/index.html", context, status=422 if form.errors else 200)
