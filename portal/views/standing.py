"""``/teams/<slug>/checks/``: what a team expects of its on-call, tested daily against what the mirror says."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from integrations import mirror
from integrations.models import CheckRun, Connection, StandingCheck
from integrations.standing import (
    Asked,
    do_change_check,
    do_make_check,
    do_remove_check,
    do_run_check,
    moments,
    sentence,
)
from integrations.tasks import send_notices
from policies.core.text import shown
from policies.models import Team
from portal.forms import StandingForm
from portal.http import Request, managed_team, may_manage, refusals_in, told, visible_team
from portal.oncall.coverage import at, paged_page

LONGEST = 100


@dataclass(frozen=True)
class Row:
    check: StandingCheck
    says: str
    next: dt.datetime | None


@dataclass(frozen=True)
class Choices:
    """What may be asked about, of what is mirrored of a team's connections."""

    about: list[tuple[str, str]]
    whom: list[tuple[str, str]]
    people: list[tuple[str, str]]
    connections: Mapping[str, Connection]

    def form(self, data: Any = None, initial: Any = None) -> StandingForm:
        return StandingForm(data, self.about, self.whom, self.people, initial=initial)

    def asked(self, values: Mapping[str, Any]) -> Asked:
        """What was chosen, as an action takes it."""
        kind, _, rest = str(values["about"]).partition(".")
        about_id, _, key = rest.rpartition(".")
        whom, _, team = str(values["whom"]).partition(".")
        return Asked(
            connection=self.connections[key],
            kind=kind,
            about_id=about_id,
            weekdays=values["weekdays"],
            clock=values["clock"],
            time_zone=values["time_zone"],
            whom=whom,
            whom_ids=[team] if whom == "team" else values["people"] if whom == "people" else [],
            within_minutes=values["within_minutes"],
        )


@require_http_methods(["GET", "HEAD", "POST"])
def index(request: Request, slug: str) -> HttpResponse:
    team = managed_team(request, slug) if request.method == "POST" else visible_team(request, slug)
    manages = may_manage(request, team)
    choices = _choices(team) if manages else None
    initial = {
        "weekdays": [],
        "time_zone": timezone.get_current_timezone_name(),
        "whom": "anybody",
        "within_minutes": 15,
    }
    form = choices.form(request.POST if request.method == "POST" else None, initial) if choices else None
    if request.method == "POST" and choices and form and form.is_valid():
        with refusals_in(form):
            row = do_make_check(
                team, choices.asked(form.cleaned_data), by=request.user, reason=form.cleaned_data["reason"]
            )
            # Whoever makes one wants to know at once whether it holds.
            do_run_check(row, by=request.user)
            send_notices.enqueue()
            messages.success(request, "The check is made, and was run. From now on it is run daily.")
            return redirect("standing-check", team.slug, row.pk)
    now = timezone.now()
    context = {
        "team": team,
        "rows": [Row(row, sentence(row), _next(row, now)) for row in StandingCheck.objects.filter(team=team)],
        "form": form,
        "may_make": bool(choices and choices.about),
        "may_manage": manages,
        "reads": not request.user.is_auditor,
        "has_connection": team.connections.filter(is_enabled=True).exists(),
    }
    return render(request, "standing/index.html", context, status=422 if form and form.errors else 200)


@require_http_methods(["GET", "HEAD", "POST"])
def detail(request: Request, slug: str, pk: int) -> HttpResponse:
    team = managed_team(request, slug) if request.method == "POST" else visible_team(request, slug)
    rows = StandingCheck.objects.filter(team=team).select_related("team", "connection__team")
    row = get_object_or_404(rows, pk=pk)
    manages = may_manage(request, team)
    action = request.POST.get("action")
    choices = _choices(team, row) if manages else None
    form = choices.form(request.POST if action == "change" else None, _chosen(row)) if choices else None
    if request.method == "POST":
        if action == "change" and choices and form:
            if form.is_valid():
                with refusals_in(form):
                    asked, reason = choices.asked(form.cleaned_data), form.cleaned_data["reason"]
                    changed = do_change_check(row, asked, by=request.user, reason=reason)
                    do_run_check(_whole(changed), by=request.user)
                    send_notices.enqueue()
                    messages.success(request, "The check is changed, and was run.")
                    return redirect("standing-check", team.slug, row.pk)
        elif action == "run":
            told(request, lambda: _run(request, row))
            return redirect("standing-check", team.slug, row.pk)
        elif action == "remove":
            if told(request, lambda: _remove(request, row)):
                return redirect("team-checks", team.slug)
            return redirect("standing-check", team.slug, row.pk)
        else:
            raise Http404
    reads = not request.user.is_auditor
    runs = list(row.runs.all())
    context = {
        "team": team,
        "check": row,
        "says": sentence(row),
        "next": _next(row, timezone.now()),
        "moments": _moments(row, runs[0]) if runs and reads else [],
        "runs": runs,
        "form": form,
        "may_manage": manages,
        "reads": reads,
    }
    return render(request, "standing/detail.html", context, status=422 if form and form.errors else 200)


def _whole(row: StandingCheck) -> StandingCheck:
    return StandingCheck.objects.select_related("team", "connection__team").get(pk=row.pk)


def _run(request: Request, row: StandingCheck) -> str:
    made = do_run_check(row, by=request.user)
    send_notices.enqueue()
    if made.state != StandingCheck.State.HOLDS:
        raise ValidationError(f"It {made.get_state_display()}: {made.told}")
    return f"It holds. {made.told}"


def _remove(request: Request, row: StandingCheck) -> str:
    do_remove_check(row, by=request.user, reason=request.POST.get("reason", ""))
    return "The check is removed."


def _next(row: StandingCheck, now: dt.datetime) -> dt.datetime | None:
    try:
        return next(iter(moments(row, now, now)), None)
    except (ValueError, KeyError, OSError, TypeError):
        return None  # a row that somebody edited by hand, or a zone that is known no more


def _moments(row: StandingCheck, run: CheckRun) -> list[tuple[dt.datetime, bool | None, str, str]]:
    """When, whether it holds, why, and the page that tells it level by level."""
    about = {"service_id" if row.kind == StandingCheck.Kind.SERVICE else "policy_id": row.about_id}
    return [
        (
            at(each["at"]),
            each["holds"],
            shown(str(each["told"]), 300),
            paged_page(row.connection, instant=each["at"], **about),
        )
        for each in run.occurrences
    ]


def _chosen(row: StandingCheck) -> dict[str, Any]:
    whom = f"team.{row.whom_ids[0]}" if row.whom == StandingCheck.Whom.TEAM and row.whom_ids else row.whom
    return {
        "about": f"{row.kind}.{row.about_id}.{row.connection_id}",
        "weekdays": row.weekdays,
        "clock": row.clock,
        "time_zone": row.time_zone,
        "whom": whom,
        "people": row.whom_ids if row.whom == StandingCheck.Whom.PEOPLE else [],
        "within_minutes": row.within_minutes,
    }


def _choices(team: Team, row: StandingCheck | None = None) -> Choices:
    """``row``: the check that is changed, whose own choices are offered though they may be gone."""
    connections = list(team.connections.filter(is_enabled=True).select_related("team").order_by("created_at", "pk"))
    kept = mirror.kept_of(connections)
    services: dict[str, tuple[str, UUID]] = {}
    policies: dict[str, tuple[str, UUID]] = {}
    teams: dict[str, str] = {}
    people: dict[str, str] = {}
    for connection in connections:
        account = kept[connection.pk].account
        # What several connections mirror is offered once, by the first.
        for known, found in ((services, account.services), (policies, account.policies)):
            for key, one in found.items():
                known.setdefault(key, (one.name, connection.pk))
        teams |= account.teams
        people |= {key: person.name for key, person in account.people.items()}
    about = [
        (f"{kind}.{key}.{pk}", f"{shown(name, LONGEST)}{what}")
        for kind, what, found in (("service", "", services), ("policy", " (escalation policy)", policies))
        for key, (name, pk) in _by_name(found, lambda one: one[0])
    ]
    if row is not None:
        chosen = _chosen(row)
        if chosen["about"] not in {key for key, _ in about}:
            about.insert(0, (chosen["about"], f"{shown(row.about_name, LONGEST)} (as it is)"))
        names = dict(zip(row.whom_ids, row.whom_names, strict=False))
        if row.whom == StandingCheck.Whom.TEAM:
            teams = {key: str(names.get(key, key)) for key in row.whom_ids} | teams
        elif row.whom == StandingCheck.Whom.PEOPLE:
            people = {key: str(names.get(key, key)) for key in row.whom_ids} | people
        connections.append(row.connection)
    return Choices(
        about,
        [(f"team.{key}", f"somebody of {shown(name, LONGEST)}") for key, name in _by_name(teams, str)],
        [(key, shown(name, LONGEST)) for key, name in _by_name(people, str)],
        {str(connection.pk): connection for connection in connections},
    )


def _by_name(found: Mapping[str, Any], name: Any) -> Sequence[tuple[str, Any]]:
    rows: Iterable[tuple[str, Any]] = found.items()
    return sorted(rows, key=lambda pair: (name(pair[1]).casefold(), pair[0]))
