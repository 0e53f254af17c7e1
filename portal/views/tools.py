"""``/teams/<slug>/tools/``: what assistants of a team may do, tool by tool."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from integrations.pagerduty.catalog import CATEGORIES, PRESETS, TOOLS
from policies.actions import Refused, do_apply_preset, do_set_tools
from policies.core.call import Risk, State, Tool
from policies.core.decide import Policy
from policies.models import ConfigChange, Team
from policies.snapshot import current_version, load_policy
from portal.http import Request, managed_team, may_manage, sentences, told, visible_team


@dataclass(frozen=True)
class Row:
    tool: Tool
    state: State
    risk: Risk
    locked: str | None
    """Why an administrator switched it off for all teams; None: they did not."""


def _row(policy: Policy, team: Team, tool: Tool) -> Row:
    locked = policy.locked.get(tool.name)
    return Row(tool, State.OFF if locked is not None else policy.state(team.pk, tool), policy.risk(tool), locked)


@require_http_methods(["GET", "HEAD", "POST"])
def index(request: Request, slug: str) -> HttpResponse:
    team = managed_team(request, slug) if request.method == "POST" else visible_team(request, slug)
    if request.method == "POST" and "preset" in request.POST:
        name = request.POST["preset"]
        if name not in PRESETS:
            raise Http404

        def apply() -> str:
            changed = do_apply_preset(team, name=name, preset=PRESETS[name], tools=TOOLS, by=request.user)
            return f"The preset {name} is set: {changed} tools changed."

        told(request, apply)
        return redirect("team-tools", team.slug)
    if request.method == "POST":
        return _set(request, team)
    policy = load_policy(current_version())
    # A stable sort: within a category the catalogue's order stays.
    tools = sorted(TOOLS.values(), key=lambda tool: CATEGORIES.index(tool.category))
    rows = [_row(policy, team, tool) for tool in tools]
    changes = ConfigChange.objects.visible_to(request.user).filter(team_id=team.pk, action="set_tool")[:8]
    context = {
        "team": team,
        "groups": [(category, list(found)) for category, found in groupby(rows, key=lambda row: row.tool.category)],
        "states": [(state.value, state.value.replace("_", " ")) for state in State],
        "presets": [(name, len(tools)) for name, tools in PRESETS.items()],
        "on": sum(row.state is State.ON for row in rows),
        "writes_on": sum(row.state is State.ON and row.tool.writes for row in rows),
        "total": len(rows),
        "changes": changes,
        "may_manage": may_manage(request, team),
    }
    return render(request, "tools/index.html", context)


def _set(request: Request, team: Team) -> HttpResponse:
    name = request.POST.get("tool", "")
    if name not in TOOLS:
        raise Http404
    tool, said, wrong = TOOLS[name], "", False
    try:
        state = State(request.POST.get("state", ""))
        do_set_tools(team, states={name: state}, tools=TOOLS, by=request.user, reason=request.POST.get("reason", ""))
        said = f"{tool.title} is {state.value.replace('_', ' ')} for {team.name}."
    except (ValidationError, Refused) as error:
        said, wrong = " ".join(sentences(error)), True
    except ValueError:
        said, wrong = "There is no such state: on, off or needs approval.", True
    if not request.htmx:
        (messages.error if wrong else messages.success)(request, said)
        return redirect("team-tools", team.slug)
    row = _row(load_policy(current_version()), team, tool)
    context = {
        "team": team,
        "row": row,
        "states": [(state.value, state.value.replace("_", " ")) for state in State],
        "may_manage": True,
        "said": said,
        "wrong": wrong,
    }
    return render(request, "tools/_row.html", context)
