"""PagerDuty's incidents and log entries, read into the rows of ``incidents.py``.

As in ``reading.py`` what is inside a document is never trusted to be as documented: what cannot be taken as it stands is a
``Problem`` in ``found``, where the caller gives one, and the rest is read. Refused, by ``ValueError``, is what is no such
document at all, or has no id or no time to be put at.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from integrations.pagerduty.analysis.incidents import STATUSES, URGENCIES, WAYS, Incident, Step
from integrations.pagerduty.analysis.model import Problem

Document = Mapping[str, Any]
Found = list[Problem]

YEARS: Final = range(1971, 2200)
"""A time of another year is none that an incident has."""
MOST_NUMBER: Final = 2**31
_SIMPLE: Final[Mapping[str, str]] = {
    "trigger": "trigger",
    "assign": "assign",
    "reassign": "assign",
    "notify": "notify",
    "escalate": "escalate",
    "acknowledge": "acknowledge",
    # As PagerDuty's schema spells it in one place.
    "acknowledgement": "acknowledge",
    "unacknowledge": "unacknowledge",
    "resolve": "resolve",
    "reopen": "reopen",
    "snooze": "snooze",
    "urgency_change": "urgency_change",
    # The escalation policy begins anew: it repeats, or another one was put in its place.
    "repeat_escalation_path": "restart",
    "delegate": "restart",
}
"""PagerDuty's types of log entries, without their ending → ours. All others but those of responders are ``other``."""


def incident(document: Any, found: Found | None = None) -> Incident:
    """Without steps. ``ValueError``: it is no incident, or nobody knows since when it is."""
    inner = document.get("incident", document) if isinstance(document, Mapping) else document
    if not isinstance(inner, Mapping) or not _text(inner, "id"):
        raise ValueError("This is no document of an incident: it has no id.")
    id = inner["id"]
    problems = _Problems(f"incident {id}", found)
    created = _moment(inner.get("created_at"))
    if created is None:
        raise ValueError(f"Incident {id[:60]} has no created_at that can be read: it can be put at no time.")
    urgency, status = _text(inner, "urgency"), _text(inner, "status")
    if urgency not in URGENCIES:
        problems.add("unknown_urgency", "Its urgency is neither high nor low: it is read as high.")
        urgency = "high"
    resolved = None
    if status == "resolved":
        # Older documents do not say it by itself.
        resolved = _moment(inner.get("resolved_at"))
        resolved = _moment(inner.get("last_status_change_at")) if resolved is None else resolved
        if resolved is None:
            problems.add("unreadable_time", "It is resolved, and does not say since when.")
        elif resolved < created:
            problems.add("ends_before_start", "It ends before it begins: it is read as if it lasted no time.")
            resolved = created
    elif status not in STATUSES:
        problems.add("unknown_status", "Its status is none that is known: it is read as triggered.")
        status = "triggered"
    number = inner.get("incident_number")
    priority = inner.get("priority")
    teams = inner.get("teams")
    if teams is not None and not isinstance(teams, list):
        problems.add("wrong_type", "Its teams are no list, and are left out.")
    return Incident(
        id=id,
        created=created,
        number=number if type(number) is int and 0 <= number < MOST_NUMBER else 0,
        title=_text(inner, "title") or _text(inner, "summary"),
        service_id=_id(inner.get("service")),
        policy_id=_id(inner.get("escalation_policy")),
        urgency=urgency,
        priority=(_text(priority, "name") or _text(priority, "summary")) if isinstance(priority, Mapping) else "",
        team_ids=tuple(dict.fromkeys(_ids(teams))),
        status=status,
        resolved=resolved,
    )


def responders(document: Any) -> list[Step]:
    """What an incident's document tells of the responders that were asked to join it, and log entries may not: who was asked, and
    who accepted. Its steps have ids of their own, alike for each reading. ``ValueError``: it is no incident."""
    inner = document.get("incident", document) if isinstance(document, Mapping) else document
    if not isinstance(inner, Mapping) or not _text(inner, "id"):
        raise ValueError("This is no document of an incident: it has no id.")
    rows = inner.get("incidents_responders")
    steps = []
    for row in rows if isinstance(rows, list) else ():
        if not isinstance(row, Mapping) or not (user := _id(row.get("user"))):
            continue
        asked, since = _moment(row.get("requested_at")), _moment(row.get("updated_at"))
        if asked is not None:
            steps.append(Step(f"{inner['id']}/asked/{user}", asked, "request", user, "", _id(row.get("requester"))))
        if row.get("state") in ("joined", "accepted") and since is not None:
            steps.append(Step(f"{inner['id']}/joined/{user}", since, "respond", user, "", user))
    return steps


def with_steps(one: Incident, steps: list[Step]) -> Incident:
    """Those of it, in whatever order and however often they come: the same log entry for the same person is one step."""
    return replace(one, steps=tuple(sorted(set(steps), key=lambda step: (step.at, step.id, step.user))))


def incident_id(entry: Any) -> str:
    """Of the incident that a log entry belongs to. ``ValueError``: it says none."""
    inner = _entry(entry)
    identifier = _id(inner.get("incident"))
    if not identifier:
        raise ValueError(f"Log entry {inner['id'][:60]} does not say of which incident it is.")
    return identifier


def steps(document: Any, found: Found | None = None) -> list[Step]:
    """One, or of an entry that names several people one for each. ``ValueError``: it is no log entry, or is at no time."""
    inner = _entry(document)
    id = inner["id"]
    problems = _Problems(f"log entry {id}", found)
    at = _moment(inner.get("created_at"))
    if at is None:
        raise ValueError(f"Log entry {id[:60]} has no created_at that can be read: it can be put at no time.")
    kind = _kind(_text(inner, "type"))
    channel = inner.get("channel")
    channel = channel if isinstance(channel, Mapping) else {}
    agent = inner.get("agent")
    by = _id(agent) if isinstance(agent, Mapping) and _text(agent, "type").startswith("user") else ""
    if kind in ("assign", "escalate", "restart", "request"):
        users = list(dict.fromkeys(_asked(inner)))
        way = ""
        if kind == "escalate":
            way = "timeout" if channel.get("type") == "timeout" or (not by and not channel) else "manual"
            # Nobody passes on what nobody answered: a person there is the one whom it went to.
            users, by = (users or [by], "") if way == "timeout" else (users, by)
        elif kind == "assign" and not users:
            problems.add("null_user", "It does not say to whom it was assigned.")
        return [Step(id, at, kind, user, way, by) for user in users or [""]]
    if kind == "notify":
        told = channel.get("notification")
        told = told if isinstance(told, Mapping) else {}
        user = _id(inner.get("user")) or _id(told.get("user")) or _id(channel.get("user"))
        if not user:
            problems.add("null_user", "It does not say who was notified.")
        way = _text(told, "type").removesuffix("_notification")
        if way not in NOTIFIED:
            problems.add("unknown_way", "It does not say in a way that is known how somebody was notified.")
            way = ""
        return [Step(id, at, kind, user, way)]
    if kind == "respond":
        return [Step(id, at, kind, _id(inner.get("user")) or _id(inner.get("responder")) or by, "", by)]
    if kind == "resolve":
        return [Step(id, at, kind, by, "" if by else "auto", by)]
    return [Step(id, at, kind, by if kind == "acknowledge" else "", "", by)]


NOTIFIED: Final = WAYS[1:5]


def _entry(document: Any) -> Document:
    inner = document.get("log_entry", document) if isinstance(document, Mapping) else document
    if not isinstance(inner, Mapping) or not _text(inner, "id") or not is_entry(inner):
        raise ValueError("This is no document of a log entry: it has no id, or its type is another.")
    return inner


def is_entry(document: Document) -> bool:
    return _text(document, "type").removesuffix("_reference").endswith("_log_entry")


def _kind(type: str) -> str:
    name = type.removesuffix("_reference").removesuffix("_log_entry")
    if name in _SIMPLE:
        return _SIMPLE[name]
    if "responder" in name:
        # Their types are published nowhere. A refusal engages nobody, and what is cancelled asks for nobody.
        if re.search("accept|join", name):
            return "respond"
        return "other" if re.search("declin|refus|cancel|remov|repl", name) else "request"
    return "other"


def _asked(inner: Document) -> Iterator[str]:
    """Whom it was assigned or escalated to, or who was asked to join."""
    yield from _ids(inner.get("assignees"))
    for name in ("assigned_user", "user", "responder"):
        if identifier := _id(inner.get(name)):
            yield identifier


class _Problems:
    def __init__(self, where: str, found: Found | None) -> None:
        self._where = where[:80]
        self._found = found

    def add(self, code: str, words: str) -> None:
        if self._found is not None:
            self._found.append(Problem(code, words, self._where))


def _text(document: Document, name: str) -> str:
    value = document.get(name)
    return value if isinstance(value, str) else ""


def _id(value: Any) -> str:
    return _text(value, "id") if isinstance(value, Mapping) else ""


def _ids(rows: Any) -> Iterator[str]:
    for row in rows if isinstance(rows, list) else ():
        if identifier := _id(row):
            yield identifier


def _moment(value: Any) -> int | None:
    """Of what is smaller than a second nothing is kept; without an offset it is UTC."""
    if not isinstance(value, str):
        return None
    try:
        moment = dt.datetime.fromisoformat(value)
    except ValueError:
        return None
    if moment.year not in YEARS:
        return None
    return math.floor((moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp())
