"""Second tries of writes: told what became of the first, and not sent again.

A write has a name: the caller's Idempotency-Key, or where there is none the very request. Before its intent it claims that
name in the database, which all processes share; what became of it the journal knows. A claim that was taken already is
judged by ``_judge``: with a key the outcome is kept for a day; without one only what the caller cannot know counts, for a
minute: an unknown outcome, and one that was there when nobody waited for it any more.

The claim's commit does not wait for the disk: the intent's, which follows, takes it along, and nothing is sent before that.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime as dt
import functools
import hashlib
import hmac
import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Protocol, TypeVar

import msgspec
from django.conf import settings
from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from integrations.fields import open_answer, seal_answer
from integrations.gateway.integration import Reply, Resolution
from integrations.models import Attempt
from policies.core.call import Call, Outcome
from policies.journal import JournalUnavailable, own_connection
from policies.models import Entry

log = logging.getLogger(__name__)
T = TypeVar("T")

KEPT_SECONDS: Final = 24 * 3600
"""How long the outcome of a write that came with a key is kept."""
DOUBT_SECONDS: Final = 60
"""How long a write without a key is answered with an outcome that its caller does not know."""
ORPHAN_SECONDS: Final = 5
"""Beyond the time limit: then no process is at a write any more, and an intent without a result is an orphan."""
BODY_LIMIT: Final = 256_000
"""Bytes of an answer that are kept. Answers to writes have a few thousand."""
HEADERS: Final = ("content-type", "x-request-id", "date")
"""Headers of the first answer that a second one repeats; how much of a rate limit is left is not the first's to say."""
NOT_NOW: Final = frozenset({401, 408, 429})
"""Refusals that say nothing of the write itself, and that nothing was done: the same key may be tried again."""
WATCHERS: Final = 50
"""Calls of one process that may wait for another process's write at once: each asks the database again and again."""


_DOUBT: Final = dt.timedelta(seconds=DOUBT_SECONDS)
_TABLE: Final = Attempt._meta.db_table
_COLUMNS: Final = tuple(field.attname for field in Attempt._meta.concrete_fields)
# One statement each, the same for SQLite and PostgreSQL. The last is for what is known to have ended.
_TAKE: Final = (
    f"INSERT INTO {_TABLE} ({', '.join(_COLUMNS)}) VALUES ({', '.join(['%s'] * len(_COLUMNS))}) "  # noqa: S608
    f"ON CONFLICT (scope) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in _COLUMNS[1:])}"
)
_TAKE_EXPIRED: Final = f"{_TAKE} WHERE {_TABLE}.expires_at <= %s"
_TAKE_FROM: Final = f"{_TAKE} WHERE {_TABLE}.decision_id = %s"
_FORGET: Final = f"DELETE FROM {_TABLE} WHERE decision_id = %s AND scope IN (%s, %s)"  # noqa: S608


class State(StrEnum):
    """What an earlier try means for this one."""

    FREE = "free"  # nothing stands in the way
    OTHER = "other"  # the key was used for another request
    UNDER_WAY = "under_way"
    GONE = "gone"  # the caller went away while this one waited for the first
    UNKNOWN = "unknown"
    KEPT = "kept"


@dataclass(frozen=True, slots=True)
class Earlier:
    """The first try of a write that is tried again, and what became of it (``reply``: where it is ``KEPT``)."""

    state: State
    decision_id: str
    outcome: Outcome = Outcome.UNKNOWN
    reply: Reply | None = None


class _Answered(msgspec.Struct):
    """An answer as it is kept."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes | None
    """None: it was over ``BODY_LIMIT``."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A write under its name."""

    scope: str
    """Keyed digest of the name; ``same`` of the name that it has without the caller's key."""
    request: str
    same: str
    actor: str
    operation: str
    decision_id: str
    at: dt.datetime

    @property
    def is_keyed(self) -> bool:
        return self.scope != self.same


class Desk(Protocol):
    """Where short work on the database is done, in order with the journal's entries."""

    def do(self, work: Callable[[], T]) -> asyncio.Future[T]: ...

    def patience(self) -> float:
        """Seconds to wait for an answer of the database: all that is queued waits behind this work."""
        ...


class Retries:
    """One a process. ``_claim``, ``_keep`` and ``_forget`` run on the desk's thread, the rest on the loop."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._limit: float = settings.CALL_TIME_LIMIT
        self._key = hashlib.blake2b(settings.SECRET_KEY.encode(), person=b"retries", digest_size=32).digest()
        self._here: dict[str, asyncio.Future[None]] = {}
        """Writes that are under way in this process, by decision."""
        self._watching = 0
        self._own: BaseDatabaseWrapper | None = None

    async def close(self) -> None:
        # A database that is away has closed it already.
        with contextlib.suppress(JournalUnavailable):
            await self._desk.do(self._close)

    def _close(self) -> None:
        if self._own is not None:
            self._own.close()
            self._own = None

    def claim(self, call: Call, actor: str, connection_id: str, resolution: Resolution, decision_id: str) -> Claim:
        """What a call claims. Of what the caller sent only keyed digests are kept."""
        request, operation = resolution.request, resolution.operation
        assert request is not None  # noqa: S101  (only what will be sent is claimed)
        assert operation is not None  # noqa: S101
        sent = self._digest(
            connection_id, request.method, request.path, request.query, (request.body or b"").decode("latin-1")
        )
        same = self._digest("request", actor, operation.id, sent)
        key = call.idempotency_key
        scope = self._digest("key", actor, operation.id, key) if key else same
        return Claim(scope, sent, same, actor, operation.id, decision_id, dt.datetime.fromtimestamp(call.at, dt.UTC))

    def _digest(self, *parts: str) -> str:
        return hmac.digest(self._key, "\n".join(parts).encode(), "sha256").hex()

    async def begin(self, claim: Claim, deadline: float, gone: Callable[[], bool]) -> Earlier | None:
        """Claim a write; None: it may go on. Where the first try of it is under way it is waited for, within the time limit
        but for a third, in which to be sent.

        Raises:
            JournalUnavailable: the database did not do it. Nothing may be sent.
        """
        patience = deadline - self._limit / 3
        pause = 0.05
        waited_for = ""
        while True:
            earlier = await self._desk.do(functools.partial(self._claim, claim, waited_for))
            if earlier is None:
                if waited_for and gone():
                    # A client that gives up and tries again, several times over, would have as many sent one after another.
                    self.forget(claim.decision_id, claim)
                    return Earlier(State.GONE, claim.decision_id)
                self._here[claim.decision_id] = asyncio.get_running_loop().create_future()
                return None
            left = patience - time.monotonic()
            if earlier.state is not State.UNDER_WAY or left <= 0:
                return earlier
            waited_for = earlier.decision_id
            if (here := self._here.get(earlier.decision_id)) is not None:
                await asyncio.wait((here,), timeout=left)
                continue
            if self._watching >= WATCHERS:
                return earlier
            self._watching += 1
            try:
                await asyncio.sleep(min(pause, left))
            finally:
                self._watching -= 1
            pause = min(2 * pause, 1.0)

    def keep(self, claim: Claim, outcome: Outcome, reply: Reply, *, told: bool) -> bool:
        """Keep what became of a write, where a second try of it must be told; whether it must. Queued before the result's
        entry, whose commit takes it along."""
        answered = _is_answer(outcome, reply.status)
        if outcome is not Outcome.UNKNOWN and not (answered and (claim.is_keyed or not told)):
            return False
        sealed = seal_answer(claim.scope, _packed(reply)) if answered else ""
        now = dt.datetime.now(dt.UTC)
        self._desk.do(lambda: self._put(_TAKE, claim, outcome, now, sealed)).add_done_callback(_noted)
        return True

    def forget(self, decision_id: str, claim: Claim) -> None:
        """It was not sent, or what became of it was told: the name is free."""
        values = [decision_id, claim.scope, claim.same]
        self._desk.do(functools.partial(self._execute, _FORGET, values)).add_done_callback(_noted)

    def over(self, claim: Claim) -> None:
        """Whoever waits for it here goes on."""
        future = self._here.pop(claim.decision_id, None)
        if future is not None:
            future.set_result(None)

    # On the desk's thread

    def _connection(self) -> BaseDatabaseWrapper:
        if self._own is None:
            self._own = own_connection(self._desk.patience, hurried=True)
        return self._own

    def _execute(self, statement: str, values: Sequence[Any]) -> int:
        """How many rows it changed."""
        own = self._connection()
        try:
            with own.cursor() as cursor:
                cursor.execute(statement, values)
                return int(cursor.rowcount)
        except Exception:
            own.close()
            raise

    def _put(
        self, statement: str, claim: Claim, outcome: Outcome, ended_at: dt.datetime | None, answer: str, *where: Any
    ) -> int:
        time_of = self._connection().ops.adapt_datetimefield_value
        # Without a key: until nobody can be in doubt any more.
        seconds = KEPT_SECONDS if claim.is_keyed else self._limit + ORPHAN_SECONDS + 2 * DOUBT_SECONDS
        expires_at = claim.at + dt.timedelta(seconds=seconds)
        row: dict[str, Any] = {
            "scope": claim.scope,
            "request": claim.request,
            "is_keyed": claim.is_keyed,
            "actor": claim.actor,
            "operation": claim.operation,
            "decision_id": claim.decision_id,
            "at": time_of(claim.at),
            "expires_at": time_of(expires_at),
            "outcome": outcome.value,
            "ended_at": time_of(ended_at) if ended_at else None,
            "answer": answer,
        }
        return self._execute(statement, [*(row[name] for name in _COLUMNS), *where])

    def _claim(self, claim: Claim, waited_for: str) -> Earlier | None:
        """Claim it, in one statement where nothing stands in the way; or what does. ``waited_for``: the decision that this
        one has waited for already."""
        now = dt.datetime.now(dt.UTC)
        expired = self._connection().ops.adapt_datetimefield_value(now)
        if not self._put(_TAKE_EXPIRED, claim, Outcome.NONE, None, "", expired):
            row = Attempt.objects.filter(pk=claim.scope).first()
            if row is None:
                return Earlier(State.UNDER_WAY, "")  # it was forgotten this very moment
            # Without a key, all that waited for one write go on when it has ended well, as they would have without it: whoever
            # came first has taken its place by now. Had it ended otherwise, it would stand there.
            is_next = waited_for not in ("", row.decision_id) and not claim.is_keyed and not row.outcome
            earlier = self._judge(claim, row, now)
            if earlier.state is not State.FREE and not is_next:
                return earlier
            statement, where = (_TAKE_FROM, (row.decision_id,)) if claim.is_keyed else (_TAKE, ())
            if not self._put(statement, claim, Outcome.NONE, None, "", *where):
                return Earlier(State.UNDER_WAY, row.decision_id)
        if claim.is_keyed:
            # Tried again without its key it is the same write still.
            self._put(_TAKE, dataclasses.replace(claim, scope=claim.same), Outcome.NONE, None, "")
        return None

    def _judge(self, claim: Claim, row: Attempt, now: dt.datetime) -> Earlier:
        """What a claim that was taken already means for this one."""
        first = row.decision_id
        if row.request != claim.request:
            return Earlier(State.OTHER, first)
        if row.outcome:
            is_over = not row.is_keyed and (row.ended_at is None or now - row.ended_at > _DOUBT)
            return Earlier(State.FREE, first) if is_over else _kept(row)
        results = Entry.objects.filter(decision_id=first, kind="result").order_by("-id")
        found = results.values_list("outcome", "record").first()
        if found is None:
            known_at = row.at + dt.timedelta(seconds=self._limit + ORPHAN_SECONDS)
            if now <= known_at:
                return Earlier(State.UNDER_WAY, first)
            # Its process has ended, and it may have been sent: what the journal says of its intent, or soon will.
            outcome, details = Outcome.UNKNOWN, {}
        else:
            outcome, record = Outcome(found[0]), json.loads(found[1])
            details = record["details"]
            known_at = dt.datetime.fromisoformat(details.get("recorded_at", record["at"]))
        in_doubt = now - known_at <= _DOUBT
        if outcome is Outcome.UNKNOWN:
            return Earlier(State.UNKNOWN if row.is_keyed or in_doubt else State.FREE, first)
        # A database that was away could keep nothing; what the spool withheld, its caller was not told.
        untold = in_doubt and "withheld" in details.get("spooled", {})
        if (row.is_keyed or untold) and _is_answer(outcome, details.get("upstream", {}).get("status", 0)):
            # It ended, and its answer could not be kept.
            return Earlier(State.KEPT, first, outcome, _without_body(details["status"], first))
        return Earlier(State.FREE, first)


class Trying:
    """One call's part in it. ``gone`` says whether its caller waits no longer."""

    def __init__(self, retries: Retries, gone: Callable[[], bool]) -> None:
        self._retries = retries
        self._gone = gone
        self._claim: Claim | None = None
        self._told: tuple[str, Claim] | None = None
        self._not_kept: tuple[Outcome, Reply] | None = None

    async def begin(self, claim: Claim, deadline: float) -> Earlier | None:
        """As ``Retries.begin``."""
        earlier = await self._retries.begin(claim, deadline, self._gone)
        if earlier is None:
            self._claim = claim
        elif earlier.state is State.KEPT and not claim.is_keyed:
            self._told = (earlier.decision_id, claim)
        return earlier

    def withdraw(self) -> None:
        """Nothing was sent."""
        if self._claim is not None:
            self._retries.forget(self._claim.decision_id, self._claim)
            self._retries.over(self._claim)
            self._claim = None

    def keep(self, outcome: Outcome, reply: Reply) -> None:
        if self._claim is not None and not self._retries.keep(self._claim, outcome, reply, told=not self._gone()):
            self._not_kept = outcome, reply

    def over(self, *, told: bool) -> None:
        """The call has its answer. ``told``: which says what became of the write."""
        told = told and not self._gone()
        if self._claim is not None:
            if self._not_kept is not None and not told:
                # Its caller waited for it, and went away, or was told less, while its result was recorded.
                self._retries.keep(self._claim, *self._not_kept, told=False)
            self._retries.over(self._claim)
        if self._told is not None and told:
            # Now its caller knows: the next identical write is another one.
            self._retries.forget(*self._told)


def prune(now: dt.datetime) -> None:
    """Take away what has expired, in short commits."""
    while pks := list(Attempt.objects.filter(expires_at__lte=now).values_list("pk", flat=True)[:500]):
        with transaction.atomic():
            Attempt.objects.filter(pk__in=pks, expires_at__lte=now).delete()


def _is_answer(outcome: Outcome, status: int) -> bool:
    """Whether PagerDuty answered the write itself."""
    return outcome is Outcome.DONE or (outcome is Outcome.REFUSED and status not in NOT_NOW)


def _packed(reply: Reply) -> bytes:
    headers = [(name, value) for name, value in reply.headers if name in HEADERS]
    # What was shown unmasked is on record for that one answer, and is not kept for another.
    small = len(reply.body) <= BODY_LIMIT and not reply.revealed
    return msgspec.json.encode(_Answered(reply.status, headers, reply.body if small else None))


def _kept(row: Attempt) -> Earlier:
    opened = open_answer(row.scope, row.answer) if row.answer else None
    if opened is None:
        # Unknown, or sealed with a key that was taken away: what it was cannot be told any more.
        return Earlier(State.UNKNOWN, row.decision_id)
    answered = msgspec.json.decode(opened, type=_Answered)
    reply = Reply(answered.status, tuple(answered.headers), answered.body or b"")
    if answered.body is None:
        reply = _without_body(answered.status, row.decision_id)
    return Earlier(State.KEPT, row.decision_id, Outcome(row.outcome), reply)


def _without_body(status: int, decision_id: str) -> Reply:
    said = "This write was done before, and is not done again. Its answer was not kept, only its status: look at PagerDuty."
    body = msgspec.json.encode({"replayed": {"decision": decision_id, "status": status, "message": said}})
    return Reply(status, (("content-type", "application/json"),), body)


def _noted(future: asyncio.Future[Any]) -> None:
    if not future.cancelled() and (error := future.exception()) is not None:
        log.error("What became of a write could not be kept for a second try: %s", error)
