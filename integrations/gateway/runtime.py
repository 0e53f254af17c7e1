"""One per process: the event loop's journal, transport and configuration. Web processes start it in their ASGI lifespan;
elsewhere ``call`` starts it in a thread of its own, on first use."""

from __future__ import annotations

import asyncio
import atexit
import dataclasses
import datetime as dt
import hashlib
import logging
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connection, connections, transaction

from integrations.gateway.alarms import Signs
from integrations.gateway.identity import load_identities
from integrations.gateway.integration import Integration
from integrations.gateway.pipeline import Answer, NotFresh, Pipeline, State
from integrations.gateway.retries import Retries, prune
from integrations.gateway.strangers import Strangers
from integrations.pagerduty.integration import PagerDuty
from policies.core.call import Call
from policies.core.redact import Redactor
from policies.journal import AWAY_SECONDS, Journal, close_orphans, own_connection
from policies.models import AgentKey
from policies.patience import is_away
from policies.snapshot import current_version, load_policy
from policies.spool import Spool

log = logging.getLogger(__name__)
T = TypeVar("T")

FRESH_SECONDS = 0.9
"""How long a confirmed configuration holds: a revocation binds the next read within a second."""
POLL_SECONDS = 0.4
RELOAD_SECONDS = 60.0
"""Token ages and expiries count in the configuration, so it is read again even when nothing moved."""
HOUSEKEEPING_SECONDS = 5.0
REFUSED_SECONDS = 60.0
"""How often what was refused of strangers becomes an entry."""


class Watch:
    """Keeps the configuration in memory: polls its version, and reads it whole when that moved."""

    def __init__(self, job_tools: frozenset[str]) -> None:
        self._job_tools = job_tools
        self._state: State | None = None
        self._confirmed = -1e9
        self._loaded = -1e9
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._moved = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="configuration", daemon=True)
        self._asked = ThreadPoolExecutor(1, "configuration-asked")
        self._failure: Exception | None = None
        """What the database said instead of an answer when it was asked last."""

    def start(self) -> None:
        """Read the configuration. Where the database is away the process starts closed, and opens when it is back."""
        try:
            self._asked.submit(self._check_in_thread).result()
        except Exception as error:
            # A file that cannot be opened is a mistake, and does not mend itself.
            if not is_away(error) or connection.vendor == "sqlite":
                raise
            log.error("The database is away, so nothing is allowed as yet: %s: %s", type(error).__name__, error)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._moved.set()
        self._thread.join(timeout=10)
        self._asked.shutdown(wait=False)

    def away(self) -> bool:
        """Whether the database was silent when it was asked last. The poll asks again and again: nobody else need wait."""
        return self._failure is not None and self._thread.is_alive()

    def fresh(self) -> State | None:
        return self._state if time.monotonic() - self._confirmed < FRESH_SECONDS else None

    def last(self) -> State | None:
        """While the database is away and reads go on: the state that was confirmed last. None: they do not."""
        state, failure = self._state, self._failure
        if state is None or failure is None or not is_away(failure) or self.reads_go_on_by() is None:
            return None
        return dataclasses.replace(state, reads_only=True)

    def reads_go_on_by(self) -> dt.datetime | None:
        """When the state was confirmed that reads may be recorded by without the database. None: they may not."""
        state, age = self._state, time.monotonic() - self._confirmed
        if state is None or age >= 60 * state.policy.reads_go_on:
            return None
        return dt.datetime.now(dt.UTC) - dt.timedelta(seconds=age)

    async def refresh(self) -> State:
        """Read the version now, and the state if it moved."""
        if self.away():
            raise NotFresh
        try:
            return await asyncio.wrap_future(self._asked.submit(self._check_in_thread))
        except Exception as error:
            # Whatever it is: nothing is allowed on what could not be confirmed.
            log.error("The configuration cannot be read: %s: %s", type(error).__name__, error)
            raise NotFresh from error

    def saw_version(self, version: int) -> None:
        """The journal's writer reads the version with every batch: that confirms the state, or wakes the poll."""
        state = self._state
        if state is not None and state.policy.version == version:
            self._confirmed = time.monotonic()
        else:
            self._moved.set()

    def _check_in_thread(self) -> State:
        connections[DEFAULT_DB_ALIAS] = own_connection(lambda: AWAY_SECONDS)
        try:
            return self._check()
        finally:
            connection.close()

    def _check(self) -> State:
        """Confirm the state, or replace it."""
        with self._lock:
            if self.away() and threading.current_thread() is not self._thread:
                raise NotFresh  # That was found out while this one waited for its turn.
            try:
                state = self._read()
            except Exception as error:
                self._failure = error
                raise
            self._failure = None
            return state

    def _read(self) -> State:
        """Read between two reads of the same version, so that it is of one moment."""
        asked = time.monotonic()
        version = current_version()
        state = self._state
        while state is None or state.policy.version != version or asked - self._loaded > RELOAD_SECONDS:
            state = State(load_policy(version), load_identities(self._job_tools))
            self._loaded = time.monotonic()
            asked, before = self._loaded, version
            version = current_version()
            if version != before:
                state = None
                continue
            self._state = state
            break
        self._confirmed = asked
        return state

    def _poll(self) -> None:
        connections[DEFAULT_DB_ALIAS] = own_connection(lambda: AWAY_SECONDS)
        try:
            while not self._stop.is_set():
                known = self.away()
                try:
                    self._check()
                    if known:
                        log.warning("The configuration can be read again")
                except Exception as error:
                    # A dead poll would leave a process that refreshes for every call, and never by itself.
                    if not known:
                        log.error("The configuration cannot be read: %s: %s", type(error).__name__, error)
                    connection.close()
                self._moved.wait(POLL_SECONDS)
                self._moved.clear()
        finally:
            connection.close()


class Runtime:
    """Everything a process needs to run calls, on the loop that ``start`` is awaited on."""

    def __init__(self, integration: Callable[[], Integration] = PagerDuty) -> None:
        self._make_integration = integration
        self._used: dict[str, float] = {}
        self._tidying: asyncio.Task[None] | None = None
        self.stop_thread: Callable[[], None] = lambda: None

    async def start(self) -> None:
        """Read the configuration and start the writer. Raises ``DatabaseError`` where the database does not answer."""
        self.loop = asyncio.get_running_loop()
        integration = self._make_integration()
        self.watch = Watch(integration.job_tools)
        await asyncio.to_thread(_in_thread, self.watch.start)
        self.spool = Spool(settings.SPOOL_DIR, confirmed=self.watch.reads_go_on_by, away=self.watch.away)
        self.journal = Journal(self.loop, on_version=self.watch.saw_version, spool=self.spool)
        self.spool.on_back = self.journal.recovered
        self.journal.start()
        self.spool.start()
        key = hashlib.blake2b(settings.SECRET_KEY.encode(), person=b"redaction", digest_size=32).digest()
        self.redactor = Redactor(key)
        self.strangers = Strangers(self.journal.append)
        self.signs = Signs()
        self.retries = Retries(self.journal)
        self.pipeline = Pipeline(
            integration,
            self.watch,
            self.journal,
            retries=self.retries,
            redactor=self.redactor,
            refuse=self.strangers.refuse,
            on_used=self._note_use,
            signs=self.signs,
        )
        self._tidying = asyncio.create_task(self._tidy())

    async def stop(self) -> None:
        """Finish the calls that are under way, record what is counted, and close everything."""
        await self.finish_calls()
        await asyncio.to_thread(self.close)
        await self.pipeline.integration.close()

    async def finish_calls(self) -> None:
        await self.pipeline.drain()
        if self._tidying is not None:
            self._tidying.cancel()
        self.strangers.record()
        await self.retries.close()

    def close(self) -> None:
        """Called off the loop, which must still run: the journal's futures are settled there."""
        self.journal.stop()
        self.spool.stop()
        away = self.watch.away()
        self.watch.stop()
        if not away:
            _in_thread(lambda: _write_uses(self._used))
            self.signs.write()

    def is_ready(self) -> dict[str, bool]:
        """What ``/readyz`` tells."""
        return {"journal": self.journal.healthy, "configuration": self.watch.fresh() is not None}

    def spooling(self) -> dict[str, int | bool | str]:
        """What ``/readyz`` tells of the spool: whether reads go on by it now, this process's entries in it, how many files wait
        there at all, and why nothing could be spooled."""
        return {
            "reads_go_on": self.watch.away() and self.watch.last() is not None,
            "entries": self.spool.spooled,
            "files": self.spool.files(),
            "problem": self.spool.problem or "",
        }

    def _note_use(self, key_id: str, at: float) -> None:
        self._used[key_id] = at
        self.strangers.make_way()

    async def _tidy(self) -> None:
        while True:
            await asyncio.sleep(HOUSEKEEPING_SECONDS)
            try:
                await self._housekeep()
            except Exception:
                # Its next turn may work; a dead housekeeper would leave orphans open for ever.
                log.exception("Housekeeping failed; it is tried again in %s s", HOUSEKEEPING_SECONDS)

    async def _housekeep(self) -> None:
        if self.watch.away():
            return  # What was counted is counted on, and written when the database is back.
        if time.time() - self.strangers.since >= REFUSED_SECONDS:
            self.strangers.record()
        self.signs.begin()
        used, self._used = self._used, {}
        await asyncio.to_thread(_in_thread, lambda: _write_uses(used))
        limit = dt.timedelta(seconds=settings.CALL_TIME_LIMIT + 5)
        # What an orphan's write came to may wait in the spool.
        if not self.spool.files():
            await asyncio.to_thread(_in_thread, lambda: close_orphans(limit))
        await asyncio.to_thread(_in_thread, lambda: prune(dt.datetime.now(dt.UTC)))


def _in_thread(work: Callable[[], object]) -> None:
    try:
        work()
    finally:
        connection.close()


def _write_uses(used: dict[str, float]) -> None:
    for start in range(0, len(used), 100):
        with transaction.atomic():
            for key_id, at in list(used.items())[start : start + 100]:
                AgentKey.objects.filter(pk=key_id).update(last_used_at=dt.datetime.fromtimestamp(at, dt.UTC))


_runtime: Runtime | None = None
_starting = threading.Lock()


def install(runtime: Runtime | None) -> None:
    """Make ``runtime`` the process's one: the ASGI lifespan does, and takes it away at the end."""
    global _runtime
    _runtime = runtime


def current() -> Runtime:
    """The process's runtime, started in a thread of its own where no server has started one."""
    global _runtime
    with _starting:
        if _runtime is None:
            _runtime = _start_in_thread()
        return _runtime


def _start_in_thread() -> Runtime:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="runtime", daemon=True)
    thread.start()
    runtime = Runtime()
    asyncio.run_coroutine_threadsafe(runtime.start(), loop).result(timeout=30)

    def stop() -> None:
        if _runtime is runtime:
            install(None)
            # At exit there are no worker threads any more: what blocks is done right here.
            asyncio.run_coroutine_threadsafe(runtime.finish_calls(), loop).result(timeout=30)
            runtime.close()
            asyncio.run_coroutine_threadsafe(runtime.pipeline.integration.close(), loop).result(timeout=30)
            loop.call_soon_threadsafe(loop.stop)
            thread.join(timeout=5)

    runtime.stop_thread = stop
    atexit.register(stop)
    return runtime


def call(call: Call) -> Answer:
    """Run a call from synchronous code, on the process's one loop. Raises as ``wait_for`` does."""
    return wait_for(lambda runtime: runtime.pipeline.run(call), settings.CALL_TIME_LIMIT + 30)


def wait_for(work: Callable[[Runtime], Coroutine[Any, Any, T]], seconds: float) -> T:
    """What ``work`` comes to on the process's one loop, for synchronous code: pages, tasks and commands.

    Raises:
        TimeoutError: it was not done after ``seconds``. It is cancelled; calls that are under way run to their end all the same.
        RuntimeError: inside ``atomic()`` (the journal's writer would wait for this very transaction), or on the loop itself.
    """
    if connection.in_atomic_block:
        raise RuntimeError("A call cannot be made inside a transaction: the journal would wait for it for ever.")
    runtime = current()
    try:
        running = asyncio.get_running_loop()
    except RuntimeError:
        running = None
    if running is runtime.loop:
        raise RuntimeError("This blocks: on the event loop, await the runtime's pipeline instead.")
    future = asyncio.run_coroutine_threadsafe(work(runtime), runtime.loop)
    try:
        return future.result(timeout=seconds)
    except TimeoutError:
        future.cancel()
        raise
