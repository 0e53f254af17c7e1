"""Tools that read: what they ask PagerDuty for, what they say of the answers, and what they say where a part came to nothing."""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given as examples
from hypothesis import settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from integrations.gateway.integration import Resolution
from integrations.pagerduty import tools
from integrations.pagerduty.catalog import ALIASES, TOOLS
from integrations.pagerduty.resolve import resolve
from integrations.pagerduty.sandbox.app import Sandbox
from integrations.pagerduty.sandbox.render import final_shifts
from integrations.pagerduty.sandbox.render_v3 import on_call
from integrations.pagerduty.sandbox.world import World
from integrations.pagerduty.tools import composites, names, oncall
from integrations.pagerduty.tools.arguments import given
from integrations.pagerduty.tools.asking import Ask, Failed, Told, Wrong
from integrations.pagerduty.tools.slim import plain
from policies.core.call import Call, Door, KeyCredential
from tests.integrations.conftest import NOW, Used
from tests.published_schema import published, resolved

SINCE, UNTIL = "2026-11-20T00:00:00Z", "2026-11-27T00:00:00Z"
WINDOW = {"since": SINCE, "until": UNTIL}
LOOKED_UP = {
    *("list_users", "get_user_data", "list_services", "get_service", "list_business_services", "get_business_service"),
}
"""Tools by which names are put beside ids."""
BROKEN = Told(kind="failed", error={"problem": "PagerDuty did not answer in time.", "remedy": "Try again."})


def rows(world: World) -> dict[str, dict[str, Any]]:
    """Every tool that reads, with arguments that make sense."""
    incident, service, user = world.incidents[-1].id, world.services[0]["id"], world.users[0]["id"]
    layered, shifted = world.schedules[1]["id"], world.v3[0]
    rotation = shifted["rotations"][0]
    part = {"schedule_id": shifted["id"], "rotation_id": rotation["id"]}
    custom = world.v3[3]
    page = world.status_pages[0]
    post = {"status_page_id": page["id"], "post_id": page["posts"][0]["id"]}
    orchestration = {"orchestration_id": world.orchestrations[0]["id"]}
    integration = world.integrations[0]
    layer = {name: value for name, value in world.schedules[1]["schedule_layers"][0].items() if name != "id"}
    return {
        "list_incidents": {"statuses": ["triggered", "acknowledged"], "sort_by": ["created_at:desc"]},
        "get_incident": {"incident_id": incident},
        "get_incident_timeline": {"incident_id": incident},
        "list_incident_notes": {"incident_id": incident},
        "get_past_incidents": {"incident_id": incident},
        "get_related_incidents": {"incident_id": incident, "additional_details": ["incident"]},
        "get_outlier_incident": {"incident_id": incident, "additional_details": ["incident"]},
        "get_incident_business_impacts": {"incident_id": incident},
        "get_incident_custom_fields": {"incident_id": incident},
        "list_priorities": {},
        "list_incident_types": {},
        "list_services": {"query": "pay"},
        "get_service": {"service_id": service},
        "list_service_dependencies": {"service_id": service},
        "get_incident_metrics_by_service": {"aggregate_unit": "week", "time_zone": "Europe/London"},
        "get_service_integration": {"service_id": integration["service"], "integration_id": integration["id"]},
        "list_business_services": {},
        "get_business_service": {"business_service_id": world.business[0]["id"]},
        "list_business_service_impacts": {"additional_fields": ["total_impacted_count"]},
        "list_maintenance_windows": {"filter": "past"},
        "list_alert_grouping_settings": {"service_ids": [service]},
        "get_alert_grouping_setting": {"alert_grouping_setting_id": world.grouping[0]["id"]},
        "list_escalation_policies": {"query": "standard"},
        "get_escalation_policy": {"escalation_policy_id": world.policies[0]["id"]},
        "list_schedules": {},
        "get_schedule": {"schedule_id": layered, "time_zone": "Asia/Kolkata"},
        "list_oncalls": {"schedule_ids": [layered]},
        "list_schedule_overrides": {"schedule_id": layered, **WINDOW},
        "list_schedule_v3_rotations": {"schedule_id": shifted["id"]},
        "get_schedule_v3_rotation": part,
        "list_schedule_v3_rotation_events": part,
        "get_schedule_v3_rotation_event": {**part, "event_id": rotation["events"][0]["id"]},
        "list_schedule_v3_custom_shifts": {"schedule_id": custom["id"], **WINDOW},
        "get_schedule_v3_custom_shift": {
            "schedule_id": custom["id"],
            "custom_shift_id": custom["custom_shifts"][0]["id"],
        },
        "get_schedule_v3_override": {"schedule_id": shifted["id"], "override_id": shifted["overrides"][0]["id"]},
        "preview_schedule": {
            "schedule_layers": json.dumps([layer]),
            "time_zone": "Europe/London",
            "overflow": True,
            **WINDOW,
        },
        "list_users": {"query": "Sharma"},
        "get_user_data": {"user_id": user},
        "list_user_contact_methods": {"user_id": user},
        "get_user_oncall_status": {"user_ids": [user, world.users[1]["id"]]},
        "list_user_notification_rules": {"user_id": user, "urgency": "all"},
        "list_notifications": {"filter": "sms_notification", **WINDOW},
        "get_incident_metrics_all": {"team_ids": [world.teams[0]["id"]]},
        "list_log_entries": {"team_ids": [world.teams[0]["id"]]},
        "generate_report": {"subject": "teams"},
        "get_incident_analytics": {"incident_id": incident, "subject": "responses", "time_zone": "Asia/Kolkata"},
        "list_responder_incidents": {"responder_id": user, "urgency": "high", "major": False},
        "get_paused_incident_counts": {"suspended_by": "auto_pause"},
        "list_standards": {"active": True, "resource_type": "technical_service"},
        "list_standard_scores": {"ids": [service, world.services[1]["id"]]},
        "list_change_events": {},
        "get_change_event": {"change_event_id": world.changes[0].id},
        "list_service_change_events": {"service_id": service},
        "list_incident_change_events": {"incident_id": incident},
        "list_teams": {"query": "Pay"},
        "get_team": {"team_id": world.teams[0]["id"]},
        "list_team_members": {"team_id": world.teams[0]["id"]},
        "list_abilities": {},
        "list_audit_records": {"root_resource_types": ["users", "schedules"], "actions": ["update"]},
        "list_event_orchestrations": {"sort_by": "routes:desc"},
        "get_event_orchestration": orchestration,
        "get_event_orchestration_router": orchestration,
        "get_event_orchestration_global": orchestration,
        "get_event_orchestration_service": {"service_id": service},
        "list_incident_workflows": {"query": "major"},
        "get_incident_workflow": {"workflow_id": world.workflows[0]["id"]},
        "list_status_pages": {"status_page_type": "public"},
        "list_status_page_posts": {"status_page_id": page["id"], "post_type": "incident"},
        "get_status_page_post": post,
        "list_status_page_post_updates": post,
        "list_status_page_severities": {"status_page_id": page["id"], "post_type": "incident"},
        "list_status_page_impacts": {"status_page_id": page["id"]},
        "list_status_page_statuses": {"status_page_id": page["id"]},
        "list_webhook_subscriptions": {"filter_type": "service", "filter_id": service},
        "get_webhook_subscription": {"subscription_id": world.webhooks[0]["id"]},
        "list_extension_schemas": {"limit": 3},
        "get_extension_schema": {"extension_schema_id": world.extension_schemas[0]["id"]},
    }


def others(world: World) -> list[tuple[str, dict[str, Any]]]:
    """The other ways that tools of several operations go."""
    incident, service, user = world.incidents[-1].id, world.services[0]["id"], world.users[0]["id"]
    shifted, business = world.v3[0]["id"], world.business[0]["id"]
    subjects = TOOLS["generate_report"].input_schema["properties"]["subject"]["enum"]
    return [
        ("get_incident", {"incident_id": incident, "alert_id": f"A{incident[1:]}"}),
        ("get_incident", {"incident_id": incident, "limit": 1, "offset": 1, "detail": "full"}),
        ("get_incident_timeline", {"incident_id": incident, "limit": 2, "offset": 1, "detail": "full"}),
        ("list_service_dependencies", {"service_id": business, "type": "business"}),
        ("list_service_dependencies", {"service_id": world.services[1]["id"]}),
        ("list_service_dependencies", {"service_id": service, "detail": "full"}),
        ("list_business_service_impacts", {"business_service_id": business}),
        ("list_business_service_impacts", {"ids": [business], "detail": "full"}),
        ("list_maintenance_windows", {"maintenance_window_id": world.windows[0]["id"]}),
        ("list_log_entries", {"log_entry_id": world.incidents[-1].happenings()[0].id}),
        ("list_schedules", {"query": "rota", "offset": 2, "limit": 2, "detail": "full"}),
        ("get_schedule", {"schedule_id": shifted, "since": SINCE}),
        ("get_schedule", {"schedule_id": shifted, "until": UNTIL, "detail": "full"}),
        ("list_schedule_overrides", {"schedule_id": shifted, **WINDOW}),
        ("list_schedule_overrides", {"schedule_id": shifted, "detail": "full", **WINDOW}),
        ("list_schedule_v3_rotations", {"schedule_id": shifted, "detail": "full"}),
        ("list_oncalls", {}),
        ("list_oncalls", {"schedule_ids": [shifted], "detail": "full"}),
        ("list_oncalls", {"escalation_policy_ids": [world.policies[0]["id"]], "since": "2026-11-23T12:00:00Z"}),
        ("get_user_oncall_status", {"user_ids": [user], **WINDOW}),
        *(("generate_report", {"subject": subject}) for subject in subjects),
        *(("generate_report", {"subject": subject, "detail": "full", "limit": 3}) for subject in subjects),
        ("generate_report", {"subject": "escalation_policies", "aggregate_unit": "month", "time_zone": "Asia/Kolkata"}),
        ("generate_report", {"service_ids": [service], "limit": 2, "time_zone": "Asia/Kolkata", "detail": "full"}),
        ("get_incident_metrics_by_service", {"subject": "all_services", "service_ids": [service]}),
        ("get_incident_analytics", {"incident_id": incident}),
        ("get_incident_analytics", {"incident_id": incident, "detail": "full"}),
        ("get_incident_analytics", {"incident_id": incident, "subject": "responses", "detail": "full", "limit": 1}),
        ("list_responder_incidents", {"responder_id": user, "order": "asc", "limit": 2, "detail": "full"}),
        ("preview_schedule", {**rows(world)["preview_schedule"], "detail": "full"}),
    ]


def everything(world: World) -> list[tuple[str, dict[str, Any]]]:
    return [*rows(world).items(), *others(world)]


def understood(ask: Ask) -> Resolution:
    sent = b"" if ask.body is None else json.dumps(ask.body).encode()
    kind = "application/json" if sent else ""
    return resolve(Call(Door.MCP, KeyCredential("x"), ask.method, ask.path, urlencode(ask.query), sent, kind))


def named(use: Used, *, offset: int = 0) -> list[str]:
    """``METHOD path`` of what was asked for."""
    return [f"{ask.method} {ask.path}" for ask in use.asked[offset:]]


def test_every_tool_that_reads_has_a_row(sandbox: Sandbox) -> None:
    # What is answered from the mirror asks for no operation: test_tools_mirrored.py.
    assert set(rows(sandbox.world)) == {name for name, tool in TOOLS.items() if not tool.writes and tool.operations}


def test_every_read_answers_and_every_ask_is_understood_as_of_its_tool(use: Used, sandbox: Sandbox) -> None:
    for name, arguments in everything(sandbox.world):
        use.asked.clear()
        answer = use(name, **arguments)
        assert answer, name
        json.dumps(answer, allow_nan=False)
        assert "failed" not in json.dumps(answer), (name, answer)
        own = {"get_incident_metrics_by_service"} if arguments.get("subject") == "services" else {name}
        for ask in use.asked:
            found = understood(ask)
            assert found.problem == "", (name, ask, found.problem)
            needed = {tool.name for tool in found.tools}
            assert needed == own or needed <= LOOKED_UP, (name, ask, needed)
        assert {tool.name for tool in understood(use.asked[0]).tools} == own, name


def test_every_ask_is_as_pagerduty_publishes_it(use: Used, sandbox: Sandbox, schema_dir: Path) -> None:
    for name, arguments in everything(sandbox.world):
        use.asked.clear()
        use(name, **arguments)
        for ask in use.asked:
            assert list(illegal(schema_dir, ask)) == [], (name, ask)


def illegal(folder: Path, ask: Ask) -> Iterator[str]:
    """What PagerDuty's published schema does not have of an ask."""
    operation = understood(ask).operation
    assert operation is not None
    told = published(folder, operation.method, operation.path)
    query = [each for each in (resolved(folder, each) for each in told["parameters"]) if each["in"] == "query"]
    known = {each["name"]: resolved(folder, each["schema"]) for each in query}
    yield from (f"no parameter {name}" for name, _ in ask.query if name not in known)
    for name in (each["name"] for each in query if each.get("required")):
        if name not in dict(ask.query):
            yield f"{name} is missing"
    for name, text in ask.query:
        schema = known.get(name, {})
        item = resolved(folder, schema.get("items", schema))
        if "enum" in item and text not in item["enum"]:
            yield f"{name} cannot be {text}"
        if item.get("type") == "integer" and not item.get("minimum", 0) <= int(text) <= item.get("maximum", 10_000):
            yield f"{name} cannot be {text}"
        if item.get("type") == "boolean" and text not in ("true", "false"):
            yield f"{name} cannot be {text}"
    if ask.body is not None:
        content = resolved(folder, told["requestBody"])["content"]["application/json"]["schema"]
        yield from _beyond(folder, content, ask.body, "body")


def _beyond(folder: Path, schema: Any, value: Any, where: str) -> Iterator[str]:
    """What a body has that the schema does not: fields by name, values by type and enumeration."""
    schema = resolved(folder, schema)
    if isinstance(value, Mapping):
        fields = _fields(folder, schema)
        for name, item in value.items():
            if fields and name not in fields:
                yield f"{where}.{name} is not published"
            else:
                yield from _beyond(folder, fields.get(name, {}), item, f"{where}.{name}")
    elif isinstance(value, list):
        for item in value:
            yield from _beyond(folder, schema.get("items", {}), item, f"{where}[]")
    else:
        plain = {name: schema[name] for name in ("type", "enum", "minimum", "maximum") if name in schema}
        yield from (f"{where}: {error.message}" for error in Draft202012Validator(plain).iter_errors(value))


def _fields(folder: Path, schema: Any) -> dict[str, Any]:
    """The fields of an object by any of its branches."""
    schema = resolved(folder, schema)
    found: dict[str, Any] = dict(schema.get("properties", {}))
    for part in (*schema.get("allOf", ()), *schema.get("oneOf", ()), *schema.get("anyOf", ())):
        found = {**_fields(folder, part), **found}
    return found


def test_no_slim_answer_of_one_page_is_long(use: Used, sandbox: Sandbox) -> None:
    sizes = {}
    for name, arguments in everything(sandbox.world):
        if "detail" not in arguments:
            sizes[name] = len(json.dumps(use(name, **arguments), separators=(",", ":"), ensure_ascii=False))
    assert max(size for name, size in sizes.items() if name != "generate_report") < 14_000, sizes
    assert sizes["generate_report"] < 25_000


def texts(value: Any, marked: bool = False) -> Iterator[tuple[str, bool]]:
    """Every text of an answer, and whether it is marked as from outside."""
    if isinstance(value, str):
        yield value, marked
    elif isinstance(value, list):
        for item in value:
            yield from texts(item, marked)
    elif isinstance(value, dict):
        for name, item in value.items():
            yield name, marked
            yield from texts(item, marked or name == "outside")


class TestHostile:
    @pytest.fixture
    def sandbox(self) -> Sandbox:
        return Sandbox(7, NOW, kind="hostile")

    def test_no_answer_hides_a_character_or_shows_a_title_that_is_not_marked(self, use: Used, sandbox: Sandbox) -> None:
        titles = {plain(row.title, 500)[:100] for row in sandbox.world.incidents[::2]}
        of_incidents = {"get_incident", "generate_report", "list_responder_incidents", "get_incident_analytics"}
        seen = set()
        spoilt = {"incident_id": sandbox.world.incidents[-2].id}
        more = [("get_incident", spoilt), ("get_incident_timeline", spoilt), ("get_incident_analytics", spoilt)]
        for name, arguments in (*everything(sandbox.world), *more):
            if name in composites.TOOLS:
                for text, marked in texts(use(name, **arguments)):
                    assert plain(text, 30_000) == text, (name, text)  # nothing is left to be made harmless
                    assert marked or not text.startswith("[#"), (name, text)
                    if name in of_incidents and text[:100] in titles:
                        assert marked, (name, text)
                        seen.add(name)
        assert seen == of_incidents


# One thing at once


def most_at_once(use: Used, monkeypatch: pytest.MonkeyPatch, name: str, **arguments: Any) -> int:
    """How many asks were under way at the same time."""
    under_way = most = 0
    plain = use.run

    async def watched(ask: Ask) -> Told:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.01)
        try:
            return await plain(ask)
        finally:
            under_way -= 1

    monkeypatch.setattr(use, "run", watched)
    use.asked.clear()
    use(name, **arguments)
    monkeypatch.undo()
    return most


def test_what_does_not_need_each_other_is_asked_at_once(
    use: Used, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = sandbox.world
    assert most_at_once(use, monkeypatch, "get_incident", incident_id=world.incidents[-1].id) == 2
    assert most_at_once(use, monkeypatch, "list_schedules") == 2
    assert most_at_once(use, monkeypatch, "list_oncalls", schedule_ids=[world.schedules[0]["id"]]) == 2
    assert most_at_once(use, monkeypatch, "list_oncalls") == len(use.asked) - 1 > 2
    assert most_at_once(use, monkeypatch, "get_user_oncall_status", user_ids=[world.users[0]["id"]]) == 2
    assert most_at_once(use, monkeypatch, "generate_report", subject="teams") == 2
    assert most_at_once(use, monkeypatch, "list_service_dependencies", service_id=world.services[0]["id"]) == 3


# Incidents


def test_an_incident_comes_with_its_alerts_and_says_how_to_turn_their_page(use: Used, sandbox: Sandbox) -> None:
    several = next(row for row in reversed(sandbox.world.incidents) if row.alerts > 2)
    found = use("get_incident", incident_id=several.id, limit=2)
    assert found["incident"]["id"] == several.id
    assert (len(found["alerts"]), found["count"], found["more"]) == (2, 2, {"offset": 2})
    rest = use("get_incident", incident_id=several.id, limit=100, offset=2)
    ids = {row["id"] for row in (*found["alerts"], *rest["alerts"])}
    assert len(ids) == several.alerts


def test_an_incident_without_its_alerts_says_so_and_without_itself_is_nothing(use: Used, sandbox: Sandbox) -> None:
    incident = sandbox.world.incidents[-1].id
    use.failing[f"/incidents/{incident}/alerts"] = BROKEN
    found = use("get_incident", incident_id=incident)
    assert found["incident"]["id"] == incident
    assert found["alerts"] == {"failed": {"kind": "failed", **BROKEN.error}}
    use.failing[f"/incidents/{incident}"] = BROKEN
    with pytest.raises(Failed) as failed:
        use("get_incident", incident_id=incident)
    assert failed.value.told is BROKEN


def test_a_timeline_tells_the_oldest_first_who_did_what(use: Used, sandbox: Sandbox) -> None:
    world = sandbox.world
    incident = next(row for row in world.incidents if row.resolved and row.resolved[1] is not None)
    happened = incident.happenings()
    found = use("get_incident_timeline", incident_id=incident.id, limit=100)
    assert {row["id"] for row in found["timeline"]} == {each.id for each in happened}
    assert [row["at"] for row in found["timeline"]] == sorted(row["at"] for row in found["timeline"])
    assert (found["count"], found["total"]) == (len(happened), len(happened))
    assert "more" not in found
    last = found["timeline"][-1]
    assert incident.resolved is not None
    assert incident.resolved[1] is not None
    by = world.users[incident.resolved[1]]
    assert (last["what"], last["who"]) == ("resolved", {"id": by["id"], "name": by["name"]})
    assert last["said"] == {"outside": f"Resolved by {by['name']}."}
    notified = next(row for row in found["timeline"] if row["what"] == "notified")
    assert notified["whom"][0]["name"] in {user["name"] for user in world.users}
    assert notified["by"] in ("push", "email", "sms", "phone")


def test_a_timeline_tells_what_was_changed_and_until_when(use: Used, sandbox: Sandbox) -> None:
    incident = next(row.id for row in reversed(sandbox.world.incidents) if row.status == "triggered")
    note = "Look\u202e at this"
    for ask in (
        Ask("POST", f"/incidents/{incident}/snooze", body={"duration": 3600}),
        Ask("POST", f"/incidents/{incident}/notes", body={"note": {"content": note}}),
        Ask(
            "PUT",
            f"/incidents/{incident}/custom_fields/values",
            body={"custom_fields": [{"name": "environment", "value": "staging"}]},
        ),
    ):
        assert not use.runner.run(use.run(ask)).kind
    told = {row["what"]: row for row in use("get_incident_timeline", incident_id=incident, limit=100)["timeline"]}
    assert told["snoozed"]["until"].startswith("2026-11-23T13:0")
    assert told["custom field changed"]["changes"] == {"outside": ["Updated environment to staging"]}
    assert told["note added"]["note"] != {"outside": note}
    assert told["note added"]["note"]["outside"].startswith("Look")


def log(count: int) -> list[dict[str, Any]]:
    """Entries of a log, the oldest first."""
    agent = {"id": "PAGENT0", "type": "user_reference"}
    return [{"id": f"R{number}", "type": "notify_log_entry", "agent": agent} for number in range(count)]


def paged(request: Ask, key: str, listed: list[Any], default: int = 25) -> Told:
    query = dict(request.query)
    limit, offset = int(query.get("limit", default)), int(query.get("offset", 0))
    page = {
        key: listed[offset : offset + limit],
        "limit": limit,
        "offset": offset,
        "more": offset + limit < len(listed),
    }
    return Told({**page, "total": len(listed) if query.get("total") == "true" else None})


def used(name: str, run: Callable[[Ask], Awaitable[Told]], **arguments: Any) -> Any:
    return asyncio.run(tools.serve(TOOLS[name], given(TOOLS[name], arguments, NOW), run))


@settings(deadline=None, max_examples=60)
@examples(st.integers(0, 250), st.integers(1, 100))
def test_pages_of_a_timeline_go_from_the_oldest_entry_to_the_newest(count: int, limit: int) -> None:
    entries = log(count)

    async def run(ask: Ask) -> Told:
        if ask.path.startswith("/users/"):
            return Told({"user": {"id": "PAGENT0", "name": "Ada"}})
        return paged(ask, "log_entries", entries[::-1])

    found: list[dict[str, Any]] = []
    page: dict[str, Any] = {"more": {"offset": 0}}
    while "more" in page:
        page = used("get_incident_timeline", run, incident_id="PABCDEF", limit=limit, **page["more"])
        found += page["timeline"]
        assert page["total"] == count
    assert [row["id"] for row in found] == [row["id"] for row in entries]
    assert all(row["who"] == {"id": "PAGENT0", "name": "Ada"} for row in found)


def test_entries_that_are_added_while_a_page_is_read_do_not_move_it() -> None:
    entries = log(150)
    asked: list[Ask] = []

    async def run(ask: Ask) -> Told:
        asked.append(ask)
        told = paged(ask, "log_entries", entries[::-1])
        if len(asked) < 3:
            entries.extend(log(155 + len(asked))[len(entries) :])
        return told

    found = used("get_incident_timeline", run, incident_id="PABCDEF", limit=10, offset=20)
    assert [row["id"] for row in found["timeline"]] == [f"R{number}" for number in range(20, 30)]


def test_names_that_cannot_be_read_leave_ids_and_are_told() -> None:
    async def run(ask: Ask) -> Told:
        return BROKEN if ask.path.startswith("/users") else paged(ask, "log_entries", log(1))

    found = used("get_incident_timeline", run, incident_id="PABCDEF")
    assert found["timeline"][0]["who"] == {"id": "PAGENT0"}
    told = found["names"]["failed"]
    assert told["ids"] == ["PAGENT0"]
    assert told["problem"].startswith("1 names could not be looked up")
    assert "list_users and get_user_data" in told["remedy"]


# Services


def test_dependencies_are_named_and_of_both_kinds(use: Used, sandbox: Sandbox) -> None:
    world = sandbox.world
    names = {row["id"]: row["name"] for row in (*world.services, *world.business)}
    word = {"service": "technical", "business_service": "business"}
    for service in (*world.services, *world.business):
        below = {(names[lower], word[kind]) for upper, _, lower, kind in world.edges if upper == service["id"]}
        above = {(names[upper], word[kind]) for upper, kind, lower, _ in world.edges if lower == service["id"]}
        found = use("list_service_dependencies", service_id=service["id"])
        assert {(row["name"], row["kind"]) for row in found["uses"]} == below
        assert {(row["name"], row["kind"]) for row in found["used_by"]} == above
        assert found["service"]["name"] == service["name"]
        assert found["service"]["kind"] == ("business" if service in world.business else "technical")


def test_a_dependency_whose_name_cannot_be_read_is_still_told(use: Used, sandbox: Sandbox) -> None:
    business = sandbox.world.business[0]["id"]
    use.failing["/services"] = Told(kind="denied", error={"problem": "list_services is off.", "remedy": "Ask Mina."})
    found = use("list_service_dependencies", service_id=business, type="business")
    assert found["service"]["name"] == sandbox.world.business[0]["name"]
    assert found["uses"]
    assert all(set(row) == {"id", "kind"} for row in found["uses"])
    failed = found["technical_service_names"]["failed"]
    assert set(failed["ids"]) == {row["id"] for row in found["uses"]}
    assert "list_services is off." in failed["problem"]
    assert failed["kind"] == "denied"


def test_dependencies_that_fail_are_no_empty_list(use: Used) -> None:
    use.failing["/service_dependencies"] = BROKEN
    with pytest.raises(Failed):
        use("list_service_dependencies", service_id="PSVC000")
    use.failing.clear()
    with pytest.raises(Failed) as failed:
        use("list_service_dependencies", service_id="PNOSUCH")
    assert failed.value.told.error["status"] == 404


def test_impacts_are_told_of_business_services(use: Used, sandbox: Sandbox) -> None:
    found = use("list_business_service_impacts")
    assert {row["id"] for row in found["business_services"]} <= {row["id"] for row in sandbox.world.business}
    assert found["count"] == len(found["business_services"]) > 0


# Schedules


@settings(deadline=None, max_examples=100)
@examples(st.integers(0, 130), st.integers(0, 130), st.integers(1, 100))
def test_pages_over_both_kinds_of_schedules_lose_nothing_and_show_nothing_twice(v2: int, v3: int, limit: int) -> None:
    layered = [{"id": f"PA{number}", "type": "schedule", "name": f"A {number}"} for number in range(v2)]
    shifted = [{"id": f"PB{number}", "type": "schedule_v3_reference", "summary": f"B {number}"} for number in range(v3)]

    async def run(ask: Ask) -> Told:
        return (
            paged(ask, "schedules", shifted, 100) if ask.path == "/v3/schedules" else paged(ask, "schedules", layered)
        )

    found: list[dict[str, Any]] = []
    page: dict[str, Any] = {"more": {"offset": 0}}
    while "more" in page:
        page = used("list_schedules", run, limit=limit, **page["more"])
        assert page["count"] == len(page["schedules"]) <= limit
        assert page["schedules"] or not found
        found += page["schedules"]
    assert [(row["id"], row["kind"]) for row in found] == [
        *((row["id"], "v2") for row in layered),
        *((row["id"], "v3") for row in shifted),
    ]
    assert all(row["name"] for row in found)


def test_a_kind_of_schedules_that_fails_is_told_beside_the_other(use: Used, sandbox: Sandbox) -> None:
    use.failing["/v3/schedules"] = BROKEN
    found = use("list_schedules", limit=100)
    assert {row["kind"] for row in found["schedules"]} == {"v2"}
    assert found["v3_schedules"] == {"failed": {"kind": "failed", **BROKEN.error}}
    use.failing = {"/schedules": BROKEN}
    found = use("list_schedules")
    assert [row["id"] for row in found["schedules"]] == [row["id"] for row in sandbox.world.v3]
    assert found["v2_schedules"] == {"failed": {"kind": "failed", **BROKEN.error}}
    use.failing["/v3/schedules"] = BROKEN
    with pytest.raises(Failed):
        use("list_schedules")


def test_a_schedule_of_either_kind_tells_who_is_on_call_and_when_nobody_is(use: Used, sandbox: Sandbox) -> None:
    since, until = NOW, NOW + dt.timedelta(days=5)
    low, high = since.timestamp(), until.timestamp()
    asked = {"since": f"{since:%Y-%m-%dT%H:%M:%SZ}", "until": f"{until:%Y-%m-%dT%H:%M:%SZ}"}
    names = {row["id"]: row["name"] for row in sandbox.world.users}
    some_gap = False
    for schedule in (*sandbox.world.schedules, *sandbox.world.v3):
        kind = "v3" if schedule["type"] == "schedule_v3" else "v2"
        render = on_call if kind == "v3" else final_shifts
        shifts = [shift for shift in render(schedule, low, high) if shift[0] < high and shift[1] > low]
        found = use("get_schedule", schedule_id=schedule["id"], **asked)
        assert found["kind"] == kind
        assert {"user_names", "not_shown"}.isdisjoint(found)
        for moment in range(int(low) + 30, int(high), 1800):
            on = {user for start, end, user in shifts if start <= moment < end}
            at = f"{dt.datetime.fromtimestamp(moment, dt.UTC):%Y-%m-%dT%H:%M:%SZ}"
            told = {row["user"]["id"] for row in found["on_call"] if row["start"] <= at < row["end"]}
            assert told == on, (schedule["id"], at)
            assert any(gap["start"] <= at < gap["end"] for gap in found["gaps"]) is not bool(on)
        assert all(row["user"]["name"] == names[row["user"]["id"]] for row in found["on_call"])
        assert {row["user"]["id"] for row in found["on_call_now"]} == {
            user for start, end, user in shifts if start <= low < end
        }
        some_gap |= bool(found["gaps"])
    assert some_gap


def test_the_next_handoffs_are_those_after_now(use: Used, sandbox: Sandbox) -> None:
    found = use("get_schedule", schedule_id=sandbox.world.schedules[0]["id"])
    assert found["period"] == {"since": "2026-11-23T12:00:00Z", "until": "2026-12-07T12:00:00Z"}
    assert len(found["next_handoffs"]) == 3
    assert found["next_handoffs"][0]["at"] == found["on_call_now"][0]["until"]
    following = next(row for row in found["on_call"] if row["start"] == found["next_handoffs"][0]["at"])
    assert found["next_handoffs"][0]["to"] == [following["user"]]


MINUTES = st.integers(0, 300)


@settings(deadline=None)
@examples(st.lists(st.tuples(MINUTES, MINUTES)), MINUTES, MINUTES)
def test_gaps_are_the_minutes_that_nobody_covers(spans: list[tuple[int, int]], one: int, other: int) -> None:
    start, end = sorted((one, other))

    def at(minute: int) -> dt.datetime:
        return NOW + dt.timedelta(minutes=minute)

    turns = [oncall.Turn(at(low), at(high), "PUSER01") for low, high in spans if low < high]
    found = oncall.gaps(turns, at(start), at(end))
    empty = {minute for minute in range(start, end) if not any(low <= minute < high for low, high in spans)}
    told = {minute for minute in range(start, end) if any(low <= at(minute) < high for low, high in found)}
    assert told == empty
    assert all(before[1] < after[0] for before, after in itertools.pairwise(found))


def test_a_schedule_that_is_of_neither_kind_fails_with_what_was_said(use: Used) -> None:
    with pytest.raises(Failed) as failed:
        use("get_schedule", schedule_id="PNOSUCH")
    assert failed.value.told.error["status"] == 404
    use.failing["/v3/schedules"] = BROKEN
    with pytest.raises(Failed) as failed:
        use("get_schedule", schedule_id="PV3S000")
    assert failed.value.told is BROKEN
    use.failing.clear()
    with pytest.raises(Failed) as failed:
        use("get_schedule", schedule_id="PSCH000", since="2020-01-01T00:00:00Z", until="2026-01-01T00:00:00Z")
    assert "400 days" in failed.value.told.error["problem"]
    with pytest.raises(Wrong):
        use("get_schedule", schedule_id="PSCH000", since=UNTIL, until=SINCE)


def test_what_is_outside_the_bounds_as_one_kind_may_be_inside_as_the_other(use: Used, sandbox: Sandbox) -> None:
    shifted, business = sandbox.world.v3[0]["id"], sandbox.world.business[0]["id"]
    outside = Told(kind="denied", error={"problem": "It is not within what may be touched.", "rule": "bounds"})
    use.failing = {f"/schedules/{shifted}": outside, "/service_dependencies/technical_services": outside}
    assert use("get_schedule", schedule_id=shifted)["kind"] == "v3"
    assert use("list_schedule_overrides", schedule_id=shifted, **WINDOW)["kind"] == "v3"
    assert use("list_service_dependencies", service_id=business)["service"]["kind"] == "business"
    use.failing |= {"/v3/schedules": outside}
    with pytest.raises(Failed) as failed:
        use("get_schedule", schedule_id=shifted)
    assert failed.value.told is outside
    use.failing = {"/schedules": Told(kind="denied", error={"problem": "It is off.", "rule": "tool_off"})}
    use.asked.clear()
    with pytest.raises(Failed):
        use("get_schedule", schedule_id=shifted)
    assert len(use.asked) == 1


def test_overrides_of_shifts_name_who_stands_in_for_whom(use: Used, sandbox: Sandbox) -> None:
    names = {row["id"]: row["name"] for row in sandbox.world.users}
    override = sandbox.world.v3[0]["overrides"][0]
    found = use("list_schedule_overrides", schedule_id=sandbox.world.v3[0]["id"], **WINDOW)
    assert found["kind"] == "v3"
    told = json.dumps(found["overrides"])
    for member in ("overridden_member", "overriding_member"):
        assert names[override[member]["user_id"]] in told
    use.failing["/users"] = BROKEN
    found = use("list_schedule_overrides", schedule_id=sandbox.world.v3[0]["id"], **WINDOW)
    assert found["user_names"]["failed"]["kind"] == "failed"
    assert found["count"] == 1


def test_layers_that_are_none_are_not_sent(use: Used) -> None:
    for layers in ("[", "{}", "[]", "[1]", "[" * 100_000):
        with pytest.raises(Wrong):
            use("preview_schedule", schedule_layers=layers, time_zone="Europe/London", **WINDOW)
    assert use.asked == []


# On call


def on_at(world: World, schedule: str, moment: float) -> set[str]:
    whole = next(row for row in (*world.schedules, *world.v3) if row["id"] == schedule)
    render = on_call if whole["type"] == "schedule_v3" else final_shifts
    return {user for start, end, user in render(whole, moment - 3600, moment + 3600) if start <= moment < end}


def test_who_is_on_call_is_told_with_who_is_next(use: Used, sandbox: Sandbox) -> None:
    world = sandbox.world
    answer = use("list_oncalls", limit=100)
    raw = use("list_oncalls", limit=100, detail="full")["oncalls"]
    unknown = set(answer.get("next_unknown", {"rows": []})["rows"])
    for number, (row, whole) in enumerate(zip(answer["oncalls"], raw, strict=True)):
        if whole["end"] is None:
            assert "next" not in row
            continue
        end = dt.datetime.fromisoformat(whole["end"]).timestamp()
        after = on_at(world, whole["schedule"]["id"], end)
        if number in unknown or end > (NOW + oncall.FARTHEST).timestamp():
            assert "next" not in row
        elif after:
            assert {each["id"] for each in row["next"]} == after
        else:
            assert row["next"] == oncall.NOBODY
    assert 0 < len(unknown) < 10


def test_nobody_after_a_turn_is_told_too() -> None:
    policy, schedule, user = ({"id": id, "type": "x_reference", "summary": id} for id in ("PEP", "PSC", "PUS"))
    row = {
        "escalation_policy": policy,
        "escalation_level": 1,
        "schedule": schedule,
        "user": user,
        "start": "2026-11-23T06:00:00Z",
    }
    asked: list[Ask] = []

    async def run(ask: Ask) -> Told:
        asked.append(ask)
        return Told({"oncalls": [] if "since" in dict(ask.query) else [{**row, "end": "2026-11-23T16:00:00Z"}]})

    assert used("list_oncalls", run)["oncalls"][0]["next"] == oncall.NOBODY
    assert dict(asked[1].query)["since"] == "2026-11-23T16:00:00Z"


def test_who_is_next_failing_is_told_and_hides_nobody_on_call(use: Used, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = use.run

    async def run(ask: Ask) -> Told:
        return BROKEN if "since" in dict(ask.query) else await plain(ask)

    monkeypatch.setattr(use, "run", run)
    found = use("list_oncalls")
    assert found["count"] == 25
    assert found["next"] == {"failed": {"kind": "failed", **BROKEN.error}}
    assert found["next_unknown"]["rows"]
    status = use("get_user_oncall_status", user_ids=["PUSR000"])
    assert status["next"] == {"failed": {"kind": "failed", **BROKEN.error}}
    assert status["oncalls"]


def test_users_of_a_schedule_that_no_policy_uses_are_told(use: Used, sandbox: Sandbox) -> None:
    world = sandbox.world
    used_ids = {
        target["id"] for row in world.policies for rule in row["escalation_rules"] for target in rule["targets"]
    }
    unused = next(row for row in world.schedules if row["id"] not in used_ids and on_at(world, row["id"], world.now))
    found = use("list_schedule_users", schedule_id=unused["id"])
    assert {row["id"] for row in found["schedule_users"]} == on_at(world, unused["id"], world.now)
    assert found["oncalls"] == []
    assert f"GET /schedules/{unused['id']}/users" in named(use)
    use.failing["/schedules"] = BROKEN
    assert use("list_schedule_users", schedule_id=unused["id"])["schedule_users"]["failed"]["kind"] == "failed"


def test_the_status_of_people_tells_now_next_and_who_is_not(use: Used, sandbox: Sandbox) -> None:
    world = sandbox.world
    everybody = [row["id"] for row in world.users]
    on = {row["user"]["id"] for row in use("list_oncalls", limit=100, detail="full")["oncalls"]}
    people = [*sorted(on)[:2], *(user for user in everybody if user not in on)][:4]
    found = use("get_user_oncall_status", user_ids=people, limit=100)
    assert {row["user"]["id"] for row in found["oncalls"]} == on & set(people)
    assert [row["id"] for row in found["not_on_call_now"]] == [user for user in people if user not in on]
    for row in found["next"]:
        assert row["start"] > "2026-11-23T12:00:00Z"
    assert len({row["user"]["id"] for row in found["next"]}) == len(found["next"])


# Reports


def test_a_report_is_a_table_with_units_names_totals_and_its_period(use: Used, sandbox: Sandbox) -> None:
    names = {row["id"]: row["name"] for row in (*sandbox.world.services, *sandbox.world.policies, *sandbox.world.users)}
    names |= {row["id"]: row["name"] for row in sandbox.world.teams}
    for subject, kind in (
        ("services", "service"),
        ("teams", "team"),
        ("escalation_policies", "escalation_policy"),
        ("responders", "responder"),
    ):
        found = use("generate_report", subject=subject)
        columns = found["columns"]
        assert all(len(row) == len(columns) for row in found["rows"])
        table = [dict(zip(columns, row, strict=True)) for row in found["rows"]]
        assert all(row[f"{kind}_name"] == names[row[f"{kind}_id"]] for row in table)
        assert found["period"] == {"since": "2026-10-24T12:00:00Z", "until": "2026-11-23T12:00:00Z", "time_zone": "UTC"}
        assert found["totals"]["total_incident_count"] > 0
        if subject != "responders":
            assert sum(row["total_incident_count"] for row in table) == found["totals"]["total_incident_count"]
            assert "mean_seconds_to_resolve" in columns
            assert table == sorted(table, key=lambda row: -row["total_incident_count"])
        raw = use("generate_report", subject=subject, detail="full")
        by_id = {tuple(row[name] for name in columns[:4]): row for row in raw["data"]}
        for row in table:
            whole = by_id[tuple(row[name] for name in columns[:4])]
            assert all(row[name] == pytest.approx(whole[name], abs=0.01) for name in columns if name[-3:] == "pct")
            assert all(row[name] == whole[name] for name in columns if name[-3:] != "pct")


def test_a_report_of_incidents_pages_and_marks_their_titles(use: Used, sandbox: Sandbox) -> None:
    arguments: dict[str, Any] = {"since": SINCE, "until": "2026-11-22T00:00:00Z", "limit": 7}
    low, high = (dt.datetime.fromisoformat(arguments[name]).timestamp() for name in ("since", "until"))
    wanted = [row.id for row in reversed(sandbox.world.incidents) if low <= row.created < high]
    found: list[dict[str, Any]] = []
    page: dict[str, Any] = {"more": {}}
    while "more" in page:
        page = use("generate_report", **arguments, **page["more"])
        found += [dict(zip(page["columns"], row, strict=True)) for row in page["rows"]]
    assert [row["id"] for row in found] == wanted
    assert all(set(row["description"]) == {"outside"} and row["created_at"].endswith("Z") for row in found)
    whole = use("generate_report", limit=1, detail="full")
    assert set(whole["data"][0]["description"]) == {"outside"}
    person = use("list_responder_incidents", responder_id=sandbox.world.users[0]["id"], detail="full")
    assert all(set(row["incident_description"]) == {"outside"} for row in person["data"])


def test_totals_that_fail_are_told_beside_the_table(use: Used) -> None:
    use.failing["/analytics/metrics/incidents/teams/all"] = BROKEN
    found = use("generate_report", subject="teams")
    assert found["rows"]
    assert found["totals"] == {"failed": {"kind": "failed", **BROKEN.error}}
    use.failing["/analytics"] = BROKEN
    with pytest.raises(Failed):
        use("generate_report", subject="teams")


@pytest.mark.parametrize(
    ("status", "words"),
    [(402, "the account's plan"), (403, "analytics.write"), (404, "24 hours late"), (400, "service_ids or team_ids")],
)
def test_what_pagerduty_refuses_of_its_analytics_is_explained(use: Used, status: int, words: str) -> None:
    use.failing["/analytics"] = Told(kind="refused", error={"problem": "Access Denied", "status": status, "code": 2010})
    for name, arguments in (
        ("get_incident_metrics_all", {}),
        ("get_incident_metrics_by_service", {}),
        ("generate_report", {}),
        ("generate_report", {"subject": "responders"}),
        ("list_responder_incidents", {"responder_id": "PUSR000"}),
        ("get_incident_analytics", {"incident_id": "PI000000"}),
    ):
        with pytest.raises(Failed) as failed:
            use(name, **arguments)
        error = failed.value.told.error
        assert words in f"{error['problem']} {error['remedy']}"
        assert error["status"] == status
        assert "Access Denied" in json.dumps(error)


def test_figures_by_service_say_which_tool_they_need(use: Used) -> None:
    use.failing["/analytics"] = Told(kind="denied", error={"problem": "It is off.", "remedy": "Ask Mina."})
    with pytest.raises(Failed) as failed:
        use("generate_report", subject="services")
    assert "get_incident_metrics_by_service" in failed.value.told.error["remedy"]
    assert "Ask Mina." in failed.value.told.error["remedy"]


@pytest.mark.parametrize(
    "arguments",
    [
        {"subject": "incidents", "aggregate_unit": "day"},
        {"subject": "responders", "aggregate_unit": "day"},
        {"subject": "responders", "service_ids": ["PSVC000"]},
        {"subject": "teams", "starting_after": "PI000000"},
        {"since": "2024-01-01T00:00:00Z"},
        {"since": UNTIL, "until": SINCE},
    ],
)
def test_what_a_report_cannot_be_of_is_not_asked_for(use: Used, arguments: dict[str, Any]) -> None:
    with pytest.raises(Wrong) as wrong:
        use("generate_report", **arguments)
    assert wrong.value.remedy
    assert use.asked == []


# Lists without a window, and me


def test_a_list_without_a_window_covers_the_last_month(use: Used) -> None:
    for name, arguments in (
        ("list_log_entries", {}),
        ("list_change_events", {}),
        ("list_service_change_events", {"service_id": "PSVC000"}),
    ):
        use.asked.clear()
        use(name, **arguments)
        query = dict(use.asked[0].query)
        assert (query["since"], query["until"]) == ("2026-10-24T12:00:00Z", "2026-11-23T12:00:00Z")
        use.asked.clear()
        use(name, until="2026-11-01T02:00:00+02:00", **arguments)
        query = dict(use.asked[0].query)
        assert (query["since"], query["until"]) == ("2026-10-02T00:00:00Z", "2026-11-01T00:00:00Z")


@pytest.mark.parametrize(
    "since", ["0001-01-01", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", "9999-12-31"]
)
@pytest.mark.parametrize(
    "name", ["list_log_entries", "get_schedule", "list_incidents", "generate_report", "list_oncalls"]
)
def test_times_that_cannot_be_reckoned_with_are_not_sent(use: Used, name: str, since: str) -> None:
    for parameter in ("since", "until"):
        arguments = {"get_schedule": {"schedule_id": "PSCH000"}, "generate_report": {"subject": "services"}}.get(
            name, {}
        )
        with pytest.raises(Wrong) as wrong:
            use(name, **arguments, **{parameter: since})
        assert "1970" in str(wrong.value)
    assert use.asked == []


def test_a_list_is_no_longer_than_a_query_may_be(use: Used) -> None:
    with pytest.raises(Wrong) as wrong:
        use("list_incidents", service_ids=[f"PABC{number:03}" for number in range(101)])
    assert "at most 100 items" in str(wrong.value)
    assert use.asked == []


def test_only_so_many_names_are_looked_up_for_one_call(use: Used) -> None:
    with pytest.raises(Wrong) as wrong:
        use("list_incidents", service_ids=[f"service {number}" for number in range(names.MAXIMUM_NAMES + 1)])
    assert "Pass ids" in wrong.value.remedy
    assert use.asked == []
    same = ["checkout"] * (names.MAXIMUM_NAMES + 1)
    assert use("list_incidents", service_ids=same)["count"]
    assert len(use.asked) == 2


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("list_incidents", {"user_ids": ["me"]}),
        ("get_user_oncall_status", {"user_ids": ["me"]}),
        ("list_user_contact_methods", {"user_id": "me"}),
    ],
)
def test_me_is_never_taken_for_the_id_of_nobody(use: Used, name: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(Wrong) as wrong:
        use(name, **arguments)
    assert "me" in str(wrong.value)
    assert use.asked == []


@pytest.mark.parametrize(("second", "more"), [("Samira", True), ("Sam", False)])
def test_of_several_users_none_is_taken_for_the_one_who_is_meant_and_each_is_shown_once(
    second: str, more: bool
) -> None:
    users = [{"id": "PSAM001", "name": "Sam"}, {"id": "PSAM002", "name": second, "email": "sam@example.com"}]

    async def run(ask: Ask) -> Told:
        assert ask.path == "/users"
        return Told({"users": users, "more": more})

    tool = TOOLS["add_team_member"]
    with pytest.raises(Wrong) as wrong:
        asyncio.run(tools.serve(tool, tools.valid(tool, {"team_id": "PTEAM00", "user_id": "Sam"}), run))
    assert list(wrong.value.candidates) == users


@pytest.mark.parametrize("name", ["PLATFORM", "PAYMENTS", "PIPELINES", "QUEUES"])
def test_a_name_in_capitals_is_not_taken_for_an_id(use: Used, name: str) -> None:
    with pytest.raises(Wrong) as wrong:
        use("list_incidents", service_ids=[name])
    assert name in str(wrong.value)
    assert [ask.path for ask in use.asked] == ["/services"]


def test_an_account_key_has_no_me(use: Used) -> None:
    with pytest.raises(Failed) as failed:
        use("get_user_data", user_id="me")
    assert "account key" in failed.value.told.error["problem"]
    use.failing["/users/me"] = BROKEN
    with pytest.raises(Failed) as failed:
        use("get_user_data", user_id="me")
    assert failed.value.told is BROKEN


# Aliases


@pytest.mark.parametrize(
    ("alias", "arguments", "tool", "meant"),
    [
        ("list_alerts_from_incident", {"incident_id": "PI1"}, "get_incident", {"incident_id": "PI1"}),
        (
            "list_alerts_from_incident",
            {"incident_id": "PI1", "query_model": {"limit": 5}},
            "get_incident",
            {"incident_id": "PI1", "limit": 5},
        ),
        (
            "get_alert_from_incident",
            {"incident_id": "PI1", "alert_id": "PA1"},
            "get_incident",
            {"incident_id": "PI1", "alert_id": "PA1"},
        ),
        (
            "get_technical_service_dependencies",
            {"service_id": "PS1"},
            "list_service_dependencies",
            {"service_id": "PS1", "type": "technical"},
        ),
        (
            "get_business_service_dependencies",
            {"service_id": "PS1"},
            "list_service_dependencies",
            {"service_id": "PS1", "type": "business"},
        ),
        ("list_schedule_users", {"schedule_id": "PS1"}, "list_oncalls", {"schedule_ids": "PS1"}),
        (
            "list_schedule_v3_overrides",
            {"schedule_id": "PS1", **WINDOW},
            "list_schedule_overrides",
            {"schedule_id": "PS1", **WINDOW},
        ),
        ("get_log_entry", {"id": "R1"}, "list_log_entries", {"log_entry_id": "R1"}),
        (
            "get_incident_metrics_by_team",
            {"team_ids": ["PT1"]},
            "generate_report",
            {"subject": "teams", "team_ids": ["PT1"]},
        ),
        ("get_responder_metrics", {}, "generate_report", {"subject": "responders"}),
        ("get_responder_load_metrics", {}, "generate_report", {"subject": "responders"}),
        (
            "append_event_orchestration_router_rule",
            {"rules": "[]"},
            "update_event_orchestration_router",
            {"rules": "[]", "append": True},
        ),
        ("manage_incidents", {"status": "resolved"}, "resolve_incident", {}),
        (
            "manage_incidents",
            {"manage_request": {"incident_ids": ["PI1"], "status": "resolved"}},
            "resolve_incident",
            {"incident_id": "PI1"},
        ),
        ("manage_incidents", {"status": "acknowledged"}, "update_incident", {"status": "acknowledged"}),
    ],
)
def test_pagerdutys_own_names_mean_a_tool_and_its_arguments(
    alias: str, arguments: dict[str, Any], tool: str, meant: dict[str, Any]
) -> None:
    found, said = tools.told_apart(alias, arguments)
    assert found is not None
    assert found.name == tool
    assert said == meant


@pytest.mark.parametrize(
    ("alias", "arguments", "needed"),
    [
        ("get_alert_from_incident", {"incident_id": "PI000000"}, "alert_id"),
        ("get_log_entry", {}, "log_entry_id"),
        ("list_schedule_users", {}, "schedule_ids"),
    ],
)
def test_what_an_alias_cannot_do_without_is_asked_for(
    use: Used, alias: str, arguments: dict[str, Any], needed: str
) -> None:
    with pytest.raises(Wrong, match=needed):
        use(alias, **arguments)
    assert use.asked == []


def test_an_argument_that_no_alias_has_is_not_swallowed(use: Used) -> None:
    with pytest.raises(Wrong, match="query_model"):
        use("list_alerts_from_incident", incident_id="PI000000", query_model="limit")


def test_every_alias_means_a_tool() -> None:
    for alias in ALIASES:
        tool, _ = tools.told_apart(alias, {})
        assert tool is not None
        assert tool.name in ALIASES[alias]
        assert composites.IMPLIED.get(alias, {}).keys() <= tool.input_schema["properties"].keys()
    assert tools.told_apart("no_such_tool", {})[0] is None


@pytest.mark.parametrize("name", ["list_incidents", "list_change_events"])
@pytest.mark.parametrize(
    ("asked", "since", "until"),
    [
        ({"since": "2026-09-01T00:00:00Z"}, "2026-09-01T00:00:00Z", "2026-11-23T12:00:00Z"),
        ({"until": "2026-10-31T00:00:00Z"}, "2026-10-01T00:00:00Z", "2026-10-31T00:00:00Z"),
    ],
)
def test_a_window_with_one_end_is_up_to_now_or_the_month_before_it(
    use: Used, name: str, asked: dict[str, str], since: str, until: str
) -> None:
    use(name, **asked)
    sent = dict(use.asked[-1].query)
    assert (sent["since"], sent["until"]) == (since, until)


def test_incidents_come_the_newest_first_unless_told_otherwise(use: Used) -> None:
    newest = [row["created_at"] for row in use("list_incidents")["incidents"]]
    assert newest == sorted(newest, reverse=True)
    oldest = [row["created_at"] for row in use("list_incidents", sort_by=["created_at:asc"])["incidents"]]
    assert oldest == sorted(oldest)


def test_full_lists_are_counted_and_paged_like_slim_ones(use: Used) -> None:
    slim, full = use("list_incidents", limit=5), use("list_incidents", limit=5, detail="full")
    assert (full["count"], full["more"]) == (slim["count"], slim["more"]) == (5, {"offset": 5})
    assert not {"limit", "offset"} & full.keys()
    assert "self" not in full["incidents"][0]


def test_several_incidents_are_not_managed_at_once(use: Used) -> None:
    with pytest.raises(Wrong, match="one incident at a time"):
        use("manage_incidents", incident_ids=["PI1", "PI2"], status="acknowledged")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"since": "2026-11-02", "until": "2026-11-01"}, "since is not before until"),
        ({"offset": 9_990, "limit": 25}, "together are over 10,000"),
    ],
)
def test_what_no_list_takes_is_not_sent(use: Used, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(Wrong, match=said):
        use("list_incidents", **arguments)
    assert use.asked == []
