"""What a second try of a write is told, by what PagerDuty made of the first: in this process, with answers made up in
PagerDuty's place."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.fernet import Fernet, InvalidToken
from django.db import OperationalError
from django.db import connection as database
from django.utils import timezone

from integrations import fields
from integrations.gateway import runtime as runtimes
from integrations.gateway.integration import Reply
from integrations.gateway.pipeline import Answer
from integrations.gateway.retries import BODY_LIMIT, prune
from integrations.models import Attempt
from policies.journal import Journal, JournalUnavailable
from policies.models import Entry
from tests.conftest import Cast
from tests.gateway.test_pipeline import JSON, NOTE, MadeUp, Setting, in_thread, outcomes

pytestmark = pytest.mark.django_db(transaction=True)
DONE = Reply(201, (*JSON, ("x-request-id", "req-1"), ("ratelimit-remaining", "3")), b'{"note":{"id":"PNOTE01"}}')


@pytest.fixture
def setting(cast: Cast) -> Setting:
    return Setting(cast)


def write(setting: Setting, key: str = "", body: bytes = NOTE) -> Any:
    return dataclasses.replace(setting.call("POST", "/incidents/PT4KHLK/notes", body), idempotency_key=key)


def both(setting: Setting, key: str, between: Callable[[], object] = lambda: None) -> tuple[Answer, Answer, int]:
    """The same write twice, and how often it was sent."""

    async def scenario() -> tuple[Answer, Answer, int]:
        async with setting.running() as started:
            first = await started.pipeline.run(write(setting, key))
            await in_thread(between)
            second = await started.pipeline.run(write(setting, key))
            return first, second, len(started.pipeline.integration.sent)

    return asyncio.run(scenario())


def unrecorded(loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
    """What the journal says to an entry that it does not take."""
    future: asyncio.Future[None] = loop.create_future()
    future.set_exception(JournalUnavailable("made up"))
    return future


def decision(answer: Answer) -> str:
    assert answer.verdict is not None
    return answer.verdict.decision_id


ERROR = b'{"error":{"message":"No","code":2001,"errors":[]}}'


@pytest.mark.parametrize(
    ("reply", "sent", "status", "outcome"),
    [
        # Without its key the same would be sent again; what cannot be known is not sent either way.
        (DONE, 1, 201, "done"),
        (Reply(400, JSON, ERROR), 1, 400, "refused"),
        (Reply(404, JSON, ERROR), 1, 404, "refused"),
        (Reply(500, JSON, ERROR), 1, 502, "unknown"),
        (Reply(0, failure="timeout"), 1, 502, "unknown"),
        # Nothing was done, and the write itself was not what was refused: its key is free.
        (Reply(0, failure="connect", sent=False), 2, 502, "failed"),
        (Reply(429, JSON, ERROR), 2, 429, "refused"),
        (Reply(401, JSON, ERROR), 2, 502, "refused"),
        (Reply(408, JSON, ERROR), 2, 408, "refused"),
    ],
)
def test_with_a_key_a_second_try_is_told_what_became_of_the_first(
    setting: Setting, monkeypatch: pytest.MonkeyPatch, reply: Reply, sent: int, status: int, outcome: str
) -> None:
    monkeypatch.setattr(MadeUp, "reply", reply)
    first, second, count = both(setting, "k")
    assert (count, second.status, second.outcome) == (sent, status, outcome)
    assert second.replay_of == (decision(first) if sent == 1 else "")
    assert outcomes(second) == [("result", "replayed")] if sent == 1 else [("intent", "intended"), ("result", outcome)]
    if reply is DONE:
        assert second.reply is not None
        assert (second.reply.body, second.reply.header("x-request-id")) == (DONE.body, "req-1")
        assert second.reply.header("ratelimit-remaining") == ""  # what is left now it does not know


@pytest.mark.parametrize("reply", [DONE, Reply(400, JSON, ERROR), Reply(0, failure="connect", sent=False)])
def test_without_a_key_what_its_caller_was_told_does_not_stop_a_second_write(
    setting: Setting, monkeypatch: pytest.MonkeyPatch, reply: Reply
) -> None:
    monkeypatch.setattr(MadeUp, "reply", reply)
    _, second, count = both(setting, "")
    assert (count, second.replay_of) == (2, "")


def test_without_a_key_an_outcome_that_nobody_waited_for_is_told_once(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller went away; its second try is told; what it then writes is another write."""
    monkeypatch.setattr(MadeUp, "reply", DONE)
    at_pagerduty = asyncio.Event()

    async def scenario() -> tuple[list[Answer], int]:
        async with setting.running() as started:
            made_up = started.pipeline.integration

            async def slowly() -> None:
                at_pagerduty.set()
                await asyncio.sleep(0.3)

            made_up.before = slowly
            first = asyncio.create_task(started.pipeline.run(write(setting)))
            await at_pagerduty.wait()
            first.cancel()
            made_up.before = None
            # The second comes while the first is still under way, and goes away too; so does the third, later.
            second = asyncio.create_task(started.pipeline.run(write(setting)))
            await asyncio.sleep(0.1)
            second.cancel()
            await started.pipeline.drain()
            return [await started.pipeline.run(write(setting)) for _ in range(2)], len(made_up.sent)

    (told, anew), count = asyncio.run(scenario())
    intent = Entry.objects.filter(kind="intent").order_by("id").values_list("decision_id", flat=True)[0]
    assert (told.status, told.replay_of) == (201, intent)
    assert (anew.status, anew.replay_of, count) == (201, "", 2)


@pytest.mark.parametrize("broken", ["journal", "portal"])
def test_without_a_key_an_outcome_counts_as_told_only_when_it_was(
    setting: Setting, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """Nobody waited for the first; the second is not told either, for it cannot be recorded, or breaks: the third is."""
    monkeypatch.setattr(MadeUp, "reply", DONE)

    async def scenario() -> tuple[list[Answer], int]:
        async with setting.running() as started:
            made_up = started.pipeline.integration
            made_up.before = lambda: asyncio.sleep(0.3)
            first = asyncio.create_task(started.pipeline.run(write(setting)))
            await asyncio.sleep(0.1)
            first.cancel()
            await started.pipeline.drain()
            with monkeypatch.context() as patch:
                if broken == "journal":
                    patch.setattr(started.journal, "append", lambda *_, **__: unrecorded(started.loop))
                else:
                    patch.setattr("integrations.gateway.pipeline._of_earlier", lambda *_: 1 / 0)
                second = await started.pipeline.run(write(setting))
            return [second, *[await started.pipeline.run(write(setting)) for _ in range(2)]], len(made_up.sent)

    (second, told, anew), count = asyncio.run(scenario())
    intent = Entry.objects.filter(kind="intent").order_by("id").values_list("decision_id", flat=True)[0]
    assert (second.status, second.replay_of) == (503 if broken == "journal" else 500, "")
    assert (told.status, told.replay_of) == (201, intent)
    assert (anew.status, anew.replay_of, count) == (201, "", 2)


def test_a_caller_that_goes_away_while_the_result_is_recorded_was_not_told(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MadeUp, "reply", DONE)

    async def scenario() -> tuple[list[Answer], int]:
        async with setting.running() as started:
            append, recording = started.journal.append, asyncio.Event()

            async def slowly(entry: Any) -> None:
                recording.set()
                await asyncio.sleep(0.2)
                await append(entry)

            def slow(entry: Any, **version: Any) -> Any:
                return append(entry, **version) if entry.kind == "intent" else slowly(entry)

            with monkeypatch.context() as patch:
                patch.setattr(started.journal, "append", slow)
                first = asyncio.create_task(started.pipeline.run(write(setting)))
                await recording.wait()
                first.cancel()
                await started.pipeline.drain()
            answers = [await started.pipeline.run(write(setting)) for _ in range(2)]
            return answers, len(started.pipeline.integration.sent)

    (told, anew), count = asyncio.run(scenario())
    intent = Entry.objects.filter(kind="intent").order_by("id").values_list("decision_id", flat=True)[0]
    assert (told.status, told.replay_of) == (201, intent)
    assert (anew.status, anew.replay_of, count) == (201, "", 2)


def test_a_second_try_whose_caller_went_away_while_it_waited_is_not_sent(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MadeUp, "reply", DONE)

    async def scenario() -> int:
        async with setting.running() as started:
            started.pipeline.integration.before = lambda: asyncio.sleep(0.3)
            first = asyncio.create_task(started.pipeline.run(write(setting)))
            await asyncio.sleep(0.1)
            second = asyncio.create_task(started.pipeline.run(write(setting)))
            await asyncio.sleep(0.1)
            second.cancel()
            assert (await first).status == 201
            await started.pipeline.drain()
            return len(started.pipeline.integration.sent)

    assert asyncio.run(scenario()) == 1
    assert Entry.objects.filter(kind="result", outcome="invalid").count() == 1


def test_a_first_try_that_does_not_end_in_time_is_called_under_way(
    setting: Setting, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.CALL_TIME_LIMIT = 1
    monkeypatch.setattr(MadeUp, "reply", DONE)

    async def scenario() -> tuple[Answer, int]:
        async with setting.running() as started:
            started.pipeline.integration.before = lambda: asyncio.sleep(1.2)
            first = asyncio.create_task(started.pipeline.run(write(setting, "k")))
            await asyncio.sleep(0.1)
            second = await started.pipeline.run(write(setting, "k"))
            await first
            return second, len(started.pipeline.integration.sent)

    second, count = asyncio.run(scenario())
    assert (second.status, second.fault, count) == (409, "try_under_way", 1)
    assert "still under way" in second.problem


def test_an_answer_that_is_too_large_to_keep_leaves_its_status(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MadeUp, "reply", Reply(201, JSON, b'{"note":"%s"}' % (b"x" * BODY_LIMIT)))
    first, second, count = both(setting, "k")
    assert (count, second.status, second.replay_of) == (1, 201, decision(first))
    assert second.reply is not None
    assert b"only its status" in second.reply.body
    # The same where the answer itself was lost: what the journal says of the first is enough.
    monkeypatch.setattr(MadeUp, "reply", DONE)
    first, second, count = both(setting, "l", lambda: Attempt.objects.update(outcome="", answer=""))
    assert (count, second.status, second.replay_of) == (1, 201, decision(first))


def test_an_answer_that_does_not_open_any_more_is_unknown_and_not_sent_again(
    setting: Setting, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    monkeypatch.setattr(MadeUp, "reply", DONE)

    def take_the_key_away() -> None:
        settings.FIELD_ENCRYPTION_KEY = [Fernet.generate_key().decode()]

    first, second, count = both(setting, "k", take_the_key_away)
    assert (count, second.status, second.outcome, second.replay_of) == (1, 502, "unknown", decision(first))


def test_a_key_that_was_put_before_the_old_one_costs_no_kept_answer(
    setting: Setting, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    monkeypatch.setattr(MadeUp, "reply", DONE)

    def rotate() -> None:
        settings.FIELD_ENCRYPTION_KEY = [Fernet.generate_key().decode(), *settings.FIELD_ENCRYPTION_KEY]

    _, second, count = both(setting, "k", rotate)
    assert (count, second.status) == (1, 201)


def test_what_seals_answers_opens_no_token_and_no_other_rows_answer(settings: Any) -> None:
    sealed = fields.seal_answer("one", b"the answer")
    assert fields.open_answer("one", sealed) == b"the answer"
    assert fields.open_answer("another", sealed) is None
    with pytest.raises(InvalidToken):
        fields.crypter().decrypt(sealed.encode())
    token = fields.crypter().encrypt(b"one:u+token").decode()
    assert fields.open_answer("one", token) is None


def test_what_cannot_be_claimed_is_not_sent(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> tuple[list[int], int]:
        async with setting.running() as started:
            with_table = [(await started.pipeline.run(write(setting, "k"))).status]
            await in_thread(lambda: rename("integrations_attempt", "attempt_gone"))
            try:
                without = [(await started.pipeline.run(write(setting, key))).status for key in ("", "l")]
                without.append((await started.pipeline.run(setting.call())).status)
            finally:
                await in_thread(lambda: rename("attempt_gone", "integrations_attempt"))
            again = [(await started.pipeline.run(write(setting, "l"))).status]
            return with_table + without + again, len(started.pipeline.integration.sent)

    monkeypatch.setattr(MadeUp, "reply", DONE)
    # Reads are not concerned.
    assert asyncio.run(scenario()) == ([201, 503, 503, 201, 201], 3)


def rename(old: str, new: str) -> None:
    with database.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {old} RENAME TO {new}")


@pytest.mark.parametrize("key", ["", "k"])
def test_a_write_that_the_journal_did_not_take_can_be_tried_again(
    setting: Setting, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    """Its intent was not recorded, so it was not sent: the claim that came before it is withdrawn."""
    monkeypatch.setattr(MadeUp, "reply", DONE)

    async def scenario() -> tuple[int, int, int]:
        async with setting.running() as started:
            with monkeypatch.context() as patch:
                patch.setattr(started.journal, "append", lambda *_, **__: unrecorded(started.loop))
                first = await started.pipeline.run(write(setting, key))
            second = await started.pipeline.run(write(setting, key))
            return first.status, second.status, len(started.pipeline.integration.sent)

    assert asyncio.run(scenario()) == (503, 201, 1)


@pytest.mark.parametrize("key", ["", "k"])
def test_a_write_that_was_not_sent_can_be_tried_again_though_that_is_not_on_record(
    setting: Setting, monkeypatch: pytest.MonkeyPatch, settings: Any, key: str
) -> None:
    settings.CALL_TIME_LIMIT = 1

    async def scenario() -> tuple[int, int]:
        async with setting.running() as started:
            append = started.journal.append

            def failing(entry: Any, **version: Any) -> asyncio.Future[None]:
                return append(entry, **version) if entry.kind == "intent" else unrecorded(started.loop)

            with monkeypatch.context() as patch:
                patch.setattr(MadeUp, "reply", Reply(0, failure="connect", sent=False))
                patch.setattr(started.journal, "append", failing)
                first = await started.pipeline.run(write(setting, key))
            monkeypatch.setattr(MadeUp, "reply", DONE)
            return first.status, (await started.pipeline.run(write(setting, key))).status

    assert asyncio.run(scenario()) == (503, 201)


def test_without_a_key_what_went_to_the_spool_in_place_of_its_caller_is_told_once(
    setting: Setting, monkeypatch: pytest.MonkeyPatch, settings: Any, tmp_path: Any
) -> None:
    """The database goes away while the write is at PagerDuty: its caller is told that the outcome is unknown."""
    settings.SPOOL_DIR = tmp_path / "spool"
    monkeypatch.setattr(MadeUp, "reply", DONE)

    def gone(*_: object) -> Any:
        raise OperationalError("the server closed the connection")

    async def scenario() -> tuple[list[Answer], int]:
        async with setting.running() as started:
            made_up = started.pipeline.integration
            with monkeypatch.context() as patch:

                async def goes() -> None:
                    patch.setattr(runtimes, "current_version", gone)
                    patch.setattr(Journal, "_commit", gone)
                    await asyncio.sleep(1)

                made_up.before = goes
                answers = [await started.pipeline.run(write(setting))]
            made_up.before = None
            for _ in range(100):
                await asyncio.sleep(0.1)
                if not started.spool.spooled and started.watch.fresh() is not None:
                    break
            answers += [await started.pipeline.run(write(setting)) for _ in range(2)]
            return answers, len(made_up.sent)

    (first, told, anew), count = asyncio.run(scenario())
    assert (first.status, first.outcome) == (502, "unknown")
    assert (told.status, told.replay_of) == (201, decision(first))
    assert (anew.status, anew.replay_of, count) == (201, "", 2)


def test_what_has_expired_is_pruned(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MadeUp, "reply", DONE)
    both(setting, "k")
    both(setting, "")
    now = timezone.now()
    kept = {row.is_keyed: row.expires_at - now for row in Attempt.objects.all()}
    assert dt.timedelta(hours=23, minutes=59) < kept[True] <= dt.timedelta(hours=24)
    assert dt.timedelta(minutes=1) < kept[False] < dt.timedelta(minutes=5)
    prune(now + dt.timedelta(hours=23))
    assert [row.is_keyed for row in Attempt.objects.all()] == [True]
    prune(now + dt.timedelta(hours=24))
    assert not Attempt.objects.exists()
