"""``/escalations/response/``: how fast incidents are answered, and at which level it takes longest."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

from django.core.paginator import Paginator
from django.http import Http404, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.http import urlencode
from django.views.decorators.http import require_POST, require_safe

from integrations import mirror
from integrations.measured import USUAL, Period, period, responded, responded_by
from integrations.models import Connection
from policies.actions import do_record_export
from portal.audit.export import FORMS, csv_of
from portal.forms import ResponseForm
from portal.http import Request
from portal.oncall.coverage import at
from portal.oncall.response import (
    HEAD,
    TABS,
    cards,
    cells,
    columns,
    level_cells,
    level_lines,
    levels_chart,
    lines,
    slowest_told,
    waterfall,
)

if TYPE_CHECKING:
    # It brings numpy, which most processes never need.
    from integrations.history import History
    from integrations.pagerduty.analysis.incidents import Chosen
    from integrations.pagerduty.analysis.response import By

ROWS: Final = 30
"""On one page of a table."""


@dataclass(frozen=True)
class Asked:
    connections: Sequence[Connection]
    """Those that are read."""
    waiting: Sequence[mirror.Kept]
    kept: mirror.Kept
    """Of the one that is looked at."""
    history: History
    form: ResponseForm
    period: Period | None
    """None: nothing is known of that time yet."""
    chosen: Chosen
    query: str
    """The filters as an address has them."""


@require_safe
def index(request: Request) -> HttpResponse:
    asked = _asked(request, request.GET, timezone.now())
    if isinstance(asked, list):
        return render(request, "response/index.html", {"waiting": asked})
    by = _by(request.GET)
    context: dict[str, Any] = {
        "read": True,
        "waiting": asked.waiting,
        "kept": asked.kept,
        "history": asked.history,
        "form": asked.form,
        "query": asked.query,
        "paged": "&".join(filter(None, (asked.query, f"by={by}"))),
        "tabs": TABS,
        "by": by,
        "period": asked.period,
    }
    if asked.period is not None:
        context |= _table(request, asked, asked.period, by)
        part = request.htmx.target if request.htmx else ""
        if part == "by":
            return render(request, "response/_by.html", context)
        context |= _measured(asked, asked.period)
    part = "response/_found.html" if request.htmx and request.htmx.target == "found" else "response/index.html"
    return render(request, part, context)


def _asked(request: Request, given: QueryDict, now: dt.datetime) -> Asked | list[mirror.Kept]:
    """What is looked at; where nothing is read yet, how far that is."""
    from integrations.history import history
    from integrations.pagerduty.analysis.incidents import Chosen

    connections = mirror.visible_to(request.user)
    kept = mirror.kept_of(connections) if connections else {}
    read = [row for row in connections if kept[row.pk].as_of is not None]
    waiting = [kept[row.pk] for row in connections if kept[row.pk].as_of is None]
    if not read:
        return waiting
    row = next((each for each in read if str(each.pk) == given.get("connection")), read[0])
    account, found = kept[row.pk].account, history(row)
    form = ResponseForm(
        given,
        [(str(each.pk), f"{each.team.name}, {each.name}") for each in read],
        policy=_by_name({id: each.name for id, each in account.policies.items()}),
        service=_by_name({id: each.name for id, each in account.services.items()}),
        team=_by_name(account.teams),
        priority=[(name, name) for name in sorted(found.log.priorities)],
    )
    # What is no choice is none: a link that was kept may name what is gone.
    form.is_valid()
    values = {name: form.cleaned_data.get(name, "") for name in form.fields}
    chosen = Chosen(
        **{f"{name}_id": values[name] for name in ("policy", "service", "team")},
        **{name: values[name] for name in ("urgency", "priority")},
    )
    about = {name: value for name, value in values.items() if value and name != "connection"}
    if len(read) > 1:
        about = {"connection": str(row.pk), **about}
    days = int(values["days"] or USUAL)
    return Asked(read, waiting, kept[row.pk], found, form, period(row, found, days, now), chosen, urlencode(about))


def _by_name(names: dict[str, str] | Any) -> list[tuple[str, str]]:
    return sorted(names.items(), key=lambda row: (row[1].casefold(), row[0]))


def _by(given: QueryDict) -> By:
    asked = given.get("by", "")
    return next((each for each in TABS if each == asked), "policy")


def _zone() -> ZoneInfo | None:
    """By whose clock hours are told; None: by UTC."""
    zone = timezone.get_current_timezone()
    return zone if isinstance(zone, ZoneInfo) else None


def _measured(asked: Asked, found: Period) -> dict[str, Any]:
    response = responded(found, asked.chosen)
    return {
        "response": response,
        "cards": cards(response),
        "waterfall": waterfall(response),
        "levels": levels_chart(response),
        "slowest": slowest_told(response),
        "since": at(found.window.start),
        "until": at(found.window.end),
        "known_since": None if found.is_whole else at(found.window.start),
    }


def _table(request: Request, asked: Asked, found: Period, by: By) -> dict[str, Any]:
    connection, account = asked.kept.connection, asked.kept.account
    if by == "level":
        return {"level_lines": level_lines(responded(found, asked.chosen))}
    groups = responded_by(found, by, asked.chosen, _zone())
    page = Paginator(groups, ROWS).get_page(request.GET.get("page"))
    context: dict[str, Any] = {
        "page": page,
        "lines": lines(list(page.object_list), by, account, connection),
        "title": TABS[by],
    }
    if by == "hour":
        context["columns"], context["highest"] = columns(groups)
    return context


@require_POST
def export(request: Request) -> HttpResponse:
    """All figures of what is chosen as a file, by each thing. That it is taken is on record."""
    asked = _asked(request, request.POST, timezone.now())
    # Never another's figures in place of those that were asked for.
    if isinstance(asked, list) or str(asked.kept.connection.pk) != request.POST.get("connection"):
        raise Http404
    if asked.period is None:
        return redirect("response")
    connection, account = asked.kept.connection, asked.kept.account
    do_record_export(
        by=request.user,
        team_id=connection.team_id,
        query=f"{connection.name}: {asked.query or 'everything'}",
        form="csv",
        until=None,
        action="export_response",
    )
    response = responded(asked.period, asked.chosen)
    groups = [(by, responded_by(asked.period, by, asked.chosen, _zone())) for by in TABS if by != "level"]
    answer = HttpResponse(
        csv_of([HEAD, *cells(response, groups, account), *level_cells(response)]), content_type=FORMS["csv"][1]
    )
    day = at(asked.period.window.end)
    answer["Content-Disposition"] = f'attachment; filename="pagewarden-response-{day:%Y%m%d}.csv"'
    answer["X-Content-Type-Options"] = "nosniff"
    return answer
