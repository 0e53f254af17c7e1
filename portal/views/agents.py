"""``/teams/<slug>/agents/``: the keys that a team hands to its assistants, and how these are connected."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from integrations.actions import do_issue_agent_key, troubles
from integrations.alarms import opened
from integrations.models import Connection, ConnectionKey
from integrations.pagerduty.catalog import PRESETS, TOOLS
from policies.actions import Widens, do_change_key, do_close_alarm, do_revoke_key
from policies.counts import Calls, calls_of_agents
from policies.models import AgentKey, Alarm, KeyNetwork, Stop, Team
from portal.connecting import configurations, mcp_url, unusable
from portal.dashboard import DAY, EXPIRES_SOON, in_days
from portal.forms import AgentsForm, ChangeKeyForm, KeyForm, in_words
from portal.http import Request, managed_team, may_manage, one_of, refusals_in, told, visible_team

PAGE: Final = 50
"""Keys on one page."""
UNUSED: Final = 30 * DAY


@dataclass(frozen=True)
class Row:
    """An agent key, as a line of the page."""

    key: AgentKey
    state: str
    """``usable``, ``expired`` or ``revoked``."""
    ends: str
    """Of a usable key that expires soon when, in words; else empty."""
    unused: bool
    """Whether it is usable and was not used for long."""
    stopped: bool
    calls: Calls | None
    """Its calls of the last seven days; None: whoever looks does not read the record."""

    @property
    def states(self) -> set[str]:
        """What it is, in the words of ``STATES_OF_KEYS``."""
        told = {self.state}
        told |= {"expiring"} if self.ends else set()
        told |= {"unused"} if self.unused else set()
        return told | ({"stopped"} if self.stopped else set())

    @property
    def narrowed(self) -> tuple[str, list[str]]:
        return _narrowed(self.key)


def _row(key: AgentKey, now: dt.datetime, stopped: set[str], calls: Mapping[str, Calls] | None) -> Row:
    state = "usable"
    if key.revoked_at is not None:
        state = "revoked"
    elif key.expires_at is not None and key.expires_at <= now:
        state = "expired"
    left = key.expires_at - now if state == "usable" and key.expires_at is not None else None
    return Row(
        key,
        state,
        in_days(left) if left is not None and left <= EXPIRES_SOON else "",
        state == "usable" and (key.last_used_at or key.created_at) < now - UNUSED,
        f"key:{key.pk}" in stopped,
        None if calls is None else calls.get(f"key:{key.pk}", Calls()),
    )


_NEVER: Final = dt.datetime.min.replace(tzinfo=dt.UTC)
_FOR_EVER: Final = dt.datetime.max.replace(tzinfo=dt.UTC)
SORTS: Final[Mapping[str, Callable[[Row], Any]]] = {
    "": lambda row: -row.key.created_at.timestamp(),
    "name": lambda row: row.key.name.lower(),
    "used": lambda row: -(row.key.last_used_at or _NEVER).timestamp(),
    "calls": lambda row: -row.calls.calls if row.calls else 0,
    "denied": lambda row: -row.calls.denied if row.calls else 0,
    # What no longer serves comes last, whenever it would have ended.
    "expires": lambda row: (row.state != "usable", row.key.expires_at or _FOR_EVER),
}


def _fits(row: Row, values: Mapping[str, Any]) -> bool:
    key, text = row.key, str(values["text"]).lower().removesuffix("_…")
    held = (key.name, f"pwk_{key.prefix}", key.created_by, key.kept_by)
    return (not values["state"] or values["state"] in row.states) and any(text in one.lower() for one in held)


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def index(request: Request, slug: str) -> HttpResponse:
    team = managed_team(request, slug) if request.method == "POST" else visible_team(request, slug)
    action = request.POST.get("action")
    if action == "revoke":
        key = one_of(AgentKey.objects.filter(team=team), request.POST.get("key"))

        def revoke() -> str:
            # Without a reason too: a stolen key is revoked first and explained later.
            do_revoke_key(key, by=request.user, reason=request.POST.get("reason", ""))
            return f"{key.name} is revoked: its next call is refused."

        told(request, revoke)
        return redirect("team-agents", team.slug)
    if action == "close":
        alarm = one_of(Alarm.objects.select_related("key__team").filter(key__team=team), request.POST.get("alarm"))

        def close() -> str:
            do_close_alarm(alarm, by=request.user, reason=request.POST.get("reason", ""))
            return f"Noted: it is known of {alarm.key.name} from now on."

        told(request, close)
        return redirect("team-agents", team.slug)
    form = KeyForm(team, request.POST if action == "issue" else None)
    issued: tuple[AgentKey, str] | None = None
    used: Connection | None = None
    if action == "issue" and form.is_valid():
        values = form.cleaned_data
        with refusals_in(form):
            # Shown in this very answer and nowhere else: a redirect would have to keep the secret somewhere.
            issued = do_issue_agent_key(
                values["connection"],
                name=values["name"],
                by=request.user,
                tools=TOOLS,
                expires_at=form.expires_at(),
                networks=values["networks"],
                narrowed_to=form.narrowed_to(),
                calls_per_minute=values["calls_per_minute"],
                reason=values["reason"],
            )
            form, used = KeyForm(team), values["connection"]
    now = timezone.now()
    connections = list(team.connections.all())
    context = _listed(request, team, now) | {
        "team": team,
        "alarms": opened(Alarm.objects.open().visible_to(request.user).filter(key__team=team)),
        "form": form,
        "issued": issued,
        "base_url": f"{settings.PUBLIC_URL}/pagerduty",
        "clients": configurations(issued[1]).items() if issued else (),
        # Of a key just issued, what concerns its own connection.
        "troubles": [(row, said) for row in connections if used is None or used == row for said in troubles(row, now)],
        "has_connection": bool(connections),
    }
    return render(request, "agents/index.html", context, status=422 if form.errors else 200)


def _listed(request: Request, team: Team, now: dt.datetime) -> dict[str, Any]:
    """The keys that the page's filters find, a page of them, with what each needs around it."""
    manages = may_manage(request, team)
    # Whoever reads the team's record, and nobody else, sees what is counted of it.
    reads = manages or request.user.is_auditor
    week = calls_of_agents(team.pk, now) if reads else None
    stopped = set(Stop.objects.filter(team_id=team.pk).values_list("subject", flat=True))
    rows = [_row(key, now, stopped, week.of if week is not None else None) for key in team.agent_keys.all()]
    find = AgentsForm(request.GET if request.GET.keys() & AgentsForm.base_fields.keys() else None)
    values = find.cleaned_data if find.is_valid() else dict.fromkeys(find.fields, "")
    # What is wrong in the form fits nothing.
    fitting = [] if find.errors else sorted((r for r in rows if _fits(r, values)), key=SORTS[values["sort"]])
    page = Paginator(fitting, PAGE).get_page(request.GET.get("page"))
    shown = [row.key.pk for row in page]
    # A key outlives its connection: revoked, and with no connection to name.
    links = ConnectionKey.objects.filter(key__in=shown).select_related("connection")
    used = {link.key_id: link.connection for link in links}
    networks: dict[UUID, list[str]] = defaultdict(list)
    for seen in KeyNetwork.objects.visible_to(request.user).filter(key__in=shown):
        networks[seen.key_id].append(seen.network)
    query = request.GET.copy()
    query.pop("page", None)
    return {
        "find": find,
        "page": page,
        "query": query.urlencode(),
        "rows": [(row, used.get(row.key.pk), networks[row.key.pk]) for row in page],
        "keys": len(rows),
        "filtered": any(values.values()) or bool(find.errors),
        "ending": [row for row in rows if row.ends],
        "reads": reads,
        "lags": week is not None and week.lags,
        "may_manage": manages,
    }


@require_http_methods(["GET", "HEAD", "POST"])
def change(request: Request, slug: str, pk: UUID) -> HttpResponse:
    """What holds an issued key back, changed at once. What would let it do more is confirmed point by point."""
    team = managed_team(request, slug)
    key = get_object_or_404(AgentKey.objects.select_related("team"), team=team, pk=pk, revoked_at=None)
    form = ChangeKeyForm(key, request.POST if request.method == "POST" else None)
    wider: list[str] = []
    if request.method == "POST" and form.is_valid():
        values = form.cleaned_data
        with refusals_in(form):
            try:
                do_change_key(
                    key,
                    by=request.user,
                    tools=TOOLS,
                    expires_at=form.expires_at(),
                    networks=values["networks"],
                    narrowed_to=form.narrowed_to(),
                    calls_per_minute=values["calls_per_minute"],
                    widening=request.POST.getlist("widening"),
                    seen=values["seen"],
                    reason=values["reason"],
                )
            except Widens as error:
                wider = error.sentences
                raise
            messages.success(
                request, f"{key.name} is changed: it binds its next write at once, and its next read within a second."
            )
            return redirect("team-agents", team.slug)
    link = ConnectionKey.objects.filter(key=key).select_related("connection").first()
    context = {
        "team": team,
        "key": key,
        "connection": link.connection if link else None,
        "form": form,
        "wider": wider,
        "confirmed": request.POST.getlist("widening"),
        "may_manage": True,
    }
    return render(request, "agents/change.html", context, status=422 if form.errors else 200)


@require_safe
def connect(request: Request, slug: str, pk: UUID) -> HttpResponse:
    """How an assistant is connected with a key that was issued earlier: only whoever has it can put it in."""
    team = visible_team(request, slug)
    key = get_object_or_404(AgentKey.objects.select_related("team"), team=team, pk=pk)
    link = ConnectionKey.objects.filter(key=key).select_related("connection").first()
    context = {
        "team": team,
        "key": key,
        "connection": link.connection if link else None,
        "narrowed": _narrowed(key),
        "unusable": unusable(key),
        "troubles": [(link.connection, said) for said in troubles(link.connection, timezone.now())] if link else [],
        "may_manage": may_manage(request, team),
        "mcp_url": mcp_url(),
        "clients": configurations().items(),
    }
    return render(request, "agents/connect.html", context)


def _narrowed(key: AgentKey) -> tuple[str, list[str]]:
    """What a key may use: in a few words, and the titles of the tools where it is narrowed to them."""
    if key.tools is None:
        whose = "workspace" if key.team.kind == Team.Kind.PERSONAL else "team"
        return f"all that the {whose}'s tools allow", []
    titles = [in_words(tool) for tool in key.tools]
    count = f"{len(titles)} tool{'' if len(titles) == 1 else 's'}"
    # What of them the team has off the key may not use either.
    return f"the core, at most {count}" if set(key.tools) == PRESETS["core"] else count, titles
