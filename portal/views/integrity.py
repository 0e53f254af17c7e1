"""``/audit/integrity/``: whether the journal is intact, held against its checkpoints or one that somebody kept elsewhere."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_safe

from integrations.tasks import check_journal
from policies.actions import do_check_journal
from policies.core import chain
from policies.core.text import shown
from policies.models import Checkpoint, JournalCheck
from policies.verification import STALE
from portal.dashboard import journal_health
from portal.forms import CheckpointForm
from portal.http import Request, refusals_in, told

LISTED = 10
State = JournalCheck.State


@dataclass(frozen=True)
class Shown:
    """A check as the page tells of it."""

    check: JournalCheck
    held_at: str
    """Of the checkpoint that somebody held."""
    percent: int
    is_open: bool
    is_stale: bool

    @classmethod
    def of(cls, check: JournalCheck, now: dt.datetime) -> Shown:
        is_open = check.state in (State.WAITING, State.RUNNING)
        stale = is_open and check.seen_at <= now - STALE
        percent = min(100 * check.done // check.total, 99) if check.total else 0
        at = shown(chain.Checkpoint.from_json(check.held).at, 40) if check.held else ""
        return cls(check, at, percent, is_open and not stale, stale)


@require_http_methods(["GET", "HEAD", "POST"])
def index(request: Request) -> HttpResponse:
    _readers_of_all(request)
    form = CheckpointForm()
    if request.POST.get("action") == "newest":
        told(request, lambda: _ask(request, ""))
        return redirect("audit-integrity")
    if request.method == "POST":
        form = CheckpointForm(request.POST, request.FILES)
        if form.is_valid():
            with refusals_in(form):
                messages.success(request, _ask(request, form.cleaned_data["file"]))
                return redirect("audit-integrity")
    now = timezone.now()
    checks = [Shown.of(check, now) for check in JournalCheck.objects.all()[:LISTED]]
    context: dict[str, Any] = {"checks": checks, "is_open": any(check.is_open for check in checks)}
    if request.htmx and not request.htmx.history_restore_request:
        if not context["is_open"]:
            context |= {"swapped": True, "journal": journal_health(now)}
        return render(request, "audit/_checks.html", context)
    context |= {
        "form": form,
        "journal": journal_health(now),
        "checkpoints": Checkpoint.objects.values("pk", "at", "public_key")[:LISTED],
    }
    return render(request, "audit/integrity.html", context, status=422 if form.errors else 200)


def _ask(request: Request, held: str) -> str:
    check = do_check_journal(by=request.user, held=held)
    if check.state == State.WAITING:
        check_journal.enqueue(check.pk)
        return "The journal is being verified: this page tells how far it is. You may leave it."
    return "This checkpoint tells nothing of this journal: see below."


@require_safe
def checkpoint(request: Request, pk: int) -> HttpResponse:
    """One checkpoint as the file that it also is in the folder of checkpoints."""
    _readers_of_all(request)
    row = get_object_or_404(Checkpoint, pk=pk)
    text = chain.Checkpoint(row.document, row.signature, row.public_key).to_json()
    answer = HttpResponse(text, content_type="application/json")
    answer["Content-Disposition"] = f'attachment; filename="checkpoint-{row.at:%Y%m%dT%H%M%S%fZ}.json"'
    answer["X-Content-Type-Options"] = "nosniff"
    return answer


def _readers_of_all(request: Request) -> None:
    """A checkpoint names every chain, and how long it is."""
    if not (request.user.is_administrator or request.user.is_auditor):
        raise PermissionDenied("Administrators and auditors verify the journal.")
