"""``/load/<connection>/<schedule>/``: swaps of turns ahead that would share a schedule's nights better, and their acceptance."""

from __future__ import annotations

import datetime as dt
import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from integrations import mirror
from integrations.models import Connection
from integrations.pagerduty.analysis.model import Schedule, Span
from integrations.proposals import proposed_swaps
from integrations.sweep import Sweep, swept
from policies.models import Entry
from portal.explaining import about_oneself, where_explained
from portal.http import Request, may_manage
from portal.oncall import bars
from portal.oncall.bars import Drawn
from portal.oncall.coverage import CHOICES
from portal.oncall.strips import lasts
from portal.overriding import ONCE, OVERRIDE, Written, put_on_call
from portal.views.coverage import ask_again

if TYPE_CHECKING:
    from integrations.pagerduty.analysis.optimise import Share, Swap, Swaps

MOST: Final = 40
"""Swaps that are accepted at once: more than are ever proposed."""


@dataclass(frozen=True)
class Looked:
    """A schedule that somebody who manages its team looks at."""

    connection: Connection
    kept: mirror.Kept
    schedule: Schedule
    sweep: Sweep
    weeks: int
    now: dt.datetime

    @property
    def here(self) -> str:
        return f"{reverse('load-swaps', args=[self.connection.pk, self.schedule.id])}?weeks={self.weeks}"

    def name_of(self, user: str) -> str:
        return self.sweep.account.name_of(user)

    @cached_property
    def proposal(self) -> Swaps | None:
        return proposed_swaps(self.connection, self.sweep, self.schedule.id, self.weeks, self.now)


@dataclass(frozen=True)
class SwapShown:
    swap: Swap
    was: str
    to: str
    """Names."""

    @property
    def key(self) -> str:
        """As a form sends it."""
        return ".".join(map(str, self.swap[:4]))

    @property
    def span(self) -> Span:
        return Span(self.swap.start, self.swap.end)

    @property
    def lasts(self) -> str:
        return lasts(self.span.seconds)


@dataclass(frozen=True)
class ShareShown:
    """What somebody has, before and after."""

    name: str
    before: Share
    after: Share
    most: float
    """Sleep load of whoever has most, before or after."""

    @property
    def bars(self) -> tuple[Drawn, Drawn]:
        return bars.line("before", self.before.sleep, self.most), bars.line("after", self.after.sleep, self.most)

    @property
    def changes(self) -> str:
        """In a sign and a word."""
        if abs(self.after.sleep - self.before.sleep) < 0.05:
            return ""
        return "▼ less" if self.after.sleep < self.before.sleep else "▲ more"


@dataclass(frozen=True)
class Outcome:
    """What came of one swap that was accepted. None: it was not tried, for one before it failed."""

    shown: SwapShown
    written: Written | None
    entries: list[Entry]


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def swaps(request: Request, connection: UUID, schedule_id: str) -> HttpResponse:
    looked = _looked(request, connection, schedule_id)
    if request.method == "POST":
        if request.POST.get("action") != "accept":
            raise Http404
        return _accept(request, looked)
    # The search takes seconds the first time: the page is there before, and fetches what is found.
    found = bool(request.htmx and request.htmx.target == "proposal") or "found" in request.GET
    context = _context(looked) | {"found": found, "choices": CHOICES}
    if found:
        context |= _found(request, looked)
    part = "load/_proposal.html" if request.htmx and request.htmx.target == "proposal" else "load/swaps.html"
    return render(request, part, context)


def _looked(request: Request, connection: UUID, schedule_id: str) -> Looked:
    """404 for whoever may not see the mirror; who sees it and no load but their own is told so."""
    row = next((one for one in mirror.visible_to(request.user) if one.pk == connection), None)
    if row is None:
        raise Http404
    now = timezone.now()
    kept = mirror.kept(row)
    schedule = kept.account.schedules.get(schedule_id)
    if schedule is None:
        raise Http404
    if not may_manage(request, row.team):
        raise PermissionDenied(
            f"It shows what each person has of the nights: only a manager of {row.team.name} or an administrator sees that."
        )
    asked = request.GET.get("weeks", "")
    weeks = int(asked) if asked in map(str, CHOICES) else CHOICES[0]
    return Looked(row, kept, schedule, swept(row, kept.account, now), weeks, now)


def _context(looked: Looked) -> dict[str, Any]:
    return {
        "looked": looked,
        "connection": looked.connection,
        "kept": looked.kept,
        "schedule": looked.schedule,
        "weeks": looked.weeks,
        "here": looked.here,
        "explain": where_explained(looked.connection.team, OVERRIDE),
    }


def _found(request: Request, looked: Looked) -> dict[str, Any]:
    proposal = looked.proposal
    if proposal is None:
        return {"proposal": None}
    most = max((share.sleep for share in (*proposal.before, *proposal.after)), default=0.0)
    return {
        "proposal": proposal,
        "swaps": [_shown(looked, swap) for swap in proposal.swaps],
        "shares": [
            ShareShown(looked.name_of(before.user), before, after, most)
            for before, after in zip(proposal.before, proposal.after, strict=True)
        ],
        "unit": "expected pages in sleep hours" if proposal.in_pages else "hours on call in sleep hours",
        "about": about_oneself(request.user, looked.connection.team, looked.connection, OVERRIDE),
    }


def _shown(looked: Looked, swap: Swap) -> SwapShown:
    return SwapShown(swap, looked.name_of(swap.was), looked.name_of(swap.to))


# Acceptance


def _accept(request: Request, looked: Looked) -> HttpResponse:
    """Shows what it would do; confirmed, each swap is an override that is made by the one pipeline, as whoever asks. What came of
    each is shown."""
    only = request.POST.get("only", "")
    chosen = _chosen([only] if only else request.POST.getlist("swap"))
    if chosen is None:
        raise Http404
    if not chosen:
        messages.error(request, "No swap was chosen: nothing was changed.")
        return redirect(looked.here)
    for swap in chosen:
        if problem := _problem(looked, swap):
            messages.error(request, f"{problem} Nothing was changed: look again at what is proposed now.")
            return redirect(looked.here)
    shown = [_shown(looked, swap) for swap in chosen]
    once = request.POST.get("once", "")
    context = _context(looked) | {"swaps": shown, "tool": OVERRIDE}
    if "confirm" in request.POST and ONCE.fullmatch(once):
        context |= _made(request, looked, shown, once)
    else:
        about = about_oneself(request.user, looked.connection.team, looked.connection, OVERRIDE)
        risk = about.explained.verdict.risk or OVERRIDE.risk
        context |= {"about": about, "once": secrets.token_hex(16), "risk": risk.value}
    return render(request, "load/accept.html", context)


def _chosen(keys: Sequence[str]) -> list[Swap] | None:
    """The swaps that a form names, by start, each once. None: this is no form of ours."""
    from integrations.pagerduty.analysis.optimise import Swap

    found = set()
    for key in keys[:MOST]:
        start, _, rest = key.partition(".")
        end, _, rest = rest.partition(".")
        was, _, to = rest.partition(".")
        numbers = [each for each in (start, end) if each.isascii() and each.isdigit() and len(each) <= 12]
        if len(numbers) != 2 or not was or not to:
            return None
        found.add(Swap(int(start), int(end), was, to))
    return sorted(found)


def _problem(looked: Looked, swap: Swap) -> str:
    """Why it can no longer be accepted as it was proposed, as a sentence; empty: it can."""
    account, span = looked.sweep.account, Span(swap.start, swap.end)
    if swap.to not in account.people:
        return "Somebody of those who were to take over is no longer mirrored."
    if span.start <= looked.now.timestamp() or span.seconds <= 0:
        return f"A turn of {looked.name_of(swap.was)} has begun."
    slices = looked.sweep.rendered.get(looked.schedule.id, ())
    theirs = sum(
        min(one.end, span.end) - max(one.start, span.start)
        for one in slices
        if one.user == swap.was and one.start < span.end and one.end > span.start
    )
    if theirs < span.seconds:
        return f"{looked.name_of(swap.was)} is not on call any more when {looked.name_of(swap.to)} was to take over."
    if any(busy.start < span.end and busy.end > span.start for busy in looked.sweep.busy.get(swap.to, ())):
        return f"{looked.name_of(swap.to)} is on call by then already."
    return ""


def _made(request: Request, looked: Looked, shown: Sequence[SwapShown], once: str) -> dict[str, Any]:
    """One after the other; what fails is most likely what all would fail by, so that the rest is not tried."""
    outcomes: list[Outcome] = []
    failed: Written | None = None
    for each in shown:
        if failed is not None:
            outcomes.append(Outcome(each, None, []))
            continue
        # However often the page is sent, and in whichever order it names the swaps.
        key = f"page-{once}-{hashlib.sha256(each.key.encode()).hexdigest()[:16]}"
        written = put_on_call(
            request,
            looked.connection,
            looked.schedule.id,
            each.swap.to,
            each.span,
            key,
            replaces=_replaced(looked, each.swap),
        )
        outcomes.append(Outcome(each, written, written.entries(request)))
        failed = written if written.error else None
    if any(one.written is not None and one.written.may_be_done for one in outcomes):
        ask_again(looked.connection, by=request.user)
    return {
        "outcomes": outcomes,
        "failed": failed,
        "done": sum(one.written is not None and not one.written.error for one in outcomes),
    }


def _replaced(looked: Looked, swap: Swap) -> Any:
    """Of a schedule with rotations, by which of them and of whom the turn is: an override says so."""
    if looked.schedule.kind != "v3":
        return None
    for one in looked.sweep.rendered.get(looked.schedule.id, ()):
        if (
            one.user == swap.was
            and one.start <= swap.start < one.end
            and one.source.kind in ("rotation", "custom_shift")
        ):
            return one.source, swap.was
    return None
