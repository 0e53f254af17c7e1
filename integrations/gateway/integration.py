"""What the pipeline needs of an integration. PagerDuty is the only one; a second would be a sibling of its folder."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from policies.core.call import Call, Operation, Outcome, Target, Tool


@dataclass(frozen=True, slots=True)
class Request:
    """What will be sent: rebuilt from what was judged, never the bytes that came in."""

    method: str
    path: str
    """Canonical: the template with its captured values percent-encoded anew."""
    query: str
    body: bytes | None
    reads: bool
    """Only reads are tried twice."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a call asks for. ``tools`` are all needed; none means that nothing in the catalogue serves the call.

    ``problem`` is what is wrong with the arguments, if anything: judged only after authorisation.
    """

    operation: Operation | None
    tools: tuple[Tool, ...]
    targets: tuple[Target, ...] = ()
    request: Request | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """``{"path": {...}, "query": {...}, "body": ...}`` as parsed: what an entry keeps a redacted form of."""
    problem: str = ""
    fault: str = ""
    """Which problem it is, in a word for the record; ``problem`` may repeat what was sent."""
    refusal: str = ""
    """Why no tool serves it, in words; empty where ``tools`` is not."""
    shape: str = ""
    """What an entry may say of the path: the template, or for an unknown path a digest-safe summary."""
    remedy: str = ""
    """What to use instead of what is refused, where the integration knows it."""
    held: Mapping[str, Any] = field(default_factory=dict)
    """What bounds forced into the request, for the record: ``{"team_ids": ["PQ9K7I8"]}``."""
    is_own: bool = False
    """The integration answers it from what the portal keeps (``answer``): there is no operation, and nothing to send."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The part of an account that a connection may touch."""

    whole_account: bool = False
    team_ids: frozenset[str] = frozenset()
    service_ids: frozenset[str] = frozenset()
    account_wide: frozenset[str] = frozenset()
    """Names of tools that bounds cannot hold, and that an administrator allowed all the same."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a call, or what it brought, is outside the bounds, and what to do about it."""

    reason: str
    remedy: str


class LookFailed(Exception):
    """Who owns something could not be told: says why. ``permanent``: trying again does not help."""

    def __init__(self, reason: str, *, permanent: bool = False) -> None:
        super().__init__(reason)
        self.permanent = permanent


Look = Callable[[str, str], Awaitable[Any]]
"""Reads a path with a query through the pipeline, as the portal's own job: the parsed answer; None where the service refused it
(404 and the like). Raises ``LookFailed``."""


@dataclass(frozen=True, slots=True)
class Connection:
    """A connection as the pipeline sees it: the token still sealed."""

    id: str
    name: str
    team_id: int
    team: str
    region: str
    base_url: str
    auth: str
    """``token`` (``Authorization: Token token=``) or ``bearer``."""
    sealed: bytes = field(repr=False)
    from_email: str
    bounds: Bounds
    version: int = 0
    """Moves when the secret does."""
    suspended: str = ""
    """Why nothing may be sent through it; empty: it may be used."""
    is_enabled: bool = True


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer from upstream, whole, or what happened in place of one.

    ``failure`` is empty for an answer of any status; else one of ``FAILURES``. ``sent`` says whether the request may have
    reached the service: a write with ``sent`` and a failure has an unknown outcome.
    """

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    failure: str = ""
    detail: str = ""
    sent: bool = True
    attempts: int = 1
    seconds: float = 0.0
    revealed: Mapping[str, int] = field(default_factory=dict)
    """Kind → how many values of what is masked otherwise are in the body: for the record."""

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers if key == name), "")

    @property
    def outcome(self) -> Outcome:
        """What the answer means for the record (of a write: what became of it)."""
        if self.failure:
            return Outcome.UNKNOWN if self.sent else Outcome.FAILED
        if self.status < 400:
            return Outcome.DONE
        return Outcome.REFUSED if self.status < 500 else Outcome.FAILED


@dataclass(frozen=True, slots=True)
class Own:
    """What the portal itself answers, from what it keeps of the service."""

    document: Any
    """JSON-able."""
    as_of: str
    """When what it was made of was read, in ISO 8601 (UTC)."""
    targets: tuple[Target, ...] = ()
    """What the call was about: names among its arguments are known as ids now."""


class Unanswered(Exception):
    """Why the portal has no answer of its own: says what to do. ``about``: the argument that is wrong; empty: none is.
    ``candidates``: rows (``id``, ``name``) that it could mean."""

    def __init__(
        self, problem: str, remedy: str, *, about: str = "", candidates: tuple[Mapping[str, Any], ...] = ()
    ) -> None:
        super().__init__(problem)
        self.remedy = remedy
        self.about = about
        self.candidates = candidates


FAILURES = (
    *("resolve", "private_address", "proxy", "connect", "tls", "connect_timeout"),
    *("timeout", "disconnected", "too_large", "malformed"),
)


class Integration(Protocol):
    """PagerDuty, to the pipeline."""

    job_tools: frozenset[str]
    """Names of the read tools that the portal's own jobs may use."""

    def resolve(self, call: Call) -> Resolution:
        """Match a call to its operation, tools and targets. Never raises on bad input: says ``problem`` instead."""
        ...

    async def bound(self, resolution: Resolution, connection: Connection, look: Look) -> Resolution | Refusal:
        """The call as it stays inside a connection's bounds, or why it cannot. Asked only of a connection that has bounds.
        Raises ``LookFailed``."""
        ...

    async def released(
        self, resolution: Resolution, connection: Connection, reply: Reply, look: Look
    ) -> Refusal | None:
        """Why what a read brought is outside the bounds; None: it may be released. Raises ``LookFailed``."""
        ...

    async def send(
        self,
        resolution: Resolution,
        connection: Connection,
        deadline: float,
        sealed: bytes,
        reveal: frozenset[str] = frozenset(),
    ) -> Reply:
        """``reveal``: kinds of what is masked that the answer shows; it says how many of each it does.

        Send once (a read: at most twice) before ``deadline``, a time of ``time.monotonic()``. What the network does
        comes back as a ``Reply``, and so does an answer that is not the service's (``malformed``); an exception means that
        nothing was sent."""
        ...

    async def answer(self, resolution: Resolution, connection: Connection) -> Own:
        """Asked in place of ``send`` where the resolution ``is_own``, with no bounds asked before: what is kept of a connection
        is inside its bounds. Blocks nothing. Raises ``Unanswered``."""
        ...

    async def close(self) -> None: ...
