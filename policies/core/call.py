"""One call, as data. Every stage of the pipeline takes frozen values and returns the next; nothing here does anything."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

JSON = dict[str, Any] | list[Any] | str | int | float | bool | None


class Door(StrEnum):
    """Where a call comes in."""

    MCP = "mcp"
    REST = "rest"
    WEB = "web"
    JOB = "job"


class Risk(StrEnum):
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"

    @property
    def rank(self) -> int:
        return ("low", "medium", "high").index(self.value)


class State(StrEnum):
    """What a team says of a tool."""

    ON = "on"
    OFF = "off"
    NEEDS_APPROVAL = "needs_approval"


class Decision(StrEnum):
    ALLOW = "allow"
    DENY = "deny"
    NEEDS_APPROVAL = "needs_approval"


class Kind(StrEnum):
    """What a principal is."""

    AGENT = "agent"
    PERSON = "person"
    JOB = "job"


class Role(StrEnum):
    """What a principal may be in a team. An administrator is a manager of every team; an auditor uses no tool."""

    MANAGER = "manager"
    MEMBER = "member"
    AUDITOR = "auditor"
    NONE = "none"

    @classmethod
    def of(cls, in_portal: str, in_team: str) -> Role:
        """What somebody is in a team. ``in_portal``: their role in the whole portal (``User.Role``); ``in_team``: that of
        their membership. Empty: none."""
        if in_portal == "auditor":
            return cls.AUDITOR
        return cls.MANAGER if in_portal == "administrator" else cls(in_team or cls.NONE)


@dataclass(frozen=True, slots=True)
class Operation:
    """One method and path of the service behind the portal, under that service's own id (``listIncidents``)."""

    id: str
    method: str
    path: str
    """Template: ``/incidents/{id}/notes``."""
    scopes: tuple[str, ...] = ()
    reads: bool = False
    """Whether it only reads, whatever its method."""
    has_body: bool = False
    deprecated: bool = False


@dataclass(frozen=True, slots=True)
class Tool:
    """What an assistant calls and an administrator toggles."""

    name: str
    title: str
    category: str
    risk: Risk
    writes: bool
    default: State
    operations: tuple[str, ...]
    """Empty: nothing is sent, for the integration answers it from what the portal keeps."""
    description: str
    input_schema: Mapping[str, Any]
    """A flat JSON schema: ``{"type": "object", "properties": {...}, "required": [...]}``."""
    scopes: tuple[str, ...] = ()
    bounds: str = "unbounded"
    """How the tool is held inside a connection's bounds; the words are the integration's (``team_ids``, ``owner``, ...)."""
    presets: frozenset[str] = frozenset()
    keep: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Field name → the words that an entry may keep of its value; ``#number`` and ``#zone`` stand for a number of up to six
    digits and the name of a time zone. Beyond these an entry keeps ids and times, and of other text a length and a digest."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls. ``id`` is opaque and stable (``key:<uuid>``, ``user:<id>``, ``job:<name>``); ``name`` is for people."""

    kind: Kind
    id: str
    name: str
    team_id: int | None
    team: str
    role: Role = Role.NONE
    narrowed_to: frozenset[str] | None = None
    """Tool names that the key may use at most; None: not narrowed."""
    credential: str = ""
    """What an entry shows of the credential: a lookup prefix, never a secret."""
    on_behalf_of: str = ""
    """Who asked a job to do this."""


@dataclass(frozen=True, slots=True)
class KeyCredential:
    """The secret that came with a request, as it came. Never recorded, never shown by ``repr``."""

    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class PersonCredential:
    """A signed-in person, acting in a team through one of its connections (``resource``). What they may there is looked up for
    each call; the names are for words alone."""

    user_id: int
    name: str
    team_id: int
    team: str
    resource: str


@dataclass(frozen=True, slots=True)
class JobCredential:
    """One of the portal's own jobs, on one connection (``resource``)."""

    job: str
    resource: str
    on_behalf_of: str = ""
    """Who asked for it: a person's e-mail, or the name of a command or task."""


Credential = KeyCredential | PersonCredential | JobCredential


@dataclass(frozen=True, slots=True)
class Client:
    """What is known of the program that calls."""

    ip: str = ""
    name: str = ""
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Call:
    """A request as a door understood it: ``path`` raw and still percent-encoded, ``query`` raw, ``body`` bytes as they came."""

    door: Door
    credential: Credential
    method: str
    path: str
    query: str = ""
    body: bytes = b""
    content_type: str = ""
    client: Client = Client()
    at: float = 0.0
    """Unix time, taken once by the door."""
    problem: str = ""
    """What the door already found wrong with it (a body over the limit), judged like a bad argument: after authorisation."""
    problem_status: int = 0
    """The HTTP status that says so; 0: 400."""
    fault: str = ""
    """Which problem it is, in a word for the record; ``problem`` may repeat what was sent."""
    idempotency_key: str = field(default="", repr=False)
    """The caller's own name for this write: the same name means the same write, tried again. Kept as a digest alone."""
    variant: str = ""
    """Which secret of the connection to use, for a connection test: empty for the one in service, else ``candidate``."""
    reveal: frozenset[str] = frozenset()
    """Kinds of what is masked that a person asks to see (``decide.reveals`` says whether they are shown)."""
    tool: str = ""
    """The name of the tool that was asked for, where the door takes tools: one use of it may make several calls. Without a
    path the call is about the tool itself: it goes no further than its verdict, or, of a tool without operations, is answered
    from what the portal keeps."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """What a tool was asked with, where there is no path."""
    use: str = ""
    """What the calls of one use of a tool have in common: opaque, for the record."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a call is about: ``Target("incident", "PT4KHLK")``."""

    type: str
    id: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was decided, by which rule, in words that a person understands, and what to do about it."""

    decision: Decision
    rule: str
    reason: str
    remedy: str
    policy_version: int
    decision_id: str
    tool: str = ""
    risk: Risk | None = None

    @property
    def allowed(self) -> bool:
        return self.decision is Decision.ALLOW


class EntryKind(StrEnum):
    """What an entry of the journal records."""

    STREAM = "stream"  # the first of a chain: names the heads of all others
    INTENT = "intent"  # a write, before it is sent
    RESULT = "result"  # what became of a call
    CONFIG = "config"  # a change of configuration
    SIGN_IN = "sign_in"
    REJECTED = "rejected"  # refused credentials, counted by source
    ALARM = "alarm"  # a sign that an agent key is in the wrong hands
    NOTICE = "notice"  # what the portal itself sends to a team's webhook: before it is sent, and what became of it


class Outcome(StrEnum):
    """How a call ended."""

    INTENDED = "intended"
    DENIED = "denied"
    INVALID = "invalid"
    DONE = "done"  # the service answered 2xx
    REFUSED = "refused"  # the service answered 4xx
    FAILED = "failed"  # the service answered 5xx, or was not reached: nothing was done
    UNKNOWN = "unknown"  # sent, and no trustworthy answer
    REPLAYED = "replayed"  # a second try of a write, answered with what became of the first
    NONE = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the journal before it is chained. The named fields are its columns; ``details`` is what else it keeps.

    ``details`` must already be redacted: what is in it is written down for good.
    """

    kind: EntryKind
    at: dt.datetime
    decision_id: str
    team_id: int | None = None
    actor: str = ""
    tool: str = ""
    verdict: str = ""
    outcome: Outcome = Outcome.NONE
    resource: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
