"""The one way in. Every door makes a ``Call`` and awaits ``Pipeline.run``; nothing else reaches an integration.

identify → resolve → decide → bound → intend (writes) → send → record. Each stage takes frozen values and returns the next. What
the portal answers from what it keeps itself goes the same way, with that answer in place of bound and send.
"""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import functools
import logging
import math
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec
from django.conf import settings
from prometheus_client import Counter, Histogram

from integrations.gateway.alarms import Signs
from integrations.gateway.identity import Identified, Identities, Rejected
from integrations.gateway.integration import (
    Connection,
    Integration,
    Look,
    LookFailed,
    Own,
    Refusal,
    Reply,
    Resolution,
    Unanswered,
)
from integrations.gateway.retries import DOUBT_SECONDS, Earlier, Retries, Trying
from integrations.gateway.retries import State as Tried
from policies.core.call import (
    Call,
    Decision,
    Door,
    Entry,
    EntryKind,
    JobCredential,
    Outcome,
    Principal,
    Tool,
    Verdict,
)
from policies.core.chain import moment
from policies.core.decide import Policy, decide_all, reveals
from policies.core.redact import Redactor
from policies.journal import JournalUnavailable, StaleVerdict

log = logging.getLogger(__name__)
MAXIMUM_STALE: Final = 5
"""How often a write is decided again because the policy moved meanwhile, before it is given up."""
REFUSALS_PER_MINUTE: Final = 300
"""Of one source. Beyond it strangers are told to come later; whoever shows a good key is never told so."""
REDACTION: Final = 2
"""The version of what ``policies/core/redact.py`` keeps: an entry says by which one it was redacted."""
CONNECTION_TEST: Final = "job:connection_test"
BOUNDS_JOB: Final = "job:bounds"
IDEMPOTENCY_KEY: Final = "pagewarden/idempotency-key"
"""Where the MCP door takes a caller's own name for a write, in ``_meta``: the same name means the same write, tried again."""
ARGUMENT: Final = "argument:"
"""What the word for a wrong argument of a tool begins with (``Answer.fault``): the argument's name follows."""
EXPLAIN_OBJECT: Final = "job:explain_object"
LOOKS: Final = frozenset({CONNECTION_TEST, EXPLAIN_OBJECT, BOUNDS_JOB})
"""The portal's own looks at a connection. What they read reaches no assistant, so bounds do not hold them."""
_REQUEST_ID: Final = re.compile(r"[0-9a-zA-Z-]{1,64}", re.ASCII)
_CALLERS_REQUEST_ID: Final = re.compile(r"[0-9a-f-]{16,64}", re.ASCII)


CALLS: Final = Counter("pagewarden_calls", "Calls with a known credential.", ("door", "tool", "verdict", "outcome"))
SECONDS: Final = Histogram("pagewarden_call_seconds", "From a call's arrival to its answer.", ("door",))


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a call. ``status`` is what a REST door answers; ``problem`` the sentence to show, where it failed."""

    status: int
    outcome: Outcome
    verdict: Verdict | None = None
    reply: Reply | None = None
    problem: str = ""
    remedy: str = ""
    fault: str = ""
    """Which problem an invalid call has, in a word for the record; ``problem`` may repeat what was sent."""
    own: Own | None = None
    """What the portal itself answered: nothing was sent."""
    candidates: tuple[Mapping[str, Any], ...] = ()
    """Of an invalid call: what its argument could mean."""
    withheld: Reply | None = None
    """What PagerDuty answered and the caller does not get: outside the bounds. The entry tells that it came."""
    retry_after: float | None = None
    """Seconds until a call limit has room again."""
    limit: int = 0
    replay_of: str = ""
    """The decision whose outcome this tells: a second try of a write, which was not sent again."""

    @property
    def allowed(self) -> bool:
        return self.verdict is not None and self.verdict.allowed


@dataclass(frozen=True, slots=True)
class State:
    """What is known of the configuration: read together, swapped together."""

    policy: Policy
    identities: Identities
    reads_only: bool = False
    """The database is away and reads go on by what was confirmed last: nothing is written by it."""


@dataclass(frozen=True, slots=True)
class Known:
    """Who calls, and the configuration that says so: they belong together until the verdict."""

    state: State
    identified: Identified


class NotFresh(Exception):
    """The configuration in memory could not be confirmed against the database."""


class Configuration(Protocol):
    """Where the pipeline takes the current ``State`` from."""

    def fresh(self) -> State | None:
        """The state, if it was confirmed within the last second."""
        ...

    async def refresh(self) -> State:
        """Read the version now, and the state if it moved. Raises ``NotFresh``."""
        ...

    def last(self) -> State | None:
        """The state that was confirmed last, where reads go on by it; None: they do not."""
        ...


class Record(Protocol):
    """Where the pipeline puts entries."""

    def append(self, entry: Entry, *, verdict_version: int | None = None) -> asyncio.Future[None]: ...


class Buckets:
    """A token bucket for each agent key and person, in this process: full at first, refilled evenly, one call takes one."""

    def __init__(self, size: int = 10_000) -> None:
        self._size = size
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, whose: str, per_minute: int, now: float) -> float | None:
        """None: there was room. Else the seconds until there is."""
        left, since = self._buckets.get(whose, (float(per_minute), now))
        left = min(float(per_minute), left + (now - since) * per_minute / 60)
        taken = left >= 1
        self._buckets[whose] = (left - 1 if taken else left, now)
        self._buckets.move_to_end(whose)
        if len(self._buckets) > self._size:
            self._buckets.popitem(last=False)
        return None if taken else (1 - left) * 60 / per_minute


class Pipeline:
    """Runs calls on one event loop."""

    def __init__(
        self,
        integration: Integration,
        configuration: Configuration,
        journal: Record,
        *,
        retries: Retries,
        redactor: Redactor,
        refuse: Callable[[str, str], Awaitable[float | None]],
        on_used: Callable[[str, float], None],
        signs: Signs,
    ) -> None:
        self.integration = integration
        self._configuration = configuration
        self._journal = journal
        self._retries = retries
        self._redactor = redactor
        self._refuse = refuse
        self._on_used = on_used
        self._signs = signs
        self._buckets = Buckets()
        self._time_limit: float = settings.CALL_TIME_LIMIT
        self._under_way: set[asyncio.Task[None]] = set()

    def identify(self, secret: str, ip: str, at: float) -> Known | Rejected | None:
        """Whose agent key this is, before there is a call; None: the configuration must be read first, as ``run`` does."""
        state = self._configuration.fresh()
        if state is None:
            return None
        identified = state.identities.agent(secret, ip, at)
        return identified if isinstance(identified, Rejected) else Known(state, identified)

    def holds(self, known: Known, at: float) -> bool:
        """Whether what was said of a key is still what would be said: asked again, it would cost two keyed hashes."""
        return at < known.identified.expires_at and self._configuration.fresh() is known.state

    async def known(self, call: Call) -> Known | Rejected | None:
        """Whoever makes a call, with the configuration read first where it must be. None: it cannot be read."""
        state = await self._confirmed()
        if state is None:
            return None
        identified = state.identities.identify(call)
        return identified if isinstance(identified, Rejected) else Known(state, identified)

    async def _confirmed(self) -> State | None:
        """The configuration as it is now, or the last one where reads go on by it. None: nothing can be allowed."""
        try:
            return self._configuration.fresh() or await self._configuration.refresh()
        except NotFresh:
            return self._configuration.last()

    async def refuse(self, ip: str, rejected: Rejected) -> Answer:
        """The answer to a stranger: the same whatever was wrong with their credential."""
        if rejected.key_id:
            self._signs.refused(rejected.key_id, ip, time.time())
        wait = await self._refuse(ip, rejected.reason)
        return _STRANGER if wait is None else dataclasses.replace(_TOO_MANY, retry_after=math.ceil(wait))

    async def run(self, call: Call, known: Known | None = None) -> Answer:
        """Identify, decide, record and, if allowed, send a call. Never raises on what a caller or the network does.

        ``known``: what ``identify`` has said of its key, where that still holds.
        """
        if known is not None and self.holds(known, call.at):
            state, identified = known.state, known.identified
        else:
            confirmed = await self._confirmed()
            if confirmed is None:
                return _unavailable("The configuration cannot be read, so nothing can be allowed.")
            found = confirmed.identities.identify(call)
            if isinstance(found, Rejected):
                return await self.refuse(call.client.ip, found)
            state, identified = confirmed, found
        # From here on the call runs to its end, with its record, even if the caller goes away. ``asyncio.shield`` would say the
        # same, at the cost of another turn of the loop.
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(self._to_its_end(call, state, identified, answered))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return await answered

    async def _to_its_end(
        self, call: Call, state: State, identified: Identified, answered: asyncio.Future[Answer]
    ) -> None:
        """Run a call, count it, and tell whoever still waits."""
        intents: list[_About] = []
        answer = _unavailable("The portal could not see this call through.")
        trying = Trying(self._retries, answered.cancelled)
        try:
            answer = await self._governed(call, state, identified, intents, trying)
        except Exception:
            log.exception("A call of %s broke", identified.principal.id)
            if not intents:
                trying.withdraw()
            answer = await self._broken(call, identified, intents)
        finally:
            trying.over(told=answer.reply is not None)
            # Whatever has happened: nobody waits for ever. (Cancelled only when the loop ends.)
            if not answered.done():
                answered.set_result(answer)
        # Where bounds could not be told it is PagerDuty that failed: that says nothing of what the key is tried for.
        if answer.outcome is Outcome.DENIED and answer.status < 500 and answer.verdict is not None:
            self._notice(
                functools.partial(self._signs.denied, rule=answer.verdict.rule), call, identified, answer.verdict
            )
        tool, verdict = (answer.verdict.tool, answer.verdict.decision.value) if answer.verdict else ("", "")
        outcome = Outcome.REPLAYED if answer.replay_of else answer.outcome
        CALLS.labels(call.door.value, tool, verdict, outcome.value).inc()
        SECONDS.labels(call.door.value).observe(time.time() - call.at)

    async def _broken(self, call: Call, identified: Identified, intents: list[_About]) -> Answer:
        """The answer, on record, to a call that an error of the portal's own ended. With an intent it may have been sent."""
        if intents:
            verdict, outcome = intents[-1].verdict, Outcome.UNKNOWN
            answer = Answer(502, outcome, verdict, problem="The portal failed after it had begun the write.")
            remedy = "Look at PagerDuty before you try again: it may have been done."
        else:
            reason = "The portal itself failed on this call, and changed nothing."
            verdict = Verdict(Decision.DENY, "error", reason, "", 0, _decision_id())
            outcome, remedy = Outcome.FAILED, "Tell an administrator: the portal's log says more."
            answer = Answer(500, outcome, verdict, problem=reason)
        # Few details: making more of them may be what failed.
        told = {"door": call.door.value, "rule": verdict.rule, "reason": answer.problem, "status": answer.status}
        try:
            await self._journal.append(_entry(call, identified, verdict, EntryKind.RESULT, outcome, told))
        except (JournalUnavailable, StaleVerdict):
            if not intents:
                return _unavailable("The journal cannot record this call, so it is not answered.", verdict)
        return dataclasses.replace(answer, remedy=remedy)

    async def drain(self) -> None:
        """Wait for the calls that are under way."""
        while self._under_way:
            await asyncio.wait(self._under_way)

    async def _governed(
        self, call: Call, state: State, identified: Identified, intents: list[_About], trying: Trying
    ) -> Answer:
        """``intents`` gets the call once its intent is durable: from then on it may be sent."""
        deadline = time.monotonic() + self._time_limit
        if identified.key_id:
            self._on_used(identified.key_id, call.at)
        resolution = self.integration.resolve(call)
        limited = False
        # One, however often it is judged: what was told of it meanwhile must be found in the record.
        decision_id = _decision_id()
        for _ in range(MAXIMUM_STALE):
            verdict = verdict_on(state.policy, identified, resolution, decision_id)
            self._notice(self._signs.came, call, identified, verdict)
            about = _About(call, identified, resolution, verdict, self._redactor)
            about.reveal = reveals(state.policy, identified.principal, call.reveal)
            stopped = stopped_by(identified, verdict)
            if stopped is None and not limited:
                stopped, limited = self._over_limit(identified, verdict), True
            if stopped is None and (problem := call.problem or resolution.problem):
                stopped = Answer(
                    call.problem_status or 400,
                    Outcome.INVALID,
                    verdict,
                    problem=problem,
                    remedy="Correct the request: it was not sent.",
                    fault=call.fault if call.problem else resolution.fault,
                )
            if stopped is not None:
                return await self._recorded(about, stopped)
            connection = identified.connection
            assert connection is not None  # noqa: S101  (_stopped saw to both)
            if resolution.is_own:
                return await self._own(about, connection, deadline, away=state.reads_only)
            assert resolution.request is not None  # noqa: S101
            bounded = not connection.bounds.whole_account and identified.principal.id not in LOOKS
            if bounded:
                held = await self._held(about, connection, deadline)
                if isinstance(held, Answer):
                    return await self._recorded(about, held)
                about = held
            sealed = connection.sealed
            if call.variant:
                candidate = state.identities.candidates.get(connection.id)
                if candidate is None:
                    gone = _instead(verdict, "no_candidate", "The replacement token is not there any more.", "")
                    return await self._recorded(about, _denied(gone))
                sealed = candidate
            if resolution.request.reads:
                return await self._read(about, connection, deadline, sealed, bounded=bounded)
            if state.reads_only:
                why = "The portal's database is away: reads go on meanwhile, writes do not. This one was not sent."
                return await self._recorded(about, _unavailable(why, _instead(verdict, "database_away", why, "")))
            claim = self._retries.claim(
                call, identified.principal.id, connection.id, about.resolution, verdict.decision_id
            )
            try:
                earlier = await trying.begin(claim, deadline)
                if earlier is None:
                    await self._journal.append(
                        about.entry(EntryKind.INTENT, Outcome.INTENDED), verdict_version=verdict.policy_version
                    )
            except JournalUnavailable:
                trying.withdraw()
                unsent = _unavailable("The journal cannot record this write, so it was not sent.", verdict)
                # It may turn up all the same, with a database that was only slow: then it is on record that it was not sent.
                await self._recorded(about, unsent)
                return unsent
            except StaleVerdict:
                # The policy moved after it was judged: judge again by what holds now, the caller's key included.
                trying.withdraw()
                try:
                    state = await self._configuration.refresh()
                except NotFresh:
                    unread = "The configuration cannot be read, so nothing can be allowed."
                    return await self._recorded(about, _unavailable(unread, verdict))
                again = state.identities.identify(call)
                if isinstance(again, Rejected):
                    # By the key it came with the call is on record, like any that was denied.
                    reason = "The agent key was revoked or has expired meanwhile: nothing was sent."
                    revoked = _instead(verdict, "key_revoked", reason, "Ask a manager for another key.")
                    answer = Answer(401, Outcome.DENIED, revoked, problem=reason, remedy=revoked.remedy)
                    return await self._recorded(about, answer)
                identified = again
                continue
            if earlier is not None:
                return await self._recorded(about, _of_earlier(about, earlier))
            intents.append(about)
            self._notice(self._signs.wrote, call, identified, verdict)
            return await self._write(about, connection, deadline, sealed, trying)
        return await self._recorded(about, _unavailable("The policy keeps changing: the write was not sent.", verdict))

    def _notice(
        self, what: Callable[[str, str, float, str, str], None], call: Call, identified: Identified, verdict: Verdict
    ) -> None:
        """Signs are looked for in what agents do."""
        if identified.key_id:
            what(identified.key_id, call.client.ip, call.at, verdict.tool, verdict.decision_id)

    def _over_limit(self, identified: Identified, verdict: Verdict) -> Answer | None:
        """Takes one call from the key's bucket; not None: there was none left."""
        if not identified.calls_per_minute:
            return None
        whose = identified.key_id or identified.principal.id
        wait = self._buckets.take(whose, identified.calls_per_minute, time.monotonic())
        if wait is None:
            return None
        more = ", or ask a manager for a higher limit" if identified.key_id else ""
        who = "This agent key" if identified.key_id else identified.principal.name
        reason = f"{who} may make {identified.calls_per_minute} calls a minute, and has made them."
        limited = _instead(verdict, "call_limit", reason, f"Wait {math.ceil(wait)} s{more}.")
        return Answer(
            429,
            Outcome.DENIED,
            limited,
            problem=reason,
            remedy=limited.remedy,
            retry_after=wait,
            limit=identified.calls_per_minute,
        )

    async def _recorded(self, about: _About, answer: Answer) -> Answer:
        """``answer``, once its entry is durable."""
        about = about.with_verdict(answer.verdict)
        outcome = Outcome.REPLAYED if answer.replay_of else answer.outcome
        try:
            await self._journal.append(about.entry(EntryKind.RESULT, outcome, answer=answer))
        except (JournalUnavailable, StaleVerdict):
            return _unavailable("The journal cannot record this call, so it is not answered.", answer.verdict)
        return answer

    async def _send(self, about: _About, connection: Connection, deadline: float, sealed: bytes) -> Reply:
        try:
            return await self.integration.send(about.resolution, connection, deadline, sealed, about.reveal)
        except Exception as error:
            # An exception means that nothing was sent (Integration.send): the token did not open, say.
            log.error("Nothing was sent for %s: %s", about.verdict.decision_id, type(error).__name__)
            return Reply(0, failure="unsealed", detail=type(error).__name__, sent=False)

    async def _held(self, about: _About, connection: Connection, deadline: float) -> _About | Answer:
        """The call as it stays inside the connection's bounds; or the answer, where it does not or cannot be told to."""
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                look = self._look(about, connection)
                held = await self.integration.bound(about.resolution, connection, look)
        except (LookFailed, TimeoutError) as error:
            return _untold(about, error)
        if isinstance(held, Refusal):
            return _denied(_instead(about.verdict, "bounds", held.reason, held.remedy))
        if held is about.resolution:
            return about
        bounded = _About(about.call, about.identified, held, about.verdict, self._redactor)
        bounded.reveal = about.reveal
        return bounded

    def _look(self, about: _About, connection: Connection) -> Look:
        """How bounds find out who owns what: the portal's own reads, each decided and on record like any other."""
        job = JobCredential(
            BOUNDS_JOB.removeprefix("job:"), connection.id, on_behalf_of=about.identified.principal.name
        )

        async def look(path: str, query: str) -> Any:
            answer = await self.run(Call(Door.JOB, job, "GET", path, query, at=time.time()))
            reply = answer.reply
            if answer.verdict is not None and not answer.allowed:
                raise LookFailed(answer.verdict.reason, permanent=True)
            if reply is None or answer.problem or reply.status >= 500 or reply.status in (402, 429):
                raise LookFailed(answer.problem or f"PagerDuty answered {reply.status if reply else 'nothing'}.")
            if reply.status >= 400:
                return None
            try:
                return msgspec.json.decode(reply.body)
            except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
                raise LookFailed("PagerDuty's answer could not be read.") from error

        return look

    async def _read(
        self, about: _About, connection: Connection, deadline: float, sealed: bytes, *, bounded: bool
    ) -> Answer:
        # While PagerDuty works, the processor is free for what is known already.
        asyncio.get_running_loop().call_soon(about.prepare)
        reply = await self._send(about, connection, deadline, sealed)
        answer = _answer(about, reply, reply.outcome)
        if bounded and answer.reply is not None and not answer.problem:
            answer = await self._released(about, answer, connection, deadline)
        return await self._recorded(about, answer)

    async def _own(self, about: _About, connection: Connection, deadline: float, *, away: bool) -> Answer:
        """What the integration answers itself, on record. ``away``: so is the database, in which all of it is kept."""
        began = time.monotonic()
        try:
            if away:
                raise Unanswered(_DATABASE_AWAY, "Try again shortly, or use a tool that asks PagerDuty.")
            async with asyncio.timeout(deadline - began):
                own = await self.integration.answer(about.resolution, connection)
        except (Unanswered, TimeoutError) as none:
            return await self._recorded(about, _unanswered(about.verdict, none))
        resolution = dataclasses.replace(about.resolution, targets=own.targets)
        about = _About(about.call, about.identified, resolution, about.verdict, self._redactor)
        about.own_seconds = time.monotonic() - began
        return await self._recorded(about, Answer(200, Outcome.DONE, about.verdict, own=own))

    async def _released(self, about: _About, answer: Answer, connection: Connection, deadline: float) -> Answer:
        """The answer, or in its place a denial that keeps what came back for the record alone."""
        assert answer.reply is not None  # noqa: S101
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                look = self._look(about, connection)
                refusal = await self.integration.released(about.resolution, connection, answer.reply, look)
        except (LookFailed, TimeoutError) as error:
            return dataclasses.replace(_untold(about, error), withheld=answer.reply)
        if refusal is None:
            return answer
        denied = _denied(_instead(about.verdict, "bounds", refusal.reason, refusal.remedy))
        return dataclasses.replace(denied, withheld=answer.reply)

    async def _write(
        self, about: _About, connection: Connection, deadline: float, sealed: bytes, trying: Trying
    ) -> Answer:
        reply = await self._send(about, connection, deadline, sealed)
        # PagerDuty's 5xx says nothing about what was done before it.
        outcome = Outcome.UNKNOWN if not reply.failure and reply.status >= 500 else reply.outcome
        answer = _answer(about, reply, outcome)
        trying.keep(outcome, reply)
        try:
            await self._journal.append(about.entry(EntryKind.RESULT, outcome, answer=answer))
        except (JournalUnavailable, StaleVerdict):
            if not reply.sent:
                trying.withdraw()
                return _unavailable("The journal stopped recording; the write was not sent.", about.verdict)
            # Sent: never a 503, which invites a second try.
            return Answer(
                502,
                Outcome.UNKNOWN,
                about.verdict,
                problem="The write was sent, but its outcome could not be recorded.",
                remedy="Look at PagerDuty before you try again: it may have been done.",
            )
        return answer


def verdict_on(policy: Policy, identified: Identified, resolution: Resolution, decision_id: str) -> Verdict:
    """What the policy says of a call, before anything of its connection is looked at."""
    if resolution.tools:
        return decide_all(policy, identified.principal, resolution.tools, decision_id)
    return Verdict(
        Decision.DENY,
        "refused_operation" if resolution.operation else "not_in_catalogue",
        resolution.refusal,
        resolution.remedy or "Only what the catalogue lists can be called: see the tools page of your team.",
        policy.version,
        decision_id,
    )


def stopped_by(identified: Identified, verdict: Verdict) -> Answer | None:
    """Why a call is denied, by the policy's verdict or for want of a connection that can be used; None: it is not."""
    if verdict.decision is not Decision.ALLOW:
        return _denied(verdict)
    connection, principal = identified.connection, identified.principal
    if connection is None:
        reason = f"{principal.name} has no connection to PagerDuty."
        remedy = "Ask a manager to issue a key for one of the team's connections."
        return _denied(_instead(verdict, "no_connection", reason, remedy))
    # A connection that is switched off is off for everybody; one whose token must be replaced can still be tested.
    if connection.suspended and not (connection.is_enabled and principal.id == CONNECTION_TEST):
        remedy = f"Ask a manager of {connection.team} to see to the connection {connection.name}."
        return _denied(_instead(verdict, "suspended", connection.suspended, remedy))
    return None


class _About:
    """One call as its entries tell of it."""

    def __init__(
        self, call: Call, identified: Identified, resolution: Resolution, verdict: Verdict, redactor: Redactor
    ) -> None:
        self.call = call
        self.identified = identified
        self.resolution = resolution
        self.verdict = verdict
        self.redactor = redactor
        self.reveal: frozenset[str] = frozenset()
        """Kinds of what is masked that whoever called is shown."""
        self.own_seconds = 0.0
        """How long the portal's own answer took."""
        self._asked: dict[str, Any] | None = None

    def with_verdict(self, verdict: Verdict | None) -> _About:
        if verdict is None or verdict is self.verdict:
            return self
        return _About(self.call, self.identified, self.resolution, verdict, self.redactor)

    def prepare(self) -> None:
        """Work out ahead what an entry tells of the request."""
        self._asked = self._request()

    def entry(self, kind: EntryKind, outcome: Outcome, *, answer: Answer | None = None) -> Entry:
        details = dict(self._asked or self._request())
        details["recorded_at"] = moment(dt.datetime.now(dt.UTC))
        if answer is not None:
            self._tell_of(answer, details)
        return _entry(self.call, self.identified, self.verdict, kind, outcome, details)

    def _request(self) -> dict[str, Any]:
        call, resolution, verdict = self.call, self.resolution, self.verdict
        principal: Principal = self.identified.principal
        connection = self.identified.connection
        details: dict[str, Any] = {
            "door": call.door.value,
            "actor": {"kind": principal.kind.value, "id": principal.id, "name": principal.name},
            "team": principal.team,
            "rule": verdict.rule,
            "reason": verdict.reason,
            "policy_version": verdict.policy_version,
            "ip": call.client.ip,
            "operation": resolution.operation.id if resolution.operation else "",
            "method": call.method if resolution.operation else self._method(),
            "path": resolution.shape,
            "redaction": REDACTION,
        }
        if resolution.remedy:
            details["remedy"] = resolution.remedy
        if principal.credential:
            details["credential"] = principal.credential
        if principal.on_behalf_of:
            details["on_behalf_of"] = principal.on_behalf_of
        if verdict.risk is not None:
            details["risk"] = verdict.risk.value
        if connection is not None:
            details["connection"] = connection.name
        if call.client.name:
            details["client"] = self.redactor.client_name(call.client.name)
        if call.client.request_id:
            details["request_id"] = self._plain(call.client.request_id, _CALLERS_REQUEST_ID)
        if call.variant:
            details["token"] = call.variant
        if call.idempotency_key:
            details["idempotency"] = self.redactor.digest(call.idempotency_key)
        if call.use:
            # A name that is no tool's is whatever somebody sent.
            known = resolution.tools or resolution.operation
            details["use"] = {"tool": call.tool if known else self.redactor.string(call.tool), "id": call.use}
        if len(resolution.tools) > 1:
            details["tools"] = [tool.name for tool in resolution.tools]
        keep = _kept(resolution.tools)
        if resolution.targets:
            details["targets"] = [
                {"type": target.type, **self.redactor.arguments({"id": {"id": target.id}}, keep)["id"]}
                for target in resolution.targets
            ]
        if arguments := self.redactor.arguments(resolution.arguments, keep):
            details["arguments"] = arguments
        if resolution.held:
            details["held"] = resolution.held
        if (request := resolution.request) is not None:
            sent = f"{request.method} {request.path}?{request.query}\n{(request.body or b'').decode('ascii')}"
            details["request_digest"] = self.redactor.digest(sent)
        return details

    def _tell_of(self, answer: Answer, details: dict[str, Any]) -> None:
        request, reply = self.resolution.request, answer.reply or answer.withheld
        if answer.replay_of:
            # What came from PagerDuty is told by the first try's entries.
            details["status"], details["replay_of"] = answer.status, answer.replay_of
            return
        if reply is not None and request is not None and not request.reads:
            # The result of a write refers to its intent, which holds these.
            details.pop("targets", None)
            details.pop("arguments", None)
        details["status"] = answer.status
        if answer.outcome is Outcome.INVALID:
            details["problem"] = answer.fault
        if answer.own is not None:
            details["mirror"] = {"as_of": answer.own.as_of, "milliseconds": round(self.own_seconds * 1000, 1)}
        if reply is not None:
            details["upstream"] = {
                "request_id": self._plain(reply.header("x-request-id"), _REQUEST_ID),
                "attempts": reply.attempts,
                "milliseconds": round(reply.seconds * 1000, 1),
            }
            if answer.withheld is None:
                details["upstream"] |= {"status": reply.status, "bytes": len(reply.body)}
            else:
                # Its team reads this, too, and may not learn whether there is something.
                details["upstream"]["withheld"] = True
            if reply.failure:
                details["upstream"]["failure"] = reply.failure
            if reply.revealed and answer.withheld is None:
                details["revealed"] = dict(reply.revealed)

    def _method(self) -> Any:
        method = self.call.method
        known = method in ("", "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
        return method if known else self.redactor.string(method)

    def _plain(self, text: str, form: re.Pattern[str]) -> Any:
        return text if not text or form.fullmatch(text) else self.redactor.string(text)


def _entry(
    call: Call, identified: Identified, verdict: Verdict, kind: EntryKind, outcome: Outcome, details: Mapping[str, Any]
) -> Entry:
    principal, connection = identified.principal, identified.connection
    # What looks beyond bounds found is not for the team's eyes: whether something of another's exists.
    bounded = connection is not None and not connection.bounds.whole_account
    hidden = principal.id == BOUNDS_JOB or (principal.id == EXPLAIN_OBJECT and bounded)
    return Entry(
        kind=kind,
        at=dt.datetime.fromtimestamp(call.at, dt.UTC),
        decision_id=verdict.decision_id,
        team_id=None if hidden else principal.team_id,
        actor=principal.id,
        tool=verdict.tool,
        verdict=verdict.decision.value,
        outcome=outcome,
        resource=connection.id if connection else "",
        details=details,
    )


def _kept(tools: tuple[Tool, ...]) -> Mapping[str, frozenset[str]]:
    """What an entry may keep of a call that needs ``tools``."""
    if len(tools) == 1:
        return tools[0].keep
    names = {name for tool in tools for name in tool.keep}
    return {name: frozenset().union(*(tool.keep.get(name, frozenset()) for tool in tools)) for name in names}


def _decision_id() -> str:
    """Unique, and in order of time."""
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(8)}"


def _instead(verdict: Verdict, rule: str, reason: str, remedy: str) -> Verdict:
    """A denial in place of a verdict that allowed."""
    return Verdict(
        Decision.DENY, rule, reason, remedy, verdict.policy_version, verdict.decision_id, verdict.tool, verdict.risk
    )


def _denied(verdict: Verdict) -> Answer:
    return Answer(403, Outcome.DENIED, verdict, problem=verdict.reason, remedy=verdict.remedy)


def _unanswered(verdict: Verdict, none: Unanswered | TimeoutError) -> Answer:
    """The answer to a call that the portal itself should have answered, and could not."""
    if isinstance(none, TimeoutError):
        none = Unanswered(
            "There was no answer in time: nothing was sent.", "Ask for less at once, or try again shortly."
        )
    return Answer(
        400 if none.about else 503,
        Outcome.INVALID if none.about else Outcome.FAILED,
        verdict,
        problem=str(none),
        remedy=none.remedy,
        fault=f"{ARGUMENT}{none.about}" if none.about else "",
        candidates=none.candidates,
    )


def _untold(about: _About, error: LookFailed | TimeoutError) -> Answer:
    """Who owns what a call is about could not be told, so nothing of it goes out or comes back."""
    permanent = isinstance(error, LookFailed) and error.permanent
    why = str(error) if isinstance(error, LookFailed) else "PagerDuty did not answer in time."
    reason = f"Whether this is inside the connection's bounds could not be told. {why}"
    remedy = "Ask an administrator." if permanent else "Try again shortly; test the connection if it stays."
    denied = _denied(_instead(about.verdict, "bounds", reason, remedy))
    return denied if permanent else dataclasses.replace(denied, status=503)


_DATABASE_AWAY: Final = "The portal's database is away, and this is answered from what is kept there."
_STRANGER: Final = Answer(
    401,
    Outcome.DENIED,
    problem="The agent key is missing, unknown, revoked or expired, or may not be used from here.",
    remedy="Use a key that a manager of your team issued, as Authorization: Token token=<key>.",
)
_TOO_MANY: Final = Answer(
    429,
    Outcome.DENIED,
    problem="Too many calls from here came with a key that is missing, unknown, revoked or expired.",
    remedy=_STRANGER.remedy,
    limit=REFUSALS_PER_MINUTE,
)


def _unavailable(problem: str, verdict: Verdict | None = None) -> Answer:
    return Answer(
        503, Outcome.FAILED, verdict, problem=problem, remedy="Try again shortly; tell an administrator if it stays."
    )


def _of_earlier(about: _About, earlier: Earlier) -> Answer:
    """The answer to a write that was tried before: what became of that, and how to have it sent all the same."""
    first, keyed = earlier.decision_id, bool(about.call.idempotency_key)
    if earlier.state is Tried.KEPT and earlier.reply is not None:
        return Answer(earlier.reply.status, earlier.outcome, about.verdict, earlier.reply, replay_of=first)
    by_mcp = about.call.door is Door.MCP
    name = f"{IDEMPOTENCY_KEY} in _meta" if by_mcp else "Idempotency-Key"
    force = f"give it {'another' if keyed else 'an'} {name} of its own"
    if by_mcp and not keyed:
        force = f"wait {DOUBT_SECONDS} seconds"  # Few assistants can send more than arguments.
    if earlier.state is Tried.UNKNOWN:
        return Answer(
            502,
            Outcome.UNKNOWN,
            about.verdict,
            problem=f"This write was begun before (decision {first}) and its outcome is unknown: it was not sent again.",
            remedy=f"Look at PagerDuty: it may have been done. To have it sent again, {force}.",
            replay_of=first,
        )
    if earlier.state is Tried.OTHER:
        problem = f"This {name} was used for another request (decision {first}): nothing was sent."
        remedy = "Give each write a key of its own; only a second try of the very same request has the same key."
    elif earlier.state is Tried.GONE:
        problem, remedy = "The caller went away while this waited for its first try: it was not sent.", "Try again."
    else:
        problem = f"The first try of this write (decision {first}) is still under way: it was not sent again."
        remedy = f"Ask again in {math.ceil(settings.CALL_TIME_LIMIT)} seconds: its outcome is known then."
        remedy += "" if keyed else f" To have it sent as another write, {force}."
    return Answer(409, Outcome.INVALID, about.verdict, problem=problem, remedy=remedy, fault=f"try_{earlier.state}")


_FAILURES = {
    "resolve": "PagerDuty's host name was not resolved.",
    "private_address": "PagerDuty's host name leads to a private address, so nothing was sent there.",
    "proxy": "The corporate proxy did not let the call through to PagerDuty.",
    "connect": "PagerDuty could not be reached.",
    "tls": "No secure connection to PagerDuty could be made.",
    "connect_timeout": "PagerDuty did not accept a connection in time.",
    "timeout": "PagerDuty did not answer in time.",
    "disconnected": "PagerDuty closed the connection before its answer was whole.",
    "too_large": "PagerDuty's answer is over the size limit.",
    "malformed": "What came back is not an answer of PagerDuty's.",
    "unsealed": "The connection's token could not be opened.",
}


def _answer(about: _About, reply: Reply, outcome: Outcome) -> Answer:
    if reply.failure:
        unknown = (
            outcome is Outcome.UNKNOWN and about.resolution.request is not None and not about.resolution.request.reads
        )
        return Answer(
            504 if reply.failure in ("timeout", "connect_timeout") and not unknown else 502,
            outcome if unknown else Outcome.FAILED,
            about.verdict,
            reply,
            _FAILURES[reply.failure],
            "The write was sent and its outcome is unknown: look at PagerDuty before you try again."
            if unknown
            else "Nothing was done. Test the connection if it stays.",
        )
    if reply.status == 401:
        # The agent key is good: it is the connection's token that PagerDuty refused.
        return Answer(
            502,
            outcome,
            about.verdict,
            reply,
            "PagerDuty refused the connection's own token.",
            "The token may have been revoked: ask a manager of the team to test the connection.",
        )
    return Answer(reply.status, outcome, about.verdict, reply)
