"""Writes: a tool's arguments as the body that PagerDuty takes, and no write sent twice.

What cannot be meant is ``Wrong`` before anything is written. Where PagerDuty wants the whole of a thing, it is read first, as
whoever called, so that what was not given stays as it is; where that read comes to nothing, nothing is written.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import zoneinfo
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec

from integrations.pagerduty import catalog
from integrations.pagerduty.tools.arguments import is_id
from integrations.pagerduty.tools.asking import Ask, Failed, Given, Run, Told, Wrong, need
from integrations.pagerduty.tools.slim import rendered
from policies.core.text import shown

Serve = Callable[[Given, Run], Awaitable[Any]]
Document = dict[str, Any]

MAXIMUM_TARGETS: Final = 10
"""Of one level of an escalation policy."""
DEFAULT_DELAY: Final = 30
"""Minutes that a new level has."""
UNROUTED: Final = "unrouted"
ROTATING: Final = "rotating_member_assignment_strategy"
_SERVICE_KINDS: Final = {"technical": "service", "business": "business_service"}
_LAYER: Final = ("id", "name", "start", "end", "rotation_virtual_start", "rotation_turn_length_seconds", "restrictions")
"""What can be written of a layer beside its users."""


def ref(kind: str, id: str) -> Document:
    return {"id": id, "type": f"{kind}_reference"}


def _refs(kind: str, ids: list[str]) -> list[Document]:
    return [ref(kind, id) for id in dict.fromkeys(ids)]


def _kept(reference: Mapping[str, Any]) -> Document:
    """A reference as it can be sent back."""
    return {"id": reference["id"], "type": reference["type"]}


def _picked(given: Given, *names: str) -> Document:
    """Those arguments that were given."""
    return {name: given[name] for name in names if name in given.arguments}


def _changes(given: Given, *names: str) -> None:
    """Raises ``Wrong`` where none of the arguments was given, and PagerDuty would be asked to change nothing."""
    if not any(name in given.arguments for name in names):
        raise Wrong("Nothing to change was given.", f"Pass at least one of: {', '.join(names)}.")


def _at(text: str, zone: dt.tzinfo = dt.UTC) -> str:
    """A time as PagerDuty reads it, with the zone it is in: ``zone`` where it says none."""
    found = dt.datetime.fromisoformat(text)
    found = found if found.tzinfo is not None else found.replace(tzinfo=zone)
    return found.isoformat().replace("+00:00", "Z")


def _times(given: Given, *names: str) -> Document:
    return {name: _at(text) for name, text in _picked(given, *names).items()}


def _in_order(times: Mapping[str, Any], start: str, end: str) -> None:
    """Raises ``Wrong`` where both are there and ``end`` is not after ``start``."""
    first, last = times.get(start), times.get(end)
    if first and last and dt.datetime.fromisoformat(last) <= dt.datetime.fromisoformat(first):
        raise Wrong(f"{end} is not after {start}: {last} and {first}.", f"Pass an {end} that is later than {start}.")


def _not_longer(given: Given, name: str, most: int) -> None:
    if len(given.get(name, "")) > most:
        raise Wrong(f"{name} has {len(given[name]):,} characters.", f"Pass {most:,} at most.")


def _parsed(given: Given, tool: str, name: str, kind: type[dict[str, Any]] | type[list[Any]]) -> Any:
    """An argument that is JSON in a text. Raises ``Wrong`` where it is none, or not of the ``kind``: an object, or a list of
    objects."""
    example = catalog.TOOLS[tool].input_schema["properties"][name]["examples"][0]
    remedy = f"Pass {name} as one JSON text, such as {example}"
    try:
        found: Any = msgspec.json.decode(given[name])
    except (msgspec.DecodeError, RecursionError):
        raise Wrong(f"{name} is not JSON.", remedy) from None
    if not isinstance(found, kind) or (kind is list and not all(isinstance(item, dict) for item in found)):
        raise Wrong(f"{name} is not {'an object' if kind is dict else 'a list of objects'}.", remedy)
    return found


async def _answer(ask: Ask, given: Given, run: Run, done: str = "PagerDuty has done it.") -> Any:
    """What is told of a write. ``done``: what it did, where PagerDuty answers nothing; the arguments' names in braces."""
    document = await need(run, ask)
    return rendered(document, given) if document else {"done": done.format_map(given.arguments)}


def _sends(build: Callable[[Given], Ask], done: str = "PagerDuty has done it.") -> Serve:
    """A tool that is one write and nothing else."""

    async def serve(given: Given, run: Run) -> Any:
        return await _answer(build(given), given, run, done)

    return serve


async def _read(run: Run, path: str, tool: str, instead: str = "") -> Any:
    """What is there, read before it is changed. ``tool``: the one that must be allowed for it. ``instead``: what to pass so
    that it need not be read."""
    told = await run(Ask("GET", path))
    if told.kind:
        raise _unread(told, tool, instead)
    return told.document


def _unread(told: Told, tool: str, instead: str) -> Failed:
    problem = f"Nothing was changed: what is there had to be read first, and was not: {told.error.get('problem', '')}"
    remedy = f"{instead} {tool} is needed to read it. {told.error.get('remedy', '')}"
    return Failed(dataclasses.replace(told, error={**told.error, "problem": problem, "remedy": remedy.strip()}))


# Incidents


def _incident(given: Given, *more: str) -> str:
    return "/".join((f"/incidents/{given['incident_id']}", *more))


def _priority(given: Given) -> Document:
    if "priority_id" not in given.arguments:
        return {}
    if not is_id(given["priority_id"]):
        raise Wrong(
            f"priority_id is no id: {shown(given['priority_id'], 64)!r}.",
            "Find the priority with list_priorities, and pass its id, not its name.",
        )
    return {"priority": ref("priority", given["priority_id"])}


def _create_incident(given: Given) -> Ask:
    incident = {
        "type": "incident",
        **_picked(given, "title", "urgency"),
        "service": ref("service", given["service_id"]),
        **_priority(given),
    }
    if details := given.get("details"):
        incident["body"] = {"type": "incident_body", "details": details}
    if name := given.get("incident_type"):
        incident["incident_type"] = {"name": name}
    return Ask("POST", "/incidents", body={"incident": incident})


def _update_incident(given: Given) -> Ask:
    _changes(given, "status", "title", "urgency", "priority_id", "assignee_ids", "escalation_level")
    incident = {
        "type": "incident_reference",
        **_picked(given, "status", "title", "urgency", "escalation_level"),
        **_priority(given),
    }
    if "assignee_ids" in given.arguments:
        if not given["assignee_ids"]:
            raise Wrong("assignee_ids is empty.", "Name at least one user, or leave assignee_ids out.")
        incident["assignments"] = [{"assignee": user} for user in _refs("user", given["assignee_ids"])]
    return Ask("PUT", _incident(given), body={"incident": incident})


def _resolve_incident(given: Given) -> Ask:
    incident = {"type": "incident_reference", "status": "resolved", **_picked(given, "resolution")}
    return Ask("PUT", _incident(given), body={"incident": incident})


def _add_note(given: Given) -> Ask:
    return Ask("POST", _incident(given, "notes"), body={"note": {"content": given["note"]}})


def _set_custom_fields(given: Given) -> Ask:
    fields: Document = _parsed(given, "set_incident_custom_fields", "custom_fields", dict)
    if not fields:
        raise Wrong("custom_fields names no field.", "Name at least one field to set.")
    for name, value in fields.items():
        texts = value if isinstance(value, list) else [value]
        if isinstance(value, dict) or (isinstance(value, list) and not all(isinstance(text, str) for text in value)):
            raise Wrong(
                f"The value of {shown(name, 50)} is of no kind that a field has.",
                "A value is a text, a number, true or false, a list of texts, or null.",
            )
        if len(texts) > 10 or any(isinstance(text, str) and len(text) > 200 for text in texts):
            raise Wrong(
                f"The value of {shown(name, 50)} is too long.",
                "A text has at most 200 characters, a list at most 10 texts.",
            )
    body = {"custom_fields": [{"name": name, "value": value} for name, value in fields.items()]}
    return Ask("PUT", _incident(given, "custom_fields", "values"), body=body)


def _snooze_incident(given: Given) -> Ask:
    return Ask("POST", _incident(given, "snooze"), body={"duration": given["duration"]})


def _update_alerts(given: Given) -> Ask:
    _changes(given, "status", "new_incident_id")
    change = {"type": "alert", **_picked(given, "status")}
    if other := given.get("new_incident_id"):
        if other == given["incident_id"]:
            raise Wrong("new_incident_id is the incident that has the alerts.", "Pass another incident's id.")
        change["incident"] = ref("incident", other)
    alerts = [{"id": id, **change} for id in dict.fromkeys(given["alert_ids"])]
    return Ask("PUT", _incident(given, "alerts"), body={"alerts": alerts})


def _responders(given: Given) -> list[Document]:
    asked = [
        *_refs("user", given.get("user_ids", [])),
        *_refs("escalation_policy", given.get("escalation_policy_ids", [])),
    ]
    if not asked:
        raise Wrong("Nobody is named.", "Pass at least one user in user_ids, or one policy in escalation_policy_ids.")
    return asked


def _add_responders(given: Given) -> Ask:
    targets = [{"responder_request_target": target} for target in _responders(given)]
    body = {**_picked(given, "requester_id", "message"), "responder_request_targets": targets}
    return Ask("POST", _incident(given, "responder_requests"), body=body)


def _cancel_responders(given: Given) -> Ask:
    body = {"requester_id": given["requester_id"], "responder_request_targets": _responders(given)}
    return Ask("PUT", _incident(given, "responder_requests", "cancel"), body=body)


def _merge_incidents(given: Given) -> Ask:
    if given["incident_id"] in given["source_incident_ids"]:
        raise Wrong(
            "The incident that stays is among those that are merged into it.",
            "Leave it out of source_incident_ids: they are resolved.",
        )
    body = {"source_incidents": _refs("incident", given["source_incident_ids"])}
    return Ask("PUT", _incident(given, "merge"), body=body)


def _status_update(given: Given) -> Ask:
    if len(_picked(given, "subject", "html_message")) == 1:
        raise Wrong(
            "subject and html_message go together.", "Pass both, or neither: then PagerDuty's own e-mail is sent."
        )
    return Ask("POST", _incident(given, "status_updates"), body=_picked(given, "message", "subject", "html_message"))


# Services


def _service(given: Given) -> Document:
    service = {
        "type": "service",
        **_picked(given, "name", "description", "status", "acknowledgement_timeout", "auto_resolve_timeout"),
    }
    if "urgency" in given.arguments:
        service["incident_urgency_rule"] = {"type": "constant", "urgency": given["urgency"]}
    if "escalation_policy_id" in given.arguments:
        service["escalation_policy"] = ref("escalation_policy", given["escalation_policy_id"])
    return service


def _create_service(given: Given) -> Ask:
    return Ask("POST", "/services", body={"service": _service(given)})


async def _update_service(given: Given, run: Run) -> Any:
    _changes(
        given,
        *("name", "description", "escalation_policy_id", "status"),
        *("urgency", "acknowledgement_timeout", "auto_resolve_timeout"),
    )
    path, service = f"/services/{given['service_id']}", _service(given)
    if "escalation_policy" not in service:
        # PagerDuty's schema wants it in every update; what else is not sent stays.
        before = (await _read(run, path, "get_service", "Pass escalation_policy_id, too."))["service"]
        service["escalation_policy"] = ref("escalation_policy", before["escalation_policy"]["id"])
    return await _answer(Ask("PUT", path, body={"service": service}), given, run)


def _dependencies(verb: str) -> Callable[[Given], Ask]:
    def build(given: Given) -> Ask:
        def service(text: str) -> Document:
            kind, _, id = text.partition(":")
            return {"id": id, "type": _SERVICE_KINDS[kind]}

        dependent = given["dependent_service"]
        if dependent in given["supporting_services"]:
            raise Wrong(f"{dependent} cannot use itself.", "Leave it out of supporting_services.")
        relationships = [
            {"supporting_service": service(text), "dependent_service": service(dependent)}
            for text in dict.fromkeys(given["supporting_services"])
        ]
        return Ask("POST", f"/service_dependencies/{verb}", body={"relationships": relationships})

    return build


def _window(given: Given) -> Document:
    window: Document = {"type": "maintenance_window", **_times(given, "start_time", "end_time")}
    if "service_ids" in given.arguments:
        window["services"] = _refs("service", given["service_ids"])
    return window | _picked(given, "description")


def _create_window(given: Given) -> Ask:
    window = _window(given)
    _in_order(window, "start_time", "end_time")
    if dt.datetime.fromisoformat(window["end_time"]) <= given.now:
        raise Wrong(f"end_time is over: {window['end_time']}.", "Pass an end_time in the future.")
    return Ask("POST", "/maintenance_windows", body={"maintenance_window": window})


async def _update_window(given: Given, run: Run) -> Any:
    _changes(given, "service_ids", "start_time", "end_time", "description")
    path, window = f"/maintenance_windows/{given['maintenance_window_id']}", _window(given)
    _in_order(window, "start_time", "end_time")
    if not window.keys() >= {"start_time", "end_time", "services"}:
        # PagerDuty's schema wants all three in every update.
        instead = "Pass service_ids, start_time and end_time, all three."
        before = (await _read(run, path, "list_maintenance_windows", instead))["maintenance_window"]
        stays = {name: before[name] for name in ("start_time", "end_time")}
        window = {**stays, "services": [_kept(service) for service in before["services"]], **window}
        _in_order(window, "start_time", "end_time")
    return await _answer(Ask("PUT", path, body={"maintenance_window": window}), given, run)


# Escalation policies


def _targets(text: str) -> list[Document]:
    """Whom one level notifies: ``schedule:PABC123,user:PDEF456`` as references."""
    named = [each.strip().split(":") for each in text.split(",")]
    if len(named) > MAXIMUM_TARGETS:
        raise Wrong(f"A level has {len(named)} targets.", f"Name {MAXIMUM_TARGETS} at most in one level.")
    return [ref(kind, id) for kind, id in named]


def _levels(given: Given, before: list[Document]) -> list[Document]:
    """The rules of a policy that has those of ``before``: what is not given stays, level by level."""
    if "level_targets" in given.arguments:
        targets = [_targets(text) for text in given["level_targets"]]
    else:
        targets = [[_kept(target) for target in rule["targets"]] for rule in before]
    delays = given.get("level_delays") or [rule["escalation_delay_in_minutes"] for rule in before[: len(targets)]]
    if "level_delays" in given.arguments and len(delays) not in (1, len(targets)):
        raise Wrong(
            f"level_delays has {len(delays)} numbers, and there are {len(targets)} levels.",
            "Pass one number for each level, or one number for all of them.",
        )
    if "level_delays" in given.arguments and len(delays) == 1:
        delays = delays * len(targets)
    delays += [DEFAULT_DELAY] * (len(targets) - len(delays))
    kept = [
        {name: rule[name] for name in ("id", "escalation_rule_assignment_strategy") if rule.get(name)}
        for rule in before[: len(targets)]
    ]
    kept += [{}] * (len(targets) - len(kept))
    return [
        {**same, "escalation_delay_in_minutes": delay, "targets": level}
        for same, delay, level in zip(kept, delays, targets, strict=True)
    ]


def _policy(given: Given) -> Document:
    policy = {"type": "escalation_policy", **_picked(given, "name", "description")}
    if "repeats" in given.arguments:
        policy["num_loops"] = given["repeats"]
    if "team_ids" in given.arguments:
        policy["teams"] = _refs("team", given["team_ids"])
    return policy


def _create_policy(given: Given) -> Ask:
    policy = {**_policy(given), "escalation_rules": _levels(given, [])}
    return Ask("POST", "/escalation_policies", body={"escalation_policy": policy})


async def _update_policy(given: Given, run: Run) -> Any:
    _changes(given, "name", "level_targets", "level_delays", "repeats", "team_ids", "description")
    if "level_targets" in given.arguments:
        _levels(given, [])  # what cannot be meant is told before anything is asked
    path = f"/escalation_policies/{given['escalation_policy_id']}"
    before = (await _read(run, path, "get_escalation_policy"))["escalation_policy"]
    stays = {
        name: before[name]
        for name in ("name", "description", "num_loops", "on_call_handoff_notifications")
        if before.get(name) is not None
    }
    policy = {
        **stays,
        "teams": [_kept(team) for team in before.get("teams") or ()],
        **_policy(given),
        "escalation_rules": _levels(given, before["escalation_rules"]),
    }
    return await _answer(Ask("PUT", path, body={"escalation_policy": policy}), given, run)


def _delete_policy(given: Given) -> Ask:
    return Ask("DELETE", f"/escalation_policies/{given['escalation_policy_id']}")


# Schedules, with layers (v2) and with rotations (v3)


async def _schedule(given: Given, run: Run, instead: str) -> tuple[bool, Document]:
    """Whether the schedule has rotations, and what is there of it: each kind has paths of its own, and no write is tried on
    the wrong one."""
    path = f"/schedules/{given['schedule_id']}"
    told = await run(Ask("GET", path))
    if told.kind == "refused" and told.error.get("status") in (400, 404):
        other = await run(Ask("GET", f"/v3{path}"))
        if not other.kind:
            return True, other.document["schedule"]
        told = told if other.kind == "refused" else other
    if told.kind:
        raise _unread(told, "get_schedule", instead)
    return False, told.document["schedule"]


def _v3(given: Given, *more: str) -> str:
    return "/".join((f"/v3/schedules/{given['schedule_id']}", *more))


def _member(id: str) -> Document:
    if id == "empty_member":
        return {"type": "empty_member"}
    if not is_id(id):
        raise Wrong(f"{shown(id, 64)!r} is no user's id.", "Find the user with list_users, and pass the id.")
    return {"type": "user_member", "user_id": id}


def _assigned(id: str) -> list[Document]:
    return [{"type": "shift_assignment", "member": _member(id)}]


async def _create_override(given: Given, run: Run) -> Any:
    times = _times(given, "start", "end")
    _in_order(times, "start", "end")
    shift = {"start_time": times["start"], "end_time": times["end"]}
    replaced = _picked(given, "rotation_id", "custom_shift_id")
    if len(replaced) == 2:
        raise Wrong(
            "rotation_id and custom_shift_id exclude each other.", "Pass the one in which somebody is replaced."
        )
    if bool(replaced) != ("overridden_user_id" in given.arguments):
        raise Wrong(
            "overridden_user_id goes with rotation_id or custom_shift_id.",
            "Pass who is replaced and in which of them; or none of the three.",
        )
    if replaced:
        override = {
            "type": "override_shift",
            **replaced,
            **shift,
            "overridden_member": _member(given["overridden_user_id"]),
            "overriding_member": _member(given["user_id"]),
        }
        return await _answer(Ask("POST", _v3(given, "overrides"), body={"overrides": [override]}), given, run)
    instead = "For a schedule with rotations pass rotation_id and overridden_user_id: then it need not be read."
    has_rotations, _ = await _schedule(given, run, instead)
    if has_rotations:
        custom = {"type": "custom_shift", **shift, "assignments": _assigned(given["user_id"])}
        return await _answer(Ask("POST", _v3(given, "custom_shifts"), body={"custom_shifts": [custom]}), given, run)
    plain = {**times, "user": ref("user", given["user_id"])}
    ask = Ask("POST", f"/schedules/{given['schedule_id']}/overrides", body={"overrides": [plain]})
    # It answers 201 to a list of overrides, and says of each by itself whether it was made.
    document = await need(run, ask)
    if not isinstance(document, list):
        return rendered(document, given)  # Done before, and what PagerDuty said of it was not kept.
    [made] = document
    if made.get("status", 201) >= 400:
        said = "; ".join(shown(str(error), 200) for error in made.get("errors") or ()) or "it does not say why"
        problem = f"PagerDuty did not make the override: {said.rstrip('.')}."
        raise Failed(Told(kind="refused", error={"problem": problem, "status": made["status"]}))
    return rendered({"override": made["override"]}, given)


async def _update_schedule(given: Given, run: Run) -> Any:
    _changes(given, "name", "description", "time_zone", "layers")
    layers = _layers(given) if "layers" in given.arguments else None
    fields = _picked(given, "name", "description", "time_zone")
    has_rotations, before = await _schedule(given, run, "")
    if has_rotations:
        if layers is not None:
            raise Wrong(
                "The schedule has rotations, and no layers.",
                "Leave layers out; change who is on call with update_schedule_v3_rotation_event.",
            )
        return await _answer(Ask("PUT", _v3(given), body={"schedule": fields}), given, run)
    stays = {name: before[name] for name in ("name", "description", "time_zone") if before.get(name) is not None}
    if layers is None:
        layers = [_layer(layer) for layer in before["schedule_layers"]]
    # PagerDuty shows the highest layer first, and takes it last.
    schedule = {"type": "schedule", **stays, **fields, "schedule_layers": layers[::-1]}
    ask = Ask("PUT", f"/schedules/{given['schedule_id']}", body={"schedule": schedule})
    return await _answer(ask, given, run)


def _layers(given: Given) -> list[Document]:
    layers: list[Document] = _parsed(given, "update_schedule", "layers", list)
    if not layers:
        raise Wrong("layers is empty.", "A schedule has one layer at least: pass every layer that stays.")
    for number, layer in enumerate(layers, 1):
        for name in ("start", "rotation_virtual_start", "rotation_turn_length_seconds", "users"):
            if not layer.get(name):
                raise Wrong(f"Layer {number} has no {name}.", f"Put {name} into it, as get_schedule shows it.")
        users = layer["users"]
        if not isinstance(users, list) or not all(_is_user(each) for each in users):
            raise Wrong(
                f"The users of layer {number} are not in PagerDuty's form.",
                'Pass each as {"user":{"id":"PDEF456","type":"user_reference"}}.',
            )
    return [_layer(layer) for layer in layers]


def _is_user(entry: Any) -> bool:
    user = entry.get("user") if isinstance(entry, dict) else None
    return isinstance(user, dict) and isinstance(user.get("id"), str) and is_id(user["id"])


def _layer(layer: Mapping[str, Any]) -> Document:
    """A layer as it can be sent back: without what is rendered of it."""
    found = {name: layer[name] for name in _LAYER if layer.get(name) is not None}
    return {**found, "users": [{"user": ref("user", entry["user"]["id"])} for entry in layer["users"]]}


def _delete_override(given: Given) -> Ask:
    return Ask("DELETE", f"/schedules/{given['schedule_id']}/overrides/{given['override_id']}")


def _update_v3_override(given: Given) -> Ask:
    _changes(given, "start_time", "end_time", "overriding_member")
    override = _times(given, "start_time", "end_time")
    _in_order(override, "start_time", "end_time")
    if "overriding_member" in given.arguments:
        override["overriding_member"] = _member(given["overriding_member"])
    return Ask("PUT", _v3(given, "overrides", given["override_id"]), body={"override": override})


def _delete_v3_override(given: Given) -> Ask:
    return Ask("DELETE", _v3(given, "overrides", given["override_id"]))


def _update_custom_shift(given: Given) -> Ask:
    _changes(given, "start_time", "end_time", "member")
    shift = _times(given, "start_time", "end_time")
    _in_order(shift, "start_time", "end_time")
    if "member" in given.arguments:
        shift["assignments"] = _assigned(given["member"])
    return Ask("PUT", _v3(given, "custom_shifts", given["custom_shift_id"]), body={"custom_shift": shift})


def _delete_custom_shift(given: Given) -> Ask:
    return Ask("DELETE", _v3(given, "custom_shifts", given["custom_shift_id"]))


def _create_schedule(given: Given) -> Ask:
    _not_longer(given, "name", 255)
    _not_longer(given, "description", 1024)
    schedule = _picked(given, "name", "time_zone", "description")
    if teams := given.get("team_ids"):
        schedule["teams"] = _refs("team", teams)
    return Ask("POST", "/v3/schedules", body={"schedule": schedule})


def _create_rotation(given: Given) -> Ask:
    return Ask("POST", _v3(given, "rotations"), body={})


def _delete_rotation(given: Given) -> Ask:
    return Ask("DELETE", _v3(given, "rotations", given["rotation_id"]))


def _events(given: Given, *more: str) -> str:
    return _v3(given, "rotations", given["rotation_id"], "events", *more)


def _event(given: Given, before: Mapping[str, Any]) -> Document:
    """What is given of an event. ``before``: the event as it is, where it is one. Times without a zone are in the event's."""
    stands = before.get("start_time", {})
    name = given.get("time_zone") or stands.get("time_zone", "UTC")
    zone = zoneinfo.ZoneInfo(name)
    event = _picked(given, "name", "recurrence")
    times: Document = {}
    for field in ("start_time", "end_time"):
        if text := given.get(field) or before.get(field, {}).get("date_time"):
            times[field] = _at(text, zone)
            if field in given.arguments or "time_zone" in given.arguments:
                event[field] = {"date_time": times[field], "time_zone": name}
    for field in ("effective_since", "effective_until"):
        times[field] = before.get(field)
        if field in given.arguments:
            event[field] = times[field] = _at(given[field], zone)
    _in_order(times, "start_time", "end_time")
    _in_order(times, "effective_since", "effective_until")
    if "recurrence" in event and sum(line.upper().startswith("RRULE") for line in event["recurrence"]) != 1:
        raise Wrong(
            "recurrence must hold one RRULE.", 'Pass it as ["RRULE:FREQ=WEEKLY"], with any EXDATE and RDATE after.'
        )
    if _picked(given, "assignment_strategy", "shifts_per_member", "members"):
        event["assignment_strategy"] = _strategy(given, before.get("assignment_strategy", {}))
    return event


def _strategy(given: Given, before: Mapping[str, Any]) -> Document:
    kind = given.get("assignment_strategy") or before["type"]
    members = [_member(id) for id in given["members"]] if "members" in given.arguments else before["members"]
    if kind != ROTATING:
        if "shifts_per_member" in given.arguments:
            raise Wrong("shifts_per_member is for members who take turns.", f"Leave it out, or pass {ROTATING}.")
        return {"type": kind, "members": members}
    if not (shifts := given.get("shifts_per_member") or before.get("shifts_per_member")):
        raise Wrong(
            "Members who take turns need shifts_per_member.", "Pass how many shifts in a row each has: 1 to 999."
        )
    return {"type": kind, "shifts_per_member": shifts, "members": members}


def _create_event(given: Given) -> Ask:
    return Ask("POST", _events(given), body={"event": _event(given, {})})


async def _update_event(given: Given, run: Run) -> Any:
    asked = ("start_time", "end_time", "time_zone", "assignment_strategy", "shifts_per_member", "members")
    _changes(given, "name", "effective_since", "effective_until", "recurrence", *asked)
    path, before = _events(given, given["event_id"]), {}
    if _picked(given, *asked):
        # PagerDuty takes a time with its zone, and a strategy with its members: what is not given of them stays.
        before = (await _read(run, path, "get_schedule_v3_rotation_event"))["event"]
    return await _answer(Ask("PUT", path, body={"event": _event(given, before)}), given, run)


def _delete_event(given: Given) -> Ask:
    return Ask("DELETE", _events(given, given["event_id"]))


# Teams, event orchestrations, workflows


def _add_member(given: Given) -> Ask:
    return Ask("PUT", f"/teams/{given['team_id']}/users/{given['user_id']}", body=_picked(given, "role") or None)


def _remove_member(given: Given) -> Ask:
    return Ask("DELETE", f"/teams/{given['team_id']}/users/{given['user_id']}")


def _new(rules: list[Document], there: list[Document]) -> list[Document]:
    """The rules, none of which is there. Raises ``Wrong``: an append that is tried again has another body than at first, so
    that nothing but its rules tells that it was done."""
    for number, rule in enumerate(rules, 1):
        for same in there:
            if all(same.get(name) == value for name, value in rule.items() if name != "id"):
                raise Wrong(
                    f"Rule {number} is there already, as {shown(str(same.get('id')), 64)}: nothing was changed.",
                    "Leave it out; where it was just appended, that is done.",
                )
    return rules


async def _update_router(given: Given, run: Run) -> Any:
    rules: list[Document] = _parsed(given, "update_event_orchestration_router", "rules", list)
    for number, rule in enumerate(rules, 1):
        actions = rule.get("actions")
        if not isinstance(actions, dict) or ("route_to" in actions) == ("dynamic_route_to" in actions):
            raise Wrong(
                f"Rule {number} does not say where its events go.",
                'Put actions into it: {"route_to": the id of a service}, or dynamic_route_to in the first rule.',
            )
    to = given.get("catch_all")
    if to is not None and to != UNROUTED and not is_id(to):
        raise Wrong(f"catch_all is no service's id: {shown(to, 64)!r}.", f"Pass a service's id, or {UNROUTED}.")
    path = f"/event_orchestrations/{given['orchestration_id']}/router"
    catch_all = None if to is None else {"actions": {"route_to": to}}
    if given.get("append") or catch_all is None:
        # What a router is not sent it does not keep.
        instead = "" if given.get("append") else "Pass catch_all, too."
        before = (await _read(run, path, "get_event_orchestration_router", instead))["orchestration_path"]
        catch_all = catch_all or before.get("catch_all")
        if given.get("append"):
            rules = [*before["sets"][0]["rules"], *_new(rules, before["sets"][0]["rules"])]
    router: Document = {"type": "router", "sets": [{"id": "start", "rules": rules}]}
    if catch_all is not None:
        router["catch_all"] = catch_all
    return await _answer(Ask("PUT", path, body={"orchestration_path": router}), given, run)


def _start_workflow(given: Given) -> Ask:
    instance = {"incident": ref("incident", given["incident_id"])}
    path = f"/incident_workflows/{given['workflow_id']}/instances"
    return Ask("POST", path, body={"incident_workflow_instance": instance})


def _invoke_action(given: Given) -> Ask:
    path = f"/automation_actions/actions/{given['action_id']}/invocations"
    return Ask("POST", path, body={"invocation": {"metadata": _picked(given, "incident_id", "alert_id")}})


# Status pages and webhooks


def _word(kind: str, id: str) -> Document:
    return {"id": id, "type": f"status_page_{kind}"}


def _post_update(given: Given) -> Document:
    impacted = [text.split(":") for text in given.get("impacted_services", ())]
    return {
        "type": "status_page_post_update",
        "message": given["message"],
        "status": _word("status", given["status_id"]),
        "severity": _word("severity", given["severity_id"]),
        "impacted_services": [
            {"service": _word("service", service), "impact": _word("impact", impact)} for service, impact in impacted
        ],
        "update_frequency_ms": given.get("update_frequency_ms"),
        "notify_subscribers": given["notify_subscribers"],
    }


def _create_post(given: Given) -> Ask:
    _not_longer(given, "title", 128)
    times = _times(given, "starts_at", "ends_at")
    if given["post_type"] == "maintenance" and len(times) < 2:
        raise Wrong("A post about maintenance needs starts_at and ends_at.", "Pass when it begins and when it ends.")
    if given["post_type"] == "incident" and times:
        raise Wrong("A post about an incident has no starts_at and ends_at.", "Leave them out, or pass maintenance.")
    _in_order(times, "starts_at", "ends_at")
    page = given["status_page_id"]
    post = {
        "type": "status_page_post",
        **_picked(given, "title", "post_type"),
        "starts_at": times.get("starts_at"),
        "ends_at": times.get("ends_at"),
        "updates": [_post_update(given)],
        "status_page": {"id": page, "type": "status_page"},
    }
    return Ask("POST", f"/status_pages/{page}/posts", body={"post": post})


def _create_post_update(given: Given) -> Ask:
    page, post = given["status_page_id"], given["post_id"]
    body = {"post_update": {**_post_update(given), "post": {"id": post, "type": "status_page_post"}}}
    return Ask("POST", f"/status_pages/{page}/posts/{post}/post_updates", body=body)


def _create_subscription(given: Given) -> Ask:
    kind, id = given["filter_type"], given.get("filter_id")
    if (kind == "account") != (id is None):
        raise Wrong(
            "filter_id does not go with the whole account." if id else f"A filter by {kind} needs filter_id.",
            "Leave filter_id out." if id else f"Pass the id of the {kind} in filter_id.",
        )
    if not given["url"].startswith("https://"):
        raise Wrong(f"url is no https address: {shown(given['url'], 80)!r}.", "Pass one that begins with https://.")
    subscription = {
        "type": "webhook_subscription",
        "delivery_method": {"type": "http_delivery_method", "url": given["url"]},
        **_picked(given, "events", "description", "active"),
        "filter": {"type": f"{kind}_reference"} if id is None else ref(kind, id),
    }
    return Ask("POST", "/webhook_subscriptions", body={"webhook_subscription": subscription})


def _delete_subscription(given: Given) -> Ask:
    return Ask("DELETE", f"/webhook_subscriptions/{given['subscription_id']}")


TOOLS: Final[Mapping[str, Serve]] = {
    "create_incident": _sends(_create_incident),
    "update_incident": _sends(_update_incident),
    "resolve_incident": _sends(_resolve_incident),
    "add_note_to_incident": _sends(_add_note),
    "set_incident_custom_fields": _sends(_set_custom_fields),
    "snooze_incident": _sends(_snooze_incident),
    "update_incident_alerts": _sends(_update_alerts),
    "add_responders": _sends(_add_responders),
    "cancel_responder_request": _sends(_cancel_responders),
    "merge_incidents": _sends(_merge_incidents),
    "create_incident_status_update": _sends(_status_update),
    "create_service": _sends(_create_service),
    "update_service": _update_service,
    "associate_service_dependencies": _sends(_dependencies("associate")),
    "disassociate_service_dependencies": _sends(_dependencies("disassociate")),
    "create_maintenance_window": _sends(_create_window),
    "update_maintenance_window": _update_window,
    "create_escalation_policy": _sends(_create_policy),
    "update_escalation_policy": _update_policy,
    "delete_escalation_policy": _sends(_delete_policy, "The escalation policy {escalation_policy_id} is deleted."),
    "create_schedule_override": _create_override,
    "update_schedule": _update_schedule,
    "delete_schedule_override": _sends(
        _delete_override,
        "The override {override_id} of the schedule {schedule_id} is removed; if it had begun, it ended now.",
    ),
    "update_schedule_v3_override": _sends(_update_v3_override),
    "delete_schedule_v3_override": _sends(
        _delete_v3_override, "The override {override_id} of the schedule {schedule_id} is removed."
    ),
    "update_schedule_v3_custom_shift": _sends(_update_custom_shift),
    "delete_schedule_v3_custom_shift": _sends(
        _delete_custom_shift,
        "The custom shift {custom_shift_id} of the schedule {schedule_id} is removed; if it had begun, it ended now.",
    ),
    "create_schedule": _sends(_create_schedule),
    "create_schedule_v3_rotation": _sends(_create_rotation),
    "delete_schedule_v3_rotation": _sends(
        _delete_rotation, "The rotation {rotation_id} of the schedule {schedule_id} is deleted with all its events."
    ),
    "create_schedule_v3_rotation_event": _sends(_create_event),
    "update_schedule_v3_rotation_event": _update_event,
    "delete_schedule_v3_rotation_event": _sends(
        _delete_event, "The event {event_id} of the rotation {rotation_id} is deleted with all its coming shifts."
    ),
    "add_team_member": _sends(_add_member, "The user {user_id} is in the team {team_id}."),
    "remove_team_member": _sends(_remove_member, "The user {user_id} is no longer in the team {team_id}."),
    "update_event_orchestration_router": _update_router,
    "start_incident_workflow": _sends(_start_workflow),
    "invoke_automation_action": _sends(_invoke_action),
    "create_status_page_post": _sends(_create_post),
    "create_status_page_post_update": _sends(_create_post_update),
    "create_webhook_subscription": _sends(_create_subscription),
    "delete_webhook_subscription": _sends(
        _delete_subscription, "The webhook subscription {subscription_id} is deleted."
    ),
}
"""Every tool that writes."""
