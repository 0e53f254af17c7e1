"""Tools that write: what they ask PagerDuty for, what comes of it there, and what they refuse to send."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from integrations.pagerduty import resolve, tools
from integrations.pagerduty.catalog import HOLDS, TAKES, TOOLS
from integrations.pagerduty.sandbox.app import Sandbox
from integrations.pagerduty.sandbox.world import World, parse_time
from integrations.pagerduty.tools import writes
from policies.core.call import Call, Door, KeyCredential
from tests.integrations.conftest import Ask, Used
from tests.published_schema import refused

START, END = "2026-11-25T00:00:00Z", "2026-11-25T08:00:00Z"
FAR, FARTHER = "2099-01-01T09:00:00Z", "2099-01-01T11:00:00Z"
WRITES = sorted(name for name, tool in TOOLS.items() if tool.writes)


@dataclass
class Made:
    """What earlier rows made: name of the tool → what it answered."""

    answers: dict[str, Any]

    def id(self, tool: str, key: str) -> str:
        found = self.answers[tool][key]
        return str((found[0] if isinstance(found, list) else found)["id"])


@dataclass(frozen=True)
class Case:
    arguments: dict[str, Any]
    path: str
    """Where it can be read back; empty: the answer itself says it."""
    holds: Callable[[Any], bool]
    """Of what is read back there, whether it was done."""
    gone: bool = False
    """It is read back as not found."""


def text(value: Any) -> str:
    return json.dumps(value)


def cases(world: World) -> dict[str, Callable[[Made], Case]]:
    """Every tool that writes, with arguments that make sense, in an order in which each finds what it needs."""
    opened = [row.id for row in world.incidents if row.status != "resolved"]
    several = next(row.id for row in reversed(world.incidents[:-12]) if row.alerts > 2 and row.status != "resolved")
    incident, other, snoozed, helped, merged, source, resolved, walked = opened[:8]
    service, policy, business = world.services[0]["id"], world.policies[0]["id"], world.business[0]["id"]
    users = [row["id"] for row in world.users]
    schedule, rotas = world.schedules[1]["id"], [row["id"] for row in world.v3]
    over = world.v3[0]["overrides"][0]["id"]
    shift = world.v3[3]["custom_shifts"][0]["id"]
    later = next(
        (row["id"], override["id"])
        for row in world.schedules
        for override in row["overrides"]
        if parse_time(override["start"]) > world.now + 7200
    )
    team = world.teams[0]["id"]
    woken = {target["id"] for row in world.policies for rule in row["escalation_rules"] for target in rule["targets"]}
    newcomer = next(
        row["id"]
        for place, row in enumerate(world.users)
        if place not in world.members[0] and row["role"] != "read_only_user" and row["id"] not in woken
    )
    window, orchestration, page = world.windows[-1]["id"], world.orchestrations[0]["id"], world.status_pages[0]
    post = page["posts"][0]["id"]
    action = world.automation_actions[0]["id"]

    def word(plural: str, kind: str) -> str:
        return str(next(row["id"] for row in page[plural] if row["post_type"] == kind))

    def told(kind: str) -> dict[str, Any]:
        return {
            "status_page_id": page["id"],
            "message": "We are looking.",
            "status_id": word("statuses", kind),
            "severity_id": word("severities", kind),
            "impacted_services": [f"{page['services'][0]['id']}:{word('impacts', kind)}"],
        }

    def rota(made: Made) -> str:
        return made.id("create_schedule", "schedule")

    def events(made: Made) -> str:
        return f"/v3/schedules/{rota(made)}/rotations/{made.id('create_schedule_v3_rotation', 'rotation')}/events"

    def event(made: Made) -> dict[str, str]:
        return {
            "schedule_id": rota(made),
            "rotation_id": made.id("create_schedule_v3_rotation", "rotation"),
            "event_id": made.id("create_schedule_v3_rotation_event", "event"),
        }

    pair = {
        "dependent_service": f"business:{business}",
        "supporting_services": [f"technical:{world.services[7]['id']}"],
    }
    between = f"/service_dependencies/business_services/{business}"

    def supported(document: Any) -> bool:
        return any(row["supporting_service"]["id"] == world.services[7]["id"] for row in document["relationships"])

    return {
        "create_incident": lambda made: Case(
            {
                "service_id": service,
                "title": "Disk is full",
                "details": "All of it.",
                "urgency": "low",
                "priority_id": world.priorities[0]["id"],
                "incident_type": "major_incident",
            },
            "",
            lambda said: (
                said["incident"]["title"] == {"outside": "Disk is full"} and said["incident"]["urgency"] == "low"
            ),
        ),
        "update_incident": lambda made: Case(
            {
                "incident_id": incident,
                "status": "acknowledged",
                "title": "Renamed",
                "urgency": "low",
                "priority_id": world.priorities[1]["id"],
                "assignee_ids": [users[3]],
            },
            f"/incidents/{incident}",
            lambda found: (
                (found["incident"]["title"], found["incident"]["urgency"], found["incident"]["priority"]["id"])
                == ("Renamed", "low", world.priorities[1]["id"])
                and [each["assignee"]["id"] for each in found["incident"]["assignments"]] == [users[3]]
            ),
        ),
        "resolve_incident": lambda made: Case(
            {"incident_id": resolved, "resolution": "A new disk"},
            f"/incidents/{resolved}",
            lambda found: found["incident"]["status"] == "resolved",
        ),
        "add_note_to_incident": lambda made: Case(
            {"incident_id": incident, "note": "Looked."},
            f"/incidents/{incident}/notes",
            lambda found: "Looked." in [note["content"] for note in found["notes"]],
        ),
        "set_incident_custom_fields": lambda made: Case(
            {
                "incident_id": incident,
                "custom_fields": text({"environment": "staging", "labels": ["checkout", "card"]}),
            },
            f"/incidents/{incident}/custom_fields/values",
            lambda found: (
                {"staging", ("checkout", "card")}
                <= {
                    tuple(row["value"]) if isinstance(row["value"], list) else row["value"]
                    for row in found["custom_fields"]
                }
            ),
        ),
        "snooze_incident": lambda made: Case(
            {"incident_id": snoozed, "duration": 3600},
            f"/incidents/{snoozed}",
            lambda found: found["incident"]["status"] == "acknowledged",
        ),
        "update_incident_alerts": lambda made: Case(
            {"incident_id": several, "alert_ids": [f"A{several[1:]}"], "new_incident_id": other},
            f"/incidents/{other}/alerts",
            lambda found: f"A{several[1:]}" in [row["id"] for row in found["alerts"]],
        ),
        "add_responders": lambda made: Case(
            {
                "incident_id": helped,
                "requester_id": users[0],
                "message": "Please help",
                "user_ids": [users[3]],
                "escalation_policy_ids": [policy],
            },
            "",
            lambda said: users[3] in text(said) and policy in text(said),
        ),
        "cancel_responder_request": lambda made: Case(
            {"incident_id": helped, "requester_id": users[0], "user_ids": [users[3]]},
            "",
            lambda said: users[3] in text(said),
        ),
        "merge_incidents": lambda made: Case(
            {"incident_id": merged, "source_incident_ids": [source]},
            f"/incidents/{source}",
            lambda found: found["incident"]["status"] == "resolved",
        ),
        "create_incident_status_update": lambda made: Case(
            {"incident_id": helped, "message": "Soon.", "subject": "Disk", "html_message": "<p>Soon.</p>"},
            "",
            lambda said: "Soon." in text(said),
        ),
        "create_service": lambda made: Case(
            {"name": "A new service", "escalation_policy_id": policy, "urgency": "severity_based"},
            "/services?query=A new service",
            lambda found: (
                [
                    (
                        row["acknowledgement_timeout"],
                        row["auto_resolve_timeout"],
                        row["incident_urgency_rule"]["urgency"],
                        row["escalation_policy"]["id"],
                    )
                    for row in found["services"]
                ]
                == [(1800, 14400, "severity_based", policy)]
            ),
        ),
        "update_service": lambda made: Case(
            {"service_id": service, "description": "Of disks", "acknowledgement_timeout": 600},
            f"/services/{service}",
            lambda found: (
                (
                    found["service"]["description"],
                    found["service"]["acknowledgement_timeout"],
                    found["service"]["escalation_policy"]["id"],
                )
                == ("Of disks", 600, world.services[0]["escalation_policy"]["id"])
            ),
        ),
        "associate_service_dependencies": lambda made: Case(pair, between, supported),
        "disassociate_service_dependencies": lambda made: Case(pair, between, lambda found: not supported(found)),
        "create_maintenance_window": lambda made: Case(
            {"service_ids": [service], "start_time": FAR, "end_time": FARTHER, "description": "New disks"},
            "/maintenance_windows?query=New disks",
            lambda found: (
                [(row["start_time"], row["end_time"]) for row in found["maintenance_windows"]] == [(FAR, FARTHER)]
            ),
        ),
        "update_maintenance_window": lambda made: Case(
            {"maintenance_window_id": window, "end_time": FARTHER},
            f"/maintenance_windows/{window}",
            lambda found: (
                found["maintenance_window"]["end_time"] == FARTHER
                and [row["id"] for row in found["maintenance_window"]["services"]] == ["PSVC00V"]
                and found["maintenance_window"]["description"] == "Network change 5"
            ),
        ),
        "create_escalation_policy": lambda made: Case(
            {
                "name": "New",
                "level_targets": [f"schedule:{schedule}, user:{users[0]}", f"schedule_v3:{rotas[0]}"],
                "team_ids": [team],
            },
            "/escalation_policies?query=New",
            lambda found: (
                [
                    [(rule["escalation_delay_in_minutes"], len(rule["targets"])) for rule in row["escalation_rules"]]
                    for row in found["escalation_policies"]
                    if row["name"] == "New" and row["num_loops"] == 0 and row["teams"][0]["id"] == team
                ]
                == [[(30, 2), (30, 1)]]
            ),
        ),
        "update_escalation_policy": lambda made: Case(
            {"escalation_policy_id": world.policies[1]["id"], "level_delays": [5]},
            f"/escalation_policies/{world.policies[1]['id']}",
            lambda found: (
                [
                    (rule["id"], rule["escalation_delay_in_minutes"], rule["targets"][0]["id"])
                    for rule in found["escalation_policy"]["escalation_rules"]
                ]
                == [("PRUL004", 5, "PSCH001"), ("PRUL005", 5, "PSCH007"), ("PRUL006", 5, "PUSR00V")]
                and found["escalation_policy"]["num_loops"] == 2
            ),
        ),
        "delete_escalation_policy": lambda made: Case(
            {"escalation_policy_id": made.id("create_escalation_policy", "escalation_policy")},
            f"/escalation_policies/{made.id('create_escalation_policy', 'escalation_policy')}",
            lambda found: True,
            gone=True,
        ),
        "create_schedule_override": lambda made: Case(
            {"schedule_id": schedule, "user_id": users[2], "start": START, "end": END},
            f"/schedules/{schedule}/overrides?since={START}&until={END}",
            lambda found: users[2] in [row["user"]["id"] for row in found["overrides"]],
        ),
        "update_schedule": lambda made: Case(
            {"schedule_id": schedule, "name": "Renamed"},
            f"/schedules/{schedule}",
            lambda found: found["schedule"]["name"] == "Renamed" and len(found["schedule"]["schedule_layers"]) == 6,
        ),
        "delete_schedule_override": lambda made: Case(
            {"schedule_id": later[0], "override_id": later[1]},
            f"/schedules/{later[0]}/overrides?since=2026-11-23T00:00:00Z&until=2026-12-30T00:00:00Z",
            lambda found: later[1] not in [row["id"] for row in found["overrides"]],
        ),
        "update_schedule_v3_override": lambda made: Case(
            {"schedule_id": rotas[0], "override_id": over, "overriding_member": users[2], "end_time": END},
            f"/v3/schedules/{rotas[0]}/overrides/{over}",
            lambda found: (
                found["override"]["overriding_member"]["user_id"] == users[2]
                and parse_time(found["override"]["end_time"]) == parse_time(END)
            ),
        ),
        "delete_schedule_v3_override": lambda made: Case(
            {"schedule_id": rotas[0], "override_id": over},
            f"/v3/schedules/{rotas[0]}/overrides/{over}",
            lambda found: True,
            gone=True,
        ),
        "update_schedule_v3_custom_shift": lambda made: Case(
            {"schedule_id": rotas[3], "custom_shift_id": shift, "member": users[4]},
            f"/v3/schedules/{rotas[3]}/custom_shifts/{shift}",
            lambda found: found["custom_shift"]["assignments"][0]["member"]["user_id"] == users[4],
        ),
        "delete_schedule_v3_custom_shift": lambda made: Case(
            {"schedule_id": rotas[3], "custom_shift_id": shift},
            f"/v3/schedules/{rotas[3]}/custom_shifts/{shift}",
            lambda found: True,
            gone=True,
        ),
        "create_schedule": lambda made: Case(
            {"name": "New rota", "time_zone": "Australia/Sydney", "team_ids": [team]},
            "/v3/schedules?query=New rota",
            lambda found: len(found["schedules"]) == 1,
        ),
        "create_schedule_v3_rotation": lambda made: Case(
            {"schedule_id": rota(made)},
            f"/v3/schedules/{rota(made)}/rotations",
            lambda found: len(found["rotations"]) == 1,
        ),
        "create_schedule_v3_rotation_event": lambda made: Case(
            {
                "schedule_id": rota(made),
                "rotation_id": made.id("create_schedule_v3_rotation", "rotation"),
                "name": "Evenings",
                "start_time": "2026-12-01T18:00:00",  # in the zone of the event
                "end_time": "2026-12-01T20:00:00+11:00",
                "time_zone": "Australia/Sydney",
                "effective_since": "2026-12-01T00:00:00Z",
                "recurrence": ["RRULE:FREQ=WEEKLY;BYDAY=MO,FR"],
                "assignment_strategy": "rotating_member_assignment_strategy",
                "shifts_per_member": 2,
                "members": [users[0], "empty_member"],
            },
            events(made),
            lambda found: (
                [parse_time(row["start_time"]["date_time"]) for row in found["events"]]
                == [parse_time("2026-12-01T07:00:00Z")]
            ),
        ),
        "update_schedule_v3_rotation_event": lambda made: Case(
            {**event(made), "members": [users[1]], "end_time": "2026-12-01T21:00:00+11:00"},
            events(made),
            lambda found: (
                (
                    found["events"][0]["assignment_strategy"],
                    found["events"][0]["end_time"]["time_zone"],
                    parse_time(found["events"][0]["start_time"]["date_time"]),
                )
                == (
                    {
                        "type": "rotating_member_assignment_strategy",
                        "shifts_per_member": 2,
                        "members": [{"type": "user_member", "user_id": users[1]}],
                    },
                    "Australia/Sydney",
                    parse_time("2026-12-01T07:00:00Z"),
                )
            ),
        ),
        "delete_schedule_v3_rotation_event": lambda made: Case(
            event(made), events(made), lambda found: found["events"] == []
        ),
        "delete_schedule_v3_rotation": lambda made: Case(
            {"schedule_id": rota(made), "rotation_id": made.id("create_schedule_v3_rotation", "rotation")},
            f"/v3/schedules/{rota(made)}/rotations",
            lambda found: found["rotations"] == [],
        ),
        "add_team_member": lambda made: Case(
            {"team_id": team, "user_id": newcomer, "role": "observer"},
            f"/teams/{team}/members?limit=100",
            lambda found: (newcomer, "observer") in [(row["user"]["id"], row["role"]) for row in found["members"]],
        ),
        "remove_team_member": lambda made: Case(
            {"team_id": team, "user_id": newcomer},
            f"/teams/{team}/members?limit=100",
            lambda found: newcomer not in [row["user"]["id"] for row in found["members"]],
        ),
        "update_event_orchestration_router": lambda made: Case(
            {
                "orchestration_id": orchestration,
                "rules": text([{"label": "Disks", "actions": {"route_to": service}}]),
                "catch_all": service,
            },
            f"/event_orchestrations/{orchestration}/router",
            lambda found: (
                [row["label"] for row in found["orchestration_path"]["sets"][0]["rules"]] == ["Disks"]
                and found["orchestration_path"]["catch_all"] == {"actions": {"route_to": service}}
            ),
        ),
        "start_incident_workflow": lambda made: Case(
            {"workflow_id": world.workflows[0]["id"], "incident_id": incident},
            "",
            lambda said: bool(said["incident_workflow_instance"]["id"]),
        ),
        "invoke_automation_action": lambda made: Case(
            {"action_id": action, "incident_id": walked, "alert_id": f"A{walked[1:]}"},
            "",
            lambda said: bool(said["invocation"]["id"]),
        ),
        "create_status_page_post": lambda made: Case(
            {
                **told("maintenance"),
                "title": "New disks",
                "post_type": "maintenance",
                "starts_at": START,
                "ends_at": END,
            },
            f"/status_pages/{page['id']}/posts?post_type=maintenance",
            lambda found: "New disks" in [row["title"] for row in found["posts"]],
        ),
        "create_status_page_post_update": lambda made: Case(
            {**told("incident"), "post_id": post, "update_frequency_ms": 600_000},
            f"/status_pages/{page['id']}/posts/{post}/post_updates",
            lambda found: (
                (False, 600_000)
                in [(row["notify_subscribers"], row["update_frequency_ms"]) for row in found["post_updates"]]
            ),
        ),
        "create_webhook_subscription": lambda made: Case(
            {
                "url": "https://example.com/receive",
                "events": ["incident.triggered"],
                "filter_type": "service",
                "filter_id": service,
                "description": "Elsewhere",
            },
            "/webhook_subscriptions?limit=100",
            lambda found: (
                [
                    (row["active"], row["filter"]["id"])
                    for row in found["webhook_subscriptions"]
                    if row["description"] == "Elsewhere"
                ]
                == [(True, service)]
            ),
        ),
        "delete_webhook_subscription": lambda made: Case(
            {"subscription_id": world.webhooks[1]["id"]},
            f"/webhook_subscriptions/{world.webhooks[1]['id']}",
            lambda found: True,
            gone=True,
        ),
    }


def written(use: Used) -> list[tools.Ask]:
    """What was asked for that may change something."""
    return [each for each in use.asked if each.method != "GET"]


def test_every_tool_that_writes_has_a_function_and_a_row(sandbox: Sandbox) -> None:
    assert sorted(writes.TOOLS) == WRITES
    assert sorted(cases(sandbox.world)) == WRITES


def test_every_tool_that_writes_does_what_it_was_asked(use: Used, ask: Ask, sandbox: Sandbox) -> None:
    made = Made({})
    for name, case_of in cases(sandbox.world).items():
        case = case_of(made)
        before = len(written(use))
        made.answers[name] = use(name, **case.arguments)
        assert len(written(use)) == before + 1, name
        found = ask("GET", case.path.replace(" ", "%20")) if case.path else None
        if found is None:
            assert case.holds(made.answers[name]), (name, made.answers[name])
        else:
            assert found.status_code == (404 if case.gone else 200), (name, found.text)
            assert case.holds(found.json()), (name, found.text)


def test_every_ask_of_theirs_needs_its_own_tool_alone(use: Used, sandbox: Sandbox) -> None:
    """As the pipeline judges it: known, readable, decided by the tool itself or by the read that its description names."""
    made = Made({})
    for name, case_of in cases(sandbox.world).items():
        place = len(use.asked)
        made.answers[name] = use(name, **case_of(made).arguments)
        for each in use.asked[place:]:
            found = resolve.resolve(call(each))
            assert found.problem == "", (name, each, found.problem)
            needed = {tool.name for tool in found.tools}
            assert needed == {name} if each.method != "GET" else not any(TOOLS[tool].writes for tool in needed), name


def call(ask: tools.Ask) -> Call:
    body = b"" if ask.body is None else json.dumps(ask.body).encode()
    return Call(Door.MCP, KeyCredential("x"), ask.method, ask.path, urlencode(ask.query), body)


def test_what_they_send_is_what_pagerduty_publishes(use: Used, sandbox: Sandbox, schema_dir: Path) -> None:
    made = Made({})
    for name, case_of in cases(sandbox.world).items():
        made.answers[name] = use(name, **case_of(made).arguments)
    for each in written(use):
        found = resolve.match(each.method, each.path)
        assert found is not None
        operation = found[0]
        assert HOLDS[operation.id].issuperset(each.body or ()), each
        assert TAKES[operation.id].issuperset(key for key, _ in each.query), each
        if each.body is not None:
            wrong = refused(schema_dir, operation.method, operation.path, each.body)
            # It wants the id of the post in the first update of a post that is made by it: its own example has none.
            assert [line for line in wrong if line != "post/updates/0: 'post' is a required property"] == [], each


INCIDENT = {"incident_id": "PINC000"}
ROTA = {"schedule_id": "PV3S000", "user_id": "PUSR001", "start": START, "end": END}
EVENT = {
    "schedule_id": "PV3S000",
    "rotation_id": "ROT1",
    "name": "Evenings",
    "start_time": START,
    "end_time": END,
    "time_zone": "Europe/London",
    "effective_since": START,
    "recurrence": ["RRULE:FREQ=DAILY"],
    "assignment_strategy": "every_member_assignment_strategy",
    "members": ["PUSR001"],
}
POST = {
    "status_page_id": "PPAGE00",
    "title": "Disks",
    "post_type": "incident",
    "message": "m",
    "status_id": "PS",
    "severity_id": "PS",
}
HOOK = {"url": "https://example.com/", "events": ["incident.triggered"], "filter_type": "account"}
ROUTER = {"orchestration_id": "PORC000"}


@pytest.mark.parametrize(
    ("name", "arguments", "problem", "remedy"),
    [
        ("update_incident", INCIDENT, "Nothing to change was given", "status, title, urgency"),
        ("update_incident", {**INCIDENT, "assignee_ids": []}, "assignee_ids is empty", "at least one user"),
        ("update_incident", {**INCIDENT, "priority_id": "P1"}, "priority_id is no id: 'P1'", "list_priorities"),
        ("create_incident", {"service_id": "PSVC000", "title": "t", "priority_id": "High"}, "no id", "list_priorities"),
        ("set_incident_custom_fields", {**INCIDENT, "custom_fields": "impact=high"}, "not JSON", '{"impact":"high"'),
        ("set_incident_custom_fields", {**INCIDENT, "custom_fields": '{"a":NaN}'}, "not JSON", '{"impact":"high"'),
        ("set_incident_custom_fields", {**INCIDENT, "custom_fields": "[1]"}, "not an object", '{"impact":"high"'),
        ("set_incident_custom_fields", {**INCIDENT, "custom_fields": "{}"}, "names no field", "at least one"),
        ("set_incident_custom_fields", {**INCIDENT, "custom_fields": '{"a":{}}'}, "of no kind", "a list of texts"),
        (
            "set_incident_custom_fields",
            {**INCIDENT, "custom_fields": text({"a": "x" * 201})},
            "a is too long",
            "200 characters",
        ),
        ("update_incident_alerts", {**INCIDENT, "alert_ids": ["A1"]}, "Nothing to change", "status, new_incident_id"),
        (
            "update_incident_alerts",
            {**INCIDENT, "alert_ids": ["A1"], "new_incident_id": "PINC000"},
            "has the alerts",
            "another incident",
        ),
        (
            "add_responders",
            {**INCIDENT, "requester_id": "PUSR000", "message": "m"},
            "Nobody is named",
            "user_ids, or one policy in escalation_policy_ids",
        ),
        ("cancel_responder_request", {**INCIDENT, "requester_id": "PUSR000"}, "Nobody is named", "at least one"),
        ("merge_incidents", {**INCIDENT, "source_incident_ids": ["PINC000"]}, "stays is among", "Leave it out"),
        ("create_incident_status_update", {**INCIDENT, "message": "m", "subject": "s"}, "go together", "both"),
        ("update_service", {"service_id": "PSVC000"}, "Nothing to change", "escalation_policy_id"),
        (
            "associate_service_dependencies",
            {"dependent_service": "technical:PA", "supporting_services": ["technical:PA"]},
            "cannot use itself",
            "Leave it out",
        ),
        (
            "create_maintenance_window",
            {"service_ids": ["PSVC000"], "start_time": FARTHER, "end_time": FAR},
            "end_time is not after start_time",
            "later",
        ),
        (
            "create_maintenance_window",
            {"service_ids": ["PSVC000"], "start_time": "2001-01-01T00:00:00", "end_time": "2001-01-02T00:00:00"},
            "end_time is over: 2001-01-02T00:00:00Z",
            "in the future",
        ),
        ("update_maintenance_window", {"maintenance_window_id": "PMW0000"}, "Nothing to change", "service_ids"),
        (
            "create_escalation_policy",
            {"name": "n", "level_targets": ["user:PA", "user:PB"], "level_delays": [1, 2, 3]},
            "3 numbers, and there are 2 levels",
            "one number for all of them",
        ),
        (
            "create_escalation_policy",
            {"name": "n", "level_targets": [",".join(["user:PA"] * 11)]},
            "A level has 11 targets",
            "10 at most",
        ),
        ("update_escalation_policy", {"escalation_policy_id": "PESC000"}, "Nothing to change", "level_targets"),
        (
            "update_escalation_policy",
            {"escalation_policy_id": "PESC000", "level_targets": ["user:PA"], "level_delays": [1, 2]},
            "2 numbers, and there are 1 levels",
            "one number",
        ),
        ("create_schedule_override", {**ROTA, "start": END, "end": START}, "end is not after start", "later"),
        (
            "create_schedule_override",
            {**ROTA, "rotation_id": "R", "custom_shift_id": "C", "overridden_user_id": "PUSR000"},
            "exclude each other",
            "the one in which",
        ),
        ("create_schedule_override", {**ROTA, "rotation_id": "R"}, "overridden_user_id goes with", "none of the three"),
        ("create_schedule_override", {**ROTA, "overridden_user_id": "PUSR000"}, "goes with rotation_id", "none"),
        ("update_schedule", {"schedule_id": "PSCH000"}, "Nothing to change", "layers"),
        ("update_schedule", {"schedule_id": "PSCH000", "layers": "weekly"}, "not JSON", '"rotation_virtual_start"'),
        ("update_schedule", {"schedule_id": "PSCH000", "layers": "{}"}, "not a list of objects", "such as"),
        ("update_schedule", {"schedule_id": "PSCH000", "layers": "[]"}, "layers is empty", "every layer"),
        ("update_schedule", {"schedule_id": "PSCH000", "layers": "[{}]"}, "Layer 1 has no start", "get_schedule"),
        (
            "update_schedule",
            {
                "schedule_id": "PSCH000",
                "layers": text(
                    [{"start": 1, "rotation_virtual_start": 1, "rotation_turn_length_seconds": 1, "users": ["PUSR001"]}]
                ),
            },
            "users of layer 1",
            '{"user":{"id"',
        ),
        (
            "update_schedule_v3_override",
            {"schedule_id": "PV3S000", "override_id": "O"},
            "Nothing to change",
            "overriding_member",
        ),
        (
            "update_schedule_v3_custom_shift",
            {"schedule_id": "PV3S000", "custom_shift_id": "C", "start_time": END, "end_time": START},
            "end_time is not after start_time",
            "later",
        ),
        ("create_schedule", {"name": "n" * 256, "time_zone": "UTC"}, "name has 256 characters", "255 at most"),
        ("create_schedule_v3_rotation_event", {**EVENT, "end_time": START}, "end_time is not after", "later"),
        ("create_schedule_v3_rotation_event", {**EVENT, "effective_until": START}, "effective_until is not", "later"),
        ("create_schedule_v3_rotation_event", {**EVENT, "recurrence": ["weekly"]}, "one RRULE", "RRULE:FREQ=WEEKLY"),
        ("create_schedule_v3_rotation_event", {**EVENT, "members": ["Ada"]}, "'Ada' is no user's id", "list_users"),
        ("create_schedule_v3_rotation_event", {**EVENT, "shifts_per_member": 2}, "who take turns", "Leave it out"),
        (
            "create_schedule_v3_rotation_event",
            {**EVENT, "assignment_strategy": "rotating_member_assignment_strategy"},
            "need shifts_per_member",
            "1 to 999",
        ),
        (
            "update_schedule_v3_rotation_event",
            {"schedule_id": "PV3S000", "rotation_id": "R", "event_id": "E"},
            "Nothing to change",
            "members",
        ),
        ("update_event_orchestration_router", {**ROUTER, "rules": "all"}, "not JSON", '[{"label":"Database"'),
        ("update_event_orchestration_router", {**ROUTER, "rules": '["a"]'}, "not a list of objects", "such as"),
        ("update_event_orchestration_router", {**ROUTER, "rules": "[{}]"}, "Rule 1 does not say", "route_to"),
        (
            "update_event_orchestration_router",
            {**ROUTER, "rules": "[]", "catch_all": "checkout"},
            "catch_all is no service's id: 'checkout'",
            "or unrouted",
        ),
        ("create_status_page_post", {**POST, "title": "t" * 129}, "title has 129", "128 at most"),
        (
            "create_status_page_post",
            {**POST, "post_type": "maintenance"},
            "needs starts_at and ends_at",
            "when it ends",
        ),
        ("create_status_page_post", {**POST, "starts_at": START}, "no starts_at", "maintenance"),
        (
            "create_status_page_post",
            {**POST, "post_type": "maintenance", "starts_at": END, "ends_at": START},
            "ends_at is not after starts_at",
            "later",
        ),
        ("create_webhook_subscription", {**HOOK, "filter_type": "team"}, "by team needs filter_id", "id of the team"),
        ("create_webhook_subscription", {**HOOK, "filter_id": "PSVC000"}, "whole account", "Leave filter_id out"),
        ("create_webhook_subscription", {**HOOK, "url": "http://example.com/"}, "no https address", "https://"),
    ],
)
def test_what_cannot_be_meant_is_told_before_anything_is_asked(
    name: str, arguments: dict[str, Any], problem: str, remedy: str
) -> None:
    async def nobody(ask: tools.Ask) -> tools.Told:
        raise AssertionError(ask)

    with pytest.raises(tools.Wrong, match=re.escape(problem)) as wrong:
        asyncio.run(tools.serve(TOOLS[name], tools.valid(TOOLS[name], arguments), nobody))
    assert remedy in wrong.value.remedy


def test_resolving_and_updating_are_told_apart_by_the_tool_alone(use: Used, sandbox: Sandbox) -> None:
    incident = next(row.id for row in sandbox.world.incidents if row.status == "triggered")
    use("update_incident", incident_id=incident, status="acknowledged", escalation_level=1)
    use("resolve_incident", incident_id=incident)
    assert [each.body for each in use.asked] == [
        {"incident": {"type": "incident_reference", "status": "acknowledged", "escalation_level": 1}},
        {"incident": {"type": "incident_reference", "status": "resolved"}},
    ]
    with pytest.raises(tools.Wrong, match="status cannot be 'resolved'"):
        use("update_incident", incident_id=incident, status="resolved")


def test_an_override_goes_where_its_schedule_is_kept(use: Used, sandbox: Sandbox) -> None:
    v2, v3 = sandbox.world.schedules[0]["id"], sandbox.world.v3[0]
    user = sandbox.world.users[9]["id"]
    period = {"user_id": user, "start": "2026-11-25T00:00:00", "end": "2026-11-25T09:00:00+01:00"}
    use("create_schedule_override", schedule_id=v2, **period)
    assert [(each.method, each.path) for each in use.asked] == [
        ("GET", f"/schedules/{v2}"),
        ("POST", f"/schedules/{v2}/overrides"),
    ]
    assert use.asked[-1].body == {
        "overrides": [
            {
                "start": "2026-11-25T00:00:00Z",
                "end": "2026-11-25T09:00:00+01:00",
                "user": {"id": user, "type": "user_reference"},
            }
        ]
    }
    use.asked.clear()
    use("create_schedule_override", schedule_id=v3["id"], **period)
    assert [(each.method, each.path) for each in use.asked] == [
        ("GET", f"/schedules/{v3['id']}"),
        ("GET", f"/v3/schedules/{v3['id']}"),
        ("POST", f"/v3/schedules/{v3['id']}/custom_shifts"),
    ]
    use.asked.clear()
    rotation = v3["rotations"][0]
    replaced = rotation["events"][0]["assignment_strategy"]["members"][0]["user_id"]
    use(
        "create_schedule_override",
        schedule_id=v3["id"],
        **period,
        rotation_id=rotation["id"],
        overridden_user_id=replaced,
    )
    [written_once] = use.asked  # what kind of schedule it is was said
    assert written_once.path == f"/v3/schedules/{v3['id']}/overrides"
    assert written_once.body["overrides"][0]["overridden_member"] == {"type": "user_member", "user_id": replaced}  # type: ignore[index]


def test_an_override_that_pagerduty_did_not_make_is_not_told_as_made(use: Used, sandbox: Sandbox) -> None:
    past = {"start": "2026-10-01T00:00:00Z", "end": "2026-10-02T00:00:00Z"}
    with pytest.raises(tools.Failed) as failed:  # PagerDuty answers 201, and in it 400
        use("create_schedule_override", **{**ROTA, **past, "schedule_id": sandbox.world.schedules[0]["id"]})
    assert failed.value.told.kind == "refused"
    assert failed.value.told.error["status"] == 400
    assert "must end after it starts, and in the future" in failed.value.told.error["problem"]
    assert len(written(use)) == 1


@pytest.mark.parametrize("failing", ["/schedules", "/v3/schedules"])
def test_where_the_kind_of_a_schedule_cannot_be_read_nothing_is_written(
    failing: str, use: Used, sandbox: Sandbox
) -> None:
    use.failing[failing] = tools.Told(kind="denied", error={"problem": "get_schedule is off.", "rule": "tool"})
    with pytest.raises(tools.Failed) as failed:
        use("create_schedule_override", **{**ROTA, "schedule_id": sandbox.world.v3[0]["id"]})
    told = failed.value.told
    assert told.kind == "denied"
    assert told.error["rule"] == "tool"
    assert "Nothing was changed" in told.error["problem"]
    assert "get_schedule is off." in told.error["problem"]
    assert "pass rotation_id" in told.error["remedy"]
    assert "get_schedule is needed" in told.error["remedy"]
    assert written(use) == []


def test_of_a_schedule_that_is_nowhere_pagerdutys_own_words_are_told(use: Used) -> None:
    with pytest.raises(tools.Failed) as failed:
        use("update_schedule", schedule_id="PNONE00", name="New")
    assert failed.value.told.error["status"] == 404
    assert written(use) == []


def test_the_layers_of_a_schedule_stay_as_they_are(use: Used, ask: Ask, sandbox: Sandbox) -> None:
    schedule = next(row["id"] for row in sandbox.world.schedules if len(row["schedule_layers"]) > 2)
    before = ask("GET", f"/schedules/{schedule}").json()["schedule"]
    use("update_schedule", schedule_id=schedule, description="Of disks")
    after = ask("GET", f"/schedules/{schedule}").json()["schedule"]
    assert after == {**before, "description": "Of disks"}
    layers = before["schedule_layers"][1:]  # as get_schedule shows them, all but the highest
    use("update_schedule", schedule_id=schedule, layers=json.dumps(layers))
    assert ask("GET", f"/schedules/{schedule}").json()["schedule"]["schedule_layers"] == layers


def test_a_schedule_with_rotations_has_no_layers(use: Used, ask: Ask, sandbox: Sandbox) -> None:
    rota = sandbox.world.v3[0]["id"]
    layers = TOOLS["update_schedule"].input_schema["properties"]["layers"]["examples"][0]
    with pytest.raises(tools.Wrong, match="has rotations, and no layers"):
        use("update_schedule", schedule_id=rota, name="Renamed", layers=layers)
    assert written(use) == []
    use("update_schedule", schedule_id=rota, name="Renamed")
    assert [each.body for each in written(use)] == [{"schedule": {"name": "Renamed"}}]
    assert ask("GET", f"/v3/schedules/{rota}").json()["schedule"]["name"] == "Renamed"


def test_what_is_not_given_of_an_escalation_policy_stays(use: Used, ask: Ask, sandbox: Sandbox) -> None:
    policy = sandbox.world.policies[1]
    path = f"/escalation_policies/{policy['id']}"
    sandbox.world.policies[1]["escalation_rules"][0]["escalation_rule_assignment_strategy"] = "round_robin"
    before = ask("GET", path).json()["escalation_policy"]
    use("update_escalation_policy", escalation_policy_id=policy["id"], name="Renamed")
    after = ask("GET", path).json()["escalation_policy"]
    assert after == {**before, "name": "Renamed", "summary": "Renamed"}
    # Its levels are replaced; delays stay, level by level, and a new level has 30.
    users = [row["id"] for row in sandbox.world.users[:4]]
    levels = [f"user:{user}" for user in users]
    use("update_escalation_policy", escalation_policy_id=policy["id"], level_targets=levels, repeats=0, team_ids=[])
    after = ask("GET", path).json()["escalation_policy"]
    assert [
        (rule["escalation_delay_in_minutes"], rule["targets"][0]["id"], rule["escalation_rule_assignment_strategy"])
        for rule in after["escalation_rules"]
    ] == [
        (10, users[0], "round_robin"),
        (25, users[1], "assign_to_everyone"),
        (15, users[2], "assign_to_everyone"),
        (30, users[3], "assign_to_everyone"),
    ]
    assert (after["num_loops"], after["teams"], after["description"]) == (0, [], before["description"])
    use("update_escalation_policy", escalation_policy_id=policy["id"], level_targets=levels[:1])
    assert len(ask("GET", path).json()["escalation_policy"]["escalation_rules"]) == 1
    with pytest.raises(tools.Wrong, match="2 numbers, and there are 1 levels"):
        use("update_escalation_policy", escalation_policy_id=policy["id"], level_delays=[1, 2])
    assert len(written(use)) == 3


def test_a_window_that_would_end_before_it_begins_is_not_sent(use: Used, sandbox: Sandbox) -> None:
    window = sandbox.world.windows[-1]["id"]
    with pytest.raises(tools.Wrong, match="end_time is not after start_time"):
        use("update_maintenance_window", maintenance_window_id=window, end_time="2026-11-24T00:00:00Z")
    assert written(use) == []


def test_rules_are_put_after_those_of_a_router(use: Used, ask: Ask, sandbox: Sandbox) -> None:
    orchestration, service = sandbox.world.orchestrations[0]["id"], sandbox.world.services[5]["id"]
    path = f"/event_orchestrations/{orchestration}/router"
    use("update_event_orchestration_router", orchestration_id=orchestration, rules="[]", append=True, catch_all=service)
    before = ask("GET", path).json()["orchestration_path"]
    rule = {"label": "Disks", "conditions": [], "actions": {"route_to": service}, "disabled": False}
    arguments = {"orchestration_id": orchestration, "rules": json.dumps([rule])}
    use("update_event_orchestration_router", **arguments, append=True)
    after = ask("GET", path).json()["orchestration_path"]
    assert after["sets"][0]["rules"][:-1] == before["sets"][0]["rules"]
    assert {**after["sets"][0]["rules"][-1], "id": ""} == {**rule, "id": ""}
    assert after["catch_all"] == {"actions": {"route_to": service}}
    # Without it all rules are replaced, and where the rest goes stays.
    use("update_event_orchestration_router", **arguments)
    after = ask("GET", path).json()["orchestration_path"]
    assert [row["label"] for row in after["sets"][0]["rules"]] == ["Disks"]
    assert after["catch_all"] == {"actions": {"route_to": service}}


def test_a_rule_that_is_there_already_is_not_put_there_again(use: Used, sandbox: Sandbox) -> None:
    """Whoever does not know what came of an append tries again, and the second body is another than the first."""
    orchestration, service = sandbox.world.orchestrations[0]["id"], sandbox.world.services[5]["id"]
    rule = {"label": "Disks", "conditions": [], "actions": {"route_to": service}}
    arguments = {"orchestration_id": orchestration, "rules": json.dumps([rule]), "append": True}
    use("update_event_orchestration_router", **arguments)
    sent = len(use.asked)
    with pytest.raises(tools.Wrong) as wrong:
        use("update_event_orchestration_router", **arguments)
    assert "Rule 1 is there already" in str(wrong.value)
    assert [each.method for each in use.asked[sent:]] == ["GET"]


def test_an_override_whose_answer_was_not_kept_is_told_as_done_before(use: Used, sandbox: Sandbox) -> None:
    schedule, user = sandbox.world.schedules[0]["id"], sandbox.world.users[0]["id"]
    told = {"replayed": {"decision": "d", "status": 201, "message": "Its answer was not kept."}}
    use.failing[f"/schedules/{schedule}/overrides"] = tools.Told(told)
    found = use("create_schedule_override", schedule_id=schedule, user_id=user, start=FAR, end=FARTHER)
    assert found["replayed"]["decision"] == "d"


def test_an_event_changes_by_what_was_given_alone(use: Used, sandbox: Sandbox) -> None:
    rota = sandbox.world.v3[0]
    event = {
        "schedule_id": rota["id"],
        "rotation_id": rota["rotations"][0]["id"],
        "event_id": rota["rotations"][0]["events"][0]["id"],
    }
    use("update_schedule_v3_rotation_event", **event, effective_until="2027-06-01")
    [told] = use.asked  # nothing had to be read
    assert told.body == {"event": {"effective_until": "2027-06-01T00:00:00Z"}}


def test_no_write_is_sent_twice_whatever_came_of_it(use: Used, sandbox: Sandbox) -> None:
    """Nor is another sent in its place."""
    made = Made({})
    for name, case_of in cases(sandbox.world).items():
        arguments = case_of(made).arguments
        for kind in ("denied", "refused", "failed", "unknown"):
            sent: list[tools.Ask] = []
            nothing = tools.Told(kind=kind, error={"problem": "No.", "status": 400})

            async def run(ask: tools.Ask, sent: list[tools.Ask] = sent, nothing: tools.Told = nothing) -> tools.Told:
                if ask.method == "GET":
                    return await use.run(ask)
                sent.append(ask)
                return nothing

            with pytest.raises(tools.Failed) as failed:
                use.runner.run(tools.serve(TOOLS[name], tools.valid(TOOLS[name], arguments), run))
            assert failed.value.told is nothing, name
            assert len(sent) == 1, name
        made.answers[name] = use(name, **arguments)


@pytest.mark.parametrize(
    ("name", "reads"),
    [
        ("update_service", "get_service"),
        ("update_maintenance_window", "list_maintenance_windows"),
        ("update_escalation_policy", "get_escalation_policy"),
        ("update_schedule", "get_schedule"),
        ("create_schedule_override", "get_schedule"),
        ("update_event_orchestration_router", "get_event_orchestration_router"),
        ("update_schedule_v3_rotation_event", "get_schedule_v3_rotation_event"),
    ],
)
def test_what_cannot_be_read_is_not_changed(name: str, reads: str, sandbox: Sandbox) -> None:
    asked: list[tools.Ask] = []

    async def run(ask: tools.Ask) -> tools.Told:
        asked.append(ask)
        return tools.Told(kind="denied", error={"problem": f"{reads} is off.", "remedy": "Ask a manager."})

    ids = {"schedule": {"id": "PV3S009"}, "rotation": {"id": "R"}, "event": {"id": "E"}}
    made = Made(dict.fromkeys(WRITES, ids))
    arguments = cases(sandbox.world)[name](made).arguments
    arguments.pop("catch_all", None)
    with pytest.raises(tools.Failed) as failed:
        asyncio.run(tools.serve(TOOLS[name], tools.valid(TOOLS[name], arguments), run))
    assert [each.method for each in asked] == ["GET"]
    found = resolve.resolve(call(asked[0]))
    assert [tool.name for tool in found.tools] == [reads]
    assert f"{reads} is needed to read it. Ask a manager." in failed.value.told.error["remedy"]
