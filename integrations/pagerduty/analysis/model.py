"""What the analysis reads of an account, and what it says of it: frozen values.

``reading.py`` makes them of PagerDuty's documents.

All instants are whole seconds of Unix time (UTC); spans are half-open, from their start to before their end.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple


class Span(NamedTuple):
    start: int
    end: int

    @property
    def seconds(self) -> int:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in a document that cannot be taken as it stands. The document is read without it; nothing else breaks."""

    code: str
    """A word: ``unknown_zone``, ``null_user``, ``zero_turn``, ``ends_before_start``, ``too_many_layers``, ..."""
    words: str
    """A sentence for people, with what was done in its place."""
    where: str = ""
    """The layer, rotation or override that it is about, by name or id; empty: the whole document."""


# Schedules


@dataclass(frozen=True, slots=True)
class Restriction:
    """Hours in which a layer takes assignments, by the clock of the schedule's zone."""

    day: int
    """Monday 1 to Sunday 7; 0: daily."""
    start: int
    """Seconds after the day's 00:00 by the clock."""
    duration: int
    """Seconds by the clock."""


@dataclass(frozen=True, slots=True)
class Layer:
    id: str
    name: str
    start: int
    end: int | None
    virtual_start: int
    turn: int
    """Seconds."""
    users: tuple[str, ...]
    """Ids, in the order of their turns; empty: a user that PagerDuty no longer names, whose turn nobody covers."""
    restrictions: tuple[Restriction, ...] = ()


@dataclass(frozen=True, slots=True)
class Override:
    """Of a v2 schedule, or of one rotation or custom shift of a v3 schedule."""

    id: str
    start: int
    end: int
    user: str
    """Id; empty: an empty member (v3)."""
    source: str = ""
    """v3: the id of the rotation or custom shift whose shifts it changes."""
    replaces: str = ""
    """v3: the user whose shift it takes; empty: an empty member's."""


@dataclass(frozen=True, slots=True)
class Event:
    """Shifts of a v3 rotation that recur."""

    id: str
    name: str
    zone: str
    start: dt.datetime
    """Of the first shift, by the clock of ``zone``, naive."""
    length: int
    """Seconds by the clock of ``zone``."""
    since: int
    until: int | None
    """When it is in effect."""
    recurrence: tuple[str, ...]
    """Lines of RFC 5545: one ``RRULE:``, and any of ``EXDATE``, ``RDATE``."""
    everybody: bool
    """All members at once, not in turns."""
    shifts_per_member: int
    members: tuple[str, ...]
    """Ids in order; empty: an empty member, whose shift nobody covers."""


@dataclass(frozen=True, slots=True)
class Rotation:
    id: str
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class CustomShift:
    id: str
    start: int
    end: int
    users: tuple[str, ...]


class Source(NamedTuple):
    """What puts somebody on call."""

    kind: Literal["layer", "rotation", "custom_shift", "override", "rendered", "policy"]
    """``rendered``: PagerDuty said so, not why. ``policy``: named by an escalation policy itself, always."""
    id: str = ""
    name: str = ""


class Slice(NamedTuple):
    """A time in which one person is on call, by one source. Of a v3 schedule several may be at once."""

    start: int
    end: int
    user: str
    """Id; empty: a slot that is there and that nobody covers (an empty member, a deleted user)."""
    source: Source


@dataclass(frozen=True, slots=True)
class Schedule:
    id: str
    name: str
    kind: Literal["v2", "v3"]
    zone: str
    """An IANA name: of Rails' names, what they stand for. UTC where the document's is unknown, which is then a problem."""
    layers: tuple[Layer, ...] = ()
    """v2, the lowest first: later ones win. (PagerDuty's answers hold the winning one first.)"""
    overrides: tuple[Override, ...] = ()
    """In order of creation: later ones win."""
    rotations: tuple[Rotation, ...] = ()
    custom_shifts: tuple[CustomShift, ...] = ()
    rendered: tuple[Slice, ...] = ()
    """The final schedule as PagerDuty rendered it, by start, where the document holds one."""
    rendered_window: Span | None = None
    """What ``rendered`` was asked for, where that is known."""
    layers_rendered: tuple[tuple[str, tuple[Slice, ...]], ...] = ()
    """What PagerDuty rendered of single layers, by layer id, where the document holds that."""
    deleted: frozenset[str] = frozenset()
    """Ids of people who have turns, and whom the document says to be deleted."""
    policy_ids: tuple[str, ...] = ()
    team_ids: tuple[str, ...] = ()
    url: str = ""
    problems: tuple[Problem, ...] = ()
    untold: frozenset[str] = frozenset()
    """Of ``escalation_policies``, where the document does not hold it: then none is not known to be none."""


# Escalation policies and those they page


class Target(NamedTuple):
    kind: Literal["user", "schedule"]
    """A schedule of either kind."""
    id: str
    name: str = ""
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class Level:
    delay: int
    """Minutes until the next level."""
    targets: tuple[Target, ...]
    round_robin: bool = False
    """One of the targets in turn, not all."""


@dataclass(frozen=True, slots=True)
class Policy:
    id: str
    name: str
    levels: tuple[Level, ...]
    loops: int
    """How often it is gone through again."""
    service_ids: tuple[str, ...] = ()
    team_ids: tuple[str, ...] = ()
    url: str = ""
    problems: tuple[Problem, ...] = ()
    handoff: str = ""
    """PagerDuty's ``on_call_handoff_notifications``: ``if_has_services`` or ``always``; empty: not known."""
    untold: frozenset[str] = frozenset()
    """Of ``num_loops``, ``services`` and ``teams`` those that the document does not hold: none is then not known to be none."""


@dataclass(frozen=True, slots=True)
class Service:
    id: str
    name: str
    status: str
    """PagerDuty's: ``active``, ``warning``, ``critical``, ``maintenance``, ``disabled``."""
    policy_id: str
    """Empty: none."""
    team_ids: tuple[str, ...] = ()
    urgency: str = "high"
    """PagerDuty's ``incident_urgency_rule``: ``high``, ``low``, ``severity_based``, ``support_hours``."""
    url: str = ""
    untold: frozenset[str] = frozenset()
    """Of ``escalation_policy``, where the document does not hold it: then none is not known to be none."""


class Contact(NamedTuple):
    id: str
    kind: Literal["email", "phone", "sms", "push", "other"]
    label: str
    address: str
    """As the portal was given it: masked."""


class Rung(NamedTuple):
    """A notification rule: by what, how long after somebody is assigned."""

    delay: int
    """Minutes."""
    urgency: str
    """``high`` or ``low``."""
    contact_id: str
    contact_kind: str


@dataclass(frozen=True, slots=True)
class Person:
    id: str
    name: str
    email: str = ""
    zone: str = "UTC"
    """An IANA name."""
    contacts: tuple[Contact, ...] | None = None
    """None: not known."""
    ladder: tuple[Rung, ...] | None = None
    """Notification rules by their delay; None: not known."""
    team_ids: tuple[str, ...] = ()
    url: str = ""
    invited: bool = False
    """Whether an invitation to PagerDuty is still waiting for them."""


@dataclass(frozen=True, slots=True)
class Account:
    """What is known of one account, or of the part that a connection's bounds hold."""

    schedules: Mapping[str, Schedule] = field(default_factory=dict)
    policies: Mapping[str, Policy] = field(default_factory=dict)
    services: Mapping[str, Service] = field(default_factory=dict)
    people: Mapping[str, Person] = field(default_factory=dict)
    teams: Mapping[str, str] = field(default_factory=dict)
    """Names by id. All by id."""

    def name_of(self, user: str) -> str:
        """Of somebody who is not known, the id; of nobody, ``nobody``."""
        if not user:
            return "nobody"
        person = self.people.get(user)
        return person.name if person else user
