"""The incidents of a connection and what happened to them, as they are mirrored: columns, kept in the process and carried on."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from integrations.models import Connection
from integrations.pagerduty.analysis.incidents import Log
from integrations.pagerduty.analysis.load import Duty
from integrations.pagerduty.analysis.model import Span


@dataclass(frozen=True)
class History:
    log: Log
    known: Span | None
    """From when to when all incidents and what happened to them are read; None: nothing is yet."""
    as_of: dt.datetime | None
    problem: str
    """What could not be read, as a sentence; empty: nothing."""
    running: bool
    """Whether earlier times are still being read."""


def history(connection: Connection) -> History:
    raise NotImplementedError


def duties(connection: Connection, window: Span) -> tuple[tuple[Duty, ...], Span | None]:
    """Who was and is on call, by policy, level and schedule: the past as PagerDuty rendered it, the rest as the mirror's
    schedules tell. And of which part of the window that is known of all schedules; None: of none."""
    raise NotImplementedError
