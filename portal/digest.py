"""The weekly digest by e-mail: what the agents of one's teams did, what was denied, what is about to expire, and whether the
journal is intact. What the pages know it asks the same way; it is sent once to each, however many workers there are."""

from __future__ import annotations

import datetime as dt
import logging
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.db.models import Q, QuerySet
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone

from integrations.alarms import opened
from integrations.pagerduty.catalog import TOOLS
from integrations.tasks import periodic
from policies.core.text import shown
from policies.counts import Calls, calls_by_agent
from policies.models import AgentKey, Alarm, Digest, Membership, Team, User
from portal import dashboard
from portal.audit.query import Query
from portal.audit.search import scope
from portal.forms import in_words

log = logging.getLogger(__name__)

WEEK: Final = dt.timedelta(days=7)
HOUR: Final = 8
"""Of Monday, in UTC."""
LATE: Final = dt.timedelta(days=1)
"""A worker that was down on Monday sends it within a day, or not at all."""
KEPT: Final = dt.timedelta(days=60)
TEAMS, AGENTS, USED, LINES = 10, 10, 5, 10
"""How many teams are told of, agents of each, tools of each agent, and lines of anything else: the rest is counted."""
LONGEST: Final = 200

Week = Mapping[tuple[int, str], Mapping[str, Calls]]
"""(team, actor) → tool → calls."""


@dataclass(frozen=True)
class Line:
    """One line. ``about`` and ``quoted`` are others' words, made fit to be shown; ``said`` is ours."""

    about: str
    said: str
    page: str
    """Its whole address."""
    quoted: str = ""


@dataclass(frozen=True)
class Agent:
    name: str
    calls: int
    writes: int
    denied: int
    tools: list[tuple[str, int]]
    """Titles and calls, the most used first."""
    more_tools: int


@dataclass(frozen=True)
class OfTeam:
    name: str
    page: str
    calls: int
    writes: int
    denied: int
    agents: list[Agent]
    more_agents: int


@dataclass(frozen=True)
class Section:
    title: str
    none: str
    """What is said where there is nothing."""
    lines: list[Line] = field(default_factory=list)

    @property
    def first(self) -> list[Line]:
        return self.lines[:LINES]

    @property
    def more(self) -> int:
        return max(len(self.lines) - LINES, 0)


@dataclass(frozen=True)
class Mail:
    """A digest, as it is sent."""

    to: str
    subject: str
    text: str
    html: str

    def send(self) -> None:
        mail = EmailMultiAlternatives(self.subject, self.text, None, [self.to])
        mail.attach_alternative(self.html, "text/html")
        mail.send()


def week_of(since: dt.datetime, until: dt.datetime) -> Week:
    """What every agent did, of all teams at once: the journal is gone through once for all digests."""
    everything = User(role=User.Role.AUDITOR)
    bounds = Query(since=f"{since:%Y-%m-%dT%H:%M:%S}", until=f"{until:%Y-%m-%dT%H:%M:%S}")
    ids = scope(bounds, everything, until).ends()
    return calls_by_agent(since, until, ids) if ids else {}


def digest(user: User, week: Week, since: dt.datetime, until: dt.datetime) -> Mail:
    """``user``'s digest of what happened between two moments, with what is about to expire as it is now."""
    now = timezone.now()
    everything = user.is_administrator or user.is_auditor
    mine = Team.objects.visible_to(user) if everything else Team.objects.editable_by(user)
    teams = _teams(mine, week)
    calls, denied = sum(team.calls for team in teams), sum(team.denied for team in teams)
    sections = [
        _repeated(user, until - since, now),
        _expiring(user, {team.pk for team in mine}, now),
        _alarms(user, now),
        *([_journal(now)] if everything else []),
    ]
    context = {
        "user": user,
        "since": since,
        "until": until,
        "calls": calls,
        "writes": sum(team.writes for team in teams),
        "denied": denied,
        "teams": teams[:TEAMS],
        "more_teams": max(len(teams) - TEAMS, 0),
        "sections": sections,
        "everything": everything,
        "audit": _address(reverse("audit")),
        "account": _address(reverse("account")),
        "public": settings.PUBLIC_URL,
    }
    subject = f"Pagewarden: {_count(calls, 'call')} and {denied:,} denied in the week to {until:%d %B}".replace(
        " 0", " "
    )
    return Mail(
        user.email, subject, render_to_string("digest/mail.txt", context), render_to_string("digest/mail.html", context)
    )


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _address(page: str) -> str:
    return f"{settings.PUBLIC_URL}{page}"


def _teams(mine: QuerySet[Team], week: Week) -> list[OfTeam]:
    """Those whose agents did something, the busiest first."""
    names = {team.pk: team for team in mine}
    of_team: dict[int, list[Agent]] = defaultdict(list)
    ids = [actor.removeprefix("key:") for team, actor in week if team in names]
    keys = {f"key:{key.pk}": key.name for key in AgentKey.objects.filter(pk__in=[pk for pk in ids if _is_id(pk)])}
    for (team, actor), used in week.items():
        if team in names:
            of_team[team].append(_agent(keys.get(actor, "an agent that is gone"), used))
    told = []
    for team, agents in of_team.items():
        agents.sort(key=lambda agent: (-agent.calls, agent.name))
        told.append(
            OfTeam(
                shown(names[team].name, LONGEST),
                _address(reverse("team-agents", args=[names[team].slug])),
                sum(agent.calls for agent in agents),
                sum(agent.writes for agent in agents),
                sum(agent.denied for agent in agents),
                agents[:AGENTS],
                max(len(agents) - AGENTS, 0),
            )
        )
    return sorted(told, key=lambda team: (-team.calls, team.name))


def _is_id(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def _agent(name: str, used: Mapping[str, Calls]) -> Agent:
    most = sorted(used.items(), key=lambda pair: (-pair[1].calls, pair[0]))
    return Agent(
        shown(name, LONGEST),
        sum(each.calls for each in used.values()),
        sum(each.calls - each.denied for tool, each in used.items() if tool in TOOLS and TOOLS[tool].writes),
        sum(each.denied for each in used.values()),
        [(in_words(tool) or "no tool of the catalogue", each.calls) for tool, each in most[:USED]],
        max(len(most) - USED, 0),
    )


def _repeated(user: User, span: dt.timedelta, now: dt.datetime) -> Section:
    lines = []
    for repeat in dashboard.repeats(dashboard.denied_lately(user, now, span)):
        of = f" of {repeat.team.name}" if repeat.team else ""
        known = repeat.newest.tool in TOOLS
        said = f"was denied {repeat.count:,} times ({repeat.why}){f': {repeat.newest.what}' if known else ''}"
        quoted = "" if known else repeat.newest.what
        lines.append(Line(shown(f"{repeat.newest.who}{of}", LONGEST), said, _address(repeat.mended), quoted))
    return Section("Denied again and again", "No call was denied three times.", lines)


def _expiring(user: User, teams: set[int], now: dt.datetime) -> Section:
    lines = [
        Line(shown(look.subject, LONGEST), look.said, _address(look.page))
        for look in dashboard.keys_that_expire(user, now)
    ]
    of_mine = [line for line in dashboard.team_lines(user, now) if line.team.pk in teams]
    lines += [
        # What is wrong may be told in PagerDuty's words.
        Line(shown(look.subject, LONGEST), "", _address(look.page), shown(look.said, LONGEST))
        for look in dashboard.connections_to_look_at(of_mine, now)
    ]
    none = "No key expires within 14 days, and no connection fails or needs another token."
    return Section("Keys and connections that need a look", none, lines)


def _alarms(user: User, now: dt.datetime) -> Section:
    open_ones = Alarm.objects.open().visible_to(user)
    lines = []
    for each in opened(open_ones):
        key = each.alarm.key
        page = f"{reverse('team-agents', args=[key.team.slug])}#alarm-{each.alarm.pk}"
        about = shown(f"{key.name} of {key.team.name}", LONGEST)
        lines.append(Line(about, each.alarm.get_kind_display(), _address(page), each.signs[0][1] if each.signs else ""))
    return Section("Agent keys that may be in the wrong hands", "There is no open alarm.", lines)


def _journal(now: dt.datetime) -> Section:
    health = dashboard.journal_health(now)
    page = _address(reverse("audit-integrity"))
    looks = dashboard.journal_to_look_at(health, now)
    lines = [Line(look.subject, "", page, shown(look.said, 2 * LONGEST)) for look in looks]
    if not lines and health.verification is not None:
        at = f"{health.verification.at:%Y-%m-%d %H:%M} UTC"
        lines = [Line("The journal", f"was verified at {at}", page, shown(health.verification.told, 2 * LONGEST))]
    return Section("The journal", "It was not verified yet: the worker does it daily.", lines)


def recipients() -> QuerySet[User]:
    """Whoever may read any of the record, and wants to: a manager whose teams have no agent has nothing to be told."""
    manages = Membership.objects.filter(role=Membership.Role.MANAGER, team__agent_keys__isnull=False).values("user_id")
    readers = Q(role__in=[User.Role.ADMINISTRATOR, User.Role.AUDITOR]) | Q(pk__in=manages)
    return User.objects.get_queryset().filter(readers, is_active=True, weekly_digest=True)


def due_at(now: dt.datetime) -> dt.datetime:
    """The newest Monday at eight that has been."""
    now = now.astimezone(dt.UTC)
    monday = (now - dt.timedelta(days=now.weekday())).replace(hour=HOUR, minute=0, second=0, microsecond=0)
    return monday if monday <= now else monday - WEEK


def send_due(now: dt.datetime) -> int:
    """Send this week's digests to whoever has not got theirs. Returns how many."""
    until = due_at(now)
    if now - until >= LATE:
        return 0
    waiting = recipients().exclude(digests__week=until.date())
    sent, week = 0, None
    for user in waiting:
        # Claimed first, and for good: one too few is better than two. Whoever comes second finds it claimed.
        claim, mine = Digest.objects.get_or_create(user=user, week=until.date())
        if not mine:
            continue
        try:
            week = week_of(until - WEEK, until) if week is None else week
            digest(user, week, until - WEEK, until).send()
        except Exception:
            # Whatever the mail backend raises: the others do not wait for it, and the next hour tries again.
            log.exception("No digest could be sent to the person %s", user.pk)
            claim.delete()
            continue
        sent += 1
    Digest.objects.filter(week__lt=(now - KEPT).date()).delete()
    return sent


@periodic(minutes=60)
def send_digests() -> None:
    """Hourly, for a worker that was down at one hour must not miss a week."""
    if sent := send_due(timezone.now()):
        log.info("%s weekly digests were sent", sent)
