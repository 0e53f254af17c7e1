"""``/``: the teams of whoever signed in, and what needs a look."""

from __future__ import annotations

import json

from django.db.models import Count, Q
from django.http import HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from integrations.actions import warnings
from integrations.alarms import opened
from integrations.models import Connection
from policies.models import Alarm, Entry, Stop, Team
from portal.forms import in_words
from portal.http import Request


@require_safe
def index(request: Request) -> HttpResponse:
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
            "stops": Stop.objects.holding(teams),
        },
    )


def _told(row: Entry) -> tuple[str, str]:
    """What was denied, and to whom."""
    details = json.loads(row.record)["details"]
    asked = " ".join(part for part in (details.get("method"), details.get("path")) if isinstance(part, str))
    return in_words(row.tool) or asked or "a call", details.get("actor", {}).get("name", row.actor)
