"""``/coverage/``: when escalation policies reach nobody, and what would close it."""

from __future__ import annotations

import datetime as dt
import re
import secrets
from dataclasses import dataclass
from typing import Any, Final

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import Http404, HttpResponse, HttpResponseRedirect, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.http import urlencode
from django.views.decorators.http import require_http_methods, require_safe

from integrations import mirror
from integrations.intended import do_mark_intended, do_unmark_intended, mark_of
from integrations.models import Connection, IntendedGap
from integrations.pagerduty.analysis.coverage import unknown_in
from integrations.pagerduty.analysis.intended import hours
from integrations.pagerduty.analysis.model import Schedule, Span, Target
from integrations.pagerduty.analysis.relief import LONGEST, Candidate, candidates, shares
from integrations.tasks import sync_connection
from policies.models import User
from portal.explaining import about_oneself, where_explained
from portal.forms import CoverageForm, IntendForm, OverrideForm
from portal.http import Request, may_manage, one_of, refusals_in, told
from portal.oncall.coverage import (
    CHOICES,
    Gap,
    Line,
    OnCall,
    Seen,
    at,
    counted,
    dangerous_first,
    fits,
    line_of,
    look,
    on_call,
    once,
    paged_page,
    policy_page,
    unheard,
    worst_first,
)
from portal.oncall.strips import lasts
from portal.overriding import ONCE, OVERRIDE, iso, put_on_call

POLICIES: Final = 30
"""On one page of the list."""
GAPS: Final = 25
"""Listed before the policies; each policy's page lists its own."""
OWN_GAPS: Final = 200
"""Listed on a policy's page."""
CANDIDATES: Final = 5


# The list


@require_safe
def index(request: Request) -> HttpResponse:
    now = timezone.now()
    connections = mirror.visible_to(request.user)
    seen = look(connections, now)
    read = {each.connection.pk for each in seen}
    context: dict[str, Any] = {"read": seen, "waiting": waiting([row for row in connections if row.pk not in read])}
    if seen:
        context |= _found(request, seen, now)
    part = "coverage/_found.html" if request.htmx and request.htmx.target == "found" else "coverage/index.html"
    return render(request, part, context)


def waiting(connections: list[Connection]) -> list[mirror.Kept]:
    """How far they are of which nothing was read to its end."""
    return list(mirror.kept_of(connections).values()) if connections else []


def _found(request: Request, seen: list[Seen], now: dt.datetime) -> dict[str, Any]:
    teams = sorted({(each.connection.team.slug, each.connection.team.name) for each in seen}, key=lambda row: row[1])
    form = CoverageForm(request.GET, teams, *_choices(seen))
    # What is no choice is none: a link that was kept may name what is gone.
    form.is_valid()
    chosen = form.cleaned_data
    weeks, team = int(chosen.get("weeks") or CHOICES[0]), chosen.get("team", "")
    asked = {name: chosen.get(name, "") for name in ("pagerduty_team", "service", "text")}
    within = [each for each in seen if team in ("", each.connection.team.slug)]
    rows = [row for row in once(within) if fits(*row, **asked)]
    lines = worst_first(line_of(each, policy, now, 7 * weeks) for each, policy in rows)
    gaps = dangerous_first(lines)
    query = QueryDict(mutable=True)
    for name in form.fields:
        if value := request.GET.get(name):
            query[name] = value
    page = Paginator(lines, POLICIES).get_page(request.GET.get("page"))
    return {
        "form": form,
        "weeks": weeks,
        "lines": lines,
        "page": page,
        "query": query.urlencode(),
        "gaps": gaps[:GAPS],
        "more_gaps": max(len(gaps) - GAPS, 0),
        "summary": _summary(lines, gaps, weeks),
        "unheard": [] if any(asked.values()) else unheard(within),
        "starts": now,
        "ends": now + dt.timedelta(days=7 * weeks - 1),
    }


def _choices(seen: list[Seen]) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """PagerDuty's teams and services that are mirrored, by name."""
    teams, services = dict[str, str](), dict[str, str]()
    for each in seen:
        teams |= each.sweep.account.teams
        services |= {key: service.name for key, service in each.sweep.account.services.items()}
    by_name = (sorted(found.items(), key=lambda row: (row[1].casefold(), row[0])) for found in (teams, services))
    return next(by_name), next(by_name)


def _summary(lines: list[Line], gaps: list[tuple[Line, Gap]], weeks: int) -> str:
    if not lines:
        return "No escalation policy fits."
    wrong = sum(bool(line.gaps) for line in lines)
    unsure = sum(bool(line.unsure) for line in lines)
    also = f" Of {unsure} it cannot be told: a schedule of theirs is not mirrored." if unsure else ""
    if not wrong:
        each = "The only policy reaches" if len(lines) == 1 else f"Each of {len(lines)} policies reaches"
        if unsure:
            each = f"No gap is known in {counted(len(lines), 'policy')}".replace("policys", "policies")
            return f"{each} in the next {weeks} weeks.{also}"
        return f"{each} somebody all through the next {weeks} weeks, or is meant not to."
    return (
        f"{wrong} of {len(lines)} {'policy' if len(lines) == 1 else 'policies'} reach{'es' if wrong == 1 else ''} nobody at "
        f"times in the next {weeks} weeks: {counted(len(gaps), 'gap')}.{also}"
    )


# One policy


@dataclass(frozen=True)
class LevelShown:
    number: int
    delay: int
    round_robin: bool
    targets: list[tuple[Target, str, Schedule | None]]
    """With its name, and the schedule where it is one that is mirrored."""
    now: list[OnCall]
    is_known: bool
    """Whether it is known who is on call on all its schedules."""


@dataclass(frozen=True, slots=True)
class Proposed:
    """Somebody who could take a gap, or a part of it."""

    candidate: Candidate
    name: str

    @property
    def load(self) -> str:
        return f"{self.candidate.load:.0f} hours on call in four weeks"

    @property
    def starts(self) -> str:
        return iso(self.candidate.span.start)

    @property
    def ends(self) -> str:
        return iso(self.candidate.span.end)


@dataclass(frozen=True)
class MarkShown:
    row: IntendedGap
    hours: tuple[Span, ...]
    """When it holds in what is looked at."""


@require_http_methods(["GET", "HEAD", "POST"])
def policy(request: Request, connection: str, policy_id: str) -> HttpResponse:
    now = timezone.now()
    row = next((each for each in mirror.visible_to(request.user) if each.pk == connection), None)
    found = look([row], now) if row is not None else []
    if not found or policy_id not in found[0].sweep.account.policies:
        raise Http404
    seen = found[0]
    line = line_of(seen, seen.sweep.account.policies[policy_id], now, 7 * _weeks(request))
    if request.method == "POST":
        return _posted(request, line)
    return _page(request, line)


def _weeks(request: Request) -> int:
    asked = request.GET.get("weeks", "")
    return int(asked) if asked in map(str, CHOICES) else CHOICES[0]


def _posted(request: Request, line: Line) -> HttpResponse:
    connection, action = line.connection, request.POST.get("action", "")
    if action == "override":
        return _override(request, line)
    if action not in ("intend", "unmark"):
        raise Http404
    if not may_manage(request, connection.team):
        raise PermissionDenied(
            f"Only a manager of {connection.team.name} or an administrator may say which gaps are intended."
        )
    if action == "intend":
        return _intend(request, line)
    mark = one_of(IntendedGap.objects.filter(connection=connection, policy_id=line.policy.id), request.POST.get("mark"))

    def unmark() -> str:
        do_unmark_intended(mark, by=request.user, reason=request.POST.get("reason", ""))
        return "Taken back: it is a gap like any other again."

    told(request, unmark)
    return redirect(policy_page(connection, line.policy.id, weeks=_weeks(request)))


def _page(
    request: Request, line: Line, *, intend: IntendForm | None = None, override: OverrideForm | None = None
) -> HttpResponse:
    """``intend``, ``override``: what was filled in and refused."""
    account, instant = line.seen.sweep.account, line.window.start
    manages = may_manage(request, line.connection.team)
    gap = _chosen(request, line)
    weeks = _weeks(request)
    context: dict[str, Any] = {
        "line": line,
        "connection": line.connection,
        "policy": line.policy,
        "kept": line.seen.kept,
        "weeks": weeks,
        "choices": CHOICES,
        "table": "table" in request.GET,
        "gap": gap,
        "gaps": line.gaps[:OWN_GAPS],
        "more_gaps": max(len(line.gaps) - OWN_GAPS, 0),
        "levels": [
            LevelShown(
                number,
                level.delay,
                level.round_robin,
                [(target, _name(line, target), account.schedules.get(target.id)) for target in level.targets],
                on_call(line.seen, line.policy, number, instant),
                not unknown_in(level, line.seen.sweep.rendered),
            )
            for number, level in enumerate(line.policy.levels, 1)
        ],
        "problems": _problems(line),
        "lower": line.lower[:20],
        "more_lower": max(len(line.lower) - 20, 0),
        "marks": [MarkShown(row, hours(mark_of(row), line.window)) for row in line.seen.marks.get(line.policy.id, ())],
        "manages": manages,
        "here": policy_page(line.connection, line.policy.id, weeks=weeks),
        "starts": at(line.window.start),
        "ends": at(line.window.end),
        "half": at((line.window.start + line.window.end) // 2),
    }
    if gap is not None:
        context |= _closing(request, line, gap, override)
        if manages:
            latest = min(timezone.now() + dt.timedelta(days=90), gap.ends + dt.timedelta(days=90))
            until = timezone.localtime(latest).date()
            context["intend_form"] = intend or IntendForm(initial={"until": until, "every": "once"})
    refused = any(form is not None and form.errors for form in (intend, override))
    return render(request, "coverage/policy.html", context, status=422 if refused else 200)


def _meant(request: Request, line: Line) -> Gap | None:
    """The gap that a form was sent for, if it is still there: another one must not be marked in its place. Of one that has begun
    the start moves on, and of one without an end the end."""
    seen = [request.POST.get(name, "") for name in ("from", "to")]
    if not all(re.fullmatch("[0-9]{1,12}", each) for each in seen):
        return None
    start, end = map(int, seen)
    for gap in line.gaps:
        begins = gap.span.start == start or (gap.span.start == line.window.start and start <= line.window.start)
        if begins and (gap.span.end == end or (gap.is_open and end <= gap.span.end)):
            return gap
    return None


def _chosen(request: Request, line: Line) -> Gap | None:
    """The gap that is asked for, by its start; else the most dangerous one. A gap that has begun starts later each second: it is
    the first."""
    if not line.gaps:
        return None
    asked = request.GET.get("gap", "")
    if re.fullmatch("[0-9]{1,12}", asked):
        for gap in line.gaps:
            if gap.span.start == int(asked) or gap.span.start == line.window.start >= int(asked):
                return gap
    return dangerous_first([line])[0][1]


def _name(line: Line, target: Target) -> str:
    account = line.seen.sweep.account
    if target.kind == "user":
        return target.name or account.name_of(target.id)
    schedule = account.schedules.get(target.id)
    return schedule.name if schedule else target.name or target.id


def _problems(line: Line) -> list[tuple[str, str]]:
    """What is wrong with the policy's own document and with those of its schedules: what it is about, and a sentence."""
    found = [(problem.where or line.policy.name, problem.words) for problem in line.policy.problems]
    for schedule in _schedules(line):
        for problem in schedule.problems:
            where = f"{schedule.name}: {problem.where}" if problem.where else schedule.name
            found.append((where, problem.words))
    return found


def _schedules(line: Line) -> list[Schedule]:
    """Those of its levels that are mirrored, the first level's first."""
    known = line.seen.sweep.account.schedules
    named = (target.id for level in line.policy.levels for target in level.targets if not target.deleted)
    return [known[each] for each in dict.fromkeys(named) if each in known]


# What would close a gap


def _closing(request: Request, line: Line, gap: Gap, override: OverrideForm | None) -> dict[str, Any]:
    paged = paged_page(line.connection, policy_id=line.policy.id, instant=gap.span.start)
    schedules = _schedules(line)
    if not schedules:
        return {"schedules": [], "paged": paged}
    sweep, asked = line.seen.sweep, request.GET.get("schedule", "")
    chosen = next((each for each in schedules if each.id == asked), schedules[0])
    found = candidates(sweep.account, chosen.id, gap.span, sweep.rendered, load=sweep.load, busy=sweep.busy)
    # Where one person can take it all, nobody need share it.
    together: tuple[Candidate, ...] = ()
    if not gap.is_long and (gap.span.seconds > LONGEST[0] or not (found and found[0].suitable)):
        together = shares(sweep.account, chosen.id, gap.span, sweep.rendered, load=sweep.load, busy=sweep.busy)
    context: dict[str, Any] = {
        "paged": paged,
        "schedules": schedules,
        "chosen": chosen,
        "proposed": [Proposed(each, sweep.account.name_of(each.user)) for each in found[:CANDIDATES]],
        "together": [Proposed(each, sweep.account.name_of(each.user)) for each in together]
        if len(together) > 1
        else [],
    }
    if not request.user.is_auditor:
        best = found[0].user if found else ""
        context |= {
            "about": about_oneself(request.user, line.connection.team, line.connection, OVERRIDE),
            "explain": where_explained(line.connection.team, OVERRIDE),
            "override_form": override or _override_form(line, None, _given(chosen, gap, best)),
        }
    return context


def _given(schedule: Schedule, gap: Gap, person: str) -> dict[str, Any]:
    starts, ends = (timezone.localtime(each).strftime("%Y-%m-%dT%H:%M:%S") for each in (gap.starts, gap.ends))
    return {"schedule": schedule.id, "person": person, "starts": starts, "ends": ends}


def _override_form(line: Line, data: Any, initial: Any = None) -> OverrideForm:
    people = sorted(line.seen.sweep.account.people.values(), key=lambda person: (person.name.casefold(), person.id))
    schedules = [(each.id, each.name) for each in _schedules(line)]
    return OverrideForm(data, schedules, [(each.id, each.name) for each in people], initial)


def _override(request: Request, line: Line) -> HttpResponse:
    """Shows what it would do; confirmed, it is done by the one pipeline, as whoever asks. What came of it is shown either way."""
    if request.user.is_auditor:
        raise PermissionDenied("Auditors read the record, and change nothing.")
    form = _override_form(line, request.POST)
    if not form.is_valid():
        return _page(request, line, override=form)
    values, connection, account = form.cleaned_data, line.connection, line.seen.sweep.account
    schedule = account.schedules[values["schedule"]]
    span = Span(*(int(values[name].timestamp()) for name in ("starts", "ends")))
    once_ = request.POST.get("once", "")
    context: dict[str, Any] = {
        "line": line,
        "connection": connection,
        "form": form,
        "schedule": schedule,
        "person": account.name_of(values["person"]),
        "user_id": values["person"],
        "span": span,
        "lasts": lasts(span.seconds),
        "instead": _on_call_in(line, schedule.id, span),
        "tool": OVERRIDE,
        "here": policy_page(connection, line.policy.id, weeks=_weeks(request)),
        "explain": where_explained(connection.team, OVERRIDE),
    }
    if "confirm" in request.POST and ONCE.fullmatch(once_):
        context |= _written(request, line, values, span, f"page-{once_}")
    else:
        about = about_oneself(request.user, connection.team, connection, OVERRIDE)
        context |= {
            "about": about,
            "once": secrets.token_hex(16),
            "risk": OVERRIDE.risk.value if about.explained.verdict.risk is None else about.explained.verdict.risk.value,
            "hidden": {"starts": iso(span.start), "ends": iso(span.end)},
            "trying": f"{reverse('try', args=[connection.team.slug])}?{urlencode({'tool': 'delete_schedule_override'})}",
        }
    return render(request, "coverage/override.html", context)


def _on_call_in(line: Line, schedule_id: str, span: Span) -> list[str]:
    """Whom an override of these hours would replace, at least for some of them."""
    slices = line.seen.sweep.rendered.get(schedule_id, ())
    users = (one.user for one in slices if one.user and one.start < span.end and one.end > span.start)
    return [line.seen.sweep.account.name_of(user) for user in dict.fromkeys(users)]


def ask_again(connection: Connection, *, by: User) -> None:
    """Have what is mirrored read anew: it was changed from here."""
    mirror.ask_for(connection, by=by.email, changed=True)
    sync_connection.enqueue(str(connection.pk))


def _written(request: Request, line: Line, values: dict[str, Any], span: Span, key: str) -> dict[str, Any]:
    made = put_on_call(request, line.connection, values["schedule"], values["person"], span, key)
    if made.may_be_done:
        ask_again(line.connection, by=request.user)
    return {
        "done": made.done,
        "error": made.error,
        "answer": made.answer,
        "entries": made.entries(request),
        "denied": made.denied,
    }


# Gaps that are meant to be


def _intend(request: Request, line: Line) -> HttpResponse:
    form = IntendForm(request.POST)
    gap = _meant(request, line)
    if gap is None:
        messages.error(request, "This gap is no longer as it was: nothing was marked. Look again.")
        return redirect(policy_page(line.connection, line.policy.id, weeks=_weeks(request)))
    if not form.is_valid():
        return _page(request, line, intend=form)
    values = form.cleaned_data
    weekly = values["every"] == "week"
    day = dt.datetime.combine(values["until"], dt.time(), timezone.get_current_timezone())
    until = day + dt.timedelta(days=1)
    with refusals_in(form):
        row = do_mark_intended(
            line.connection,
            policy_id=line.policy.id,
            policy_name=line.policy.name,
            starts_at=gap.starts,
            # One that goes on beyond what is looked at is meant as long as it was said to be.
            ends_at=max(gap.ends, until) if gap.is_open and not weekly else gap.ends,
            until=until,
            weekly=weekly,
            zone=_zone(line),
            by=request.user,
            reason=values["reason"],
        )
        said = "every week at this time" if weekly else "this time"
        messages.success(request, f"Marked as intended, {said}. It is listed below, where it can be taken back.")
        return HttpResponseRedirect(
            f"{policy_page(line.connection, line.policy.id, weeks=_weeks(request))}#mark-{row.pk}"
        )
    return _page(request, line, intend=form)


def _zone(line: Line) -> str:
    """By whose clock it comes again: that of the first schedule, whose hours made it."""
    return next((schedule.zone for schedule in _schedules(line)), "UTC")
