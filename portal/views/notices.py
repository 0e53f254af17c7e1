"""``/teams/<slug>/notices/``: what a team is told of gaps in its on-call, by which ways, and what became of each notice."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from integrations.models import Delivery, NoticedGap, NoticeSettings, Watch, Webhook
from integrations.notices import do_set_notices
from integrations.tasks import send_notices
from integrations.webhooks.actions import do_remove_webhook, do_renew_webhook_secret, do_send_test, do_set_webhook
from policies.models import Team
from portal.forms import NoticesForm, WebhookForm
from portal.http import Request, managed_team, may_manage, refusals_in, told, visible_team

SHOWN = 50
"""Notices, the newest; and gaps, the next ones."""


@never_cache
@sensitive_post_parameters("url")
@require_http_methods(["GET", "HEAD", "POST"])
def index(request: Request, slug: str) -> HttpResponse:
    team = managed_team(request, slug) if request.method == "POST" else visible_team(request, slug)
    if request.method != "POST" and request.htmx and request.htmx.target == "deliveries":
        return render(request, "notices/_deliveries.html", {"team": team, **_deliveries(request, team)})
    action = request.POST.get("action")
    chosen = NoticeSettings.objects.filter(team=team).first() or NoticeSettings(team=team)
    form = NoticesForm(
        request.POST if action == "settings" else None,
        initial={"horizon_days": chosen.horizon_days, "by_email": chosen.by_email},
        auto_id="settings_%s",
    )
    address = WebhookForm(request.POST if action == "webhook" else None, auto_id="webhook_%s")
    secret = ""
    if request.method == "POST":
        reason = request.POST.get("reason", "")
        if action == "settings":
            if form.is_valid():
                with refusals_in(form):
                    do_set_notices(team, by=request.user, **form.cleaned_data)
                    messages.success(request, "Noted: it holds from the next look on.")
                    return redirect("team-notices", team.slug)
        elif action == "webhook":
            if address.is_valid():
                with refusals_in(address):
                    # Shown in this very answer and nowhere else: a redirect would have to keep the secret somewhere.
                    _, secret = do_set_webhook(team, by=request.user, **address.cleaned_data)
                    address = WebhookForm(auto_id="webhook_%s")
        elif action == "renew":
            renewed: list[str] = []

            def renew() -> str:
                renewed.append(do_renew_webhook_secret(team, by=request.user, reason=reason)[1])
                return "The secret is renewed. The one before signs beside it for a day."

            if not told(request, renew):
                return redirect("team-notices", team.slug)
            [secret] = renewed
        elif action in ("remove", "test"):
            told(request, lambda: _removed(request, team, reason) if action == "remove" else _tested(request, team))
            return redirect("team-notices", team.slug)
        else:
            raise Http404
    context = {
        "team": team,
        "chosen": chosen,
        "form": form,
        "address": address,
        "secret": secret,
        **_webhook(team),
        "may_manage": may_manage(request, team),
        **_seen(request, team),
        **_deliveries(request, team),
    }
    return render(request, "notices/index.html", context, status=422 if form.errors or address.errors else 200)


def _removed(request: Request, team: Team, reason: str) -> str:
    do_remove_webhook(team, by=request.user, reason=reason)
    return "The webhook is removed: nothing is posted any more."


def _tested(request: Request, team: Team) -> str:
    do_send_test(team, by=request.user)
    send_notices.enqueue()
    return "A test is on its way. What becomes of it stands below."


def _webhook(team: Team) -> dict[str, Any]:
    row = Webhook.objects.filter(team=team).first()
    until = row.replaced_until if row is not None else None
    return {"webhook": row, "both_until": until if until is not None and until > timezone.now() else None}


def _seen(request: Request, team: Team) -> dict[str, Any]:
    """What was noticed. An auditor reads none of PagerDuty."""
    if request.user.is_auditor:
        return {}
    open_ones = NoticedGap.objects.open().filter(team=team, ends_at__gt=timezone.now()).select_related("connection")
    gaps = list(open_ones[: SHOWN + 1])
    return {
        "gaps": gaps[:SHOWN],
        "more_gaps": len(gaps) > SHOWN,
        "watches": list(
            Watch.objects.filter(connection__team=team, connection__is_enabled=True)
            .select_related("connection")
            .order_by("connection__created_at")
        ),
        "has_connection": team.connections.filter(is_enabled=True).exists(),
    }


def _deliveries(request: Request, team: Team) -> dict[str, Any]:
    rows = list(Delivery.objects.filter(team=team).defer("text", "document")[:SHOWN])
    now = timezone.now()
    # One that waits for its next try is not looked after.
    under_way = any(row.due_at is not None and (row.due_at <= now or row.attempt) for row in rows)
    return {"deliveries": rows, "under_way": under_way, "most": SHOWN, "reads": not request.user.is_auditor}
