"""``/grid/``: every tool of every team, for administrators: locks, one team's policy for another, a category in one stroke."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import Final
from urllib.parse import urlencode

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Page, Paginator
from django.db.models import Count
from django.http import Http404, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.safestring import SafeString
from django.views.decorators.http import require_http_methods, require_safe

from integrations.pagerduty.catalog import TOOLS
from policies.actions import (
    SettingChange,
    clone_changes,
    digest_of,
    do_clone_policy,
    do_set_tool_rule,
    do_set_tools_of_teams,
    setting_changes,
)
from policies.core.call import Risk, State, Tool
from policies.models import Team, ToolRule, ToolSetting
from portal.forms import CategoryForm, CloneForm, ConfirmForm, GridForm, in_words
from portal.http import Request, refusals_in
from portal.views.catalogue import holds
from portal.views.tools import SERVED, TEXTS, Rules, risk_of, rules_of_all

TEAMS: Final = 20
"""Teams on one page: a column each."""
CELLS: Final = {
    State.ON: SafeString('<td class="g-on">on</td>'),
    State.OFF: SafeString('<td class="g-off">off</td>'),
    State.NEEDS_APPROVAL: SafeString('<td class="g-approval">approval</td>'),
    None: SafeString('<td class="g-locked">locked</td>'),
}
"""What a team says of a tool, in words; None: it is locked off for all of them."""


def _for_readers(request: Request) -> None:
    if not (request.user.is_administrator or request.user.is_auditor):
        raise PermissionDenied("The grid is for administrators and auditors: it shows the tools of all teams.")


def _for_administrators(request: Request) -> None:
    if not request.user.is_administrator:
        raise PermissionDenied("Only an administrator may set the tools of several teams.")


@dataclass(frozen=True)
class Row:
    tool: Tool
    risk: Risk
    lock: ToolRule | None
    on: int
    """The teams that have it on, of all."""
    cells: SafeString
    """A cell for each team of the page."""


@require_safe
def index(request: Request) -> HttpResponse:
    _for_readers(request)
    form = GridForm(request.GET if request.GET.keys() & GridForm.base_fields.keys() else None)
    values = form.cleaned_data if form.is_valid() else dict.fromkeys(form.fields, "")
    teams = Team.objects.order_by("name", "pk")
    total = teams.count()
    if values["team"]:
        teams = teams.filter(name__icontains=values["team"].strip())
    page: Page[Team] = Paginator(teams, TEAMS).get_page(request.GET.get("page"))
    rules = rules_of_all()
    rows = [
        row
        for row in _rows(list(page.object_list), total, rules)
        if not form.errors
        and values["category"] in ("", row.tool.category)
        and values["risk"] in ("", row.risk.value)
        and (not values["locked"] or row.lock is not None)
        and holds(TEXTS[row.tool.name], values["text"].lower().split())
    ]
    query = QueryDict(mutable=True)
    query.update({name: value for name in form.fields if (value := request.GET.get(name, ""))})
    context = {
        "form": form,
        "page": page,
        "total": total,
        "query": query.urlencode(),
        "groups": [(name, list(found)) for name, found in groupby(rows, key=lambda row: row.tool.category)],
        "shown": len(rows),
        "width": len(page.object_list) + 3,
    }
    return render(request, "grid/index.html", context)


def _on(total: int) -> dict[str, int]:
    """Tool name → how many of all ``total`` teams have it on."""
    said = ToolSetting.objects.order_by().values_list("tool", "state").annotate(teams=Count("pk"))
    counts: dict[str, Counter[str]] = {name: Counter() for name in TOOLS}
    for name, state, teams in said:
        counts.setdefault(name, Counter())[state] = teams
    return {
        # Whoever says nothing is at the default.
        name: counts[name]["on"] + (total - counts[name].total() if tool.default is State.ON else 0)
        for name, tool in TOOLS.items()
    }


def _rows(teams: list[Team], total: int, rules: Rules) -> list[Row]:
    said = ToolSetting.objects.filter(team__in=teams).order_by().values_list("team_id", "tool", "state")
    states = {(team, tool): State(state) for team, tool, state in said}
    on = _on(total)
    rows = []
    for tool in (row.tool for found in SERVED.values() for row in found):
        rule = rules.get(tool.name)
        lock = rule if rule is not None and rule.locked else None
        found = [None if lock is not None else states.get((team.pk, tool.name), tool.default) for team in teams]
        cells = SafeString("".join(CELLS[state] for state in found))
        rows.append(Row(tool, risk_of(tool, rules), lock, 0 if lock is not None else on[tool.name], cells))
    return rows


@require_http_methods(["GET", "HEAD", "POST"])
def tool(request: Request, name: str) -> HttpResponse:
    """One tool for all teams: locked off with a reason, or unlocked."""
    _for_administrators(request)
    if name not in TOOLS:
        raise Http404
    found, rule = TOOLS[name], ToolRule.objects.filter(tool=name).first()
    locked = rule is not None and rule.locked
    form = ConfirmForm(request.POST or None)
    if request.method == "POST" and form.is_valid() and form.cleaned_data["seen"] not in ("locked", "open"):
        form.add_error(None, "The page did not come back whole: look again.")
    if request.method == "POST" and form.is_valid():
        wanted = request.POST.get("action") == "lock"
        with refusals_in(form):
            do_set_tool_rule(
                name,
                tools=TOOLS,
                by=request.user,
                locked=wanted,
                risk=rule.risk if rule is not None else "",
                reason=form.cleaned_data["reason"],
                seen=form.cleaned_data["seen"] == "locked",
            )
            said = "is locked off for all teams" if wanted else "is unlocked: each team has it as it says itself"
            messages.success(request, f"{found.title} {said}.")
            return redirect(f"{reverse('grid')}#tool-{name}")
    total = Team.objects.count()
    context = {
        "tool": found,
        "risk": risk_of(found, {name: rule} if rule is not None else {}),
        "lock": rule if locked else None,
        "on": _on(total)[name],
        "total": total,
        "form": form,
        "seen": "locked" if locked else "open",
    }
    return render(request, "grid/tool.html", context, status=422 if form.errors else 200)


@dataclass(frozen=True)
class Line:
    """What would become of one tool, in all teams where the same would."""

    tool: Tool
    risk: Risk
    before: str
    after: str
    teams: list[str]


def _lines(changes: Iterable[SettingChange]) -> list[Line]:
    rules = rules_of_all()
    order = list(TOOLS)

    def same(one: SettingChange) -> tuple[int, str, str]:
        return order.index(one.tool.name), one.before.value, one.after.value

    return [
        Line(
            TOOLS[order[place]],
            risk_of(TOOLS[order[place]], rules),
            in_words(before),
            in_words(after),
            sorted(one.team.name for one in found),
        )
        for (place, before, after), found in groupby(sorted(changes, key=same), key=same)
    ]


def _preview(
    request: Request,
    template: str,
    chosen: CloneForm | CategoryForm,
    changes: list[SettingChange],
    confirm: ConfirmForm,
    of: Collection[str] = (),
) -> HttpResponse:
    """What would change of the tools ``of``, and the form that confirms that and nothing else."""
    locked = ToolRule.objects.filter(locked=True, tool__in=of).values_list("tool", flat=True)
    context = {
        "chosen": chosen,
        "ready": chosen.is_valid(),
        "lines": _lines(changes),
        "count": len(changes),
        "teams": len({one.team.pk for one in changes}),
        "form": confirm,
        "seen": digest_of(changes),
        "locked": sorted(TOOLS[name].title for name in locked),
        "here": request.get_full_path(),
        "leave": reverse("grid"),
    }
    return render(request, template, context, status=422 if confirm.errors else 200)


@require_http_methods(["GET", "HEAD", "POST"])
def clone(request: Request) -> HttpResponse:
    """What it would change to set one team's tools as another's are; then, confirmed with a reason, it is done."""
    _for_administrators(request)
    chosen = CloneForm(request.GET or None)
    confirm = ConfirmForm(request.POST or None)
    if not chosen.is_valid():
        return _preview(request, "grid/clone.html", chosen, [], ConfirmForm())
    source, target = chosen.cleaned_data["source"], chosen.cleaned_data["target"]
    if request.method == "POST" and confirm.is_valid():
        with refusals_in(confirm):
            changed = do_clone_policy(source, target, tools=TOOLS, by=request.user, **confirm.cleaned_data)
            messages.success(request, f"{target.name} is set as {source.name} is: {changed} tools changed.")
            return redirect("team-tools", target.slug)
    return _preview(request, "grid/clone.html", chosen, clone_changes(source, target, tools=TOOLS), confirm, TOOLS)


@require_http_methods(["GET", "HEAD", "POST"])
def category(request: Request) -> HttpResponse:
    """What it would change to set a whole category, in one team or in all; then, confirmed with a reason, it is done."""
    _for_administrators(request)
    chosen = CategoryForm(request.GET or None)
    confirm = ConfirmForm(request.POST or None)
    if not chosen.is_valid():
        return _preview(request, "grid/category.html", chosen, [], ConfirmForm())
    values = chosen.cleaned_data
    teams = [values["team"]] if values["team"] else list(Team.objects.order_by("name", "pk"))
    states = {
        row.tool.name: State(values["state"])
        for row in SERVED[values["category"]]
        if values["does"] in ("", "writes" if row.tool.writes else "reads")
    }
    if request.method == "POST" and confirm.is_valid():
        with refusals_in(confirm):
            changed = do_set_tools_of_teams(teams, states=states, tools=TOOLS, by=request.user, **confirm.cleaned_data)
            messages.success(request, f"{values['category'].capitalize()}: {changed} settings changed.")
            return redirect(f"{reverse('grid')}?{urlencode({'category': values['category']})}")
    changes = setting_changes(dict.fromkeys(teams, states), tools=TOOLS)
    return _preview(request, "grid/category.html", chosen, changes, confirm, states)
