"""``/teams/<slug>/try/``: a tool used by whoever is signed in, as themselves, with what it answers and why it was allowed."""

from __future__ import annotations

import json
import re
import secrets
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.http import urlencode
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from integrations.actions import suspension
from integrations.gateway import web
from integrations.models import Connection
from integrations.pagerduty.catalog import CATEGORIES, TOOLS
from integrations.pagerduty.tools.definitions import hints
from policies.core.call import Client, Tool
from policies.models import Entry, Team
from portal.explaining import about_oneself, where_explained
from portal.forms import AskForm, ToolForm
from portal.http import Request, may_manage, visible_team
from portal.readable import Node, readable

ONCE = re.compile(r"[0-9a-f]{32}", re.ASCII)


@sensitive_post_parameters()
@require_http_methods(["GET", "HEAD", "POST"])
def index(request: Request, slug: str) -> HttpResponse:
    """Chooses a tool and a connection, shows the tool's form, and uses it. A write is confirmed first."""
    team = visible_team(request, slug)
    if request.user.is_auditor:
        raise PermissionDenied(
            "Auditors read the record, and nothing of PagerDuty: only people of the team try its tools."
        )
    tool, connections = _tool(request), list(team.connections.all())
    connection = _connection(request, connections)
    context: dict[str, Any] = {
        "team": team,
        "tab": "tools",
        "may_manage": may_manage(request, team),
        "tool": tool,
        "chosen": connection,
        "connections": connections,
        "choices": [(category, [one for one in TOOLS.values() if one.category == category]) for category in CATEGORIES],
    }
    if tool is None or connection is None:
        if request.method == "POST":
            raise Http404
        return render(request, "trying/index.html", context)
    form = ToolForm(tool, request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        context |= _used(request, team, tool, connection, form)
    # After the use: the form says what is wrong with it, and what is allowed now may not be what was allowed then.
    context |= {"form": form, "ask_form": AskForm(auto_id="ask_%s")} | _standing(request, team, tool, connection)
    return render(request, "trying/index.html", context, status=422 if form.errors else 200)


def _tool(request: Request) -> Tool | None:
    name = request.GET.get("tool", "")
    if name and name not in TOOLS:
        raise Http404
    return TOOLS.get(name)


def _connection(request: Request, connections: list[Connection]) -> Connection | None:
    """The one that the address names; else the first that can be used."""
    if named := request.GET.get("connection", ""):
        for row in connections:
            if str(row.pk) == named:
                return row
        raise Http404
    now = timezone.now()
    return next((row for row in connections if not suspension(row, now)), connections[0] if connections else None)


def _standing(request: Request, team: Team, tool: Tool, connection: Connection) -> dict[str, Any]:
    return {
        "about": about_oneself(request.user, team, connection, tool),
        "explain": where_explained(team, tool),
        "here": f"{request.path}?{urlencode({'tool': tool.name, 'connection': str(connection.pk)})}",
        "destroys": hints(tool).get("destructiveHint", False),
        "repeatable": hints(tool).get("idempotentHint", False),
    }


def _used(request: Request, team: Team, tool: Tool, connection: Connection, form: ToolForm) -> dict[str, Any]:
    """What came of it; of a write that is not confirmed yet, what it would do."""
    arguments = form.arguments()
    once = request.POST.get("once", "")
    if tool.writes and not ("confirm" in request.POST and ONCE.fullmatch(once)):
        told = [(form.fields[name].label, readable(value)) for name, value in arguments.items()]
        return {"confirm": told, "once": secrets.token_hex(16)}
    client = Client(request.META.get("REMOTE_ADDR", ""), request.headers.get("User-Agent", ""))
    # A page that is sent twice has the write done once.
    key = f"page-{once}" if tool.writes else ""
    done = web.use_tool(
        tool,
        arguments,
        by=request.user,
        team=team,
        connection_id=str(connection.pk),
        client=client,
        idempotency_key=key,
    )
    error = done.content["error"] if done.is_error else None
    if error and error.get("kind") == "invalid" and done.about in form.fields:
        form.add_error(done.about, f"{error['problem']} {error['remedy']}")
    entries = Entry.objects.visible_to(request.user).filter(decision_id__in=done.decisions).order_by("pk")
    shown: Node | None = None if error else readable(done.content)
    return {
        "done": done,
        "error": error,
        "candidates": readable(error["candidates"]) if error and error.get("candidates") else None,
        "answer": shown,
        # Hidden and acting characters stay escapes: what is copied is the same JSON.
        "raw": json.dumps(done.content, indent=2),
        "milliseconds": round(done.seconds * 1000),
        "calls": [(row, row.decision_id) for row in entries if row.kind == "result"],
    }
