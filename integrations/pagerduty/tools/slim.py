"""PagerDuty's documents in the form that an assistant acts on: few fields, short references, times in UTC, and text that came
from outside marked as such.

Text from outside (titles, notes, descriptions, what a monitoring tool sent) stands as ``{"outside": ...}``, wherever it stands:
whoever reads the answer can tell it from what PagerDuty and the portal say. The names of the account's own things are not
marked. No text, marked or not, holds a character that hides or acts.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from integrations.pagerduty.tools.asking import Given
from policies.core.text import shown

MAXIMUM_SLIM: Final = 500
"""Characters of one text in the slim form."""
MAXIMUM_FULL: Final = 20_000
MAXIMUM_ITEMS: Final = 50
"""Items of one list or object within a mark, in the slim form."""
DEEPEST: Final = 40
"""Levels of an answer: what lies deeper is cut, lest it exhaust whoever reads it."""
CUT: Final = "…"
OFFSETS: Final = 10_000
"""PagerDuty pages no further than this many rows."""
PAGING: Final = frozenset(
    {"limit", "offset", "more", "total", "next_cursor", "starting_after", "first", "last", "order", "order_by", "after"}
)
"""Keys at the top of a document that say where its page stands."""
OUTSIDE: Final = frozenset(
    {
        *(
            "title",
            "description",
            "details",
            "content",
            "body",
            "note",
            "notes",
            "message",
            "subject",
            "html_message",
            "resolution",
        ),
        *("custom_details", "cef_details", "contexts", "links", "images", "channel", "event_details"),
        *("conference_bridge", "conference_number", "conference_url", "point_of_contact", "user_feedback_text"),
        *("alert_key", "incident_key", "dedup_key", "incident_description", "mined_text"),
    }
)
"""Fields that hold what somebody else wrote or sent, in any document."""
_SAID: Final = OUTSIDE | {"summary"}
_VALUES: Final = OUTSIDE | {"value", "before_value"}
_MARKS: Final[Mapping[str, frozenset[str]]] = {
    "incident": _SAID,
    "alert": _SAID | {"source", "component", "group", "class", "client", "client_url"},
    "change_event": _SAID | {"source"},
    "log_entry": _SAID,
    "note": _SAID,
    "annotation": _SAID,
    "maintenance_window": _SAID,
    "custom_field": _VALUES,
    "field_value": _VALUES,
    # What a record of the audit is about is PagerDuty's to say; what was set, people typed.
    "record": OUTSIDE - {"details"},
    "field": _VALUES,
    # PagerDuty's own words, or a word that stands for a name.
    "warning": OUTSIDE - {"message"},
    **dict.fromkeys(
        (
            "extension_schema",
            "standard",
            "method",
            "step",
            "action_configuration",
            "severity",
            "impact",
            "status",
            "priority",
        ),
        OUTSIDE - {"description"},
    ),
}
"""Kind of thing → its fields that are marked, where they are more or fewer than in any document."""
CAME_IN: Final = frozenset({"incident", "alert", "change_event", "note", "annotation", "maintenance_window"})
"""Kinds of things that come from outside, titles and all; and every kind of log entry."""
_DOCUMENTS: Final = frozenset({"note", "notes"})
"""At the top of a document: no field but the thing itself, or a list of it."""
_TYPED: Final = frozenset({"channel", "body"})
"""Marked fields whose type is PagerDuty's own word."""
_NOTIFIED: Final = ("type", "status", "address", "conferenceAddress")
_WORD: Final = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)", re.ASCII)


def outside(value: Any, maximum: int = MAXIMUM_SLIM) -> Any:
    """A marked value: nothing in it acts or hides. None, numbers, true and false hold no text, and stay as they are."""
    if isinstance(value, str):
        return {"outside": plain(value, maximum)}
    if value is None or isinstance(value, int | float):
        return value
    found = _harmless(value, maximum, 0)
    return {"outside": found} if found or maximum >= MAXIMUM_FULL else None


def _harmless(value: Any, maximum: int, depth: int) -> Any:
    """Of a document from outside: its texts plain. In the slim form also without what is empty or beyond so many items."""
    if isinstance(value, str):
        return plain(value, maximum)
    if depth > DEEPEST and isinstance(value, dict | list):
        return CUT
    is_slim = maximum < MAXIMUM_FULL
    if isinstance(value, dict):
        items = {
            plain(str(key), 200): _harmless(item, maximum, depth + 1)
            for key, item in value.items()
            if not (is_slim and _is_empty(item))
        }
        if is_slim and len(items) > MAXIMUM_ITEMS:
            return {**dict(list(items.items())[:MAXIMUM_ITEMS]), CUT: f"{len(items) - MAXIMUM_ITEMS} more"}
        return items
    if isinstance(value, list):
        if is_slim and len(value) > MAXIMUM_ITEMS:
            kept = [_harmless(item, maximum, depth + 1) for item in value[:MAXIMUM_ITEMS]]
            return [*kept, f"{CUT} {len(value) - MAXIMUM_ITEMS} more"]
        return [_harmless(item, maximum, depth + 1) for item in value]
    return value


def plain(text: str, maximum: int) -> str:
    """``text`` with its lines kept, and in each line every character seen and doing nothing."""
    if len(text) <= maximum and text.isascii() and text.isprintable():
        return text
    cut = text if len(text) <= maximum else f"{text[: maximum - 1]}{CUT}"
    return "\n".join(shown(line, maximum) for line in cut.replace("\r\n", "\n").split("\n"))


def utc(value: Any, given: Given) -> Any:
    """A time in UTC to the second, and beside it in the asked zone: ``2026-03-01T08:00:00Z = 2026-03-01T09:00+01:00``. What is
    no time stays what it is."""
    if not isinstance(value, str):
        return _short(value)
    if given.zone is None and len(value) == 20 and value[19] == "Z" and value.isascii() and value.isprintable():
        return value
    return _time(value, given) or plain(value, MAXIMUM_SLIM)


def _time(text: str, given: Given) -> str:
    """Empty: it is none."""
    if not _TIME.fullmatch(text):
        return ""
    try:
        at = dt.datetime.fromisoformat(text)
        told = f"{at.astimezone(dt.UTC).isoformat(timespec='seconds')[:-6]}Z"
        return told if given.zone is None else f"{told} = {at.astimezone(given.zone).isoformat(timespec='minutes')}"
    except (ValueError, OverflowError):  # No such day, or none that can be told in the zone.
        return ""


def reference(value: Any, key: str | None = None) -> Any:
    """``{"id", "name"}`` of whatever a document refers to; None where there is nothing.

    ``key``: the field it stands in, in the singular. With it the ``type`` is told, too, where the field does not say it.
    """
    if not isinstance(value, dict):
        return _short(value)
    kind = _kind(value, key or "")
    found: dict[str, Any] = {"id": _short(value.get("id"))}
    name = value.get("summary") or value.get("name")
    if isinstance(name, str):
        found["name"] = outside(name, 200) if comes_in(kind) else plain(name, 200)
    elif isinstance(value.get("title"), str):
        found["name"] = outside(value["title"], 200)
    if key is not None and kind != key and not kind.endswith("_integration") and not _is_expected(kind, key):
        found["type"] = plain(kind, 200)
    return found


_PEOPLE: Final = frozenset(
    {
        *("user", "assignee", "acknowledger", "requester", "responder", "agent", "actor", "member", "sender"),
        *("created_by", "updated_by", "last_status_change_by"),
    }
)
"""Fields in which a person is expected."""


def _is_expected(kind: str, key: str) -> bool:
    return kind == "user" and key in _PEOPLE


def comes_in(kind: str) -> bool:
    """Whether things of a kind come from outside, titles and all."""
    return kind in CAME_IN or kind.endswith("log_entry")


def marks(kind: str) -> frozenset[str]:
    """The fields of a kind of thing that hold text from outside."""
    return _MARKS.get(kind) or (_SAID if kind.endswith("log_entry") else OUTSIDE)


def _kind(value: Mapping[str, Any], key: str) -> str:
    kind = value.get("type")
    if isinstance(kind, str) and kind:
        return kind.removesuffix("_reference")
    # The rows of PagerDuty's figures have no type.
    return "incident" if "incident_number" in value else key


def _marks_of(value: Mapping[str, Any], key: str) -> frozenset[str]:
    """By its type, and by the field it stands in where the type says nothing special."""
    found = marks(_kind(value, key))
    return marks(key) if found is OUTSIDE else found


def _marked(name: str, value: Any, maximum: int) -> Any:
    """A field's value, marked; beside the mark what in it is PagerDuty's own: its type, and how somebody was notified."""
    if name not in _TYPED or not isinstance(value, dict):
        return outside(value, maximum)
    own: dict[str, Any] = {}
    if isinstance(value.get("type"), str) and _WORD.fullmatch(value["type"]):
        own["type"] = value["type"]
    if own and isinstance(value.get("notification"), dict):
        own["notification"] = {key: _short(value["notification"].get(key)) for key in _NOTIFIED}
    rest = {key: item for key, item in value.items() if key not in own}
    return own | (outside(rest, maximum) or {}) if rest else own


def _is_empty(value: Any) -> bool:
    return not value and not isinstance(value, int | float)


def _short(value: Any) -> Any:
    """Where a single value belongs: it, doing nothing."""
    if isinstance(value, str):
        # As ``plain`` begins: most of what is told comes by here.
        is_plain = len(value) <= MAXIMUM_SLIM and value.isascii() and value.isprintable()
        return value if is_plain else plain(value, MAXIMUM_SLIM)
    return outside(value, 200)


_SINGULAR: Final = {
    "statuses": "status",
    "oncalls": "oncall",
    "post_updates": "post_update",
}


def _one(key: str) -> str:
    """What one of a list is called."""
    return _SINGULAR.get(key) or (f"{key[:-3]}y" if key.endswith("ies") else key.removesuffix("s"))


def full(document: Any, given: Given | None = None) -> Any:
    """PagerDuty's document as it is, but for ``self``: with what came from outside marked, and times told as ``given`` asks."""
    given = given or Given({})
    if not isinstance(document, dict):
        return _full(document, "", given, 0)
    marked = _marks_of(document, "")
    return {
        plain(str(name), 200): _marked(name, value, MAXIMUM_FULL)
        if name in marked and not _is_document(name, value) and not _is_empty(value)
        else _full(value, _one(name), given, 1)
        for name, value in document.items()
    }


def _is_document(name: str, value: Any) -> bool:
    return name in _DOCUMENTS and (
        isinstance(value, dict) or (isinstance(value, list) and all(isinstance(item, dict) for item in value))
    )


def _full(value: Any, key: str, given: Given, depth: int) -> Any:
    if isinstance(value, str):
        return (value[10:11] == "T" and _time(value, given)) or plain(value, MAXIMUM_FULL)
    if not isinstance(value, dict | list):
        return value
    if depth > DEEPEST:
        return CUT
    if isinstance(value, list):
        return [_full(item, key, given, depth + 1) for item in value]
    marked = _marks_of(value, key)
    return {
        plain(str(name), 200): _marked(name, item, MAXIMUM_FULL)
        if name in marked and not _is_empty(item)
        else _full(item, _one(name), given, depth + 1)
        for name, item in value.items()
        if name != "self"  # The API's own address of it: an assistant has no use for that.
    }


Form = Callable[[Mapping[str, Any], Given], dict[str, Any]]
"""Of one row of PagerDuty's: what the slim form says of it, ``id`` first. What is None or empty is left out by the caller."""


def _incident(row: Mapping[str, Any], given: Given) -> dict[str, Any]:
    changed = row.get("last_status_change_at")
    resolved = row.get("resolved_at")
    return {
        "id": _short(row.get("id")),
        "number": _short(row.get("incident_number")),
        "title": outside(row.get("title") or row.get("summary")),
        "status": _short(row.get("status")),
        "urgency": _short(row.get("urgency")),
        "priority": _named(row.get("priority")),
        "service": reference(row.get("service")),
        "assigned_to": _each(row, "assignments", "assignee"),
        "acknowledged_by": _each(row, "acknowledgements", "acknowledger"),
        "created_at": utc(row.get("created_at"), given),
        "changed_at": utc(changed, given) if changed != resolved else None,
        "resolved_at": utc(resolved, given) if resolved is not None else None,
        "link": _short(row.get("html_url")),
    }


def _incident_alone(row: Mapping[str, Any], given: Given) -> dict[str, Any]:
    """Of an incident that was asked for by itself."""
    found = _incident(row, given)
    link = found.pop("link")
    kind = row.get("incident_type")
    return {
        **found,
        "changed_by": reference(row.get("last_status_change_by"), "last_status_change_by"),
        "escalation_policy": reference(row.get("escalation_policy")),
        "teams": _references(row.get("teams"), "team"),
        "incident_type": _named(kind),
        "alert_counts": _general(row.get("alert_counts"), "", given, 0),
        "pending_actions": _general(row.get("pending_actions"), "pending_action", given, 0),
        "responders": [
            {
                "user": reference(each.get("user")),
                "state": _short(each.get("state")),
                "message": outside(each.get("message")),
                "requested_at": utc(each.get("requested_at"), given),
            }
            for each in _mappings(row.get("incidents_responders"))
        ],
        "conference_bridge": outside(row.get("conference_bridge")),
        "custom_fields": [
            {"id": _short(each.get("id")), "name": _short(each.get("name")), "value": outside(each.get("value"))}
            for each in _mappings(row.get("custom_fields"))
            if not _is_empty(each.get("value"))
        ],
        "body": outside(_untyped(row.get("body"))),
        "resolve_reason": _general(row.get("resolve_reason"), "resolve_reason", given, 0),
        "link": link,
    }


def _alert(row: Mapping[str, Any], given: Given) -> dict[str, Any]:
    body = _untyped(row.get("body"))
    if isinstance(body, dict) and body.get("details"):
        # The common event format says the details again.
        body = {name: value for name, value in body.items() if name != "cef_details"}
    return {
        "id": _short(row.get("id")),
        "summary": outside(row.get("summary")),
        "status": _short(row.get("status")),
        "severity": _short(row.get("severity")),
        "suppressed": row.get("suppressed") or None,
        "created_at": utc(row.get("created_at"), given),
        "alert_key": outside(row.get("alert_key")),
        "service": reference(row.get("service")),
        "integration": reference(row.get("integration")),
        "incident": reference(row.get("incident")),
        "body": outside(body),
        "link": _short(row.get("html_url")),
    }


def _log_entry(row: Mapping[str, Any], given: Given) -> dict[str, Any]:
    kind = _kind(row, "")
    channel = row.get("channel")
    return {
        "id": _short(row.get("id")),
        "type": plain(kind.removesuffix("_log_entry"), 200),
        "summary": outside(row.get("summary")),
        "created_at": utc(row.get("created_at"), given),
        "agent": reference(row.get("agent"), "agent"),
        "user": reference(row.get("user")),
        "assignees": _references(row.get("assignees"), "assignee"),
        "note": outside(row.get("note")),
        "channel": _marked("channel", channel, MAXIMUM_SLIM) if channel else None,
        "event_details": outside(row.get("event_details")),
        "incident": reference(row.get("incident")),
        "service": reference(row.get("service")),
        "link": _short(row.get("html_url")),
    }


def _service(row: Mapping[str, Any], given: Given) -> dict[str, Any]:
    return {
        "id": _short(row.get("id")),
        "name": _short(row.get("name") or row.get("summary")),
        "description": outside(row.get("description")),
        "status": _short(row.get("status")),
        "escalation_policy": reference(row.get("escalation_policy")),
        "teams": _references(row.get("teams"), "team"),
        "integrations": _references(row.get("integrations"), "integration"),
        "last_incident_timestamp": utc(row.get("last_incident_timestamp"), given),
        "incident_urgency_rule": _general(row.get("incident_urgency_rule"), "", given, 0),
        "support_hours": _general(row.get("support_hours"), "", given, 0),
        "acknowledgement_timeout": _short(row.get("acknowledgement_timeout")),
        "auto_resolve_timeout": _short(row.get("auto_resolve_timeout")),
        "link": _short(row.get("html_url")),
    }


def _escalation_policy(row: Mapping[str, Any], given: Given) -> dict[str, Any]:
    return {
        "id": _short(row.get("id")),
        "name": _short(row.get("name") or row.get("summary")),
        "description": outside(row.get("description")),
        "levels": [_level(place, rule) for place, rule in enumerate(_mappings(row.get("escalation_rules")), 1)],
        "repeats": _short(row.get("num_loops")),
        "services": _references(row.get("services"), "service"),
        "teams": _references(row.get("teams"), "team"),
        "link": _short(row.get("html_url")),
    }


def _level(place: int, rule: Mapping[str, Any]) -> dict[str, Any]:
    """``delay_minutes``: until it escalates to the next level. ``type`` of each target says whether it is a person."""
    found = {
        "level": place,
        "id": _short(rule.get("id")),
        "delay_minutes": _short(rule.get("escalation_delay_in_minutes")),
        "whom": _references(rule.get("targets"), "target"),
    }
    strategy = rule.get("escalation_rule_assignment_strategy")
    if isinstance(strategy, dict):
        strategy = strategy.get("type")
    if strategy not in (None, "assign_to_everyone"):
        found["strategy"] = _short(strategy)
    return found


def _schedule(row: Mapping[str, Any], given: Given) -> dict[str, Any]:
    kind = _kind(row, "")
    return {
        "id": _short(row.get("id")),
        "name": _short(row.get("name") or row.get("summary")),
        "type": plain(kind, 200) if kind not in ("", "schedule") else None,
        "description": outside(row.get("description")),
        "time_zone": _short(row.get("time_zone")),
        "users": _references(row.get("users"), "user"),
        "teams": _references(row.get("teams"), "team"),
        "escalation_policies": _references(row.get("escalation_policies"), "escalation_policy"),
        "schedule_layers": [_layer(layer, given) for layer in _mappings(row.get("schedule_layers"))],
        "rotations": _general(row.get("rotations"), "rotation", given, 0),
        "overrides_subschedule": _rendered(row.get("overrides_subschedule"), given),
        "final_schedule": _rendered(row.get("final_schedule"), given),
        "next_oncall_for_user": _general(row.get("next_oncall_for_user"), "", given, 0),
        "link": _short(row.get("html_url")),
    }


def _layer(layer: Mapping[str, Any], given: Given) -> dict[str, Any]:
    found = _general({key: value for key, value in layer.items() if key not in _RENDERED}, "schedule_layer", given, 0)
    if "users" in found:
        users = _mappings(layer.get("users"))
        found["users"] = [reference(each["user"] if isinstance(each.get("user"), dict) else each) for each in users]
    return _filled(found)


def _rendered(value: Any, given: Given) -> Any:
    """A schedule that was computed for a window: nothing where none was asked for."""
    if not isinstance(value, dict):
        return _short(value)
    found = _general({key: item for key, item in value.items() if key not in ("name", "type")}, "", given, 0)
    entries = _mappings(value.get("rendered_schedule_entries"))
    return _filled(found) if entries or value.get("computed_shift_assignments") else None


def _user(row: Mapping[str, Any], given: Given) -> dict[str, Any]:
    return {
        "id": _short(row.get("id")),
        "name": _short(row.get("name") or row.get("summary")),
        "email": _short(row.get("email")),
        "role": _short(row.get("role")),
        "job_title": _short(row.get("job_title")),
        "time_zone": _short(row.get("time_zone")),
        "teams": _references(row.get("teams"), "team"),
        "link": _short(row.get("html_url")),
    }


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _each(row: Mapping[str, Any], key: str, person: str) -> list[Any]:
    value = row.get(key)
    if not value or not isinstance(value, list):
        return []
    return [reference(each.get(person), person) for each in value if isinstance(each, dict)]


def _references(value: Any, key: str) -> list[Any]:
    return [reference(each, key) for each in value] if isinstance(value, list) else []


def _untyped(value: Any) -> Any:
    return {name: item for name, item in value.items() if name != "type"} if isinstance(value, dict) else value


def _named(value: Any) -> Any:
    return _short((value.get("summary") or value.get("name")) if isinstance(value, dict) else value)


FORMS: Final[Mapping[str, Form]] = {
    "incident": _incident,
    "alert": _alert,
    "log_entry": _log_entry,
    "service": _service,
    "escalation_policy": _escalation_policy,
    "schedule": _schedule,
    "user": _user,
}
"""Kind of document → its slim form. A kind that is not here gets the general one."""
_INCIDENT: Final = (
    "id incident_number title summary description status urgency priority service assignments acknowledgements created_at"
    " last_status_change_at resolved_at"
)
_TELLS: Final[Mapping[Form, frozenset[str]]] = {
    form: frozenset(fields.split())
    for form, fields in {
        _incident: _INCIDENT,
        _incident_alone: f"{_INCIDENT} last_status_change_by escalation_policy teams incident_type alert_counts"
        " pending_actions incidents_responders conference_bridge custom_fields body resolve_reason",
        _alert: "id summary status severity suppressed created_at alert_key service integration incident body",
        _log_entry: "id summary created_at agent user assignees note channel event_details incident service",
        _service: "id name summary description status escalation_policy teams integrations last_incident_timestamp"
        " incident_urgency_rule support_hours acknowledgement_timeout auto_resolve_timeout",
        _escalation_policy: "id name summary description escalation_rules num_loops services teams",
        _schedule: "id name summary description time_zone users teams escalation_policies schedule_layers rotations"
        " overrides_subschedule final_schedule next_oncall_for_user",
        _user: "id name summary email role job_title time_zone teams",
    }.items()
}
"""Form → the fields of PagerDuty's that it tells, in whatever words: the rest is left out."""
_BENEATH: Final[Mapping[Form, tuple[tuple[str, str], ...]]] = {
    _alert: (("body", "cef_details"),),
    _schedule: (("schedule_layers", "rendered_schedule_entries"), ("schedule_layers", "rendered_coverage_percentage")),
}
"""Form → what it leaves out within a field that it tells."""
_DROPPED: Final = frozenset({"self", "type", "avatar_url", "color", "html_url"})
"""Fields that say nothing to act on, and are not counted as left out."""
_IMPLIED: Final = frozenset(
    {
        *("field_value", "service_dependency", "status_page_post", "status_page_post_update", "status_page_impact"),
        *("status_page_severity", "status_page_status"),
    }
)
"""Types that say nothing beyond the key that they stand under."""
_VALUE: Final = frozenset({"value", "before_value"})
"""Fields in which nothing is something to tell."""
_RENDERED: Final = frozenset({"rendered_schedule_entries", "rendered_coverage_percentage"})
THINGS: Final = frozenset(
    {
        *("user", "team", "service", "technical_service", "business_service", "schedule", "schedule_v3"),
        *("escalation_policy", "priority", "vendor", "status_page"),
    }
)
"""Kinds of things that are told by a reference wherever they stand within another, even where PagerDuty shows them whole."""


def general(row: Mapping[str, Any], given: Given) -> dict[str, Any]:
    """The slim form of what has none of its own: without addresses and what is empty, references short, times in UTC."""
    return _row_in_general(row, "", given, 0)


def _row_in_general(row: Mapping[str, Any], key: str, given: Given, depth: int) -> dict[str, Any]:
    marked = _marks_of(row, key)
    found: dict[str, Any] = {"id": None} if "id" in row else {}
    kind = row.get("type")
    if isinstance(kind, str) and kind not in _IMPLIED and kind.removesuffix("_reference") not in ("", key):
        found["type"] = plain(kind.removesuffix("_reference"), 200)
    for name, value in row.items():
        if name in _DROPPED:
            continue
        if _is_empty(value):
            if name in _VALUE:
                found[name] = None
            continue
        if name == "summary" and value in (row.get("name"), row.get("title"), row.get("label"), row.get("description")):
            continue
        told = _marked(name, value, MAXIMUM_SLIM) if name in marked else _general(value, _one(name), given, depth + 1)
        if not _is_empty(told):
            found[plain(str(name), 200)] = told
    if link := row.get("html_url"):
        found["link"] = _short(link)
    return found


def _general(value: Any, key: str, given: Given, depth: int) -> Any:
    if isinstance(value, str):
        return utc(value, given)
    if not isinstance(value, dict | list):
        return value
    if depth > DEEPEST:
        return CUT
    if isinstance(value, list):
        return [_general(item, key, given, depth + 1) for item in value]
    kind = value.get("type")
    if isinstance(kind, str) and "id" in value:
        if kind.endswith("_reference") or kind in THINGS:
            return reference(value, key)
        if kind == "incident":
            return _filled(_incident(value, given))
    return _row_in_general(value, key, given, depth)


def slim(document: Any, given: Given) -> Any:
    """The slim form of an answer: the thing under its own key, or a list with what is known of its page.

    ``{"incidents": [...], "count": 25, "more": {"offset": 25}, "left_out": ["incident_key", ...]}``: ``more`` is there where
    there are more, with the argument that turns the page; ``left_out`` names the fields that detail=full adds.
    """
    if not isinstance(document, dict):
        return _general(document, "", given, 0)
    if "id" in document:  # Some answers are the thing itself, without a key.
        return _row_in_general(document, "", given, 0)
    found: dict[str, Any] = {}
    left_out: set[str] = set()
    lists: list[str] = []
    for key, value in document.items():
        if key in PAGING or value is None:
            continue
        name = plain(str(key), 200)
        if key in OUTSIDE and not _is_document(key, value):
            found[name] = outside(value)
        elif isinstance(value, list):
            found[name] = _rows(value, _one(key), given, left_out)
            lists.append(name)
        elif isinstance(value, dict):
            found[name] = row(value, key, given, left_out, is_alone=True)
        else:
            found[name] = _general(value, "", given, 0)
    if len(lists) == 1:
        found["count"] = len(found[lists[0]])
    found |= _page(document)
    if left_out:
        found["left_out"] = sorted(left_out)
    return found


def _rows(rows: list[Any], kind: str, given: Given, left_out: set[str]) -> list[Any]:
    return [
        row(each, kind, given, left_out) if isinstance(each, dict) else _general(each, kind, given, 1) for each in rows
    ]


def row(
    value: Mapping[str, Any], kind: str, given: Given, left_out: set[str] | None = None, *, is_alone: bool = False
) -> dict[str, Any]:
    """The slim form of one thing. ``kind``: what it is called in the singular. Into ``left_out`` go the names of the fields
    that it has and the form does not tell."""
    form = _form(value, kind)
    if form is None:
        return _row_in_general(value, kind, given, 0)
    if is_alone and form is _incident:
        form = _incident_alone
    told = _filled(form(value, given))
    if left_out is not None:
        # Of the rows of a list the first has named most of what the others leave out.
        for name in value.keys() - _TELLS[form] - left_out - _DROPPED:
            if not _is_empty(value[name]):
                left_out.add(plain(str(name), 200))
        for outer, inner in _BENEATH.get(form, ()):
            if _holds(value.get(outer), inner) and not _holds(told.get(outer), inner):
                left_out.add(f"{outer}.{inner}")
    return told


def _holds(value: Any, name: str) -> bool:
    """Whether a thing, or one of a list, has something under a name; marked or not."""
    if isinstance(value, list):
        return any(_holds(item, name) for item in value)
    return isinstance(value, dict) and not _is_empty(
        (value["outside"] if isinstance(value.get("outside"), dict) else value).get(name)
    )


def _form(value: Mapping[str, Any], key: str) -> Form | None:
    """By the key it stands under, unless its type is another: a business service stands under ``services``, too."""
    form = FORMS.get(key)
    kind = value.get("type")
    if form is None or not isinstance(kind, str) or not kind:
        return form
    kind = kind.removesuffix("_reference")
    return form if kind == key or kind.endswith("_log_entry") or kind == f"{key}_v3" else None


def _filled(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value or value == 0}  # 0 and false are told.


def _page(document: Mapping[str, Any]) -> dict[str, Any]:
    """How to turn the page, and how many there are at all, where PagerDuty says so."""
    found: dict[str, Any] = {}
    if isinstance(document.get("total"), int):
        found["total"] = document["total"]
    if cursor := document.get("next_cursor"):
        found["more"] = {"cursor": _short(cursor)}
    elif not document.get("more"):
        pass
    elif isinstance(document.get("last"), str):
        found["more"] = {"starting_after": _short(document["last"])}
    elif isinstance(document.get("after"), str):
        found["more"] = {"after": _short(document["after"])}
    else:
        rows = next((value for value in document.values() if isinstance(value, list)), [])
        offset = _whole(document.get("offset"), 0) + (len(rows) or _whole(document.get("limit"), 25))
        beyond = f"There are more, but PagerDuty pages no further than {OFFSETS:,}: ask for a narrower window."
        found["more"] = {"offset": offset} if offset < OFFSETS else {"beyond": beyond}
    return found


def _whole(value: Any, otherwise: int) -> int:
    return value if isinstance(value, int) else otherwise


def rendered(document: Any, given: Given) -> Any:
    """An answer as the caller asked for it: of a list, how many came and how its page is turned, whatever the form."""
    if not given.full:
        return slim(document, given)
    found = full(document, given)
    if not isinstance(document, dict) or not PAGING.intersection(document):
        return found
    rows = next((value for name, value in found.items() if isinstance(value, list)), None)
    kept = {name: value for name, value in found.items() if name not in PAGING}
    return {**kept, **({} if rows is None else {"count": len(rows)}), **_page(document)}


def names_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Id → name of rows that have both."""
    return {row["id"]: plain(str(row.get("summary") or row.get("name") or ""), 200) for row in rows if "id" in row}
