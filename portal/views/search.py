"""``/search/``: teams, connections, tools, agent keys and the record, by what somebody types or pastes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from django.db.models import Q
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_safe

from integrations.models import Connection
from integrations.pagerduty.catalog import TOOLS
from policies.core.text import redacted, shown
from policies.models import AgentKey, Entry, Team
from portal.audit.query import Query
from portal.frame import Frame, page_of_team
from portal.http import Request

LONGEST: Final = 100
"""Characters that are looked for: nothing here has a longer name."""
LOOKED_AT: Final = 500
"""Characters of what was typed that are looked at, for secrets too."""
LISTED: Final = 6
"""Finds of each kind."""
PAGERDUTY_ID: Final = re.compile(r"[A-Z][A-Z0-9]{5,13}")
KEY: Final = re.compile(r"pwk_([a-z0-9]{8})")


@dataclass(frozen=True)
class Find:
    name: str
    path: str
    about: str = ""


@dataclass(frozen=True)
class Finds:
    """Of one kind, the first few; ``more``: there are others."""

    title: str
    rows: list[Find]
    more: bool


@require_safe
def index(request: Request) -> HttpResponse:
    typed = " ".join(request.GET.get("q", "")[:LOOKED_AT].split())
    # The start of a key finds it. All else that is secret is neither looked for nor said again.
    key = KEY.match(typed)
    held_secret = redacted(typed) != typed
    text = f"pwk_{key[1]}" if key else "" if held_secret else shown(typed, LONGEST)
    found = _found(request, text) if text else []
    rows = [row for finds in found for row in finds.rows]
    if not request.htmx and len(rows) == 1 and _is_pasted(text):
        return redirect(rows[0].path)
    context = {"text": text, "found": found, "count": len(rows), "held_secret": held_secret}
    partial = request.htmx and not request.htmx.history_restore_request
    answer = render(request, "search/_found.html" if partial else "search/index.html", context)
    patch_vary_headers(answer, ["HX-Request"])
    return answer


def _is_pasted(text: str) -> bool:
    """What names one thing, and is nobody's word."""
    return bool(
        KEY.fullmatch(text) or PAGERDUTY_ID.fullmatch(text) or re.fullmatch(r"([a-z]{3,5}-)?[0-9a-f]{20,28}", text)
    )


def _found(request: Request, text: str) -> list[Finds]:
    """In at most five questions, however much there is."""
    frame = Frame(request, request.user)
    kind = re.sub(r"[^a-z]", "", request.GET.get("kind", "")[:20])
    teams = Team.objects.visible_to(request.user).filter(Q(name__icontains=text) | Q(slug__icontains=text))
    connections = Connection.objects.visible_to(request.user).filter(name__icontains=text).select_related("team")
    key = KEY.match(text)
    named = Q(prefix=key[1]) if key else Q(name__icontains=text) | Q(prefix__startswith=text.lower())
    keys = AgentKey.objects.visible_to(request.user).filter(named).select_related("team")
    kinds = [
        _finds("Teams", [Find(team.name, page_of_team(team.slug, kind)) for team in teams[: LISTED + 1]]),
        _finds(
            "Connections",
            [
                Find(row.name, reverse("connection", args=[row.team.slug, row.pk]), f"of {row.team.name}")
                for row in connections[: LISTED + 1]
            ],
        ),
        _finds("Tools", _tools(request, text)),
        _finds(
            "Agent keys",
            [
                Find(
                    row.name,
                    f"{page_of_team(row.team.slug, 'agents')}#key-{row.pk}",
                    f"{_state(row)} of {row.team.name}",
                )
                for row in keys.order_by("revoked_at", "name")[: LISTED + 1]
            ],
        ),
        _finds("The record", _recorded(request, frame, text)),
    ]
    return [finds for finds in kinds if finds.rows]


def _finds(title: str, rows: list[Find]) -> Finds:
    return Finds(title, rows[:LISTED], len(rows) > LISTED)


def _state(key: AgentKey) -> str:
    return f"pwk_{key.prefix}_…{'' if key.revoked_at is None else ', revoked,'}"


def _tools(request: Request, text: str) -> list[Find]:
    """Those whose name holds all the words. They lead to the tools of the team that is looked at, else to the catalogue."""
    slug = shown(request.GET.get("team", ""), LONGEST)
    team = Team.objects.visible_to(request.user).filter(slug=slug).first() if slug else None
    page = reverse("team-tools", args=[team.slug]) if team else reverse("catalogue")
    words = text.lower().replace("_", " ").split()
    told = [tool for tool in TOOLS.values() if all(word in f"{tool.title} {tool.name}".lower() for word in words)]
    return [
        Find(
            tool.title,
            f"{page}?{urlencode({'text': tool.name})}",
            f"{tool.risk.value} risk, for {team.name}" if team else f"{tool.risk.value} risk",
        )
        for tool in sorted(told, key=lambda tool: tool.title)[: LISTED + 1]
    ]


def _recorded(request: Request, frame: Frame, text: str) -> list[Find]:
    """What one may read of a decision, or what was done to a thing of PagerDuty's."""
    if not frame.reads or not re.fullmatch(r"[A-Za-z0-9-]{6,32}", text):
        return []
    entries = (
        Entry.objects.visible_to(request.user).filter(decision_id=text).order_by("-pk").values_list("pk", flat=True)[:3]
    )
    if entries:
        # A call has its result, a write its intent besides: the page of one shows both.
        many = len(entries) > 2
        path = _audit(Query(decision=text)) if many else reverse("audit-entry", args=[entries[0]])
        return [Find(f"Decision {text}", path)]
    if PAGERDUTY_ID.fullmatch(text):
        return [Find(f"What was done to {text}", _audit(Query(target=text)), "in PagerDuty")]
    return []


def _audit(query: Query) -> str:
    return f"{reverse('audit')}?{urlencode({'q': str(query)})}"
