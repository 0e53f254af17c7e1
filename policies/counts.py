"""How often each tool of a team was called, and how often each of its agent keys called. The journal has few indexes, so that
appending is cheap, and none of them counts a million entries while somebody waits for a page: a task counts them, six hours in
a row, and a page adds what is newer."""

from __future__ import annotations

import datetime as dt
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from django.db import connection, transaction
from django.db.models import Count, Max, Q, Sum
from django.db.models.functions import TruncHour
from django.utils import timezone

from policies.core.call import Decision, EntryKind
from policies.models import AgentCalls, Counted, Entry, ToolCalls

DAYS: Final = 7
HOURS: Final = 6
"""How long one count is: a page sums 30 of each tool, and what it calls seven days may be a few hours more."""
SETTLED: Final = dt.timedelta(seconds=50)
"""Entries are numbered before they are committed: after this long none appears any more below the newest number that was
seen, for a commit gives up much sooner."""
AT_ONCE: Final = 20_000
"""Numbers of entries that are counted in one go."""
NEWER: Final = 3_000
"""The most entries of a team that a page adds itself: more wait only where the task was away."""
ADD: Final = (
    "INSERT INTO {table} (team_id, begins, {of}, calls, denied) VALUES (%s, %s, %s, %s, %s) "
    "ON CONFLICT (team_id, begins, {of}) DO UPDATE SET calls = {table}.calls + excluded.calls, "
    "denied = {table}.denied + excluded.denied"
)
AGENT: Final = "key:"
"""How the journal's name of an agent key begins."""
_DENIED = Count("pk", filter=~Q(verdict=Decision.ALLOW.value))


def count_calls(*, seconds: float = 20) -> int:
    """Count what is settled and not counted yet, for about so long at most. Returns how many entries were gone through.

    Two at once count nothing twice: whoever comes second to the same entries lets them be.
    """
    until = time.monotonic() + seconds
    now = timezone.now()
    mark, _ = Counted.objects.get_or_create(pk=1, defaults={"at": now - SETTLED})
    begun, settled = mark.entry_id, mark.newest_id
    if now - mark.at < SETTLED:
        return 0
    newest = Entry.objects.aggregate(newest=Max("id"))["newest"] or 0
    Counted.objects.filter(pk=1, at=mark.at).update(newest_id=newest, at=now)
    while mark.entry_id < settled and time.monotonic() < until:
        upto = min(mark.entry_id + AT_ONCE, settled)
        if not _count(mark.entry_id, upto):
            break
        mark.entry_id = upto
    return mark.entry_id - begun


def _begins(at: dt.datetime) -> dt.datetime:
    at = at.astimezone(dt.UTC)
    return at.replace(hour=at.hour - at.hour % HOURS, minute=0, second=0, microsecond=0)


def _count(after: int, upto: int) -> bool:
    # Read before the transaction: on SQLite it would keep the journal's writers waiting.
    found = (
        Entry.objects.filter(id__gt=after, id__lte=upto, kind=EntryKind.RESULT.value, team_id__isnull=False)
        .order_by()
        .annotate(hour=TruncHour("at", tzinfo=dt.UTC))
        .values_list("team_id", "hour", "tool", "actor")
        .annotate(calls=Count("pk"), denied=_DENIED)
    )
    of_tools: Sums = defaultdict(lambda: [0, 0])
    of_agents: Sums = defaultdict(lambda: [0, 0])
    for team, hour, tool, actor, calls, denied in found:
        for sums, name in ((of_tools, tool), (of_agents, actor if actor.startswith(AGENT) else "")):
            if name:
                both = sums[team, name, _begins(hour)]
                both[0] += calls
                both[1] += denied
    with transaction.atomic():
        if not Counted.objects.filter(pk=1, entry_id=after).update(entry_id=upto):
            return False
        _add("policies_toolcalls", "tool", of_tools)
        _add("policies_agentcalls", "actor", of_agents)
    return True


Sums = defaultdict[tuple[int, str, dt.datetime], list[int]]
"""(Team, whose calls, the first of six hours) → calls, and how many of them were not allowed."""


def _add(table: str, of: str, sums: Sums) -> None:
    adapt = connection.ops.adapt_datetimefield_value
    rows = [(team, adapt(begins), name, *both) for (team, name, begins), both in sums.items()]
    with connection.cursor() as cursor:
        cursor.executemany(ADD.format(table=table, of=of), rows)


def forget_old_counts() -> int:
    """Those that no page asks for any more. Returns how many."""
    old = timezone.now() - dt.timedelta(days=DAYS + 1)
    return sum(rows.objects.filter(begins__lt=old).delete()[0] for rows in (ToolCalls, AgentCalls))


@dataclass(frozen=True, slots=True)
class Calls:
    calls: int = 0
    denied: int = 0
    """How many of them were not allowed."""


@dataclass(frozen=True, slots=True)
class Week:
    """The calls of a team in the last seven days."""

    of: Mapping[str, Calls]
    """Tool name, or the journal's name of an agent key → its calls; what is not there was not called, or did not call."""
    lags: bool
    """Whether calls are missing that the task has still to count."""


def calls_of(team_id: int, now: dt.datetime) -> Week:
    """Of each tool. Three queries, each on an index and over a bounded number of rows, however long the journal is."""
    counts = ToolCalls.objects.filter(team_id=team_id, begins__gte=_since(now)).values_list("tool")
    return _week(team_id, now, counts.annotate(calls=Sum("calls"), denied=Sum("denied")), "tool", "")


def calls_of_agents(team_id: int, now: dt.datetime) -> Week:
    """Of each agent key (``key:<id>``), calls of no known tool too; at the same price."""
    counts = AgentCalls.objects.filter(team_id=team_id, begins__gte=_since(now)).values_list("actor")
    return _week(team_id, now, counts.annotate(calls=Sum("calls"), denied=Sum("denied")), "actor", AGENT)


def _since(now: dt.datetime) -> dt.datetime:
    return _begins(now - dt.timedelta(days=DAYS))


def _week(team_id: int, now: dt.datetime, counts: Iterable[tuple[str, int, int]], of: str, begins: str) -> Week:
    """``counts``: what is counted; ``of``: the column of an entry that says whose a call is, and how that begins."""
    found = {name: (calls, denied) for name, calls, denied in counts}
    since = _since(now)
    # A query of its own: PostgreSQL must know how much is newer, or it walks through what is newer of all teams.
    counted = Counted.objects.filter(pk=1).values_list("entry_id", flat=True).first() or 0
    newer = Entry.objects.filter(team_id=team_id, id__gt=counted).order_by("id")
    looked = 0
    # One by one: a sum in the database could not stop after so many rows of which it leaves some out.
    for kind, name, verdict, at in newer.values_list("kind", of, "verdict", "at")[:NEWER]:
        looked += 1
        if kind == EntryKind.RESULT.value and name and name.startswith(begins) and at >= since:
            calls, denied = found.get(name, (0, 0))
            found[name] = (calls + 1, denied + (verdict != Decision.ALLOW.value))
    return Week({name: Calls(*both) for name, both in found.items()}, looked == NEWER)


def calls_by_agent(
    since: dt.datetime, until: dt.datetime, ids: tuple[int, int]
) -> dict[tuple[int, str], dict[str, Calls]]:
    """What each agent did: (team, actor) → tool → its calls; the tool is empty where a call had none. ``ids``: between which
    entries the period lies. For tasks, not for pages: it goes through all of them, in pieces that keep nobody waiting."""
    found: dict[tuple[int, str], dict[str, Calls]] = defaultdict(dict)
    for low in range(ids[0], ids[1] + 1, AT_ONCE):
        part = Entry.objects.filter(id__gte=low, id__lt=min(low + AT_ONCE, ids[1] + 1), at__gte=since, at__lt=until)
        agents = part.filter(kind=EntryKind.RESULT.value, team_id__isnull=False, actor__startswith="key:")
        counted = agents.order_by().values_list("team_id", "actor", "tool").annotate(calls=Count("pk"), denied=_DENIED)
        for team, actor, tool, calls, denied in counted:
            before = found[team, actor].get(tool, Calls())
            found[team, actor][tool] = Calls(before.calls + calls, before.denied + denied)
    return dict(found)
