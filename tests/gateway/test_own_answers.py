"""What the portal answers itself, in the pipeline: on record before it leaves, off the event loop, and closed where it fails."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import threading
import time
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import InterfaceError, OperationalError

from integrations import mirror
from integrations.actions import do_set_bounds, do_set_enabled
from integrations.gateway.integration import Connection, Own, Resolution, Unanswered
from integrations.gateway.pipeline import Answer
from integrations.gateway.runtime import Runtime
from integrations.pagerduty.integration import PagerDuty
from policies.core.call import Call, Client, Door, KeyCredential, Target
from policies.journal import JournalUnavailable
from policies.models import Entry
from tests.conftest import Cast
from tests.gateway.test_pipeline import Setting
from tests.mirrored import mirrored

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def setting(cast: Cast) -> Setting:
    mirror.forget_cached()
    return Setting(cast)


def asked(setting: Setting, tool: str = "schedule_quality", **arguments: Any) -> Call:
    """As a use of a tool asks, whose arguments have their defaults."""
    given = {"limit": 25, "offset": 0, **arguments} if tool != "who_is_paged" else arguments
    credential = KeyCredential(setting.secret)
    client = Client("127.0.0.1")
    return Call(Door.MCP, credential, "", "", client=client, at=time.time(), tool=tool, arguments=given, use="u")


class Says(PagerDuty):
    """Answers, or fails, as a test says."""

    found: Own | Exception = Own({"fine": True}, "2026-11-23T11:57:00Z", (Target("service", "PSVC000"),))

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Resolution] = []

    async def bound(self, *given: Any) -> Any:
        raise AssertionError("the mirror is inside the bounds already")

    async def released(self, *given: Any) -> Any:
        raise AssertionError("the mirror is inside the bounds already")

    async def answer(self, resolution: Resolution, connection: Connection) -> Own:
        self.asked.append(resolution)
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


async def run(setting: Setting, call: Call) -> tuple[Answer, list[Entry], Runtime]:
    async with setting.running() as started:
        answer = await started.pipeline.run(call)
        entries = await sync_to_async(lambda: list(Entry.objects.filter(kind__in=("intent", "result"))))()
        return answer, entries, started


def details(entry: Entry) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(entry.record)["details"]
    return found


def test_an_answer_is_one_result_with_what_it_was_about_and_as_of_when(setting: Setting) -> None:
    setting.made_up = Says  # type: ignore[assignment]  # in place of the mirror
    answer, [entry], _ = asyncio.run(run(setting, asked(setting)))
    assert answer.own is not None
    assert (answer.status, answer.own.document) == (200, {"fine": True})
    assert (entry.kind, entry.verdict, entry.outcome, entry.tool) == ("result", "allow", "done", "schedule_quality")
    told = details(entry)
    assert told["targets"] == [{"type": "service", "id": "PSVC000"}]
    assert told["mirror"]["as_of"] == "2026-11-23T11:57:00Z"
    assert told["arguments"]["arguments"] == {"limit": 25, "offset": 0}
    assert "upstream" not in told
    assert "request_digest" not in told


@pytest.mark.parametrize(
    ("failure", "status", "outcome", "fault"),
    [
        (Unanswered("It is not read yet.", "Wait."), 503, "failed", None),
        (Unanswered("No such.", "Look.", about="schedule_id"), 400, "invalid", "argument:schedule_id"),
        (TimeoutError(), 503, "failed", None),
        (ValueError("a bug"), 500, "failed", None),
    ],
)
def test_why_there_is_no_answer_is_on_record_and_teaches(
    setting: Setting, failure: Exception, status: int, outcome: str, fault: str | None
) -> None:
    class Fails(Says):
        found = failure

    setting.made_up = Fails  # type: ignore[assignment]  # in place of the mirror
    answer, [entry], _ = asyncio.run(run(setting, asked(setting)))
    assert (answer.status, answer.own, bool(answer.problem), bool(answer.remedy)) == (status, None, True, True)
    assert (entry.outcome, details(entry)["status"], details(entry).get("problem")) == (outcome, status, fault)
    assert "a bug" not in entry.record + answer.problem


def test_what_cannot_be_recorded_is_not_answered(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    setting.made_up = Says  # type: ignore[assignment]  # in place of the mirror

    async def scenario() -> Answer:
        async with setting.running() as started:

            def broken(*given: Any, **more: Any) -> Any:
                future = asyncio.get_running_loop().create_future()
                future.set_exception(JournalUnavailable("the disk is full"))
                return future

            monkeypatch.setattr(started.pipeline._journal, "append", broken)
            answer: Answer = await started.pipeline.run(asked(setting))
            monkeypatch.undo()
            return answer

    answer = asyncio.run(scenario())
    assert (answer.status, answer.own) == (503, None)
    assert "journal cannot record" in answer.problem


def test_while_reads_go_on_without_the_database_it_is_not_even_asked(setting: Setting) -> None:
    setting.made_up = Says  # type: ignore[assignment]  # in place of the mirror

    async def scenario() -> tuple[Answer, Any]:
        async with setting.running() as started:
            state = dataclasses.replace(await started.watch.refresh(), reads_only=True)
            started.pipeline._configuration.fresh = lambda: state
            return await started.pipeline.run(asked(setting)), started.pipeline.integration

    answer, integration = asyncio.run(scenario())
    assert (answer.status, integration.asked) == (503, [])
    assert "database is away" in answer.problem
    assert Entry.objects.get(kind="result").outcome == "failed"


def test_a_connection_that_is_switched_off_is_off_for_its_mirror_too(setting: Setting) -> None:
    setting.made_up = Says  # type: ignore[assignment]  # in place of the mirror
    do_set_enabled(setting.connection, False, by=setting.cast.ada)
    answer, [entry], started = asyncio.run(run(setting, asked(setting)))
    assert answer.verdict is not None
    assert (answer.status, answer.verdict.rule, entry.outcome) == (403, "suspended", "denied")
    assert started.pipeline.integration.asked == []  # type: ignore[attr-defined]  # the made-up one's


def test_it_is_read_and_worked_out_off_the_loop(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    mirrored(setting.connection)
    threads = set()
    kept = mirror.kept

    def slow(row: Any) -> mirror.Kept:
        threads.add(threading.current_thread().name)
        time.sleep(0.3)
        return kept(row)

    monkeypatch.setattr(mirror, "kept", slow)

    async def scenario() -> tuple[Answer, int]:
        async with setting.running() as started:
            task = asyncio.create_task(started.pipeline.run(asked(setting)))
            turns = 0
            while not task.done():
                await asyncio.sleep(0.01)
                turns += 1
            return task.result(), turns

    answer, turns = asyncio.run(scenario())
    assert answer.own is not None, answer.problem
    assert answer.own.document["total"] > 10
    assert all(name.startswith("mirror") for name in threads)
    assert turns > 3  # The loop has done other things meanwhile.


@pytest.mark.parametrize("error", [OperationalError("the server is gone"), InterfaceError("connection already closed")])
def test_a_database_that_is_away_fails_closed_and_the_next_answer_comes(
    setting: Setting, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    mirrored(setting.connection)

    async def scenario() -> tuple[Answer, Answer]:
        async with setting.running() as started:
            with monkeypatch.context() as patched:

                def away(row: Any) -> mirror.Kept:
                    raise error

                patched.setattr(mirror, "kept", away)
                first = await started.pipeline.run(asked(setting))
            return first, await started.pipeline.run(asked(setting))

    first, second = asyncio.run(scenario())
    assert (first.status, first.own) == (503, None)
    assert "database did not answer" in first.problem
    assert second.own is not None
    outcomes = Entry.objects.filter(kind="result", tool="schedule_quality").order_by("pk")
    assert list(outcomes.values_list("outcome", flat=True)) == ["failed", "done"]


def test_a_connection_that_broke_while_nobody_asked_costs_no_answer(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirrored(setting.connection)
    kept, failures = mirror.kept, [OperationalError("server closed the connection unexpectedly")]

    def broken_once(row: Any) -> mirror.Kept:
        if failures:
            raise failures.pop()
        return kept(row)

    monkeypatch.setattr(mirror, "kept", broken_once)
    answer, [entry], _ = asyncio.run(run(setting, asked(setting)))
    assert answer.own is not None, answer.problem
    assert entry.outcome == "done"


def test_bounds_that_were_drawn_closer_leave_nothing_of_what_was_read_before(setting: Setting) -> None:
    mirrored(setting.connection)
    call = asked(setting, "who_is_paged", service_id="PSVC000")
    answer, _, _ = asyncio.run(run(setting, call))
    assert answer.own is not None
    do_set_bounds(setting.connection, team_ids=["PTEAM00"], by=setting.cast.ada)
    after, _, _ = asyncio.run(run(setting, dataclasses.replace(call, at=time.time())))
    assert after.own is None
    assert "has not read Main into its mirror yet" in after.problem
    assert "Schedules page" in after.remedy
