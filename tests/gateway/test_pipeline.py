"""The pipeline in this process, on a real database and journal, with answers made up in PagerDuty's place: what cannot be
timed or broken from outside."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from django.db import connection as database
from django.db.utils import InterfaceError

from integrations.actions import (
    do_discard_candidate,
    do_issue_agent_key,
    do_register_token,
    do_replace_token,
    do_set_bounds,
)
from integrations.gateway import runtime as runtimes
from integrations.gateway.alarms import DENIALS
from integrations.gateway.integration import Connection, Reply, Request, Resolution
from integrations.gateway.pipeline import Answer, Buckets
from integrations.gateway.runtime import Runtime, Watch
from integrations.models import Connection as ConnectionRow
from integrations.pagerduty.catalog import TOOLS
from integrations.pagerduty.integration import PagerDuty
from policies.actions import do_revoke_key, do_set_tool_rule, do_set_tools, do_stop
from policies.alarms import Kind
from policies.core.call import Call, Client, Door, JobCredential, KeyCredential, State
from policies.models import AgentKey, Alarm, Entry
from tests.conftest import Cast

pytestmark = pytest.mark.django_db(transaction=True)
JSON = (("content-type", "application/json"),)
FINE = Reply(200, JSON, b'{"incidents":[]}')
NOTE = json.dumps({"note": {"content": "the disk is full"}}).encode()


class MadeUp(PagerDuty):
    """PagerDuty with its transport in our hands."""

    reply: Reply = FINE
    before: Callable[[], Awaitable[None]] | None = None

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[Request] = []
        self._transport.send = self._made_up  # type: ignore[method-assign]  # the very point

    async def _made_up(self, connection: Connection, request: Request, deadline: float, sealed: bytes) -> Reply:
        self.sent.append(request)
        if self.before is not None:
            await self.before()
        return self.reply


class Setting:
    """Payments' connection and a key for it, reads on and notes on."""

    def __init__(self, cast: Cast) -> None:
        self.cast = cast
        self.connection = do_register_token(
            cast.payments,
            name="Main",
            token="upstream-TOKEN-0123456789",
            kind="account",
            region="us",
            from_email="mina@example.com",
            by=cast.ada,
            whole_account=True,
        )
        do_set_tools(cast.payments, states={"add_note_to_incident": State.ON}, tools=TOOLS, by=cast.ada)
        self.key, self.secret = self.issue(0)
        self.made_up = MadeUp

    def issue(self, calls_per_minute: int) -> tuple[AgentKey, str]:
        return do_issue_agent_key(
            self.connection, name="a", by=self.cast.ada, tools=TOOLS, calls_per_minute=calls_per_minute
        )

    @asynccontextmanager
    async def running(self) -> Any:
        started = Runtime(self.made_up)
        await started.start()
        try:
            yield started
        finally:
            await started.stop()

    def call(self, method: str = "GET", path: str = "/incidents", body: bytes = b"", secret: str = "") -> Call:
        credential = KeyCredential(secret or self.secret)
        kind = "application/json" if body else ""
        return Call(Door.REST, credential, method, path, "", body, kind, Client("127.0.0.1"), time.time())

    def note(self) -> Call:
        return self.call("POST", "/incidents/PT4KHLK/notes", NOTE)


@pytest.fixture
def setting(cast: Cast) -> Setting:
    return Setting(cast)


async def in_thread(work: Callable[[], object]) -> None:
    def run() -> None:
        try:
            work()
        finally:
            database.close()

    await asyncio.to_thread(run)


def outcomes(answer: Answer) -> list[tuple[str, str]]:
    assert answer.verdict is not None
    rows = Entry.objects.filter(decision_id=answer.verdict.decision_id).order_by("id")
    return list(rows.values_list("kind", "outcome"))


def test_a_revocation_binds_the_next_read_within_a_second(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the poll, which is usually faster: by the age of what is known alone."""
    monkeypatch.setattr(Watch, "_poll", lambda self: None)

    async def scenario() -> tuple[int, int, int]:
        async with setting.running() as started:
            first = await started.pipeline.run(setting.call())
            await in_thread(lambda: do_revoke_key(setting.key, by=setting.cast.ada))
            await asyncio.sleep(1.0)
            last = await started.pipeline.run(setting.call())
            return first.status, last.status, len(started.pipeline.integration.sent)

    assert asyncio.run(scenario()) == (200, 401, 1)


def test_a_revocation_binds_the_next_write_at_once(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """The configuration in memory is taken for fresh for ever: the journal's own statement must notice."""
    monkeypatch.setattr(Watch, "_poll", lambda self: None)
    monkeypatch.setattr(runtimes, "FRESH_SECONDS", 1e9)

    async def scenario() -> tuple[Answer, Answer, int]:
        async with setting.running() as started:
            first = await started.pipeline.run(setting.note())
            await in_thread(lambda: do_revoke_key(setting.key, by=setting.cast.ada))
            return first, await started.pipeline.run(setting.note()), len(started.pipeline.integration.sent)

    MadeUp.reply = Reply(201, JSON, b'{"note":{}}')
    try:
        first, last, sent = asyncio.run(scenario())
    finally:
        MadeUp.reply = FINE
    assert (first.status, last.status, sent) == (201, 401, 1)
    assert outcomes(last) == [("result", "denied")]


def test_a_write_whose_policy_moved_and_cannot_be_read_any_more_is_on_record(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Watch, "_poll", lambda self: None)
    monkeypatch.setattr(runtimes, "FRESH_SECONDS", 1e9)

    def broken() -> int:
        raise InterfaceError("connection already closed")

    async def scenario() -> tuple[Answer, int]:
        async with setting.running() as started:
            await in_thread(lambda: do_revoke_key(setting.key, by=setting.cast.ada))
            with monkeypatch.context() as patch:
                patch.setattr(runtimes, "current_version", broken)
                return await started.pipeline.run(setting.note()), len(started.pipeline.integration.sent)

    answer, sent = asyncio.run(scenario())
    assert (answer.status, sent, outcomes(answer)) == (503, 0, [("result", "failed")])


def test_a_stop_binds_the_next_write_at_once_and_the_next_read_within_a_second(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Watch, "_poll", lambda self: None)
    monkeypatch.setattr(MadeUp, "reply", Reply(201, JSON, b'{"note":{}}'))

    async def scenario() -> tuple[Answer, Answer, int]:
        async with setting.running() as started:
            assert (await started.pipeline.run(setting.note())).status == 201
            await in_thread(lambda: do_stop(by=setting.cast.mina, reason="it loops", key=setting.key))
            write = await started.pipeline.run(setting.note())
            await asyncio.sleep(1.0)
            return write, await started.pipeline.run(setting.call()), len(started.pipeline.integration.sent)

    write, read, sent = asyncio.run(scenario())
    for answer in (write, read):
        assert answer.verdict is not None
        assert (answer.status, answer.verdict.rule) == (403, "stopped")
        assert "it loops" in answer.problem
        assert outcomes(answer) == [("result", "denied")]
    assert sent == 1


def test_a_configuration_that_cannot_be_confirmed_allows_nothing(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Watch, "_poll", lambda self: None)

    def broken() -> int:
        raise InterfaceError("connection already closed")

    async def scenario() -> tuple[int, int, int]:
        async with setting.running() as started:
            monkeypatch.setattr(runtimes, "current_version", broken)
            await asyncio.sleep(1.0)
            answer = await started.pipeline.run(setting.call())
            monkeypatch.undo()
            again = await started.pipeline.run(setting.call())
            return answer.status, again.status, len(started.pipeline.integration.sent)

    assert asyncio.run(scenario()) == (503, 200, 1)


def test_the_poll_outlives_any_error(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = threading.Event()

    def broken(job_tools: frozenset[str]) -> Any:
        failed.set()
        raise KeyError("a connection that is not there")

    async def scenario() -> tuple[int, int]:
        async with setting.running() as started:
            before = started.watch.fresh().policy.version
            monkeypatch.setattr(runtimes, "load_identities", broken)
            await in_thread(lambda: do_revoke_key(setting.key, by=setting.cast.ada))
            assert await asyncio.to_thread(failed.wait, 5)
            monkeypatch.undo()
            # No call is made meanwhile: it is the poll that reads it.
            for _ in range(100):
                await asyncio.sleep(0.1)
                if (state := started.watch.fresh()) is not None and state.policy.version > before:
                    break
            return before, state.policy.version if state else 0

    before, after = asyncio.run(scenario())
    assert after > before


@pytest.mark.parametrize(
    ("reply", "status", "outcome"),
    [
        (Reply(200, (("content-type", "text/html"),), b"<html>Please sign in"), 502, "unknown"),
        (Reply(302, (("location", "https://elsewhere.example/"), *JSON), b"{}"), 502, "unknown"),
        (Reply(200, JSON, b'{"note":{"id":"PNOTE01",,,'), 502, "unknown"),
        (Reply(200, JSON, b""), 502, "unknown"),
        (Reply(403, (("content-type", "text/html"),), b"<html>Blocked"), 502, "unknown"),
        (Reply(401, JSON, b'{"error":{"message":"Unauthorized","code":2006}}'), 502, "refused"),
        (Reply(401, (("content-type", "text/plain"),), b"HTTP Token: Access denied."), 502, "refused"),
        (Reply(400, JSON, b'{"error":{"message":"Bad","code":2001,"errors":[]}}'), 400, "refused"),
        (Reply(500, JSON, b'{"error":{"message":"Oops"}}'), 500, "unknown"),
        (Reply(201, JSON, b'{"note":{"id":"PNOTE01"}}'), 201, "done"),
        (Reply(204), 204, "done"),
    ],
)
def test_only_an_answer_of_pagerdutys_says_what_became_of_a_write(
    setting: Setting, monkeypatch: pytest.MonkeyPatch, reply: Reply, status: int, outcome: str
) -> None:
    monkeypatch.setattr(MadeUp, "reply", reply)

    async def scenario() -> Answer:
        async with setting.running() as started:
            return await started.pipeline.run(setting.note())  # type: ignore[no-any-return]  # an untyped context

    answer = asyncio.run(scenario())
    assert (answer.status, answer.outcome) == (status, outcome)
    assert outcomes(answer) == [("intent", "intended"), ("result", outcome)]
    assert answer.verdict is not None
    record = json.loads(Entry.objects.get(decision_id=answer.verdict.decision_id, kind="result").record)
    assert record["details"]["status"] == status


def test_a_read_is_judged_by_its_two_ends(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MadeUp, "reply", Reply(200, JSON, b'{"incidents":[{"id":"PT4KHLK",,,'))

    async def scenario() -> Answer:
        async with setting.running() as started:
            return await started.pipeline.run(setting.call())  # type: ignore[no-any-return]  # an untyped context

    answer = asyncio.run(scenario())
    assert (answer.status, outcomes(answer)) == (502, [("result", "failed")])


@pytest.mark.parametrize("where", ["resolve", "answer"])
def test_an_error_of_the_portals_own_is_answered_in_pagerdutys_shape_and_on_record(
    setting: Setting, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def broken(*_: object) -> Resolution:
        raise RuntimeError("nobody thought of this")

    if where == "resolve":
        monkeypatch.setattr(MadeUp, "resolve", broken)
    else:
        monkeypatch.setattr("integrations.gateway.pipeline._answer", broken)

    async def scenario() -> tuple[Answer, int]:
        async with setting.running() as started:
            return await started.pipeline.run(setting.note()), len(started.pipeline.integration.sent)

    answer, sent = asyncio.run(scenario())
    if where == "resolve":
        assert (answer.status, sent, outcomes(answer)) == (500, 0, [("result", "failed")])
    else:
        # It was sent: never an answer that invites a second try.
        assert (answer.status, sent) == (502, 1)
        assert outcomes(answer) == [("intent", "intended"), ("result", "unknown")]


def test_a_connection_that_is_switched_off_is_off_for_the_portals_own_jobs_too(setting: Setting) -> None:
    def look(job: str) -> Call:
        credential = JobCredential(job, str(setting.connection.pk), "mina@example.com")
        return Call(Door.JOB, credential, "GET", "/abilities", at=time.time())

    async def scenario() -> list[Answer]:
        async with setting.running() as started:
            answers = [await started.pipeline.run(look("connection_test"))]
            await in_thread(lambda: ConnectionRow.objects.update(is_enabled=False))
            started.watch._state = None
            started.watch._confirmed = -1e9
            answers += [await started.pipeline.run(look(job)) for job in ("connection_test", "explain_object", "sync")]
            assert len(started.pipeline.integration.sent) == 1
            return answers

    first, *others = asyncio.run(scenario())
    assert first.status == 200
    assert [answer.status for answer in others] == [403, 403, 403]
    assert first.verdict is not None
    record = json.loads(Entry.objects.get(decision_id=first.verdict.decision_id).record)
    assert record["details"]["on_behalf_of"] == "mina@example.com"


class OfTeam(MadeUp):
    """Whatever is asked for is an incident of one team; looks at it fail where ``failing`` says how."""

    failing: Reply | None = None
    incident = {"id": "PT4KHLK", "teams": [{"id": "PQ9K7I8"}], "service": {"id": "PIJ90N7"}}

    async def _made_up(self, connection: Connection, request: Request, deadline: float, sealed: bytes) -> Reply:
        self.sent.append(request)
        if request.reads and self.failing is not None:
            return self.failing
        return Reply(200, JSON, json.dumps({"incident": self.incident}).encode())


def bounded(setting: Setting, *calls: Call, then: Callable[[], object] | None = None) -> tuple[list[Answer], list[str]]:
    """The answers on a connection bounded to that team, and what was sent. ``then``: what is done before the last call."""
    do_set_bounds(setting.connection, by=setting.cast.ada, team_ids=["PQ9K7I8"])
    setting.made_up = OfTeam

    async def scenario() -> tuple[list[Answer], list[str]]:
        async with setting.running() as started:
            answers = []
            for call in calls:
                if then is not None and call is calls[-1]:
                    await in_thread(then)
                answers.append(await started.pipeline.run(call))
            return answers, [f"{request.method} {request.path}" for request in started.pipeline.integration.sent]

    return asyncio.run(scenario())


def test_a_write_is_sent_after_a_look_at_whose_it_is_and_the_look_is_remembered(setting: Setting) -> None:
    answers, sent = bounded(setting, setting.note(), setting.note())
    assert [answer.status for answer in answers] == [200, 200]
    assert sent == ["GET /incidents/PT4KHLK", "POST /incidents/PT4KHLK/notes", "POST /incidents/PT4KHLK/notes"]


def test_what_was_looked_at_while_a_write_was_under_way_is_looked_at_again_after_it(setting: Setting) -> None:
    """It may have been the write that gave it to others."""
    do_set_tools(
        setting.cast.payments, states={"update_service": State.ON}, tools=TOOLS, by=setting.cast.ada, reason="x"
    )
    do_set_bounds(setting.connection, by=setting.cast.ada, team_ids=["PQ9K7I8"])
    moving, move = asyncio.Event(), asyncio.Event()
    team = {"id": "PQ9K7I8"}

    class Moving(MadeUp):
        async def _made_up(self, connection: Connection, request: Request, deadline: float, sealed: bytes) -> Reply:
            document = {"teams": [dict(team)], "id": request.path.split("/")[2]}
            if request.method == "PUT":
                moving.set()
                await move.wait()
                team["id"] = "PQ9K7I9"
            return Reply(200, JSON, json.dumps({"incident": document, "service": document}).encode())

    setting.made_up = Moving
    update = setting.call("PUT", "/services/PIJ90N7", json.dumps({"service": {"description": "new"}}).encode())

    async def scenario() -> list[int]:
        async with setting.running() as started:
            run = started.pipeline.run
            write = asyncio.create_task(run(update))
            await moving.wait()
            answers = [await run(setting.note())]
            move.set()
            return [answer.status for answer in [await write, *answers, await run(setting.note())]]

    assert asyncio.run(scenario()) == [200, 200, 403]


def test_changed_bounds_bind_the_next_write_at_once(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is remembered, in a configuration that is taken for fresh for ever."""
    monkeypatch.setattr(Watch, "_poll", lambda self: None)
    monkeypatch.setattr(runtimes, "FRESH_SECONDS", 1e9)

    def elsewhere() -> None:
        do_set_bounds(setting.connection, by=setting.cast.ada, team_ids=["PQ9K7I9"])

    answers, sent = bounded(setting, setting.note(), setting.note(), then=elsewhere)
    assert [answer.status for answer in answers] == [200, 403]
    assert [line for line in sent if line.startswith("POST")] == ["POST /incidents/PT4KHLK/notes"]
    assert outcomes(answers[1]) == [("result", "denied")]


@pytest.mark.parametrize(
    "failing",
    [
        Reply(500, JSON, b"{}"),
        Reply(429, JSON, b""),
        Reply(0, failure="timeout"),
        Reply(200, JSON, b'{"incident": '),
        Reply(401, JSON, b"no"),
    ],
    ids=["500", "429", "timeout", "unreadable", "401"],
)
def test_what_nobody_can_tell_the_owner_of_is_not_touched(
    setting: Setting, monkeypatch: pytest.MonkeyPatch, failing: Reply
) -> None:
    monkeypatch.setattr(OfTeam, "failing", failing)
    (answer,), sent = bounded(setting, setting.note())
    assert (answer.status, answer.verdict and answer.verdict.rule) == (503, "bounds")
    assert "could not be told" in answer.problem
    assert sent == ["GET /incidents/PT4KHLK"]
    assert outcomes(answer) == [("result", "denied")]


def test_looks_that_fail_are_no_burst_of_denials(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """PagerDuty is down: that tells nothing of what a key is tried for."""
    monkeypatch.setattr(OfTeam, "failing", Reply(500, JSON, b"{}"))
    answers, _ = bounded(setting, *[setting.note() for _ in range(DENIALS + 1)])
    assert {answer.status for answer in answers} == {503}
    assert not Alarm.objects.exists()


def test_a_look_that_is_locked_denies_and_says_so(setting: Setting) -> None:
    do_set_tool_rule("get_incident", locked=True, by=setting.cast.ada, reason="leaky", tools=TOOLS)
    (answer,), sent = bounded(setting, setting.note())
    assert answer.status == 403
    assert "switched get_incident off for all teams: leaky" in answer.problem
    assert sent == []


def test_the_portals_own_looks_are_not_held_by_bounds(setting: Setting) -> None:
    job = JobCredential("connection_test", str(setting.connection.pk))
    test = Call(Door.JOB, job, "GET", "/abilities", at=time.time())
    answers, _ = bounded(setting, setting.call(path="/abilities"), test)
    assert [answer.status for answer in answers] == [403, 200]


def test_a_replacement_that_is_thrown_away_during_its_test_ends_the_test_on_record(setting: Setting) -> None:
    do_replace_token(setting.connection, token="another-TOKEN-0123456789", by=setting.cast.ada)
    credential = JobCredential("connection_test", str(setting.connection.pk))
    look = Call(Door.JOB, credential, "GET", "/abilities", at=time.time(), variant="candidate")

    async def scenario() -> tuple[int, Answer]:
        async with setting.running() as started:
            first = await started.pipeline.run(look)
            await in_thread(lambda: do_discard_candidate(setting.connection, by=setting.cast.ada))
            await started.watch.refresh()
            return first.status, await started.pipeline.run(look)

    status, answer = asyncio.run(scenario())
    assert (status, answer.status) == (200, 403)
    assert outcomes(answer) == [("result", "denied")]


def test_a_write_that_is_judged_again_takes_one_call_from_the_limit(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, secret = setting.issue(1)
    taken: list[str] = []
    take = Buckets.take

    def counted(self: Buckets, key_id: str, per_minute: int, now: float) -> float | None:
        taken.append(key_id)
        return take(self, key_id, per_minute, now)

    monkeypatch.setattr(Buckets, "take", counted)
    monkeypatch.setattr(Watch, "_poll", lambda self: None)
    monkeypatch.setattr(runtimes, "FRESH_SECONDS", 1e9)
    monkeypatch.setattr(MadeUp, "reply", Reply(201, JSON, b'{"note":{}}'))

    async def scenario() -> int:
        async with setting.running() as started:
            changes = {"list_users": State.OFF}
            await in_thread(
                lambda: do_set_tools(setting.cast.payments, states=changes, tools=TOOLS, by=setting.cast.ada)
            )
            note = setting.call("POST", "/incidents/PT4KHLK/notes", NOTE, secret)
            return int((await started.pipeline.run(note)).status)

    assert asyncio.run(scenario()) == 201
    assert len(taken) == 1


def test_a_sign_names_the_decision_of_a_write_that_was_judged_again(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Watch, "_poll", lambda self: None)
    monkeypatch.setattr(runtimes, "FRESH_SECONDS", 1e9)
    monkeypatch.setattr(MadeUp, "reply", Reply(201, JSON, b'{"note":{}}'))
    at_home = dataclasses.replace(setting.call(), client=Client("198.51.100.7"))

    async def scenario() -> Answer:
        async with setting.running() as started:
            await started.pipeline.run(at_home)
            await asyncio.sleep(0.3)  # until that is known, which moves no version
            changes = {"list_users": State.OFF}
            await in_thread(
                lambda: do_set_tools(setting.cast.payments, states=changes, tools=TOOLS, by=setting.cast.ada)
            )
            return await started.pipeline.run(setting.note())  # type: ignore[no-any-return]  # an untyped context

    answer = asyncio.run(scenario())
    assert outcomes(answer) == [("intent", "intended"), ("result", "done")]
    [sign] = Alarm.objects.get(kind=Kind.NEW_NETWORK).signs
    assert answer.verdict is not None
    assert sign["decision_id"] == answer.verdict.decision_id
