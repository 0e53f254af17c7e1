"""Reads and writes at the REST door while its database goes away and comes back: what was asked, answered, sent and recorded."""

from __future__ import annotations

import itertools
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.gateway.processes import Portal, received

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_numbers = itertools.count(random.Random().randrange(36**5))


def new_id() -> str:
    """An incident's id that nobody has asked for before: it tells one call from another, at PagerDuty and in the journal."""
    number, text = next(_numbers), ""
    while len(text) < 6:
        number, rest = divmod(number, 36)
        text = ALPHABET[rest] + text
    return f"P{text}"


@dataclass(frozen=True)
class Asked:
    id: str
    writes: bool
    began: float
    ended: float
    status: int
    """0: no answer."""
    decision: str
    said: str


@dataclass
class Load:
    """Some readers, some writers, until it is stopped."""

    portal: Portal
    readers: int = 4
    writers: int = 2
    pause: float = 0.02
    asked: list[Asked] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        kinds = [False] * self.readers + [True] * self.writers
        self._threads = [threading.Thread(target=self._ask, args=(writes,)) for writes in kinds]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, writes: bool) -> None:
        while not self._stop.is_set():
            self.asked.append(ask(self.portal, writes))
            time.sleep(self.pause)

    def between(self, start: float, end: float, *, writes: bool) -> list[Asked]:
        """The calls that began in a time of ``time.monotonic()``."""
        return [call for call in self.asked if start <= call.began < end and call.writes == writes]

    def within(self, start: float, end: float, *, writes: bool) -> list[Asked]:
        """Those that also ended in it: no call that was still asked when the database came back, and may have got an answer."""
        return [call for call in self.between(start, end, writes=writes) if call.ended < end]


def ask(portal: Portal, writes: bool) -> Asked:
    """One call about an incident of its own."""
    incident, began = new_id(), time.monotonic()
    try:
        if writes:
            answer = portal.call("POST", f"/incidents/{incident}/notes", {"note": {"content": "x"}})
        else:
            answer = portal.call("GET", f"/incidents/{incident}")
    except OSError as error:
        return Asked(incident, writes, began, time.monotonic(), 0, "", str(error))
    said = " ".join(answer.errors) if answer.status >= 400 else ""
    decision = answer.headers.get("x-pagewarden-decision", "")
    return Asked(incident, writes, began, time.monotonic(), answer.status, decision, said)


def crowding() -> float:
    """How many seconds pass while a program computes for one: 1 where the processors are free."""
    began, used = time.monotonic(), time.thread_time()
    while (computed := time.thread_time() - used) < 0.3:
        pass
    return max((time.monotonic() - began) / computed, 1.0)


def wait_until(holds: Callable[[], bool], seconds: float, what: str) -> float:
    """The seconds that it took. Raises ``AssertionError`` when it took longer than ``seconds``, and than so many times that as
    the processors are crowded."""
    began, limit = time.monotonic(), seconds
    while not holds():
        if (took := time.monotonic() - began) > limit:
            limit = seconds * crowding()
            assert took <= limit, f"after {took:.1f} s still not: {what}"
        time.sleep(0.05)
    return time.monotonic() - began


def settled(count: Callable[[], int]) -> int:
    """``count()`` once it grows no more: what was under way has arrived. Raises ``AssertionError`` as ``wait_until``."""
    seen = [count()]

    def stands() -> bool:
        time.sleep(1)
        seen.append(count())
        return seen[-1] == seen[-2]

    wait_until(stands, 10, "nothing more arrives")
    return seen[-1]


def waiting(portal: Portal) -> list[Path]:
    folder = portal.folder / "spool"
    return list(folder.glob("*.spool")) if folder.is_dir() else []


def writes_at(upstream: Path) -> int:
    return sum(call["method"] == "POST" for call in received(upstream))


def check(portal: Portal, load: Load, upstream: Path, *, killed: bool = False) -> Counter[str]:
    """After all is over: everything that was answered or sent is on record, once, and the journal proves it. What was
    counted. ``killed``: the portal was; a read that it had under way then was not answered, and may not be on record."""
    entries = portal.entries(kind__in=["intent", "result"])
    results = Counter(entry["decision_id"] for entry in entries if entry["kind"] == "result")
    about: dict[str, set[str]] = {}
    for entry in entries:
        for target in entry["record"]["details"].get("targets", []):
            about.setdefault(target["id"], set()).add(entry["kind"])
    answered = [call for call in load.asked if call.status in (200, 201)]
    assert {call.decision for call in answered} <= results.keys()
    sent = Counter((call["method"], call["path"].split("/")[2]) for call in received(upstream))
    for (method, incident), times in sent.items():
        assert times == 1, (method, incident)
        if killed and method == "GET":
            continue
        assert ("intent" if method == "POST" else "result") in about.get(incident, set()), (method, incident)
    verified = portal.manage("verify_audit", "--json", check=False)
    found = json.loads(verified.stdout)
    assert (verified.returncode, found["spooled"]) == (0, 0), verified.stdout
    assert waiting(portal) == []
    assert list((portal.folder / "spool").glob("*.kept")) == []
    spooled = [entry for entry in entries if "spooled" in entry["record"]["details"]]
    twice = sum(count > 1 for count in results.values())
    return Counter(
        calls=len(load.asked),
        answered=len(answered),
        sent=len(sent),
        entries=found["entries"],
        spooled=len(spooled),
        twice=twice,
        unanswered=sum(call.status == 0 for call in load.asked),
    )
