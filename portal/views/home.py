"""``/``: the teams of whoever signed in, and what needs a look."""

from __future__ import annotations

import json

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Q
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from integrations.actions import warnings
from integrations.alarms import opened
from integrations.models import Connection
from policies.actions import do_set_reads_go_on
from policies.models import Alarm, Entry, ReadsGoOn, Team
from portal.forms import ReadsGoOnForm, in_words
from portal.http import Request, refusals_in


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
    now = timezone.now()
    live = Q(agent_keys__revoked_at=None) & (Q(agent_keys__expires_at=None) | Q(agent_keys__expires_at__gt=now))
    teams = Team.objects.visible_to(request.user).annotate(live_keys=Count("agent_keys", filter=live, distinct=True))
    connections = list(Connection.objects.visible_to(request.user).select_related("team"))
    denied = Entry.objects.visible_to(request.user).filter(kind="result").exclude(verdict="allow").order_by("-id")[:8]
    return render(
        request,
        "home/index.html",
        {
            "teams": teams,
            "connections": connections,
            "told": [(connection, said) for connection in connections for said in warnings(connection, now)],
            "denied": [(row, *_told(row)) for row in denied],
            "alarms": opened(Alarm.objects.open().editable_by(request.user)),
            "reads_go_on": chosen,
            "database_form": form,
        },
        status=422 if form is not None and form.errors else 200,
    )


def _told(row: Entry) -> tuple[str, str]:
    """What was denied, and to whom."""
    details = json.loads(row.record)["details"]
    asked = " ".join(part for part in (details.get("method"), details.get("path")) if isinstance(part, str))
    return in_words(row.tool) or asked or "a call", details.get("actor", {}).get("name", row.actor)
