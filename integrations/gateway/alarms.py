"""What a process notices of agent keys: where they come from, that they write, that they are denied again and again.

On the way of a call this is one look into a set. What may be news goes to a thread, which asks the database whether it is.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from typing import Final

from django.db import connection

from policies.alarms import REFUSED_AGAIN, Kind, Sign, network_of, note

log = logging.getLogger(__name__)

DENIALS: Final = 20
"""So many denied calls of one key ..."""
DENIALS_SECONDS: Final = 300.0
"""... within so many seconds are a burst. Of one that goes on a sign is given each minute."""
AGAIN_SECONDS: Final = 60.0
TELLS_NOTHING: Final = frozenset({"call_limit", "stopped", "suspended", "no_connection", "key_revoked"})
"""Rules whose denials tell of the portal's own state, not of what the key is tried for."""
REMEMBERED: Final = 50_000


class Signs:
    """Used on the event loop, but for ``write``."""

    def __init__(self) -> None:
        self._addresses: set[tuple[str, str]] = set()
        self._networks: set[tuple[str, str]] = set()
        self._writers: set[str] = set()
        self._refused: dict[str, float] = {}
        self._denials: dict[str, _Denials] = {}
        self._waiting: deque[Sign] = deque()
        self._one_at_a_time = threading.Lock()
        self._writing: asyncio.Task[bool] | None = None

    def came(self, key_id: str, ip: str, at: float, tool: str, decision_id: str) -> None:
        """A call of a key was judged."""
        if (key_id, ip) in self._addresses:
            return
        if len(self._addresses) >= REMEMBERED:
            self._addresses.clear()
            self._networks.clear()
        self._addresses.add((key_id, ip))
        if (network := (key_id, network_of(ip))) not in self._networks:
            self._networks.add(network)
            self._give(Sign(Kind.NEW_NETWORK, key_id, at, ip, tool, decision_id))

    def wrote(self, key_id: str, ip: str, at: float, tool: str, decision_id: str) -> None:
        """A write of a key is about to be sent."""
        if key_id not in self._writers:
            self._writers.add(key_id)
            self._give(Sign(Kind.FIRST_WRITE, key_id, at, ip, tool, decision_id))

    def denied(self, key_id: str, ip: str, at: float, tool: str, decision_id: str, rule: str) -> None:
        """A call of a key was denied."""
        if rule in TELLS_NOTHING:
            return
        denials = self._denials.setdefault(key_id, _Denials())
        if count := denials.burst(at):
            self._give(Sign(Kind.DENIALS, key_id, at, ip, tool, decision_id, count))

    def refused(self, key_id: str, ip: str, at: float) -> None:
        """The right secret came from where its key may not be used."""
        if at - self._refused.get(key_id, 0.0) > REFUSED_AGAIN.total_seconds():
            self._refused[key_id] = at
            self._give(Sign(Kind.NEW_NETWORK, key_id, at, ip, refused=True))

    def _give(self, sign: Sign) -> None:
        self._waiting.append(sign)
        self.begin()

    def begin(self) -> None:
        """Write what waits, in a thread, unless that is being done."""
        if self._waiting and (self._writing is None or self._writing.done()):
            self._writing = asyncio.create_task(asyncio.to_thread(self.write))
            self._writing.add_done_callback(self._written)

    def _written(self, task: asyncio.Task[bool]) -> None:
        # What came when the thread had just looked for the last time. What failed waits for the housekeeper.
        if not task.cancelled() and task.exception() is None and task.result():
            self.begin()

    def write(self) -> bool:
        """Write what waits, and say whether that was possible. What cannot be written waits on."""
        # Here, because tasks make a queue, which tests and commands need not have.
        from integrations.tasks import mail_alarms

        to_mail = failed = False
        try:
            with self._one_at_a_time:
                while self._waiting:
                    to_mail |= note(self._waiting[0])
                    self._waiting.popleft()
        except Exception as error:
            failed = True
            log.error("A sign of a stolen key cannot be written yet: %s: %s", type(error).__name__, error)
        finally:
            connection.close()
        if to_mail:
            try:
                mail_alarms.enqueue()
            except Exception as error:
                # The worker looks for itself once a minute.
                log.error("The worker was not told of an alarm: %s: %s", type(error).__name__, error)
        return not failed


class _Denials:
    """When a key was denied of late."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=DENIALS)
        self._counted = 0
        self._told = -AGAIN_SECONDS

    def burst(self, at: float) -> int:
        """One more. How many calls there is to tell of; 0: nothing as yet."""
        self._times.append(at)
        self._counted += 1
        if len(self._times) < DENIALS or at - self._times[0] > DENIALS_SECONDS:
            self._counted = sum(time > max(self._told, at - DENIALS_SECONDS) for time in self._times)
            return 0
        if at - self._told < AGAIN_SECONDS:
            return 0
        count, self._counted, self._told = self._counted, 0, at
        return count
