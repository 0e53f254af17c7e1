"""``/escalations/``: whether escalation policies would wake somebody, how fast they are answered, and what would mend them."""

from __future__ import annotations

import datetime as dt
import re
import secrets
from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import Http404, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_safe

from integrations import measured, mirror
from integrations.gateway import web
from integrations.models import MutedFinding
from integrations.mutes import do_mute_finding, do_unmute_finding
from integrations.pagerduty.analysis.escalation import RULES, SEVERITIES, Finding
from integrations.pagerduty.analysis.model import Level, Policy, Target
from integrations.pagerduty.catalog import TOOLS
from policies.core.call import Client, Tool
from policies.models import Entry
from portal.explaining import about_oneself, where_explained
from portal.forms import EscalationsForm, MuteForm, WhatIfForm
from portal.http import Request, may_manage, one_of, refusals_in, told
from portal.oncall.coverage import Seen, counted, fits, look, once, paged_page
from portal.oncall.escalation import (
    RANK,
    Case,
    Difference,
    One,
    Reviews,
    answering,
    changed,
    escalation_page,
    estimated,
    name_of,
    reviews,
    severities,
    worst_first,
)
from portal.oncall.whatif import (
    Draft,
    arguments,
    as_it_is,
    asked,
    compare,
    differences,
    digest,
    key_of,
    not_simple,
    proposals,
)
from portal.readable import readable
from portal.views.coverage import ask_again, waiting

POLICIES: Final = 30
"""On one page of the list."""
LISTED: Final = 12
"""Services of a policy, and findings about no policy, before they are folded."""
READ: Final = TOOLS["get_escalation_policy"]
WRITE: Final = TOOLS["update_escalation_policy"]
ONCE: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)


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
    part = "escalations/_found.html" if request.htmx and request.htmx.target == "found" else "escalations/index.html"
    return render(request, part, context)


@dataclass(frozen=True)
class Loose:
    """A finding that no policy is to blame for."""

    seen: Seen
    finding: Finding

    @property
    def name(self) -> str:
        kind, id = self.finding.subject
        account = self.seen.sweep.account
        if kind == "schedule" and id in account.schedules:
            return account.schedules[id].name
        return account.services[id].name if kind == "service" and id in account.services else id

    @property
    def page(self) -> str:
        """Of ours; empty: it has none."""
        kind, id = self.finding.subject
        if kind == "schedule" and id in self.seen.sweep.account.schedules:
            return reverse("schedule", args=[self.seen.connection.pk, id])
        return paged_page(self.seen.connection, service_id=id) if kind == "service" else ""


def _found(request: Request, seen: list[Seen], now: dt.datetime) -> dict[str, Any]:
    teams = sorted({(each.connection.team.slug, each.connection.team.name) for each in seen}, key=lambda row: row[1])
    rules = sorted(((rule.name, rule.title) for rule in RULES.values()), key=lambda row: row[1])
    form = EscalationsForm(request.GET, teams, rules)
    # What is no choice is none: a link that was kept may name what is gone.
    form.is_valid()
    chosen = form.cleaned_data
    days, team = int(chosen.get("days") or measured.USUAL), chosen.get("team", "")
    severity, rule, text = (chosen.get(name, "") for name in ("severity", "rule", "text"))
    within = [each for each in seen if team in ("", each.connection.team.slug)]
    answers = {each.connection.pk: answering(each.connection, now, days) for each in within}
    reviewed = {each.connection.pk: reviews(each, answers[each.connection.pk], now) for each in within}

    def wanted(finding: Finding) -> bool:
        bad = not severity or RANK[finding.rule.severity] <= RANK[severity]
        return bad and rule in ("", finding.rule.name)

    cases = []
    for each, policy in once(within):
        key = each.connection.pk
        case = Case(each, policy, reviewed[key].of(policy.id), answers[key])
        if fits(each, policy, text=text) and (not (severity or rule) or any(map(wanted, case.review.open))):
            cases.append(case)
    cases = worst_first(cases)
    loose = [
        each for each in _loose(within, reviewed) if wanted(each.finding) and text.casefold() in each.name.casefold()
    ]
    query = QueryDict(mutable=True)
    for name in form.fields:
        if value := request.GET.get(name):
            query[name] = value
    return {
        "form": form,
        "days": days,
        "usual": measured.USUAL,
        "cases": cases,
        "page": Paginator(cases, POLICIES).get_page(request.GET.get("page")),
        "query": query.urlencode(),
        "summary": _summary(cases, loose, narrowed=bool(severity or rule or text)),
        "loose": loose[:LISTED],
        "more_loose": loose[LISTED:],
        "loose_count": len(loose),
        "answers": list(answers.values()),
    }


def _loose(seen: list[Seen], reviewed: dict[Any, Reviews]) -> list[Loose]:
    """Once for each, whatever connections of an account mirror it."""
    found: dict[tuple[str, str], Loose] = {}
    for each in seen:
        for finding in reviewed[each.connection.pk].of("").open:
            found.setdefault((each.connection.region, finding.key), Loose(each, finding))
    return sorted(found.values(), key=lambda row: (RANK[row.finding.rule.severity], row.name.casefold()))


def _summary(cases: list[Case], loose: list[Loose], *, narrowed: bool) -> str:
    if not cases:
        return "No escalation policy fits." if narrowed else "No escalation policy is within what your connections see."
    wrong = [case for case in cases if case.review.open]
    muted = sum(len(case.review.muted) for case in cases)
    also = f" {counted(muted, 'finding')} {'is' if muted == 1 else 'are'} muted." if muted else ""
    besides = f" {counted(len(loose), 'finding')} of no policy besides." if loose else ""
    if not wrong:
        which = "The only policy has" if len(cases) == 1 else f"None of {len(cases)} policies has"
        return (
            f"{which} {'nothing' if len(cases) == 1 else 'anything'} wrong with it, as far as is known.{also}{besides}"
        )
    bad = Counter(finding.rule.severity for case in wrong for finding in case.review.open)
    by_severity = ", ".join(f"{bad[severity]} {severity}" for severity in SEVERITIES if severity in bad)
    policies = "policy" if len(cases) == 1 else "policies"
    return f"Something is wrong with {len(wrong)} of {len(cases)} {policies}: {by_severity}.{also}{besides}"


# One policy


@require_http_methods(["GET", "HEAD", "POST"])
def policy(request: Request, connection: str, policy_id: str) -> HttpResponse:
    now = timezone.now()
    row = next((each for each in mirror.visible_to(request.user) if each.pk == connection), None)
    found = look([row], now) if row is not None else []
    if not found or policy_id not in found[0].sweep.account.policies:
        raise Http404
    one = One(found[0], found[0].sweep.account.policies[policy_id], now, _days(request))
    if request.method == "POST":
        return _posted(request, one)
    if request.htmx and request.htmx.target == "what-if":
        return render(request, "escalations/_whatif.html", _what_if(request, one))
    return _page(request, one)


def _days(request: Request) -> int:
    asked_for = request.GET.get("days", "")
    return int(asked_for) if asked_for in map(str, measured.DAYS) else measured.USUAL


@dataclass(frozen=True)
class FindingShown:
    """A finding on a policy's page."""

    finding: Finding
    changes: list[tuple[str, list[Difference]]]
    """What mends it, in words and as a diff; one is enough."""
    form: MuteForm | None
    """To mute it, where one may."""
    mute: MutedFinding | None = None
    """By what it is muted."""

    @property
    def follows(self) -> str:
        """Words of the rule with whose finding it goes away."""
        rule = RULES.get(self.finding.follows)
        return rule.title if rule is not None else ""


def _page(request: Request, one: One, *, refused: tuple[str, MuteForm] | None = None) -> HttpResponse:
    """``refused``: the finding's key and what was filled in to mute it."""
    manages = may_manage(request, one.seen.connection.team)
    context: dict[str, Any] = {
        "open": [
            _shown(one, each, _mute_form(one, number, each, refused) if manages else None)
            for number, each in enumerate(one.review.open, 1)
        ],
        "muted": [_shown(one, each.finding, None, each.row) for each in one.review.muted],
        "first_muted": len(one.review.open) + 1,
        "unjudged": one.review.unjudged,
        "counts": severities(one.review.open),
        "answers": [one.answering],
        "incidents": one.answering.incidents(one.policy.id),
        "median": estimated(median) if (median := one.answering.median(one.policy.id)) is not None else "",
        "slowest": one.answering.slowest(one.policy.id),
        "is_measured": any(one.times),
        "choices": measured.DAYS,
        "manages": manages,
        "refused": refused[0] if refused else "",
        "services": one.line.services[:LISTED],
        "more_services": one.line.services[LISTED:],
        "picture": one.ladder(one.policy, one.times),
        "levels": one.levels(one.policy, one.times),
        "proposed": proposals(one),
        "was": digest(one.policy),
        **_what_if(request, one),
    }
    return render(request, "escalations/policy.html", context, status=422 if refused else 200)


def _shown(one: One, finding: Finding, form: MuteForm | None, mute: MutedFinding | None = None) -> FindingShown:
    changes = [(each.words, [changed(each, one.account)]) for each in finding.changes]
    return FindingShown(finding, changes, form, mute)


def _mute_form(one: One, number: int, finding: Finding, refused: tuple[str, MuteForm] | None) -> MuteForm:
    if refused and refused[0] == finding.key:
        return refused[1]
    until = timezone.localtime(one.now + dt.timedelta(days=90)).date()
    return MuteForm(initial={"until": until}, auto_id=f"mute-{number}-%s")


def _what_if(request: Request, one: One) -> dict[str, Any]:
    """What the part of the page shows that tells of other delays, an other order or others to tell."""
    found = asked(request.GET, one.policy, one.account)
    draft = found.shown if found is not None else as_it_is(one.policy)
    people = sorted(one.account.people.values(), key=lambda person: (person.name.casefold(), person.id))
    schedules = sorted(one.account.schedules.values(), key=lambda each: (each.name.casefold(), each.id))
    targets = [(f"schedule.{each.id}", f"{each.name} (schedule)") for each in schedules]
    targets += [(f"user.{each.id}", each.name) for each in people]
    compared = None
    if found is not None and found.draft is not None and found.draft != as_it_is(one.policy):
        compared = compare(one, found.draft)
    return {
        "one": one,
        "policy": one.policy,
        "connection": one.seen.connection,
        "asked": found,
        "rows": [
            (
                number,
                row,
                [(key_of(target), name_of(target, one.account)) for target in row.level.targets],
            )
            for number, row in enumerate(draft.rows, 1)
        ],
        "numbers": range(1, len(draft.rows) + 1),
        "if_form": WhatIfForm(targets, len(draft.rows), draft.loops),
        "compared": compared,
        "usual": measured.USUAL,
        "path": escalation_page(one.seen.connection, one.policy.id),
        "link": f"{escalation_page(one.seen.connection, one.policy.id)}?{draft.query}" if compared is not None else "",
        "manages": may_manage(request, one.seen.connection.team),
        "was": digest(one.policy),
    }


# What is done


def _posted(request: Request, one: One) -> HttpResponse:
    action = request.POST.get("action", "")
    if action not in ("mute", "unmute", "apply"):
        raise Http404
    if not may_manage(request, one.seen.connection.team):
        what = "change an escalation policy from here" if action == "apply" else "say what is as it should be"
        raise PermissionDenied(f"Only a manager of {one.seen.connection.team.name} or an administrator may {what}.")
    if action == "apply":
        return _apply(request, one)
    return _mute(request, one) if action == "mute" else _unmute(request, one)


# A change of the policy, by the one pipeline


def _apply(request: Request, one: One) -> HttpResponse:
    """Shows what it would do; confirmed, it is done by the one pipeline, as whoever asks. What came of it is shown either way."""
    policy, connection = one.policy, one.seen.connection
    found = asked(request.POST, policy, one.account)
    if found is None or found.draft is None or found.draft == as_it_is(policy):
        messages.error(request, " ".join(found.errors) if found and found.errors else "There is nothing to change.")
        return redirect(one.here)
    draft, was, once_ = found.draft, request.POST.get("was", ""), request.POST.get("once", "")
    if problem := not_simple(policy, draft):
        messages.error(request, f"This is not changed from here. {problem}")
        return redirect(f"{one.here}?{draft.query}#what-if")
    context: dict[str, Any] = {
        "one": one,
        "policy": policy,
        "connection": connection,
        "draft": draft,
        "differences": differences(policy, draft, one.account),
        "services": one.line.services,
        "tool": WRITE,
        "here": one.here,
        "explain": where_explained(connection.team, WRITE),
    }
    if was != digest(policy):
        messages.error(request, f"{policy.name} is no longer as it was when this was proposed: look again.")
        return redirect(one.here)
    if "confirm" in request.POST and ONCE.fullmatch(once_):
        context |= _written(request, one, draft, f"page-{once_}")
    else:
        about = about_oneself(request.user, connection.team, connection, WRITE)
        context |= {
            "about": about,
            "once": secrets.token_hex(16),
            "was": was,
            "risk": WRITE.risk.value if about.explained.verdict.risk is None else about.explained.verdict.risk.value,
            "open_incidents": one.reviews.open_incidents.get(policy.id, 0),
        }
    return render(request, "escalations/apply.html", context)


def _written(request: Request, one: One, draft: Draft, key: str) -> dict[str, Any]:
    connection = one.seen.connection

    def use(tool: Tool, given: dict[str, Any], idempotency_key: str = "") -> web.Done:
        return web.use_tool(
            tool,
            given,
            by=request.user,
            team=connection.team,
            connection_id=str(connection.pk),
            client=Client(request.META.get("REMOTE_ADDR", ""), request.headers.get("User-Agent", "")),
            idempotency_key=idempotency_key,
        )

    done = use(READ, {"escalation_policy_id": one.policy.id})
    decisions = list(done.decisions)
    error = done.content["error"] if done.is_error else None
    if error is None:
        stands = _as_it_stands(done.content, one.policy.id)
        # What stands there already may be what this very form did before: then it is not done again, and told as done.
        expected = (digest(one.policy), digest(draft.policy(one.policy)))
        if stands is None or digest(stands) not in expected:
            ask_again(connection, by=request.user)
            error = {
                "kind": "refused",
                "problem": f"{one.policy.name} is no longer as it was when this was proposed: nothing was changed.",
                "remedy": "It is being read anew: look again in a moment, and decide by what is there then.",
            }
        else:
            done = use(WRITE, arguments(one.policy, draft, one.account), key)
            decisions += done.decisions
            error = done.content["error"] if done.is_error else None
            if error is None or error.get("kind") == "unknown":
                # Also where nobody knows whether it was done: the mirror will say.
                ask_again(connection, by=request.user)
    rows = Entry.objects.visible_to(request.user).filter(decision_id__in=decisions).order_by("pk")
    return {
        "done": done,
        "decisions": decisions,
        "error": error,
        "answer": None if error else readable(done.content),
        "entries": [row for row in rows if row.kind == "result"],
        "denied": error is not None and error.get("kind") in ("denied", "needs_approval"),
    }


def _as_it_stands(content: Any, policy_id: str) -> Policy | None:
    """The policy as PagerDuty has just told it, in the form in which tools answer. None: it cannot be read, or not all of it."""
    document = content.get("escalation_policy") if isinstance(content, dict) else None
    if not isinstance(document, dict) or document.get("id") != policy_id:
        return None
    try:
        levels = tuple(
            Level(
                int(row["delay_minutes"]),
                tuple(Target("user" if each["type"] == "user" else "schedule", each["id"]) for each in row["whom"]),
                row.get("strategy") == "round_robin",
            )
            for row in document["levels"]
        )
        return Policy(policy_id, "", levels, int(document.get("repeats") or 0))
    except (KeyError, TypeError, ValueError):
        return None


# Findings that are as they should be


def _mute(request: Request, one: One) -> HttpResponse:
    key = request.POST.get("finding", "")
    finding = next((each for each in one.review.open if each.key == key), None)
    if finding is None:
        messages.error(request, "This is no longer found, or muted already: nothing was muted. Look again.")
        return redirect(one.here)
    form = MuteForm(request.POST, auto_id="muted-%s")
    if form.is_valid():
        values = form.cleaned_data
        day = dt.datetime.combine(values["until"], dt.time(), timezone.get_current_timezone())
        with refusals_in(form):
            do_mute_finding(
                one.seen.connection,
                finding,
                policy_name=one.policy.name,
                until=day + dt.timedelta(days=1),
                by=request.user,
                reason=values["reason"],
            )
            messages.success(request, "Muted. It is listed below, where it can be taken back.")
            return redirect(f"{one.here}#findings")
    return _page(request, one, refused=(key, form))


def _unmute(request: Request, one: One) -> HttpResponse:
    rows = MutedFinding.objects.filter(connection=one.seen.connection, policy_id=one.policy.id)
    mute = one_of(rows, request.POST.get("mute"))

    def unmute() -> str:
        do_unmute_finding(mute, by=request.user, reason=request.POST.get("reason", ""))
        return "Taken back: it is told again."

    told(request, unmute)
    return redirect(f"{one.here}#findings")
