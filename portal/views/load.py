"""``/load/``: what being on call costs whom, how evenly that is shared, and what would share it better."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlencode

from django.core.paginator import Paginator
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from integrations import measured, mirror
from integrations.measured import HOUR, USUAL, Definition
from integrations.models import Connection
from integrations.pagerduty.analysis.model import Schedule
from policies.actions import do_record_export
from portal.audit.export import FORMS, csv_of
from portal.forms import LoadForm
from portal.http import Request, may_manage
from portal.oncall.load import DEFINED, SORTS, Heat, Known, Line, NightShown, Reader, percent, thousands, totals, trend
from portal.oncall.seen import Seen, moment
from portal.views.coverage import waiting

if TYPE_CHECKING:
    from integrations.history import History
    from integrations.pagerduty.analysis.incidents import Chosen
    from integrations.pagerduty.analysis.load import Load

COLUMNS: Final = (
    *("person_id", "person", "from", "until", "hours_of", "hours_on_call", "hours_level_1", "hours_level_2_plus"),
    *("pages", "sleep_pages", "share_of_sleep_pages", "interruptions", "business", "off", "sleep", "nights_woken"),
    *("longest_run_hours", "rests_under_11_hours", "weekend_share"),
    *("usual_hours", "usual_pages", "usual_interruptions", "usual_sleep"),
)
HEADINGS: Final = {
    "name": "Person",
    "hours": "Hours",
    "pages": "Pages",
    "interruptions": "Interruptions",
    "sleep": "Sleep pages",
    "run": "Longest run",
    "rests": "Short rests",
    "weekend": "Weekends",
}
"""Of the table of people, by the order that each leads to."""
ONESELF: Final = "me"
"""In an address, whoever asks."""
PEOPLE: Final = 25
"""On one page of the list."""
NIGHTS: Final = 10
"""Listed of one person, the worst first."""


@dataclass(frozen=True)
class Looked:
    """What somebody looks at: of which connection, over how long, and what is known of it."""

    reader: Reader
    form: LoadForm
    days: int
    definition: Definition
    pagerduty_team: str
    order: str
    page: str
    """Of the list of people."""
    known: Known
    history: History

    @property
    def connection(self) -> Connection:
        return self.reader.seen.connection

    @property
    def chosen(self) -> Chosen:
        from integrations.pagerduty.analysis.incidents import Chosen

        return Chosen(team_id=self.pagerduty_team)

    @cached_property
    def months(self) -> tuple[Load, ...]:
        if self.known.period is None:
            return ()
        return measured.by_month(
            self.known.period,
            self.reader.account,
            zone=timezone.get_current_timezone_name(),
            definition=self.definition,
            chosen=self.chosen,
        )

    def address(self, **more: str) -> str:
        """Of this page with something else: ``''`` leaves out what there is."""
        values = {
            "connection": str(self.connection.pk),
            "days": str(self.days),
            "pagerduty_team": self.pagerduty_team,
            "hours": self.definition if self.definition != "api" else "",
            "sort": self.order,
            **more,
        }
        return urlencode({name: value for name, value in values.items() if value})


@never_cache
@require_safe
def index(request: Request) -> HttpResponse:
    connections = mirror.visible_to(request.user)
    looked = _looked(request, connections, request.GET)
    if looked is None:
        if request.GET.get("person", "") not in ("", ONESELF):
            raise Http404
        empty = {"waiting": waiting(connections), "has_connection": bool(connections)}
        return render(request, "load/index.html", empty)
    person = request.GET.get("person", "")
    if person == ONESELF:
        person = min(looked.reader.own, default="")
    if person:
        return _person(request, looked, person)
    context = _context(looked) | {"waiting": []}
    if looked.known.load is not None:
        context |= _found(looked)
    part = "load/_found.html" if request.htmx and request.htmx.target == "found" else "load/index.html"
    return render(request, part, context)


def _looked(request: Request, connections: list[Connection], query: Mapping[str, Any]) -> Looked | None:
    """None: nothing of PagerDuty is read that they may see. Of what the address asks for and cannot be, what is shown at
    first."""
    from integrations.history import history

    now = timezone.now()
    kept = {key: each for key, each in mirror.kept_of(connections).items() if not each.is_empty} if connections else {}
    readable = [row for row in connections if row.pk in kept]
    if not readable:
        return None
    asked = next((row for row in readable if str(row.pk) == query.get("connection", "")), None)
    each = [Seen(row, kept[row.pk], int(now.timestamp())) for row in ([asked] if asked else readable)]
    # Of several, whoever asks for themself is shown the first that has them.
    mine = [one for one in each if one.itself(request.user)] if query.get("person") == ONESELF else []
    seen = (mine or each)[0]
    connection = seen.connection
    own = frozenset(person.id for person in seen.itself(request.user))
    reader = Reader(seen, may_manage(request, connection.team), own)
    names = [(str(row.pk), f"{row.team.name}, {row.name}") for row in readable]
    # Whoever sees sums alone chooses no part of them: the difference of two would tell one person's.
    offered = (
        sorted(seen.account.teams.items(), key=lambda row: (row[1].casefold(), row[0])) if reader.sees_names else []
    )
    form = LoadForm(query, names, offered)
    form.is_valid()
    chosen = form.cleaned_data
    days = int(chosen.get("days") or USUAL)
    definition: Definition = "insights" if chosen.get("hours") == "insights" else "api"
    team, order = chosen.get("pagerduty_team", ""), str(query.get("sort", ""))
    held = history(connection)
    period = measured.period(connection, held, days, now)
    known = Known(period, None)
    order, page = order if order in SORTS else "", str(query.get("page", ""))
    looked = Looked(reader, form, days, definition, team, order, page, known, held)
    if period is None:
        return looked
    load = measured.loaded(period, seen.account, definition=definition, chosen=looked.chosen)
    return replace(looked, known=Known(period, load))


def _context(looked: Looked) -> dict[str, Any]:
    whose, words = DEFINED[looked.definition]
    known = looked.history.known
    return {
        "looked": looked,
        "reader": looked.reader,
        "connection": looked.connection,
        "kept": looked.reader.seen.kept,
        "form": looked.form,
        "known": looked.known,
        "history": looked.history,
        "since": moment(known.start) if known else None,
        "whose": whose,
        "words": words,
        "here": looked.address(),
    }


def _found(looked: Looked) -> dict[str, Any]:
    load, reader = looked.known.load, looked.reader
    assert load is not None  # noqa: S101  (whoever calls has looked)
    lines = reader.lines(load, looked.order)
    page = Paginator(lines, PEOPLE).get_page(looked.page)
    spread = reader.may_spread(load)
    fairness = reader.fairness(load) if spread else []
    reasons = dict.fromkeys(fair.found.untold for fair in fairness)
    return {
        "lines": page.object_list,
        "page": page,
        "query": looked.address(),
        "order": SORTS[looked.order][0],
        "headings": [
            (name, title, f"?{looked.address(sort=name)}", looked.order == name) for name, title in HEADINGS.items()
        ],
        "worst": f"?{looked.address(sort='')}",
        "sent": parse_qsl(looked.address()),
        "summary": _summary(looked, lines),
        "totals": totals(load) if reader.may_sum(load) else None,
        "count": len(load.people),
        "spread": spread,
        "fairness": fairness,
        # Where nothing is claimed of anything, it is said once.
        "untold": next(iter(reasons)) if len(reasons) == 1 and "" not in reasons else "",
        "heat": Heat(load.heat) if spread else None,
        "hours_of_day": range(24),
        "trend": trend(reader, looked.months),
        "schedules": _schedules(looked) if reader.sees_names else [],
    }


def _summary(looked: Looked, lines: list[Line]) -> str:
    load, reader = looked.known.load, looked.reader
    assert load is not None  # noqa: S101
    if not reader.may_sum(load):
        return f"{counted(len(load.people), 'person', 'people')} were on call or paged." if len(load.people) > 1 else ""
    every = totals(load)
    said = (
        f"{counted(every.people, 'person was', 'people were')} on call or paged: {counted(every.pages, 'page')}, "
        f"{thousands(every.sleep_pages)} of them in somebody's sleep hours."
    )
    if not every.sleep_pages:
        return said
    if reader.sees_names:
        worst = max(lines, key=lambda line: line.load.sleep_pages)
        return f"{said} {worst.name} had {worst.share_told} of these."
    own = sum(line.load.sleep_pages for line in lines)
    return f"{said} You had {percent(own / every.sleep_pages)} of these." if lines else said


def counted(count: int, one: str, many: str = "") -> str:
    return f"{thousands(count)} {one if count == 1 else many or one + 's'}"


def _schedules(looked: Looked) -> list[Schedule]:
    """Those of which it is known who is on call ahead, by name."""
    seen = looked.reader.seen
    rows = (each for each in seen.account.schedules.values() if each.id in seen.rendered)
    if looked.pagerduty_team:
        rows = (each for each in rows if looked.pagerduty_team in each.team_ids)
    return sorted(rows, key=lambda each: (each.name.casefold(), each.id))


def _person(request: Request, looked: Looked, user: str) -> HttpResponse:
    """Whoever may not see them does not learn that they exist; who asks for somebody of another connection sees nobody of
    this one."""
    from integrations.pagerduty.analysis.load import norms

    reader, load, period = looked.reader, looked.known.load, looked.known.period
    lines = reader.lines(load) if load is not None else []
    line = next((each for each in lines if each.user == user), None)
    # Somebody who is gone from PagerDuty has their past all the same.
    person = reader.account.people.get(user)
    asked = request.GET.get("connection", "")
    if asked not in ("", str(looked.connection.pk)) or not reader.may_see(user) or (person is None and line is None):
        raise Http404
    zone = person.zone if person is not None else "UTC"
    context = _context(looked) | {
        "name": reader.account.name_of(user),
        "zone": zone,
        "is_clock_known": person is not None,
        "line": line,
        "is_own": user in reader.own,
        "periods": [
            (days, f"?{looked.address(days=str(days), person=user)}", days == looked.days) for days in measured.DAYS
        ],
    }
    if load is not None and period is not None:
        own = measured.own(period, reader.account, user, definition=looked.definition, chosen=looked.chosen)
        context |= {
            "norms": norms(line.load, load.window) if line is not None else (),
            "heat": Heat(own.heat),
            "hours_of_day": range(24),
            "nights": [NightShown(each, zone) for each in own.nights[:NIGHTS]],
            "more_nights": max(len(own.nights) - NIGHTS, 0),
            "trend": trend(reader, looked.months, only=user),
        }
    return render(request, "load/person.html", context)


@require_POST
def export(request: Request) -> HttpResponse:
    """The same people as the page shows, as a file. That it is taken is on record."""
    looked = _looked(request, mirror.visible_to(request.user), request.POST)
    # Of another connection than was meant, nothing is taken away.
    if looked is None or request.POST.get("connection", "") not in ("", str(looked.connection.pk)):
        raise Http404
    load = looked.known.load
    if load is None:
        return redirect(f"{reverse('load')}?{looked.address()}")
    lines = looked.reader.lines(load, looked.order)
    do_record_export(
        by=request.user,
        team_id=looked.connection.team_id,
        query=looked.address(),
        form="csv",
        until=None,
        action="export_load",
    )
    start, end = (dt.datetime.fromtimestamp(each, dt.UTC).isoformat() for each in load.window)
    rows = [_cells(line, start, end, looked.definition) for line in lines]
    answer = HttpResponse(csv_of([COLUMNS, *rows]), content_type=FORMS["csv"][1])
    answer["Content-Disposition"] = f'attachment; filename="pagewarden-load-{end[:10]}.csv"'
    answer["X-Content-Type-Options"] = "nosniff"
    return answer


def _cells(line: Line, start: str, end: str, definition: Definition) -> tuple[object, ...]:
    one, usual = line.load, line.load.earlier
    in_hours = (f"{each / HOUR:.1f}" for each in (one.seconds, one.level_1, one.level_2_plus))
    before = [usual.get(name) for name in ("seconds", "pages", "interruptions", "sleep")]
    return (
        *(line.user, line.name, start, end, definition, *in_hours),
        *(one.pages, one.sleep_pages, f"{line.share:.4f}" if line.all_sleep_pages else "", one.interruptions),
        *(one.business, one.off, one.sleep, one.nights_woken),
        *(f"{one.longest_run / HOUR:.1f}", one.short_rests, f"{one.weekend_share:.4f}"),
        f"{before[0] / HOUR:.1f}" if before[0] is not None else "",
        *(f"{each:.1f}" if each is not None else "" for each in before[1:]),
    )
