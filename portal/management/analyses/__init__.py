"""What ``manage.py analyze`` can work out, one module for each kind of documents; here is what they share."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from integrations.measured import Definition
from integrations.pagerduty.analysis.model import Problem, Span
from integrations.pagerduty.analysis.zones import zone_of

Document = dict[str, Any]
FORTNIGHT: Final = 14 * 86_400


class Asked(NamedTuple):
    """The options that all analyses have."""

    documents: Sequence[Any]
    """What the files hold, in their order."""
    since: str
    until: str
    time_zone: str
    hours: Definition = "api"
    """By whose definition hours of the day are told apart."""
    everybody: bool = False
    """Whether the users among the documents are all of the account."""


class Answer(NamedTuple):
    document: Document
    """For ``--json``."""
    lines: Sequence[str]
    """For people."""
    notes: Sequence[str]
    """What is wrong with the input, and was read in another way or left out."""


def zone_asked(asked: Asked, otherwise: str) -> ZoneInfo:
    """``ValueError``: it is none."""
    return zone_of(asked.time_zone or otherwise)


def window_asked(asked: Asked, zone: ZoneInfo, told: Span | None) -> Span:
    """What ``--since`` and ``--until`` say; else ``told``, what the documents reach over. ``ValueError``: it is no window."""
    if not asked.since and not asked.until:
        now = int(dt.datetime.now(dt.UTC).timestamp())
        return told or Span(now, now + FORTNIGHT)
    # Where one is missing, as PagerDuty does.
    since = _moment(asked.since, zone) if asked.since else _moment(asked.until, zone) - FORTNIGHT
    until = _moment(asked.until, zone) if asked.until else since + FORTNIGHT
    if until <= since:
        raise ValueError("--until must be after --since.")
    return Span(since, until)


def _moment(text: str, zone: ZoneInfo) -> int:
    try:
        moment = dt.datetime.fromisoformat(text)
        return int((moment if moment.tzinfo else moment.replace(tzinfo=zone)).timestamp())
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text[:60]!r} cannot be read as a time: write it as 2026-03-29T09:00 or 2026-03-29T09:00Z."
        ) from None


def written(at: int, zone: ZoneInfo) -> str:
    return dt.datetime.fromtimestamp(at, zone).isoformat()


def told_of(problems: Iterable[Problem]) -> Iterator[str]:
    for problem in problems:
        yield (
            f"{problem.where}: {problem.words} ({problem.code})"
            if problem.where
            else f"{problem.words} ({problem.code})"
        )
