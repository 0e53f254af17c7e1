"""``/access/``: who could use what on a day, as a page and as a file."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.http import urlencode
from django.views.decorators.http import require_POST, require_safe

from integrations.pagerduty.catalog import CATEGORIES, TOOLS
from policies import past
from policies.access import Access, Found, Span, who_could
from policies.actions import do_record_export
from policies.core.call import Kind, Risk, Tool
from policies.core.chain import moment
from portal.audit.export import FORMS, csv_of
from portal.forms import AccessForm, read_teams
from portal.http import Request

SHOWN = 300
"""Rows of a page; a file has all."""
COLUMNS = (
    *("day", "team_id", "team", "kind", "id", "name", "known_by", "as", "tool", "category", "risk", "writes"),
    *("from", "until"),
)


@dataclass(frozen=True)
class Asked:
    day: dt.date
    tools: Mapping[str, Tool]
    risk: Risk | None
    team_ids: list[int]
    begin: dt.datetime
    end: dt.datetime
    """Of the day, or now while it is not over."""
    text: str
    """As an address and the record have it."""


@dataclass(frozen=True)
class Line:
    """One holder on the page: their tools in words, and when, where it was not all day."""

    row: Access
    tools: list[tuple[Tool, str]]

    @property
    def is_key(self) -> bool:
        return self.row.holder.kind is Kind.AGENT


@require_safe
def index(request: Request) -> HttpResponse:
    _reader(request)
    today = timezone.now().astimezone(dt.UTC).date()
    form = AccessForm(
        request.user,
        request.GET if request.GET else None,
        {"day": today, "what": "risk:high", "team": ""},
    )
    context: dict[str, Any] = {"form": form}
    if form.is_valid():
        asked = _asked(request, form)
        try:
            found = _found(asked)
        except past.TooFar as error:
            context["problem"] = str(error)
        else:
            context |= {
                "asked": asked,
                "what": dict(form.fields["what"].choices)[form.cleaned_data["what"]],  # type: ignore[attr-defined]  # of a choice
                "found": found,
                "lines": [_line(found, row) for row in found.rows[:SHOWN]],
                "more": max(len(found.rows) - SHOWN, 0),
                "keys": sum(row.holder.kind is Kind.AGENT for row in found.rows),
                "people": len({row.holder.id for row in found.rows if row.holder.kind is Kind.PERSON}),
                "begins": (begins := past.begins()),
                "too_early": begins is not None and begins >= asked.end,
                "over": asked.day < today,
            }
    return render(request, "access/index.html", context, status=422 if form.errors else 200)


@require_POST
def export(request: Request) -> HttpResponse:
    """The same as a file, one line for each holder, tool and time. That it is taken is on record."""
    _reader(request)
    form, kind = AccessForm(request.user, request.POST), request.POST.get("form", "")
    if not form.is_valid() or kind not in FORMS:
        return redirect("access")
    asked = _asked(request, form)
    try:
        found = _found(asked)
    except past.TooFar:
        return redirect(f"{request.path.removesuffix('export/')}?{asked.text}")
    do_record_export(
        by=request.user,
        team_id=asked.team_ids[0] if len(asked.team_ids) == 1 else None,
        query=asked.text,
        form=kind,
        until=found.entries,
        action="export_access",
    )
    rows = [dict(zip(COLUMNS, cells, strict=True)) for cells in _cells(asked, found)]
    if kind == "csv":
        content = csv_of([COLUMNS, *(tuple(row.values()) for row in rows)])
    else:
        content = "".join(f"{json.dumps(row)}\n" for row in rows).encode()
    answer = HttpResponse(content, content_type=FORMS[kind][1])
    answer["Content-Disposition"] = f'attachment; filename="pagewarden-access-{asked.day:%Y%m%d}.{kind}"'
    answer["X-Content-Type-Options"] = "nosniff"
    return answer


def _reader(request: Request) -> None:
    if not read_teams(request.user).exists() and not (request.user.is_administrator or request.user.is_auditor):
        raise PermissionDenied("Managers, auditors and administrators review access.")


def _asked(request: Request, form: AccessForm) -> Asked:
    values = form.cleaned_data
    kind, _, which = values["what"].partition(":")
    match kind:
        case "tool":
            tools, risk = {which: TOOLS[which]}, None
        case "category":
            tools, risk = {name: tool for name, tool in TOOLS.items() if tool.category == CATEGORIES[int(which)]}, None
        case _:
            # Any may have been raised to it.
            tools, risk = dict(TOOLS), Risk(which)
    teams = read_teams(request.user)
    if values["team"]:
        teams = teams.filter(slug=values["team"])
    begin = dt.datetime.combine(values["day"], dt.time(), dt.UTC)
    end = min(begin + dt.timedelta(days=1), timezone.now())
    text = urlencode({"day": values["day"].isoformat(), "what": values["what"], "team": values["team"]})
    return Asked(values["day"], tools, risk, list(teams.values_list("pk", flat=True)), begin, end, text)


def _found(asked: Asked) -> Found:
    """Raises ``TooFar``."""
    begins = past.begins()
    if begins is not None and begins >= asked.end:
        return Found([], asked.begin, asked.end, 0, frozenset())  # Of that day nothing is on record.
    begin = max(asked.begin, begins) if begins is not None else asked.begin
    return who_could(asked.team_ids, asked.tools, begin, asked.end, asked.risk)


def _line(found: Found, row: Access) -> Line:
    return Line(
        row, [(TOOLS[name], "" if found.all_day(spans) else _times(spans)) for name, spans in row.tools.items()]
    )


def _times(spans: list[Span]) -> str:
    return ", ".join(f"{begin:%H:%M:%S} to {end:%H:%M:%S}" for begin, end in spans)


def _cells(asked: Asked, found: Found) -> Iterator[tuple[object, ...]]:
    for row in found.rows:
        who = row.holder
        for name, spans in row.tools.items():
            tool = TOOLS[name]
            for begin, end in spans:
                yield (
                    *(asked.day.isoformat(), who.team_id, who.team, _kind(who.kind), who.id, who.name, who.known_by),
                    *(who.as_what, name, tool.category, tool.risk.value, "yes" if tool.writes else "no"),
                    *(moment(begin), moment(end)),
                )


def _kind(kind: Kind) -> str:
    return "agent key" if kind is Kind.AGENT else "person"
