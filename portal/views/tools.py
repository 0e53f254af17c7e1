"""``/teams/<slug>/tools/``: what assistants of a team may do, tool by tool."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from integrations.actions import troubles
from integrations.pagerduty.catalog import CATEGORIES, PRESETS, TOOLS
from integrations.pagerduty.masking import REVEALABLE
from policies.actions import Refused, do_apply_preset, do_set_tools, preset_changes
from policies.core.call import Risk, State, Tool
from policies.core.decide import Policy
from policies.models import ConfigChange, Team
from policies.snapshot import current_version, load_policy
from portal.connecting import about
from portal.forms import PresetForm, in_words
from portal.http import Request, managed_team, may_manage, refusals_in, sentences, visible_team


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


@dataclass(frozen=True)
class Counts:
    on: int
    writes_on: int
    total: int
    cost: str
    """What the tools that an assistant is shown take from each of its conversations, where its key is not narrowed."""
    core_cost: str
    """Likewise, narrowed to the core."""


def _rows(policy: Policy, team: Team) -> list[Row]:
    # A stable sort: within a category the catalogue's order stays.
    tools = sorted(TOOLS.values(), key=lambda tool: CATEGORIES.index(tool.category))
    return [_row(policy, team, tool) for tool in tools]


def _counts(rows: list[Row]) -> Counts:
    on = [row.tool for row in rows if row.state is State.ON]
    listed = [row.tool for row in rows if row.state is not State.OFF]
    core = [tool for tool in listed if tool.name in PRESETS["core"]]
    return Counts(len(on), sum(tool.writes for tool in on), len(rows), about(listed), about(core))


LABELS = {State.NEEDS_APPROVAL: "needs approval (denied until approvals exist)"}
STATES = [(state.value, LABELS.get(state, in_words(state.value))) for state in State]


@require_http_methods(["GET", "HEAD", "POST"])
def index(request: Request, slug: str) -> HttpResponse:
    team = managed_team(request, slug) if request.method == "POST" else visible_team(request, slug)
    if request.method == "POST":
        return _set(request, team)
    rows = _rows(load_policy(current_version()), team)
    changes = ConfigChange.objects.visible_to(request.user).filter(team_id=team.pk, action="set_tool")[:8]
    now = timezone.now()
    context = {
        "team": team,
        "groups": [(category, list(found)) for category, found in groupby(rows, key=lambda row: row.tool.category)],
        "states": STATES,
        "presets": [(name, len(tools)) for name, tools in PRESETS.items()],
        "counts": _counts(rows),
        "changes": changes,
        "revealed": [REVEALABLE.get(row.kind, row.kind) for row in team.reveals.all()],
        "troubles": [(row, said) for row in team.connections.all() for said in troubles(row, now)],
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
        said = f"{tool.title} {'' if state is State.NEEDS_APPROVAL else 'is '}{in_words(state.value)} for {team.name}."
    except (ValidationError, Refused) as error:
        said, wrong = " ".join(sentences(error)), True
    except ValueError:
        said, wrong = "There is no such state: on, off or needs approval.", True
    if not request.htmx:
        (messages.error if wrong else messages.success)(request, said)
        return redirect("team-tools", team.slug)
    rows = _rows(load_policy(current_version()), team)
    context = {
        "team": team,
        "row": next(row for row in rows if row.tool is tool),
        "counts": _counts(rows),
        "states": STATES,
        "may_manage": True,
        "said": said,
        "wrong": wrong,
    }
    return render(request, "tools/_set.html", context)


@dataclass(frozen=True)
class Change:
    """One line of what a preset would do."""

    tool: Tool
    risk: Risk
    before: str
    after: str


@require_http_methods(["GET", "HEAD", "POST"])
def preset(request: Request, slug: str, name: str) -> HttpResponse:
    """What a preset would change, tool by tool; then, confirmed with a reason, it is done: that and nothing else."""
    team = managed_team(request, slug)
    if name not in PRESETS:
        raise Http404
    form = PresetForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        with refusals_in(form):
            changed = do_apply_preset(
                team,
                name=name,
                preset=PRESETS[name],
                tools=TOOLS,
                by=request.user,
                reason=form.cleaned_data["reason"],
                seen=_seen(request.POST.getlist("change")),
            )
            messages.success(request, f"The preset {name} is set: {changed} tools changed.")
            return redirect("team-tools", team.slug)
    policy = load_policy(current_version())
    changes = preset_changes(team, preset=PRESETS[name], tools=TOOLS)
    context = {
        "team": team,
        "name": name,
        "form": form,
        "changes": [
            Change(TOOLS[tool], policy.risk(TOOLS[tool]), in_words(before.value), in_words(after.value))
            for tool, (before, after) in changes.items()
        ],
        "seen": [f"{tool}:{before.value}:{after.value}" for tool, (before, after) in changes.items()],
        "locked": sorted(TOOLS[tool].title for tool in policy.locked if tool in PRESETS[name] and tool in TOOLS),
    }
    return render(request, "tools/preset.html", context, status=422 if form.errors else 200)


def _seen(lines: list[str]) -> dict[str, tuple[State, State]]:
    """The changes that the page had listed, as it sends them back."""
    try:
        return {tool: (State(before), State(after)) for tool, before, after in (line.split(":") for line in lines)}
    except ValueError as error:
        raise ValidationError("The list of changes did not come back whole: look again.") from error
