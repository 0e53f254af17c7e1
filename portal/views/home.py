"""``/``: what whoever signed in must know now, and their teams."""

from __future__ import annotations

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from integrations.alarms import opened
from policies.actions import do_set_reads_go_on
from policies.models import Alarm, ReadsGoOn
from portal import dashboard
from portal.explaining import requests_to_answer
from portal.forms import ReadsGoOnForm
from portal.http import Request, refusals_in
from portal.views.teams import may_own


@require_safe
def index(request: Request) -> HttpResponse:
    return _page(request, None)


@require_POST
def reads_go_on(request: Request) -> HttpResponse:
    """An administrator's choice of what happens when the database is away."""
    if not request.user.is_administrator:
        raise PermissionDenied("Only an administrator may choose whether reads go on when the database is away.")
    on = request.POST.get("action") == "on"
    form = ReadsGoOnForm(request.POST)
    if form.is_valid():
        with refusals_in(form):
            do_set_reads_go_on(by=request.user, on=on, **form.cleaned_data)
            said = f"go on for at most {form.cleaned_data['minutes']} minutes" if on else "stop with everything else"
            messages.success(request, f"When the database is away reads {said}.")
            return redirect("home")
    return _page(request, form)


def _page(request: Request, form: ReadsGoOnForm | None) -> HttpResponse:
    """``form``: one that was filled in and refused."""
    chosen = None
    if request.user.is_administrator or request.user.is_auditor:
        chosen = ReadsGoOn.objects.first()
    if form is None and request.user.is_administrator:
        form = ReadsGoOnForm(initial={"minutes": chosen.minutes} if chosen else None)
    now, user = timezone.now(), request.user
    lines = dashboard.team_lines(user, now)
    denied = dashboard.denied_lately(user, now)
    steps, more_steps = dashboard.first_steps(user, lines)
    journal = dashboard.journal_health(now) if user.is_administrator or user.is_auditor else None
    return render(
        request,
        "home/index.html",
        {
            "lines": lines[: dashboard.TEAMS],
            "more_teams": len(lines) - dashboard.TEAMS if len(lines) > dashboard.TEAMS else 0,
            "manages": any(line.managed for line in lines),
            "looks": [
                ("The journal", dashboard.journal_to_look_at(journal, now) if journal else []),
                ("Connections", dashboard.connections_to_look_at(lines, now)),
                ("Denied again and again", dashboard.repeated(denied)),
                ("Keys that expire soon", dashboard.keys_that_expire(user, now)),
            ],
            "duties": dashboard.duties(user, lines, now),
            "steps": steps,
            "more_steps": more_steps,
            "denied": denied[:8],
            "tool_requests": requests_to_answer(user) if any(line.managed for line in lines) else [],
            "alarms": opened(Alarm.objects.open().editable_by(user)),
            "journal": journal,
            "reads_go_on": chosen,
            "database_form": form,
            # Asked where there is no team to show.
            "may_own": not lines and may_own(request),
        },
        status=422 if form is not None and form.errors else 200,
    )
