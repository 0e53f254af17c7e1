"""``/schedules/``: who is on call by which schedule, and how long that holds; and one schedule, drawn."""

from __future__ import annotations

import datetime as dt
from typing import Any, Final
from urllib.parse import urlencode
from uuid import UUID
from zoneinfo import ZoneInfo

from django.core.paginator import Paginator
from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from integrations import mirror
from integrations.feeds import do_make_feed
from policies.actions import time_zones
from portal.forms import SchedulesForm, TimelineForm, zone_choices
from portal.http import Request, told
from portal.oncall import timeline
from portal.oncall.one import MOST_ROWS, One, legend
from portal.oncall.seen import Row, Seen, moment, once, ordered, seen
from portal.oncall.timeline import VIEWS, View
from portal.views.feeds import address_of

PAGE: Final = 50
"""Schedules on one page."""
FAR: Final = dt.timedelta(days=3 * 366)
"""How far from now a timeline may be."""


@require_safe
def index(request: Request) -> HttpResponse:
    now = timezone.now()
    found = seen(request.user, now)
    teams = {one.connection.team.slug: one.connection.team.name for one in found}
    form = SchedulesForm(request.GET or None, teams.items())
    values = form.cleaned_data if form.is_bound and form.is_valid() else {"text": "", "team": ""}
    chosen = [one for one in found if not values["team"] or one.connection.team.slug == values["team"]]
    every = [Row(one, schedule) for one, schedule in once(chosen)]
    text = values["text"].strip().lower()
    # Of a team that is not one's own, and of a filter that is none, nothing is found.
    rows = ordered(row for row in every if row.fits(text)) if form.is_valid() or not form.is_bound else []
    page = Paginator(rows, PAGE).get_page(request.GET.get("page"))
    query = {name: value for name, value in values.items() if value}
    context = {
        "form": form,
        "page": page,
        "rows": page.object_list,
        "total": len(every),
        "query": urlencode(query),
        "filtered": form.is_bound,
        "mirrors": [one.kept for one in chosen],
        "unread": [one.connection for one in chosen if one.kept.is_empty],
        "has_connection": bool(found),
        "worst": sum(row.health[2] == 0 for row in rows),
        "with_gaps": sum(row.health[2] == 1 for row in rows),
    }
    return render(request, "schedules/index.html", context)


def _found(request: Request, connection: UUID, schedule_id: str) -> tuple[Seen, Any]:
    """A schedule of a mirror that the asker may see, or 404: whoever may not see it does not learn that it exists."""
    own = next((one for one in mirror.visible_to(request.user) if one.pk == connection), None)
    if own is None:
        raise Http404
    each = Seen(own, mirror.kept(own), int(timezone.now().timestamp()))
    if (schedule := each.account.schedules.get(schedule_id)) is None:
        raise Http404
    return each, schedule


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def schedule(request: Request, connection: UUID, schedule_id: str) -> HttpResponse:
    each, schedule = _found(request, connection, schedule_id)
    made: list[str] = []
    if request.method == "POST":
        if request.POST.get("action") != "feed":
            raise Http404

        def make() -> str:
            feed, token = do_make_feed(
                by=request.user, connection=each.connection, schedule_id=schedule.id, name=schedule.name
            )
            made.append(address_of(token))
            return f"The calendar feed of {feed.name} is made."

        told(request, make)
    view, first, zone = _asked(request, each.now)
    one = One(each, schedule, view, first, zone)
    own = str(timezone.get_current_timezone())
    context = {
        "one": one,
        "row": Row(each, schedule),
        "schedule": schedule,
        "connection": each.connection,
        "kept": each.kept,
        "address": made[0] if made else "",
        # PagerDuty's documents say where they are; what is no web address is not followed.
        "outside": schedule.url if schedule.url.startswith("https://") else "",
        "teams": each.teams_of(schedule.team_ids),
        "rows": one.rows[:MOST_ROWS],
        "more_rows": max(len(one.rows) - MOST_ROWS, 0),
        "lane_rows": one.lane_rows[:MOST_ROWS],
        "more_lane_rows": max(len(one.lane_rows) - MOST_ROWS, 0),
        "legend": legend(one.faces, [bar for lane in one.lanes for bar in timeline.clipped(lane.slices, one.window)]),
        "last_day": timeline.moved(view, first, 1) - dt.timedelta(days=1),
        "views": [(each, _address(each, first, zone), each is view) for each in VIEWS.values()],
        "before": _address(view, timeline.moved(view, first, -1), zone),
        "after": _address(view, timeline.moved(view, first, 1), zone),
        "today": _address(view, None, zone),
        "zone": str(zone),
        "zones": [
            (name, _address(view, first, ZoneInfo(name)), name == str(zone))
            for name in dict.fromkeys((own, schedule.zone, "UTC"))
        ],
        "form": TimelineForm(
            {"view": view.name, "on": first.isoformat(), "zone": str(zone)},
            dict([(own, own.replace("_", " ")), *zone_choices(), (str(zone), str(zone).replace("_", " "))]).items(),
        ),
        "turns_at": moment(one.turns_at),
    }
    template = (
        "schedules/_picture.html" if request.htmx and not request.htmx.history_restore_request else "schedules/one.html"
    )
    with timezone.override(zone):
        return render(request, template, context)


def _asked(request: Request, now: int) -> tuple[View, dt.date, ZoneInfo]:
    """What is to be shown: of what the address asks for and cannot be, what is shown at first."""
    view = VIEWS.get(request.GET.get("view", ""), VIEWS["weeks"])
    name = request.GET.get("zone", "")
    zone = ZoneInfo(name if name in time_zones() else timezone.get_current_timezone_name())
    today = dt.datetime.fromtimestamp(now, zone).date()
    try:
        day = dt.date.fromisoformat(request.GET.get("on", ""))
    except ValueError:
        day = today
    return view, timeline.first_day(view, min(max(day, today - FAR), today + FAR)), zone


def _address(view: View, first: dt.date | None, zone: ZoneInfo) -> str:
    """Of the same page with another window; no day: today's."""
    values = {"view": view.name, "on": first.isoformat() if first else "", "zone": str(zone)}
    return "?" + urlencode({name: value for name, value in values.items() if value})


def page_of(connection: UUID, schedule_id: str) -> str:
    return reverse("schedule", args=[connection, schedule_id])
