"""``/audit/``: the journal, newest first, and one entry of it whole."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from policies.actions import Refused, do_delete_view, do_mark_reviewed, do_record_export, do_save_view
from policies.core.call import EntryKind
from policies.core.proof import DOES_NOT_PROVE, PROVES
from policies.core.text import shown
from policies.models import Checkpoint, Entry, LastVerification, Review, SavedView, Team, User
from portal.audit.around import Around, around, follows
from portal.audit.export import FORMS, opening, proven, reach, stream
from portal.audit.facts import groups
from portal.audit.query import BadQuery, Query, checked, fields, of_fields, parse
from portal.audit.rows import LONGEST, Row
from portal.audit.search import Found, page, scope
from portal.forms import SINCE, AuditForm, ReviewForm, ViewForm
from portal.http import Request, one_of, told
from portal.templatetags.words import when

OTHER_NAMES = {"decision_id": "decision"}
NAMES = ("kind", "team", "tool", "verdict", "outcome", "decision_id", "revealed")
"""Filters that an address may also name one by one, as links from other pages do."""


@dataclasses.dataclass(frozen=True)
class Asked:
    """What an address asks for."""

    query: Query
    text: str
    """As it stands in the query bar."""
    fields: dict[str, str]
    problems: list[str]


def asked(request: Request) -> Asked:
    given = request.GET
    text = given.get("q", "").strip()
    values: dict[str, str] = {}
    try:
        if "form" in given:
            values = {name: value for name, value in given.items() if isinstance(value, str)}
            query = of_fields(values)
        else:
            query = parse(text)
            named = {OTHER_NAMES.get(name, name): given[name].strip() for name in NAMES if given.get(name)}
            if named.get("team", "").isdecimal():
                slug = (
                    Team.objects.visible_to(request.user)
                    .filter(pk=int(named["team"][:18]))
                    .values_list("slug", flat=True)
                )
                named["team"] = slug.first() or named["team"]
            values = fields(query) | named
            if named:
                query = of_fields(values)
    except BadQuery as error:
        return Asked(Query(), text, values, error.problems)
    return Asked(query, str(query), fields(query), [])


@require_safe
def index(request: Request) -> HttpResponse:
    what = asked(request)
    if "form" in request.GET and not what.problems:
        return redirect(_address(what.text))
    found, problems, team_id = Found([], None, None, None), what.problems, None
    live = "live" in request.GET and not problems
    if live and request.htmx:
        return _live(request, what)
    if not problems:
        try:
            where = scope(what.query, request.user, timezone.now())
            found = page(where, before=_id(request, "before"), after=_id(request, "after"))
            team_id = where.team_id
        except BadQuery as error:
            problems, live = error.problems, False
    context = {
        "text": what.text,
        "problems": problems,
        "found": found,
        "rows": _rows(found.entries),
        "older": _address(what.text, before=found.older) if found.older is not None else "",
        "link": f"?{urlencode({'q': what.text})}" if what.text else "",
        "reads": (reads := _reads(request.user)),
    }
    if request.htmx and not request.htmx.history_restore_request:
        return render(request, "audit/_rows.html", context)
    context |= {
        "form": AuditForm(request.user, what.fields),
        "newer": _address(what.text, after=found.newer) if found.newer is not None else "",
        "times": _times(what.query),
        "jobs": _address(str(dataclasses.replace(what.query, jobs="" if what.query.jobs else "hidden"))),
        "jobs_are_hidden": bool(what.query.jobs),
        "live": live,
        "follow": _address(what.text, live=1),
        "still": _address(what.text),
        "newest": found.entries[0].pk if found.entries else 0,
        "form_is_wrong": "form" in request.GET,
        "views": [(view, _address(view.query)) for view in request.user.saved_views.all()] if reads else [],
        "proof": (PROVES[reached := reach(what.query, request.user)], DOES_NOT_PROVE[reached]),
        "view_form": ViewForm(auto_id="view_%s"),
        **({} if problems else _reviews(request.user, what, found, team_id)),
        "verified": LastVerification.objects.first() if reads else None,
        "checkpoint": Checkpoint.objects.order_by("-id").values_list("at", flat=True).first(),
    }
    return render(request, "audit/index.html", context)


def _live(request: Request, what: Asked) -> HttpResponse:
    """The newest entries, if there are any that the asker has not yet."""
    try:
        found = page(scope(what.query, request.user, timezone.now()))
    except BadQuery:
        # A name is nobody's any more: htmx stops asking at this status.
        return HttpResponse(status=286)
    newest = found.entries[0].pk if found.entries else 0
    if newest == _id(request, "newest"):
        return HttpResponse(status=204)
    context = {
        "found": found,
        "rows": _rows(found.entries),
        "link": f"?{urlencode({'q': what.text})}" if what.text else "",
        "reads": True,
        "live": True,
        "follow": _address(what.text, live=1),
        "newest": newest,
    }
    return render(request, "audit/_live.html", context)


def _reviews(user: User, what: Asked, found: Found, team_id: int | None) -> dict[str, Any]:
    """The newest reviews of the very query, and a form for the next, which goes on from there to the newest entry that is shown:
    nobody marks what came meanwhile. A manager's review of their own team is none of all teams."""
    done = list(Review.objects.visible_to(user).filter(query=what.text)[:5])
    if not found.entries or found.newer is not None:
        return {"reviews": done}
    last = found.entries[0].pk
    first = min(max((review.last_id for review in done if review.team_id == team_id), default=0) + 1, last)
    return {"reviews": done, "review_form": ReviewForm(auto_id="review_%s", initial={"first": first, "last": last})}


def _id(request: Request, name: str) -> int | None:
    text = request.GET.get(name, "")
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def _address(text: str, **more: int) -> str:
    """The page's, with a query's text."""
    values: dict[str, Any] = ({"q": text} if text else {}) | more
    return reverse("audit") + (f"?{urlencode(values)}" if values else "")


def _times(query: Query) -> list[tuple[str, str, bool]]:
    """The times that are offered: in words, the address, and whether it is the one there is."""
    now = (query.since, query.until)
    offered = [("any time", ""), *((said, value) for value, said in SINCE.items())]
    return [
        (said, _address(str(dataclasses.replace(query, since=value, until=""))), now == (value, ""))
        for said, value in offered
    ]


def _rows(entries: list[Entry]) -> list[tuple[Row, str]]:
    """Entries in words, and of the intents among them what became of the write."""
    names = dict(Team.objects.filter(pk__in={row.team_id for row in entries if row.team_id}).values_list("pk", "name"))
    intents = [row.decision_id for row in entries if row.kind == EntryKind.INTENT]
    results = Entry.objects.filter(decision_id__in=intents, kind=EntryKind.RESULT.value)
    became = dict(results.values_list("decision_id", "outcome")) if intents else {}
    return [
        (Row.of(row, names), became.get(row.decision_id, "") if row.kind == EntryKind.INTENT else "") for row in entries
    ]


@require_POST
def export(request: Request) -> HttpResponseBase:
    """What the query finds, all of it, oldest first, as a file. That it is taken is on record before its first byte goes out."""
    text, form = request.POST.get("q", "").strip(), request.POST.get("form", "")
    if form not in FORMS:
        raise Http404
    now = timezone.now()
    try:
        query = parse(text)
        where = scope(query, request.user, now)
    except BadQuery as error:
        for problem in error.problems:
            messages.error(request, problem)
        return redirect(_address(text))
    ends = where.ends() or (0, 0)
    try:
        do_record_export(by=request.user, team_id=where.team_id, query=str(query), form=form, until=ends[1])
    except Refused as error:
        raise PermissionDenied(str(error)) from error
    pieces = (
        proven(*opening(query, where, ends, request.user, now)) if form == "proof" else stream(where.rows, ends, form)
    )
    ending, kind = FORMS[form]
    answer = StreamingHttpResponse(pieces, content_type=kind)
    name = f"pagewarden-audit-{now:%Y%m%dT%H%M%SZ}.{ending}"
    answer["Content-Disposition"] = f'attachment; filename="{name}"'
    answer["X-Content-Type-Options"] = "nosniff"
    return answer


@require_POST
def review(request: Request) -> HttpResponse:
    """Marks a range as reviewed."""
    text, form = request.POST.get("q", "").strip(), ReviewForm(request.POST)

    def mark() -> str:
        if not form.is_valid():
            raise ValidationError([f"{name}: {said}" for name, wrong in form.errors.items() for said in wrong])
        query = _query(text)
        values = form.cleaned_data
        try:
            where = scope(query, request.user, timezone.now())
        except BadQuery as error:
            raise ValidationError(error.problems) from error
        do_mark_reviewed(by=request.user, team_id=where.team_id, query=str(query), **values)
        return f"Entries {values['first']} to {values['last']} are marked as reviewed."

    _as_reader(request, mark)
    return redirect(_address(text))


@require_POST
def views(request: Request) -> HttpResponse:
    """Keeps a query, or deletes one that was kept."""
    text = request.POST.get("q", "").strip()

    def save() -> str:
        if pk := request.POST.get("delete"):
            view = one_of(SavedView.objects.filter(user=request.user), pk)
            do_delete_view(view, by=request.user)
            return f"The view {view.name} is deleted."
        view = do_save_view(by=request.user, name=request.POST.get("name", ""), query=str(_query(text)))
        return f"The view {view.name} is saved."

    _as_reader(request, save)
    return redirect(_address(text))


def _query(text: str) -> Query:
    """Raises ``ValidationError``."""
    try:
        return parse(text)
    except BadQuery as error:
        raise ValidationError(error.problems) from error


def _as_reader(request: Request, action: Callable[[], str]) -> None:
    if not _reads(request.user):
        raise PermissionDenied("Managers, auditors and administrators read the record.")
    told(request, action)


def _reads(user: User) -> bool:
    """Whether there is any team whose record this person reads (``ViaTeamIdQuerySet`` says which)."""
    return user.is_administrator or user.is_auditor or Team.objects.editable_by(user).exists()


@require_safe
def entry(request: Request, pk: int) -> HttpResponse:
    row = get_object_or_404(Entry.objects.visible_to(request.user).select_related("stream"), pk=pk)
    about = around(row, request.user)
    record = json.loads(row.record)
    why = [str(record["details"].get(name, "")) for name in ("reason", "remedy")]
    what = asked(request)
    pair = sorted([row, *about.same], key=lambda entry: entry.pk)
    context = {
        "row": row,
        "back": _address(what.text),
        "link": f"?{urlencode({'q': what.text})}" if what.text else "",
        "said": Row.of(row, {}),
        "record": json.dumps(record, indent=2),
        "spooled": {name: _told(value) for name, value in record["details"].get("spooled", {}).items()},
        "told": shown(" ".join(filter(None, why)), 2 * LONGEST),
        "groups": groups(row),
        "pair": [(entry, Row.of(entry, {}), groups(entry)) for entry in pair] if about.same else [],
        "follows": follows(row),
        "about": about,
        "lists": [
            (heading, _rows(entries), address)
            for heading, entries, address in (
                ("The other calls of the same use of a tool", about.use, ""),
                ("The same target within ten minutes", about.target, _of_targets(about)),
            )
            if entries
        ],
        "session": _address(about.session.query) if about.session else "",
    }
    return render(request, "audit/entry.html", context)


def _told(value: Any) -> str:
    """A time of the record as pages tell times; anything else as it is."""
    try:
        return when(dt.datetime.fromisoformat(value), "seconds")
    except (TypeError, ValueError):
        return shown(str(value), LONGEST)


def _of_targets(about: Around) -> str:
    """Where all that was done to the entry's target is listed."""
    names = {name for _, name in about.targets}
    try:
        return _address(str(checked({"target": names.pop()}, []))) if len(names) == 1 else ""
    except BadQuery:
        return ""
