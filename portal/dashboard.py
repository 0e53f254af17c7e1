"""What a person must know now, looked up for the home page: the same few look-ups for one team and for hundreds."""

from __future__ import annotations

import datetime as dt
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from django.conf import settings
from django.db.models import Count, Q
from django.urls import reverse

from integrations import mirror
from integrations.actions import told_of_candidates, warnings
from integrations.models import Connection
from integrations.pagerduty.analysis.coverage import unknown_in
from integrations.pagerduty.catalog import TOOLS
from policies.core.text import shown
from policies.models import AgentKey, Checkpoint, Entry, LastVerification, Membership, Team, User
from policies.spool import waiting
from portal.forms import in_words
from portal.oncall.coverage import Gap, Line, OnCall, dangerous_first, line_of, look, on_call, once

DAY: Final = dt.timedelta(days=1)
REPEATS: Final = 3
"""Denials of one caller, tool and rule within a day that are worth a line of their own."""
LOOKED_AT: Final = 1_000
"""The denials that are looked at, the newest: their records say who and why."""
EXPIRES_SOON: Final = dt.timedelta(days=14)
STEPS: Final = 5
TEAMS: Final = 20
LATE: Final = 3
"""Intervals without a checkpoint after which something is wrong with the worker."""
LONGEST: Final = 200


@dataclass(frozen=True)
class Look:
    """One line of what needs a look: what it concerns, what is wrong, and the page where it is mended."""

    subject: str
    said: str
    page: str
    more: str = ""
    """Another page: the newest call of several."""


class _Details(msgspec.Struct):
    """What a denied call's record says of it, whatever somebody made of the row."""

    actor: Any = None
    method: Any = None
    path: Any = None
    rule: Any = None


class _Record(msgspec.Struct):
    details: _Details


_RECORD: Final = msgspec.json.Decoder(_Record)
DENIED: Final = ("pk", "at", "team_id", "actor", "tool", "record")


@dataclass(frozen=True, slots=True)
class Denied:
    """A denied call in words."""

    pk: int
    at: dt.datetime
    team_id: int | None
    actor: str
    tool: str
    who: str
    what: str
    rule: str

    @classmethod
    def of(cls, pk: int, at: dt.datetime, team_id: int | None, actor: str, tool: str, record: str) -> Denied:
        """Of the columns ``DENIED``: a page makes a thousand of them, so of nothing more."""
        try:
            details = _RECORD.decode(record).details
        except msgspec.MsgspecError:
            details = _Details()  # It was edited, which verification names: that must not take the page away.
        asked = " ".join(part for part in (details.method, details.path) if isinstance(part, str))
        who = details.actor.get("name", actor) if isinstance(details.actor, dict) else actor
        what = in_words(tool) or asked or "a call"
        # They were made fit to be shown when they were written; the record's rows could be edited.
        told = shown(str(who), LONGEST), shown(what, LONGEST), str(details.rule or "")
        return cls(pk, at, team_id, actor, tool, *told)


@dataclass(frozen=True)
class TeamLine:
    team: Team
    role: str
    connections: list[Connection]
    live_keys: int
    managed: bool


@dataclass(frozen=True)
class JournalHealth:
    """What is known of the journal without reading it."""

    checkpoint: dt.datetime | None
    overdue: bool
    verification: LastVerification | None
    spooled: int
    """Files that wait on this machine to be brought in."""
    spool_problem: str


def team_lines(user: User, now: dt.datetime) -> list[TeamLine]:
    """The teams that somebody sees, with their connections."""
    live = Q(agent_keys__revoked_at=None) & (Q(agent_keys__expires_at=None) | Q(agent_keys__expires_at__gt=now))
    teams = Team.objects.visible_to(user).annotate(live_keys=Count("agent_keys", filter=live, distinct=True))
    connections: dict[int, list[Connection]] = defaultdict(list)
    for connection in Connection.objects.visible_to(user).select_related("team").order_by("team__name", "name"):
        connections[connection.team_id].append(connection)
    roles = dict(Membership.objects.filter(user=user).values_list("team_id", "role"))
    return [
        TeamLine(
            team,
            roles.get(team.pk, ""),
            connections[team.pk],
            team.live_keys,
            user.is_administrator or (roles.get(team.pk) == "manager" and not user.is_auditor),
        )
        for team in teams
    ]


def connections_to_look_at(lines: list[TeamLine], now: dt.datetime) -> list[Look]:
    """What is wrong with connections, those that fail first."""
    candidates = told_of_candidates([row for line in lines for row in line.connections], now)
    found = [
        (row.health != "failing", Look(f"{line.team.name}: {row.name}", said, _connection(row)))
        for line in lines
        for row in line.connections
        for said in warnings(row, now, candidates)
    ]
    return [look for _, look in sorted(found, key=lambda pair: pair[0])]


def _connection(row: Connection) -> str:
    return reverse("connection", args=[row.team.slug, row.pk])


def denied_lately(user: User, now: dt.datetime, span: dt.timedelta = DAY) -> list[Denied]:
    """The denied calls of the last day, the newest first."""
    rows = Entry.objects.denied_to(user, now - span).values_list(*DENIED)[:LOOKED_AT]
    return [Denied.of(*row) for row in rows]


@dataclass(frozen=True)
class Repeat:
    """Denied calls of the same caller, tool and rule."""

    newest: Denied
    team: Team | None
    count: int

    @property
    def why(self) -> str:
        return WHY.get(self.newest.rule, in_words(self.newest.rule) or "no rule")

    @property
    def entry(self) -> str:
        """The page of the newest one."""
        return reverse("audit-entry", args=[self.newest.pk])

    @property
    def mended(self) -> str:
        """The page on which it is changed, or at least told of."""
        return _mended(self.newest, self.team) or self.entry


def repeats(denied: list[Denied]) -> list[Repeat]:
    """Calls of the same caller, tool and rule that were denied again and again, the most frequent first. What is stopped is
    on every page already."""
    counts = Counter((row.team_id, row.actor, row.what, row.rule) for row in denied if row.rule != "stopped")
    often = {place: count for place, count in counts.most_common() if count >= REPEATS}
    newest: dict[tuple[int | None, str, str, str], Denied] = {}
    for row in denied:
        newest.setdefault((row.team_id, row.actor, row.what, row.rule), row)
    teams = Team.objects.in_bulk([place[0] for place in often if place[0] is not None])
    return [Repeat(newest[place], teams.get(place[0] or 0), count) for place, count in often.items()]


def repeated(denied: list[Denied]) -> list[Look]:
    looks = []
    for repeat in repeats(denied):
        row, of = repeat.newest, f" of {repeat.team.name}" if repeat.team else ""
        said = f"{row.what} was denied {repeat.count} times within a day ({repeat.why})."
        looks.append(Look(f"{row.who}{of}", said, repeat.mended, repeat.entry))
    return looks


WHY: Final = {
    "tool_off": "switched off for the team",
    "locked": "locked off for all teams",
    "needs_approval": "it needs a person's approval",
    "narrowed_key": "its key is narrowed to other tools",
    "role": "its role does not allow it",
    "bounds": "outside the connection's bounds",
    "no_connection": "it has no connection",
    "suspended": "its connection is suspended",
    "key_revoked": "its key is revoked",
    "call_limit": "over its call limit",
    "not_in_catalogue": "not in the catalogue",
    "refused_operation": "refused for everybody",
}
"""Rules in a few words; others as they are called."""


def _mended(row: Denied, team: Team | None) -> str:
    """The page on which a rule is changed that denies; empty: there is none."""
    if row.rule in ("not_in_catalogue", "refused_operation"):
        return reverse("catalogue")
    if team is None:
        return ""
    match row.rule:
        case "tool_off" | "needs_approval" | "locked" if row.tool in TOOLS:
            return f"{reverse('team-tools', args=[team.slug])}#tool-{row.tool}"
        case "narrowed_key" | "key_revoked" | "call_limit":
            return reverse("team-agents", args=[team.slug])
        case "role":
            return reverse("team-members", args=[team.slug])
        case "bounds" | "no_connection" | "suspended":
            return reverse("team-connections", args=[team.slug])
    return ""


def keys_that_expire(user: User, now: dt.datetime) -> list[Look]:
    """For whoever may issue another, and for auditors."""
    keys = AgentKey.objects.visible_to(user) if user.is_auditor else AgentKey.objects.editable_by(user)
    soon = keys.filter(revoked_at=None, expires_at__gt=now, expires_at__lte=now + EXPIRES_SOON)
    return [
        Look(
            f"{key.name} of {key.team.name}",
            f"The key pwk_{key.prefix}_… expires {in_days(key.expires_at - now)}: issue another and revoke this one.",
            reverse("team-agents", args=[key.team.slug]),
        )
        for key in soon.select_related("team").order_by("expires_at")
        if key.expires_at is not None
    ]


def in_days(left: dt.timedelta) -> str:
    days = left // DAY
    return "within a day" if days == 0 else f"in {days} day{'' if days == 1 else 's'}"


def first_steps(user: User, lines: list[TeamLine]) -> tuple[list[Look], int]:
    """What to do first where nothing works as yet: of the first teams that one manages the next step, and of how many more."""
    if user.is_administrator and not lines:
        return [Look("Make a team", "Connections, agent keys and tools belong to teams.", reverse("teams"))], 0
    steps = [step for line in lines if line.managed and (step := _step(line)) is not None]
    looks = [Look(subject, said, reverse(view, args=args)) for subject, said, view, args in steps[:STEPS]]
    return looks, len(steps) - len(looks)


def _step(line: TeamLine) -> tuple[str, str, str, list[object]] | None:
    """The next step of one team, and the page where it is done; None: all are done."""
    name, slug = line.team.name, line.team.slug
    if not line.connections:
        said = "Its PagerDuty token: assistants use it and never see it."
        return f"Register a connection for {name}", said, "team-connections", [slug]
    if all(row.health == "untested" for row in line.connections):
        return f"Test the connection of {name}", "It tells what works.", "connection", [slug, line.connections[0].pk]
    if not line.live_keys:
        said = "With it an assistant calls. It is shown once, with what connects a client."
        return f"Issue an agent key of {name}", said, "team-agents", [slug]
    return None


ON_CALL: Final = 8
"""Policies of which it is told who is on call now: those that most services use."""
GAPS: Final = 5
GAP_DAYS: Final = 14
MIRRORS: Final = 12
"""Connections that are looked at: those of one's own teams first."""


@dataclass(frozen=True)
class Duty:
    """A policy, and whom its first level that reaches anybody reaches now."""

    line: Line
    level: int
    """0: none does."""
    people: list[OnCall]
    is_sure: bool
    """Whether it is known who is on call on all schedules of the levels before that one (0: of all)."""


@dataclass(frozen=True)
class Duties:
    """Who is on call now for the teams that somebody sees, and where nobody will be."""

    connections: list[Connection]
    """Empty: they see none, and there is nothing to tell."""
    is_read: bool
    """Whether anything was mirrored yet."""
    now: list[Duty]
    more: int
    """Policies besides these."""
    gaps: list[tuple[Line, Gap]]
    """The most dangerous of the next 14 days."""
    more_gaps: int
    unsure: int
    """Policies of which it cannot be told whether they have any: a schedule of theirs is not mirrored."""


def duties(user: User, lines: list[TeamLine], now: dt.datetime) -> Duties:
    own = {line.team.pk for line in lines if line.role}
    connections = sorted(mirror.visible_to(user), key=lambda row: row.team_id not in own)[:MIRRORS]
    seen = look(connections, now)
    found = [line_of(each, policy, now, GAP_DAYS) for each, policy in once(seen)]
    found.sort(key=lambda line: (-len(line.services), line.policy.name.casefold(), line.policy.id))
    gaps = dangerous_first(found)
    instant = int(now.timestamp())
    return Duties(
        connections,
        bool(seen),
        [_duty(line, instant) for line in found[:ON_CALL]],
        max(len(found) - ON_CALL, 0),
        gaps[:GAPS],
        max(len(gaps) - GAPS, 0),
        sum(bool(line.unsure) for line in found),
    )


def _duty(line: Line, instant: int) -> Duty:
    is_sure = True
    for number, level in enumerate(line.policy.levels, 1):
        if people := on_call(line.seen, line.policy, number, instant):
            return Duty(line, number, people, is_sure)
        is_sure = is_sure and not unknown_in(level, line.seen.sweep.rendered)
    return Duty(line, 0, [], is_sure)


VERIFIED_LATE: Final = 2 * DAY
"""Without a verification for so long something is wrong with the worker, which verifies daily."""


def journal_to_look_at(health: JournalHealth, now: dt.datetime) -> list[Look]:
    """What is wrong with the journal, the worst first."""
    page, found, looks = reverse("audit-integrity"), health.verification, []
    if found is not None and found.status != LastVerification.Status.INTACT:
        looks.append(Look(f"The journal: {found.get_status_display()}", found.told, page))
    if found is not None and now - found.at > VERIFIED_LATE:
        said = "Nothing has verified it for two days: see whether the worker runs (manage.py run_worker)."
        looks.append(Look("The journal's verification", said, page))
    if health.overdue:
        said = "The next one is overdue: see whether the worker runs (manage.py run_worker)."
        looks.append(Look("The journal's checkpoint", said, page))
    if health.spool_problem:
        looks.append(Look("The spool", health.spool_problem, page))
    return looks


def journal_health(now: dt.datetime) -> JournalHealth:
    checkpoint = Checkpoint.objects.order_by("-id").values_list("at", flat=True).first()
    late = LATE * dt.timedelta(minutes=max(settings.CHECKPOINT_MINUTES, 1))
    files, problem = 0, ""
    try:
        files = len(waiting(settings.SPOOL_DIR))
    except OSError as error:
        problem = f"What waits there cannot be told: {error.strerror}."
    return JournalHealth(
        checkpoint,
        checkpoint is not None and now - checkpoint > late,
        LastVerification.objects.first(),
        files,
        problem,
    )
