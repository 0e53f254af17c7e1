"""What a tool is given and what it gives back. A tool asks for operations by ``run`` and never sees who calls or how."""

from __future__ import annotations

import datetime as dt
import zoneinfo
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Ask:
    """One operation to be called, in PagerDuty's own form; or what the portal itself is asked."""

    method: str
    path: str
    """Canonical, its ids in it: ``/incidents/PT4KHLK/notes``."""
    query: tuple[tuple[str, str], ...] = ()
    body: Mapping[str, Any] | None = None
    own: Mapping[str, Any] | None = None
    """A tool's arguments, where the tool has no operation: it is answered from the portal's own mirror."""


@dataclass(frozen=True, slots=True)
class Told:
    """What came of an ask: PagerDuty's document, or why there is none.

    ``kind`` is empty where it succeeded, else ``denied``, ``needs_approval``, ``invalid``, ``refused`` (PagerDuty said 4xx),
    ``failed`` (nothing was done) or ``unknown`` (a write that may have been done).
    """

    document: Any = None
    """The parsed answer; None where it has no body."""
    kind: str = ""
    error: Mapping[str, Any] = field(default_factory=dict)
    """What the caller is told of a failure: ``problem``, ``remedy``, ``rule``, ``decision_id``, ``status``, ..."""


Run = Callable[[Ask], Awaitable[Told]]


class Failed(Exception):
    """An operation without which the tool has no answer came to nothing."""

    def __init__(self, told: Told) -> None:
        super().__init__(told.kind)
        self.told = told


class Wrong(Exception):
    """Arguments that cannot be sent: says what to pass instead. Raised before anything is sent.

    ``candidates``: rows (``id``, ``name``) that an ambiguous name could mean. ``about``: the tool's own argument that is wrong,
    where it is one, for the record.
    """

    def __init__(self, problem: str, remedy: str = "", candidates: tuple[Mapping[str, Any], ...] = ()) -> None:
        super().__init__(problem)
        self.remedy = remedy
        self.candidates = candidates
        self.about = ""


@dataclass(frozen=True, slots=True)
class Given:
    """A tool's arguments, valid, with their defaults; ids in place of names."""

    arguments: Mapping[str, Any]
    full: bool = False
    """PagerDuty's whole documents, not the slim form."""
    zone: zoneinfo.ZoneInfo | None = None
    """Times are told in it, too, beside UTC."""
    now: dt.datetime = field(default_factory=lambda: dt.datetime.now(dt.UTC))
    """Taken once for the whole call."""

    @property
    def as_asked(self) -> Mapping[str, Any]:
        """The arguments from which ``given`` makes this, in JSON's kinds."""
        more = {"detail": "full"} if self.full else {}
        zone = {"time_zone": self.zone.key} if self.zone is not None else {}
        return {**self.arguments, **more, **zone}

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    def get(self, name: str, default: Any = None) -> Any:
        return self.arguments.get(name, default)


async def need(run: Run, ask: Ask) -> Any:
    """The document that an operation answers. Raises ``Failed`` where it came to nothing."""
    told = await run(ask)
    if told.kind:
        raise Failed(told)
    return told.document
