"""``/explain/``: why a decision was what it was, what it would be now, and what changes it."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from integrations.gateway import web
from integrations.gateway.explain import Explained, as_it_is, explain, foresee
from integrations.gateway.identity import Identified
from integrations.gateway.pipeline import State
from integrations.pagerduty.catalog import JOB_READS, TOOLS
from policies import past
from policies.core.call import Decision, EntryKind, Kind, Principal, Role, Tool
from policies.core.decide import Step, deciding, steps
from policies.core.text import shown
from policies.models import Entry, Team, User
from portal.audit.rows import LONGEST, Row
from portal.explaining import HEADLINES, about
from portal.forms import AskForm, ExplainDecisionForm, WouldForm
from portal.http import Request, may_manage


@require_safe
def index(request: Request) -> HttpResponse:
    given = request.GET
    by_id = ExplainDecisionForm(given if "decision" in given else None)
    would = WouldForm(request.user, given if "tool" in given else None)
    context: dict[str, Any] = {"by_id": by_id, "would": would, "ask_form": AskForm(auto_id="ask_%s")}
    status = 200
    if by_id.is_bound and by_id.is_valid():
        told = _decided(request, by_id.cleaned_data["decision"])
        status = 200 if told else 404
        context |= told or {"missing": shown(by_id.cleaned_data["decision"], 64)}
    elif would.is_bound and would.is_valid():
        context |= would_be(request.user, **would.cleaned_data)
    elif by_id.errors or would.errors:
        status = 422
    return render(request, "explain/index.html", context, status=status)


def would_be(user: User, who: str, tool: str, arguments: dict[str, Any] | None) -> dict[str, Any]:
    """``who``: one of those that ``WouldForm`` offers to ``user``."""
    kind, _, which = who.partition(":")
    seen = Team.objects.visible_to(user)
    team = seen.get(agent_keys__pk=which) if kind == "key" else seen.get(slug=which)
    state = as_it_is(team.pk)
    identified, barred = identified_as(state, team, f"user:{user.pk}" if kind == "me" else who, "")
    assert identified is not None  # noqa: S101  (it is offered)
    explained = explain(state.policy, identified, TOOLS[tool], barred)
    if arguments is not None:
        call = web.call_of(user, team, identified.connection.id if identified.connection else "")
        explained = asyncio.run(foresee(state.policy, identified, explained, arguments, call))
    return {"about": about(user, team, explained), "now": True}


def identified_as(state: State, team: Team, actor: str, resource: str) -> tuple[Identified | None, str]:
    """Who a principal's id is now, and why their key is no good; None: nobody any more. ``resource``: the connection that they
    called through, which of a key is a fact of its own."""
    kind, _, which = actor.partition(":")
    connections = state.identities.connections
    if kind == "key":
        known = next((key for key in state.identities.keys.values() if key.id == which), None)
        return (state.identities.holder(known), known.barred(time.time())) if known is not None else (None, "")
    if kind == "user":
        user = User.objects.get_queryset().filter(pk=which).first() if which.isdecimal() else None
        if user is None:
            return None, ""
        found = state.identities.identify(web.call_of(user, team, resource or next(iter(connections), "")))
        return (found, "") if isinstance(found, Identified) else (None, "")
    principal = Principal(Kind.JOB, actor, which, team.pk, team.name, Role.NONE, JOB_READS)
    return Identified(principal, connections.get(resource)), ""


def _decided(request: Request, decision_id: str) -> dict[str, Any] | None:
    """A decision that was made; None: there is none that whoever looks may see.

    People of a team are told why, by an id that only whoever was denied was given; the entry itself is for those who read the
    team's record.
    """
    user = request.user
    kinds = (EntryKind.RESULT.value, EntryKind.INTENT.value)
    row = Entry.objects.filter(decision_id=decision_id, kind__in=kinds).order_by("-pk").first()
    if row is None:
        return None
    team = Team.objects.visible_to(user).filter(pk=row.team_id).first() if row.team_id else None
    reads = Entry.objects.visible_to(user).filter(pk=row.pk).exists()
    if team is None and not reads:
        return None
    details: dict[str, Any] = json.loads(row.record)["details"]
    told = {name: shown(str(details.get(name) or ""), LONGEST) for name in ("rule", "reason", "remedy", "connection")}
    decision = Decision(row.verdict) if row.verdict in set(Decision) else Decision.DENY
    context: dict[str, Any] = {
        "row": row,
        "words": Row.of(row, {}),
        "headline": HEADLINES[decision],
        "allowed": decision is Decision.ALLOW,
        "told": told,
        "team": team,
        "reads": reads,
        "version": details.get("policy_version"),
    }
    tool = TOOLS.get(row.tool)
    if team is None or tool is None:
        return context
    if reads and isinstance(context["version"], int):
        context |= _then(team, tool, row, context["version"], told["rule"])
    state = as_it_is(team.pk)
    identified, barred = identified_as(state, team, row.actor, row.resource)
    if identified is not None:
        explained = explain(state.policy, identified, tool, barred)
        context |= {"about": about(user, team, explained), "same_rule": _says(explained, told["rule"])}
    context["manages"] = may_manage(request, team)
    return context


def _says(explained: Explained, rule: str) -> bool:
    """Whether the steps can tell of the rule that decided: others look at what a call is about, or at when it came."""
    return rule in {"tool_on", "job_list"} or any(
        step.said is not None and step.said.rule == rule for step in explained.steps
    )


def _then(team: Team, tool: Tool, row: Entry, version: int, rule: str) -> dict[str, Any]:
    """What each step of the policy said at the version that decided."""
    try:
        there = past.at_version(version, team.pk)
    except past.TooFar as error:
        return {"then_problem": str(error)}
    principal = there.principal(row.actor, team.pk, JOB_READS)
    if principal is None:
        return {"then_problem": "Whoever called is not known any more, so what the policy said of them cannot be told."}
    found: list[Step] = steps(there.policy(), principal, tool)
    return {
        "then": found,
        "then_decides": deciding(found)[0],
        # Rules of the connection and of the call itself come after the policy's, which allowed it then.
        "then_differs": deciding(found)[1].rule != rule and any(step.objects for step in found),
        "then_unknown": sorted(there.unknown),
    }
