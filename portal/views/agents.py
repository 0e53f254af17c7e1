"""``/teams/<slug>/agents/``: the keys that a team hands to its assistants, and how these are connected."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from uuid import UUID

from django.conf import settings
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from integrations.actions import do_issue_agent_key, troubles
from integrations.alarms import opened
from integrations.models import ConnectionKey
from integrations.pagerduty.catalog import PRESETS, TOOLS
from policies.actions import do_close_alarm, do_revoke_key
from policies.models import AgentKey, Alarm, KeyNetwork
from portal.connecting import configurations, mcp_url, unusable
from portal.forms import KeyForm, in_words
from portal.http import Request, managed_team, may_manage, one_of, refusals_in, told, visible_team


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def index(request: Request, slug: str) -> HttpResponse:
    team = managed_team(request, slug) if request.method == "POST" else visible_team(request, slug)
    action = request.POST.get("action")
    if action == "revoke":
        key = one_of(AgentKey.objects.filter(team=team), request.POST.get("key"))

        def revoke() -> str:
            # Without a reason too: a stolen key is revoked first and explained later.
            do_revoke_key(key, by=request.user, reason=request.POST.get("reason", ""))
            return f"{key.name} is revoked: its next call is refused."

        told(request, revoke)
        return redirect("team-agents", team.slug)
    if action == "close":
        alarm = one_of(Alarm.objects.select_related("key__team").filter(key__team=team), request.POST.get("alarm"))

        def close() -> str:
            do_close_alarm(alarm, by=request.user, reason=request.POST.get("reason", ""))
            return f"Noted: it is known of {alarm.key.name} from now on."

        told(request, close)
        return redirect("team-agents", team.slug)
    form = KeyForm(team, request.POST if action == "issue" else None)
    issued: tuple[AgentKey, str] | None = None
    if action == "issue" and form.is_valid():
        values = form.cleaned_data
        with refusals_in(form):
            # Shown in this very answer and nowhere else: a redirect would have to keep the secret somewhere.
            issued = do_issue_agent_key(
                values["connection"],
                name=values["name"],
                by=request.user,
                tools=TOOLS,
                expires_at=form.expires_at(),
                networks=values["networks"],
                narrowed_to=form.narrowed_to(),
                calls_per_minute=values["calls_per_minute"],
                reason=values["reason"],
            )
            form = KeyForm(team)
    now = timezone.now()
    # A key outlives its connection: revoked, and with no connection to name.
    used = {
        link.key_id: link.connection
        for link in ConnectionKey.objects.filter(key__team=team).select_related("connection")
    }
    connections = list(team.connections.all())
    networks: dict[UUID, list[str]] = defaultdict(list)
    for seen in KeyNetwork.objects.visible_to(request.user).filter(key__team=team):
        networks[seen.key_id].append(seen.network)
    context = {
        "team": team,
        "alarms": opened(Alarm.objects.open().visible_to(request.user).filter(key__team=team)),
        "rows": [
            (key, used.get(key.pk), _state(key, now), networks[key.pk], _narrowed(key))
            for key in team.agent_keys.order_by("-created_at")
        ],
        "form": form,
        "issued": issued,
        "base_url": f"{settings.PUBLIC_URL}/pagerduty",
        "clients": configurations(issued[1]).items() if issued else (),
        # Of a key just issued, what concerns its own connection.
        "troubles": [
            (row, said)
            for row in connections
            if issued is None or used[issued[0].pk] == row
            for said in troubles(row, now)
        ],
        "may_manage": may_manage(request, team),
        "has_connection": bool(connections),
    }
    return render(request, "agents/index.html", context, status=422 if form.errors else 200)


@require_safe
def connect(request: Request, slug: str, pk: UUID) -> HttpResponse:
    """How an assistant is connected with a key that was issued earlier: only whoever has it can put it in."""
    team = visible_team(request, slug)
    key = get_object_or_404(AgentKey.objects.select_related("team"), team=team, pk=pk)
    link = ConnectionKey.objects.filter(key=key).select_related("connection").first()
    context = {
        "team": team,
        "key": key,
        "connection": link.connection if link else None,
        "narrowed": _narrowed(key),
        "unusable": unusable(key),
        "troubles": [(link.connection, said) for said in troubles(link.connection, timezone.now())] if link else [],
        "may_manage": may_manage(request, team),
        "mcp_url": mcp_url(),
        "clients": configurations().items(),
    }
    return render(request, "agents/connect.html", context)


def _narrowed(key: AgentKey) -> tuple[str, list[str]]:
    """What a key may use: in a few words, and the titles of the tools where it is narrowed to them."""
    if key.tools is None:
        return "all that the team's tools allow", []
    titles = [in_words(tool) for tool in key.tools]
    count = f"{len(titles)} tool{'' if len(titles) == 1 else 's'}"
    # What of them the team has off the key may not use either.
    return f"the core, at most {count}" if set(key.tools) == PRESETS["core"] else count, titles


def _state(key: AgentKey, now: dt.datetime) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "expired" if key.expires_at is not None and key.expires_at <= now else "usable"
