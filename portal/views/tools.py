"""``/teams/<slug>/tools/``: what assistants of a team may do, tool by tool."""

from __future__ import annotations

import datetime as dt
import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db.models import Q
from django.http import Http404, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.utils.cache import patch_vary_headers
from django.utils.safestring import SafeString
from django.views.decorators.http import require_http_methods, require_safe

from integrations.actions import troubles
from integrations.pagerduty.catalog import CATEGORIES, PRESETS, TOOLS
from integrations.pagerduty.listing import Served, served
from integrations.pagerduty.masking import REVEALABLE
from policies.actions import (
    UNDO_MINUTES,
    ReasonMissing,
    Refused,
    do_apply_preset,
    do_set_tools,
    do_undo_set_tool,
    last_change,
    preset_changes,
)
from policies.core.call import Risk, State, Tool
from policies.counts import Calls, Week, calls_of
from policies.models import ConfigChange, Team, ToolRule, ToolSetting
from portal.connecting import about
from portal.explaining import requests_to_answer
from portal.forms import PresetForm, ToolsForm, in_words
from portal.http import Request, managed_team, may_manage, refusals_in, sentences, visible_team
from portal.views.catalogue import holds, tool_text


@dataclass(frozen=True)
class Note:
    """What a row says of what was just done to it, or refused."""

    said: str
    wrong: bool = False
    undo: int | None = None
    """The number of the change that can be undone."""
    asks: bool = False
    """Whether to ask why it is switched on: that is all that is missing."""


@dataclass(frozen=True)
class Row:
    served: Served
    state: State
    risk: Risk
    lock: ToolRule | None
    """The rule by which an administrator switched it off for all teams; None: they did not."""
    calls: Calls | None
    """Its calls of the last seven days; None: whoever looks does not read the record."""
    note: Note | None = None

    @property
    def tool(self) -> Tool:
        return self.served.tool

    @property
    def what(self) -> SafeString:
        return _what(self.tool.name)

    @property
    def sign(self) -> SafeString:
        return _sign(self.risk)


@dataclass(frozen=True)
class Counts:
    on: int
    writes_on: int
    total: int
    cost: str
    """What the tools that an assistant is shown take from each of its conversations, where its key is not narrowed."""
    core_cost: str
    """Likewise, narrowed to the core."""


SERVED = served()
TEXTS = {row.tool.name: tool_text(row, category) for category, rows in SERVED.items() for row in rows}


@functools.cache
def _what(name: str) -> SafeString:
    """A tool and what it does, the same for everybody: a hundred of them on each page would be half of its cost."""
    [row] = [row for rows in SERVED.values() for row in rows if row.tool.name == name]
    return render_to_string("tools/_what.html", {"served": row})


@functools.cache
def _sign(risk: Risk) -> SafeString:
    return render_to_string("_risk.html", {"risk": risk.value})


Rules = Mapping[str, ToolRule]
"""Tool name → what an administrator says of it for all teams."""


def rules_of_all() -> Rules:
    return {rule.tool: rule for rule in ToolRule.objects.all()}


def risk_of(tool: Tool, rules: Rules) -> Risk:
    """The catalogue's risk, or the higher one that an administrator gave."""
    rule = rules.get(tool.name)
    return max(tool.risk, Risk(rule.risk), key=lambda risk: risk.rank) if rule is not None and rule.risk else tool.risk


def _rows(team: Team, rules: Rules, week: Week | None) -> list[Row]:
    """In the catalogue's order."""
    states = dict(ToolSetting.objects.filter(team=team).order_by().values_list("tool", "state"))
    rows = []
    for found in SERVED.values():
        for row in found:
            tool, rule = row.tool, rules.get(row.tool.name)
            lock = rule if rule is not None and rule.locked else None
            state = State.OFF if lock is not None else State(states.get(tool.name, tool.default))
            calls = week.of.get(tool.name, Calls()) if week is not None else None
            rows.append(Row(row, state, risk_of(tool, rules), lock, calls))
    return rows


def _counts(rows: list[Row]) -> Counts:
    on = [row.tool for row in rows if row.state is State.ON]
    listed = [row.tool for row in rows if row.state is not State.OFF]
    core = [tool for tool in listed if tool.name in PRESETS["core"]]
    return Counts(len(on), sum(tool.writes for tool in on), len(rows), about(listed), about(core))


def _fits(row: Row, values: Mapping[str, str]) -> bool:
    tool = row.tool
    return (
        values["category"] in ("", tool.category)
        and values["risk"] in ("", row.risk.value)
        and values["does"] in ("", "writes" if tool.writes else "reads")
        and values["state"] in ("", "locked" if row.lock is not None else row.state.value)
        and holds(TEXTS[tool.name], values["text"].lower().split())
    )


STATES = [(state.value, in_words(state.value).capitalize()) for state in State]


@require_http_methods(["GET", "HEAD", "POST"])
def index(request: Request, slug: str) -> HttpResponse:
    if request.method == "POST":
        return _change(request, managed_team(request, slug))
    team = visible_team(request, slug)
    rows, context = _shown(request, team)
    if undoable := _undoable(request, team):
        note = Note(f"It was {in_words(str(undoable.before))}.", undo=undoable.pk)
        rows = _noted(rows, undoable.target, note)
    return _page(request, team, rows, context)


def _shown(request: Request, team: Team) -> tuple[list[Row], dict[str, Any]]:
    """All rows, and what each of them needs around it."""
    manages = may_manage(request, team)
    # Whoever reads the team's record, and nobody else, sees what is counted of it.
    reads = manages or request.user.is_auditor
    week = calls_of(team.pk, timezone.now()) if reads else None
    rows = _rows(team, rules_of_all(), week)
    context = {
        "team": team,
        "here": _here(request),
        "states": STATES,
        "may_manage": manages,
        "reads": reads,
        "lags": week is not None and week.lags,
        "counts": _counts(rows),
    }
    return rows, context


def _page(request: Request, team: Team, rows: list[Row], context: dict[str, Any], status: int = 200) -> HttpResponse:
    form = ToolsForm(request.GET if request.GET.keys() & ToolsForm.base_fields.keys() else None)
    values = form.cleaned_data if form.is_valid() else dict.fromkeys(form.fields, "")
    # What is wrong in the form fits nothing; a row that has something to say stays, for whoever has just changed it.
    fitting = [row for row in rows if (not form.errors and _fits(row, values)) or row.note is not None]
    context |= {
        "groups": [
            (category, CATEGORIES.index(category), list(found))
            for category, found in groupby(fitting, key=lambda row: row.tool.category)
        ],
        "filtered": any(values.values()) or bool(form.errors),
        "found": len(fitting),
    }
    # What goes back in the history of htmx's wants the whole page.
    if request.method == "GET" and request.htmx and not request.htmx.history_restore_request:
        answer = render(request, "tools/_found.html", context)
    else:
        now = timezone.now()
        context |= {
            "form": form,
            "presets": [(name, len(tools)) for name, tools in PRESETS.items()],
            "changes": [(change, *_told(change)) for change in _history(team)[:8]] if context["reads"] else [],
            "revealed": [REVEALABLE.get(row.kind, row.kind) for row in team.reveals.all()],
            "troubles": [(row, said) for row in team.connections.all() for said in troubles(row, now)],
            "tool_requests": requests_to_answer(request.user, team) if context["may_manage"] else [],
        }
        answer = render(request, "tools/index.html", context, status=status)
    # Both have the same address.
    patch_vary_headers(answer, ["HX-Request"])
    return answer


def _here(request: Request, **more: str) -> str:
    """The page's address with its filters."""
    query = QueryDict(mutable=True)
    for name in ToolsForm.base_fields:
        if value := request.GET.get(name, ""):
            query[name] = value
    for name, value in more.items():
        query[name] = value
    return f"{request.path}?{query.urlencode()}" if query else request.path


def _noted(rows: list[Row], name: str, note: Note) -> list[Row]:
    return [replace(row, note=note) if row.tool.name == name else row for row in rows]


def _undoable(request: Request, team: Team) -> ConfigChange | None:
    """The change that the address names, while whoever looks can still undo it."""
    number = request.GET.get("undo", "")
    if not re.fullmatch("[0-9]{1,18}", number):
        return None
    since = timezone.now() - dt.timedelta(minutes=UNDO_MINUTES)
    mine = ConfigChange.objects.filter(team_id=team.pk, actor=request.user.email, action="set_tool", at__gte=since)
    found = mine.filter(pk=int(number)).first()
    newest = last_change(team, found.target) if found is not None else None
    return found if newest is not None and found is not None and newest.pk == found.pk else None


def _change(request: Request, team: Team) -> HttpResponse:
    """One tool set, or the last change of it undone. It is saved at once; what it was goes with what is said."""
    name = request.POST.get("tool", "")
    if name not in TOOLS:
        raise Http404
    note = _undo(request, team, TOOLS[name]) if "undo" in request.POST else _set(request, team, TOOLS[name])
    if request.htmx:
        rows, context = _shown(request, team)
        context["row"] = next(row for row in _noted(rows, name, note) if row.tool.name == name)
        return render(request, "tools/_set.html", context)
    if note.asks:
        rows, context = _shown(request, team)
        return _page(request, team, _noted(rows, name, note), context, status=422)
    (messages.error if note.wrong else messages.success)(request, note.said)
    more = {"undo": str(note.undo)} if note.undo is not None else {}
    return redirect(f"{_here(request, **more)}#tool-{name}")


def _set(request: Request, team: Team, tool: Tool) -> Note:
    try:
        state = State(request.POST.get("state", ""))
        # What the page showed. A caller that does not say means: whatever it was.
        seen = {tool.name: State(request.POST["was"])} if "was" in request.POST else None
    except ValueError:
        return Note("There is no such state: on, off or needs approval.", wrong=True)
    said = f"{tool.title} {'' if state is State.NEEDS_APPROVAL else 'is '}{in_words(state.value)} for {team.name}"
    reason = request.POST.get("reason", "")
    try:
        if not do_set_tools(team, states={tool.name: state}, tools=TOOLS, by=request.user, reason=reason, seen=seen):
            if state is not State.OFF and ToolRule.objects.filter(tool=tool.name, locked=True).exists():
                return Note(f"{tool.title} is locked off for all teams by an administrator.", wrong=True)
            return Note(f"{said} already.")
    except ReasonMissing as error:
        return Note(" ".join(error.messages), wrong=True, asks=True)
    except (ValidationError, Refused) as error:
        return Note(" ".join(sentences(error)), wrong=True)
    made = last_change(team, tool.name)
    return Note(f"{said}.", undo=made.pk if made is not None else None)


def _undo(request: Request, team: Team, tool: Tool) -> Note:
    number = request.POST["undo"]
    try:
        if not re.fullmatch("[0-9]{1,18}", number):
            raise ValidationError("There is no such change to undo.")
        undone = do_undo_set_tool(team, change=int(number), tools=TOOLS, by=request.user)
    except (ValidationError, Refused) as error:
        return Note(" ".join(sentences(error)), wrong=True)
    return Note(f"Undone: {TOOLS[undone.target].title} is as it was, {in_words(str(undone.before))}.")


PAGE = 50


def _history(team: Team, tool: str = "") -> Any:
    """Changes of what the team says of its tools, and of what an administrator says of them for all; the newest first."""
    ours = Q(team_id=team.pk, action="set_tool") | Q(team_id=None, action="set_tool_rule")
    found = ConfigChange.objects.filter(ours).order_by("-id")
    return found.filter(target=tool) if tool else found


@require_safe
def history(request: Request, slug: str) -> HttpResponse:
    team = visible_team(request, slug)
    reads = request.user.is_auditor or may_manage(request, team)
    name = request.GET.get("tool", "")
    if name and name not in TOOLS:
        raise Http404
    changes = _history(team, name) if reads else ConfigChange.objects.none()
    before = request.GET.get("before", "")
    if re.fullmatch("[0-9]{1,18}", before):
        changes = changes.filter(pk__lt=int(before))
    page = list(changes[: PAGE + 1])
    query = QueryDict(mutable=True)
    if name:
        query["tool"] = name
    if len(page) > PAGE:
        query["before"] = str(page[PAGE - 1].pk)
    context = {
        "team": team,
        "may_manage": may_manage(request, team),
        "tool": TOOLS.get(name),
        "reads": reads,
        "changes": [(change, in_words(change.target), *_told(change)) for change in page[:PAGE]],
        "older": query.urlencode() if len(page) > PAGE else "",
    }
    return render(request, "tools/history.html", context)


def _told(change: ConfigChange) -> tuple[str, str]:
    """Before and after, in words."""
    if change.action == "set_tool":
        return in_words(str(change.before)), in_words(str(change.after))

    def rule(value: Any) -> str:
        facts = value if isinstance(value, dict) else {}
        told = ["locked off for all teams"] if facts.get("locked") else []
        told += [f"risk raised to {facts['risk']}"] if facts.get("risk") else []
        return " and ".join(told) or "no rule"

    return rule(change.before), rule(change.after)


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
    rules = rules_of_all()
    changes = preset_changes(team, preset=PRESETS[name], tools=TOOLS)
    context = {
        "team": team,
        "name": name,
        "form": form,
        "ready": True,
        "count": len(changes),
        "here": request.get_full_path(),
        "leave": reverse("team-tools", args=[team.slug]),
        "lines": [
            Change(TOOLS[tool], risk_of(TOOLS[tool], rules), in_words(before.value), in_words(after.value))
            for tool, (before, after) in changes.items()
        ],
        "listed": [f"{tool}:{before.value}:{after.value}" for tool, (before, after) in changes.items()],
        "locked": sorted(
            TOOLS[tool].title for tool, rule in rules.items() if rule.locked and tool in PRESETS[name] and tool in TOOLS
        ),
    }
    return render(request, "tools/preset.html", context, status=422 if form.errors else 200)


def _seen(lines: list[str]) -> dict[str, tuple[State, State]]:
    """The changes that the page had listed, as it sends them back."""
    try:
        return {tool: (State(before), State(after)) for tool, before, after in (line.split(":") for line in lines)}
    except ValueError as error:
        raise ValidationError("The list of changes did not come back whole: look again.") from error
