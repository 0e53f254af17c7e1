"""How often tools were called, and by which keys: what is counted, once each, and what a page adds."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.utils import timezone

from policies import counts
from policies.core.call import Entry, EntryKind, Outcome
from policies.counts import Calls, calls_of, calls_of_agents, count_calls, forget_old_counts
from policies.journal import append_in_transaction
from policies.models import AgentCalls, Counted, ToolCalls
from tests.conftest import Cast

NOW = timezone.now()


def called(
    team_id: int | None, tool: str, verdict: str = "allow", *, ago: dt.timedelta = dt.timedelta(0), **more: Any
) -> None:
    kind = more.get("kind", EntryKind.RESULT)
    append_in_transaction(
        Entry(kind, NOW - ago, "d", team_id, more.get("by", "key:1"), tool=tool, verdict=verdict, outcome=Outcome.DONE)
    )


def count(times: int = 1) -> int:
    """As the task does, a minute later each time."""
    gone = 0
    for _ in range(times):
        Counted.objects.update(at=timezone.now() - dt.timedelta(minutes=1))
        gone += count_calls()
    return gone


def test_calls_and_denials_of_a_week_are_the_same_before_and_after_they_are_counted(cast: Cast) -> None:
    for verdict in ("allow", "allow", "deny", "needs_approval"):
        called(cast.payments.pk, "list_incidents", verdict)
    called(cast.payments.pk, "list_incidents", ago=dt.timedelta(days=6, hours=23))
    called(cast.payments.pk, "list_incidents", ago=dt.timedelta(days=8))
    called(cast.payments.pk, "get_incident", kind=EntryKind.INTENT)
    called(cast.payments.pk, "")
    called(None, "list_incidents")
    called(cast.payments.pk, "", "deny", by="key:2")
    called(cast.payments.pk, "list_teams", by="user:1")
    called(cast.search.pk, "get_incident")
    for _ in range(3):
        week = calls_of(cast.payments.pk, NOW)
        assert (week.of, week.lags) == ({"list_incidents": Calls(5, 2), "list_teams": Calls(1, 0)}, False)
        agents = calls_of_agents(cast.payments.pk, NOW)
        # A call of no known tool is a call of its key all the same; a person's is no agent's.
        assert (agents.of, agents.lags) == ({"key:1": Calls(6, 2), "key:2": Calls(1, 1)}, False)
        assert calls_of(cast.search.pk, NOW).of == {"get_incident": Calls(1, 0)}
        count(2)
    assert Counted.objects.get().entry_id > 0
    called(cast.payments.pk, "list_incidents", "deny")
    assert calls_of(cast.payments.pk, NOW).of["list_incidents"] == Calls(6, 3)
    assert calls_of_agents(cast.payments.pk, NOW).of["key:1"] == Calls(7, 3)
    for counted in (calls_of, calls_of_agents):
        assert counted(cast.payments.pk, NOW + dt.timedelta(days=8)).of == {}


def test_nothing_is_counted_before_it_is_settled_and_nothing_twice(cast: Cast) -> None:
    called(cast.payments.pk, "list_incidents")
    assert count() == 0  # its number is seen now, and may have an uncommitted one below it
    assert count_calls() == 0  # at once again: too soon
    assert count() > 0
    assert count() == 0
    assert not counts._count(0, 1)  # another worker was there before
    assert ToolCalls.objects.get().calls == 1


def test_a_long_journal_is_counted_piece_by_piece(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts, "AT_ONCE", 2)
    for _ in range(7):
        called(cast.payments.pk, "list_incidents")
    count()
    Counted.objects.update(at=timezone.now() - dt.timedelta(minutes=1))
    assert count_calls(seconds=0) == 0
    assert count() >= 7
    assert ToolCalls.objects.get().calls == 7


def test_a_page_adds_no_more_than_it_can_afford_and_says_so(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts, "NEWER", 3)
    for _ in range(5):
        called(cast.payments.pk, "list_incidents")
    week = calls_of(cast.payments.pk, NOW)
    assert (week.of, week.lags) == ({"list_incidents": Calls(3, 0)}, True)
    count(2)
    week = calls_of(cast.payments.pk, NOW)
    assert (week.of, week.lags) == ({"list_incidents": Calls(5, 0)}, False)


def test_old_counts_are_forgotten(cast: Cast) -> None:
    called(cast.payments.pk, "list_incidents")
    called(cast.payments.pk, "list_incidents", ago=dt.timedelta(days=9))
    count(2)
    assert ToolCalls.objects.count() == 2
    assert forget_old_counts() == 2
    assert AgentCalls.objects.get().begins == ToolCalls.objects.get().begins
    assert ToolCalls.objects.get().begins > NOW - dt.timedelta(days=1)
