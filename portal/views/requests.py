"""``/requests/``: people ask managers to allow a tool, and managers answer."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.http import urlencode
from django.views.decorators.http import require_http_methods, require_POST

from integrations import tasks
from integrations.gateway.explain import as_it_is, explain
from integrations.pagerduty.catalog import TOOLS
from policies.actions import do_answer_request, do_request_tool
from policies.models import ToolRequest
from portal.explaining import about
from portal.forms import AnswerForm, WouldForm
from portal.http import Request, may_manage, refusals_in, told
from portal.views.explain import identified_as, would_be


@require_POST
def ask(request: Request) -> HttpResponse:
    """Asks the managers for what the page of an explanation offers to ask for."""
    form = WouldForm(request.user, request.POST)
    if not form.is_valid():
        raise Http404
    values = {**form.cleaned_data, "arguments": None}
    found = would_be(request.user, **values)["about"]
    explained = found.explained

    def do() -> str:
        do_request_tool(
            found.team,
            by=request.user,
            tool=explained.tool,
            subject=explained.principal.id,
            subject_name=explained.principal.name,
            rule=explained.verdict.rule,
            why=request.POST.get("why", ""),
        )
        tasks.mail_requests.enqueue()
        return f"The managers of {found.team.name} are asked. You are mailed when one of them answers."

    told(request, do)
    where = urlencode({"who": values["who"], "tool": values["tool"]})
    return redirect(f"{reverse('explain')}?{where}")


@require_http_methods(["GET", "HEAD", "POST"])
def detail(request: Request, pk: int) -> HttpResponse:
    row = get_object_or_404(ToolRequest.objects.visible_to(request.user).select_related("team", "user"), pk=pk)
    team, tool = row.team, TOOLS.get(row.tool)
    manages = may_manage(request, team)
    form = AnswerForm(request.POST if request.method == "POST" else None)
    if request.method == "POST":
        answer = request.POST.get("answer")
        if not manages:
            raise PermissionDenied(f"A manager of {team.name} answers this.")
        if answer not in ("allow", "decline"):
            raise Http404
        if form.is_valid():
            with refusals_in(form):
                do_answer_request(
                    row, by=request.user, allow=answer == "allow", word=form.cleaned_data["word"], tools=TOOLS
                )
                tasks.mail_requests.enqueue()
                messages.success(request, f"{row.user} is told: {'allowed' if answer == 'allow' else 'declined'}.")
                return redirect("request", row.pk)
    context: dict[str, Any] = {"asked": row, "team": team, "tool": tool, "form": form, "may_manage": manages}
    if tool is not None:
        state = as_it_is(team.pk)
        identified, barred = identified_as(state, team, row.subject, "")
        if identified is not None:
            context["about"] = about(request.user, team, explain(state.policy, identified, tool, barred))
    return render(request, "requests/detail.html", context, status=422 if form.errors else 200)
