"""``/audit/``: the journal, newest first, and one entry of it whole."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from django.http import HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_safe

from policies.core.call import EntryKind
from policies.models import Checkpoint, Entry, Team, User
from portal.forms import AuditForm
from portal.http import Request

PAGE = 50


@dataclass(frozen=True)
class Row:
    """One entry in words."""

    entry: Entry
    who: str
    what: str
    team: str

    @classmethod
    def of(cls, entry: Entry, teams: dict[int, str]) -> Row:
        details: dict[str, Any] = json.loads(entry.record)["details"]
        # Of a refused sign-in with an address that is nobody's there is only a digest.
        signed = details.get("who") if isinstance(details.get("who"), str) else ""
        who = details.get("actor", {}).get("name") or details.get("by") or signed or entry.actor
        called = entry.tool or f"{details.get('method', '')} {details.get('path', '')}"
        what = {
            EntryKind.CONFIG: f"{details.get('action', '')}: {details.get('target', '')}",
            EntryKind.SIGN_IN: str(details.get("what", "")).replace("_", " "),
            EntryKind.REJECTED: f"{details.get('count')} refused keys from {details.get('ip')}",
            EntryKind.STREAM: "a new chain begins",
            EntryKind.INTENT: f"{called} (intent)",
        }.get(EntryKind(entry.kind), called)
        return cls(entry, who, what, teams.get(entry.team_id or 0, ""))


@require_safe
def index(request: Request) -> HttpResponse:
    form = AuditForm(request.user, request.GET or None)
    rows = Entry.objects.visible_to(request.user).order_by("-id")
    if form.is_valid():
        values = form.cleaned_data
        for name in ("kind", "tool", "verdict", "outcome"):
            if values[name]:
                rows = rows.filter(**{name: values[name]})
        if values["decision_id"]:
            rows = rows.filter(decision_id=values["decision_id"].strip())
        if values["team"]:
            rows = rows.filter(team_id=values["team"].pk)
    elif form.is_bound:
        rows = rows.none()
    before = request.GET.get("before", "")
    if re.fullmatch(r"[0-9]{1,18}", before):
        rows = rows.filter(pk__lt=int(before))
    page = list(rows[: PAGE + 1])
    more = len(page) > PAGE
    query = request.GET.copy()
    if more:
        query["before"] = str(page[PAGE - 1].pk)
    names = dict(Team.objects.filter(pk__in={row.team_id for row in page if row.team_id}).values_list("pk", "name"))
    context = {
        "form": form,
        "rows": [Row.of(row, names) for row in page[:PAGE]],
        "reads": _reads(request.user),
        "older": query.urlencode() if more else "",
        "checkpoint": Checkpoint.objects.order_by("-id").values_list("at", flat=True).first(),
    }
    return render(request, "audit/_rows.html" if request.htmx else "audit/index.html", context)


def _reads(user: User) -> bool:
    """Whether there is any team whose record this person reads (``ViaTeamIdQuerySet`` says which)."""
    return user.is_administrator or user.is_auditor or Team.objects.editable_by(user).exists()


@require_safe
def entry(request: Request, pk: int) -> HttpResponse:
    row = get_object_or_404(Entry.objects.visible_to(request.user).select_related("stream"), pk=pk)
    same = Entry.objects.visible_to(request.user).filter(decision_id=row.decision_id).exclude(pk=row.pk).order_by("id")
    record = json.loads(row.record)
    context = {"row": row, "record": json.dumps(record, indent=2), "details": record["details"], "same": same}
    return render(request, "audit/entry.html", context)
