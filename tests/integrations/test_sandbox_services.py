"""The simulated PagerDuty's services, teams and what surrounds them: writes show in later reads, what is wrong is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from integrations.pagerduty.sandbox.app import Sandbox
from integrations.pagerduty.sandbox.operations import services as services_module
from integrations.pagerduty.sandbox.world import DAY, HOUR, generate, iso
from tests.integrations.conftest import NOW, TOKENS, Ask
from tests.published_schema import problems

HOURS = {
    "type": "fixed_time_per_day",
    "time_zone": "America/Lima",
    "start_time": "09:00:00",
    "end_time": "17:00:00",
    "days_of_week": [1, 2, 3, 4, 5],
}
BY_HOURS = {
    "type": "use_support_hours",
    "during_support_hours": {"type": "constant", "urgency": "high"},
    "outside_support_hours": {"type": "constant", "urgency": "low"},
}


def errors(answer: Any) -> str:
    """The first sentence of a refusal."""
    assert answer.status_code == 400, answer.text
    found: str = answer.json()["error"]["errors"][0]
    return found


def resolve_all(ask: Ask, service: str) -> None:
    rows = ask("GET", f"/incidents?service_ids[]={service}&date_range=all&statuses[]=triggered&statuses[]=acknowledged")
    for row in rows.json()["incidents"]:
        assert ask("PUT", f"/incidents/{row['id']}", {"incident": {"status": "resolved"}}).is_success


def opened(ask: Ask, service: str, **more: Any) -> str:
    asked = {"title": "Down", "service": {"id": service, "type": "service_reference"}, **more}
    found: str = ask("POST", "/incidents", {"incident": asked}).json()["incident"]["id"]
    return found


def test_a_new_service_shows_everywhere_and_takes_incidents(ask: Ask, sandbox: Sandbox) -> None:
    policy = sandbox.world.policies[2]
    asked = {
        "type": "service",
        "name": "Parcels",
        "description": "Sends parcels",
        "escalation_policy": {"id": policy["id"], "type": "escalation_policy_reference"},
        "incident_urgency_rule": BY_HOURS,
        "support_hours": HOURS,
        "alert_grouping_parameters": {"type": "time", "config": {"timeout": 600}},
        "auto_pause_notifications_parameters": {"enabled": True, "timeout": 300},
    }
    answer = ask("POST", "/services", {"service": asked})
    assert answer.status_code == 201
    made = answer.json()["service"]
    assert (made["status"], made["teams"], made["last_incident_timestamp"]) == ("active", policy["teams"], None)
    assert (made["auto_resolve_timeout"], made["acknowledgement_timeout"]) == (None, None)
    assert made["incident_urgency_rule"] == BY_HOURS
    assert made["support_hours"] == HOURS
    assert ask("GET", f"/services/{made['id']}").json()["service"] == made
    assert [row["id"] for row in ask("GET", "/services?query=parcel").json()["services"]] == [made["id"]]
    shown = ask("GET", f"/escalation_policies/{policy['id']}").json()["escalation_policy"]["services"]
    assert made["id"] in {row["id"] for row in shown}
    grouping = ask("GET", f"/alert_grouping_settings?service_ids[]={made['id']}").json()["alert_grouping_settings"]
    assert [(row["type"], row["config"]) for row in grouping] == [("time", {"timeout": 600})]
    rules = ask("GET", f"/event_orchestrations/services/{made['id']}").json()["orchestration_path"]
    assert rules["sets"] == [{"id": "start", "rules": []}]
    assert ask("GET", f"/service_dependencies/technical_services/{made['id']}").json()["relationships"] == []
    opened(ask, made["id"])
    again = ask("GET", f"/services/{made['id']}").json()["service"]
    assert again["status"] == "critical"
    assert again["last_incident_timestamp"].startswith("2026-11-23T12")


def test_a_changed_service_keeps_what_was_not_asked_for(ask: Ask, sandbox: Sandbox) -> None:
    service, policy = sandbox.world.services[0], sandbox.world.policies[4]
    path = f"/services/{service['id']}"
    before = ask("GET", path).json()["service"]
    old_policy = f"/escalation_policies/{before['escalation_policy']['id']}"
    changed = ask("PUT", path, {"service": {"name": "Renamed", "auto_resolve_timeout": 0}}).json()["service"]
    assert (changed["name"], changed["summary"], changed["auto_resolve_timeout"]) == ("Renamed", "Renamed", None)
    assert changed["acknowledgement_timeout"] == before["acknowledgement_timeout"]
    assert changed["description"] == before["description"]
    listed = ask("GET", old_policy).json()["escalation_policy"]["services"]
    assert [row["summary"] for row in listed if row["id"] == service["id"]] == ["Renamed"]
    moved = ask("PUT", path, {"service": {"escalation_policy": {"id": policy["id"]}}}).json()["service"]
    assert moved["teams"] == policy["teams"]
    assert service["id"] not in {row["id"] for row in ask("GET", old_policy).json()["escalation_policy"]["services"]}
    nulled = ask("PUT", path, {"service": {"acknowledgement_timeout": None, "description": None}}).json()["service"]
    assert (nulled["acknowledgement_timeout"], nulled["description"]) == (None, "")


def test_urgency_follows_support_hours_only_while_there_are_any(ask: Ask, sandbox: Sandbox) -> None:
    path = f"/services/{sandbox.world.services[0]['id']}"
    assert "Support hours" in errors(ask("PUT", path, {"service": {"incident_urgency_rule": BY_HOURS}}))
    action = {
        "type": "urgency_change",
        "at": {"type": "named_time", "name": "support_hours_start"},
        "to_urgency": "high",
    }
    assert "Scheduled actions" in errors(ask("PUT", path, {"service": {"scheduled_actions": [action]}}))
    asked = {"incident_urgency_rule": BY_HOURS, "support_hours": HOURS, "scheduled_actions": [action]}
    shown = ask("PUT", path, {"service": asked}).json()["service"]
    assert (shown["support_hours"], shown["scheduled_actions"]) == (HOURS, [action])
    constant = {"type": "constant", "urgency": "severity_based"}
    shown = ask("PUT", path, {"service": {"incident_urgency_rule": constant}}).json()["service"]
    assert (shown["incident_urgency_rule"], shown["support_hours"], shown["scheduled_actions"]) == (constant, None, [])


def test_a_services_state_is_that_of_its_incidents_until_it_is_disabled(ask: Ask, sandbox: Sandbox) -> None:
    service = sandbox.world.services[3]["id"]
    path = f"/services/{service}"

    def state() -> str:
        found: str = ask("GET", path).json()["service"]["status"]
        (listed,) = ask("GET", f"/services?name={sandbox.world.services[3]['name']}").json()["services"]
        assert listed["status"] == found
        return found

    resolve_all(ask, service)
    assert state() == "active"
    incident = opened(ask, service)
    assert state() == "critical"
    ask("PUT", f"/incidents/{incident}", {"incident": {"status": "acknowledged"}})
    assert state() == "warning"
    assert ask("PUT", path, {"service": {"status": "disabled"}}).json()["service"]["status"] == "disabled"
    assert state() == "disabled"
    # A client that sends back what it read, with another state, enables it.
    assert ask("PUT", path, {"service": {"status": "critical"}}).json()["service"]["status"] == "warning"


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"name": ""}, "Name cannot be empty."),
        ({"name": "x" * 256}, "Name must not be longer"),
        ({"escalation_policy": {"id": "PNONE"}}, "Escalation policy is not an escalation policy of the account."),
        ({"auto_resolve_timeout": -1}, "Auto resolve timeout must be"),
        ({"auto_resolve_timeout": "soon"}, "Auto resolve timeout must be"),
        ({"status": "asleep"}, "Status must be"),
        ({"incident_urgency_rule": {"type": "constant", "urgency": "odd"}}, "Incident urgency rule urgency must be"),
        (
            {"incident_urgency_rule": {"type": "use_support_hours"}},
            "Incident urgency rule during support hours is missing.",
        ),
        ({"support_hours": {**HOURS, "time_zone": "Mars/Base"}}, "Support hours time zone is not"),
        ({"support_hours": {**HOURS, "start_time": "9"}}, "Support hours start time must be"),
        ({"support_hours": {**HOURS, "days_of_week": [0]}}, "Support hours days of week 1 must be"),
        ({"alert_grouping_parameters": {"type": "colour"}}, "Alert grouping parameters type must be"),
        (
            {"alert_grouping_parameters": {"type": "content_based", "config": {"aggregate": "all"}}},
            "Alert grouping parameters config fields is missing.",
        ),
        ({"alert_grouping_parameters": {"type": "content_based"}}, "Alert grouping parameters config is missing."),
        (
            {"auto_pause_notifications_parameters": {"enabled": True, "timeout": 7}},
            "Auto pause notifications parameters",
        ),
        ({"teams": [{"id": "PNONE"}]}, "Teams 1 is not a team of the account."),
    ],
)
def test_what_is_wrong_with_a_service_is_said(ask: Ask, sandbox: Sandbox, fields: Any, sentence: str) -> None:
    path = f"/services/{sandbox.world.services[0]['id']}"
    before = ask("GET", path).json()
    assert errors(ask("PUT", path, {"service": fields})).startswith(sentence)
    good = {"name": "Made", "escalation_policy": {"id": sandbox.world.policies[0]["id"]}}
    assert errors(ask("POST", "/services", {"service": good | fields})).startswith(sentence)
    assert ask("GET", path).json() == before


def test_services_have_names_of_their_own_begin_active_and_are_limited_in_number(
    ask: Ask, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = sandbox.world.services[:2]
    policy = {"id": sandbox.world.policies[0]["id"]}
    taken = {"service": {"name": second["name"], "escalation_policy": policy}}
    assert errors(ask("POST", "/services", taken)) == "Name has already been taken"
    assert errors(ask("PUT", f"/services/{first['id']}", taken)) == "Name has already been taken"
    disabled = {"service": {"name": "Made", "escalation_policy": policy, "status": "disabled"}}
    assert "active" in errors(ask("POST", "/services", disabled))
    assert "is missing" in errors(ask("POST", "/services", {"service": {"name": "Made"}}))
    assert ask("PUT", "/services/PNONE", {"service": {"name": "x"}}).status_code == 404
    monkeypatch.setattr(services_module, "SERVICE_LIMIT", len(sandbox.world.services))
    assert "at most" in errors(ask("POST", "/services", {"service": {"name": "Made", "escalation_policy": policy}}))


def test_each_service_has_a_key_for_events_and_an_address_for_mail(ask: Ask, sandbox: Sandbox) -> None:
    service, other = sandbox.world.services[:2]
    shown = ask("GET", f"/services/{service['id']}").json()["service"]["integrations"]
    assert [row["type"] for row in shown] == [
        "events_api_v2_inbound_integration_reference",
        "generic_email_inbound_integration_reference",
    ]
    events, mail = (
        ask("GET", f"/services/{service['id']}/integrations/{row['id']}").json()["integration"] for row in shown
    )
    assert len(events["integration_key"]) == 32
    assert mail["integration_email"].startswith(f"{service['name']}@")
    assert events["service"]["type"] == "service_reference"
    whole = ask("GET", f"/services/{service['id']}/integrations/{events['id']}?include[]=services").json()
    assert whole["integration"]["service"]["name"] == service["name"]
    assert ask("GET", f"/services/{other['id']}/integrations/{events['id']}").status_code == 404
    assert len({row["integration_key"] for row in sandbox.world.integrations if "integration_key" in row}) == len(
        sandbox.world.services
    )


def test_a_dependency_is_made_once_and_taken_away(ask: Ask, sandbox: Sandbox) -> None:
    policy = {"id": sandbox.world.policies[0]["id"]}
    service = ask("POST", "/services", {"service": {"name": "New", "escalation_policy": policy}}).json()["service"][
        "id"
    ]
    business = sandbox.world.business[0]["id"]
    ends = {
        "supporting_service": {"id": service, "type": "service"},
        "dependent_service": {"id": business, "type": "business_service_reference"},
    }
    made = ask("POST", "/service_dependencies/associate", {"relationships": [ends]}).json()["relationships"]
    assert ask("POST", "/service_dependencies/associate", {"relationships": [ends]}).json()["relationships"] == made
    path = f"/service_dependencies/technical_services/{service}"
    assert ask("GET", path).json()["relationships"] == made
    assert made[0]["supporting_service"] == {"id": service, "type": "technical_service_reference"}
    above = f"/service_dependencies/business_services/{business}"
    rows = ask("GET", above).json()["relationships"]
    assert made[0] in rows
    gone = {
        "supporting_service": {"id": rows[0]["supporting_service"]["id"], "type": "service"},
        "dependent_service": {"id": business, "type": "business_service"},
    }
    assert ask("POST", "/service_dependencies/disassociate", {"relationships": [gone]}).status_code == 200
    # The others keep their ids.
    assert ask("GET", above).json()["relationships"] == rows[1:]
    assert ask("POST", "/service_dependencies/disassociate", {"relationships": [gone]}).status_code == 404


@pytest.mark.parametrize(
    ("upper", "lower", "sentence"),
    [
        (("PNONE", "service"), ("PSVC001", "service"), "1 dependent service is not a service of the account"),
        (("PSVC000", "business_service"), ("PSVC001", "service"), "1 dependent service is not a business service"),
        (("PSVC000", "planet"), ("PSVC001", "service"), "1 dependent service type must be"),
        (("PSVC000", "service"), ("PSVC000", "service"), "A service cannot depend on itself"),
    ],
)
def test_what_is_wrong_with_a_dependency_is_said(
    ask: Ask, sandbox: Sandbox, upper: tuple[str, str], lower: tuple[str, str], sentence: str
) -> None:
    before = list(sandbox.world.edges)
    ends = {
        "dependent_service": dict(zip(("id", "type"), upper, strict=True)),
        "supporting_service": dict(zip(("id", "type"), lower, strict=True)),
    }
    answer = ask("POST", "/service_dependencies/associate", {"relationships": [ends]})
    assert sentence in errors(answer)
    assert sandbox.world.edges == before
    assert errors(ask("POST", "/service_dependencies/associate", {"relationships": []}))


def test_dependencies_lead_nowhere_in_circles_and_are_limited(
    ask: Ask, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = {"id": sandbox.world.policies[0]["id"]}
    ids = [
        ask("POST", "/services", {"service": {"name": f"Chain {number}", "escalation_policy": policy}}).json()[
            "service"
        ]["id"]
        for number in range(4)
    ]

    def link(upper: int, lower: int) -> Any:
        ends = {
            "dependent_service": {"id": ids[upper], "type": "service"},
            "supporting_service": {"id": ids[lower], "type": "service"},
        }
        return ask("POST", "/service_dependencies/associate", {"relationships": [ends]})

    assert link(0, 1).is_success
    assert link(1, 2).is_success
    assert "lead back" in errors(link(2, 0))
    monkeypatch.setattr(services_module, "DEPENDENCY_LIMIT", 2)
    assert "at most 2" in errors(link(1, 3))
    monkeypatch.undo()
    monkeypatch.setattr(services_module, "DEPTH_LIMIT", 0)
    assert "deep" in errors(link(2, 3))


def test_business_services_are_impacted_by_the_open_incidents_below_them(ask: Ask, sandbox: Sandbox) -> None:
    world = sandbox.world
    world.edges = [
        (world.business[0]["id"], "business_service", world.services[0]["id"], "service"),
        (world.services[0]["id"], "service", world.services[1]["id"], "service"),
        (world.business[1]["id"], "business_service", world.services[2]["id"], "service"),
        (world.business[2]["id"], "business_service", world.business[1]["id"], "business_service"),
    ]
    for service in world.services[:3]:
        resolve_all(ask, service["id"])
    fields = "additional_fields[]=services.highest_impacting_priority&additional_fields[]=total_impacted_count"

    def impacted(path: str = f"/business_services/impacts?{fields}") -> list[tuple[str, str]]:
        return [(row["id"], row["status"]) for row in ask("GET", path).json()["services"]]

    first, second, third = (row["id"] for row in world.business[:3])
    # The second supports the third: it is not at the top.
    assert second not in dict(impacted())
    assert set(dict(impacted()).values()) == {"not_impacted"}
    low = opened(ask, world.services[2]["id"], priority={"id": world.priorities[3]["id"]})
    assert impacted()[0] == (third, "impacted")
    opened(ask, world.services[1]["id"], priority={"id": world.priorities[0]["id"]})
    assert impacted()[:2] == [(first, "impacted"), (third, "impacted")]
    answer = ask("GET", f"/business_services/impacts?{fields}").json()
    assert answer["additional_fields"]["total_impacted_count"] == 2
    assert answer["services"][0]["additional_fields"]["highest_impacting_priority"] == {
        "id": world.priorities[0]["id"],
        "order": world.priorities[0]["order"],
    }
    assert answer["services"][-1]["additional_fields"]["highest_impacting_priority"] is None
    below = f"/business_services/{third}/supporting_services/impacts"
    assert impacted(below) == [(second, "impacted")]
    assert impacted(f"/business_services/impacts?ids[]={second}") == [(second, "impacted")]
    assert "additional_fields" not in ask("GET", below).json()
    ask("PUT", f"/incidents/{low}", {"incident": {"status": "resolved"}})
    assert impacted(below) == [(second, "not_impacted")]
    assert "Additional fields" in errors(ask("GET", "/business_services/impacts?additional_fields[]=colour"))
    assert ask("GET", "/business_services/impacts?ids[]=PNONE").status_code == 404
    assert ask("GET", "/business_services/PNONE").status_code == 404


def window_of(sandbox: Sandbox, start: float, end: float, *services: int, **more: Any) -> dict[str, Any]:
    return {
        "maintenance_window": {
            "type": "maintenance_window",
            "start_time": iso(sandbox.world.now + start),
            "end_time": iso(sandbox.world.now + end),
            "services": [{"id": sandbox.world.services[place]["id"]} for place in services],
            **more,
        }
    }


def test_a_service_in_an_ongoing_window_is_in_maintenance(ask: Ask, sandbox: Sandbox) -> None:
    service = sandbox.world.services[0]["id"]
    answer = ask("POST", "/maintenance_windows", window_of(sandbox, -HOUR, HOUR, 0, 0, 9, description="Disks"))
    assert answer.status_code == 201
    made = answer.json()["maintenance_window"]
    assert made["start_time"].startswith("2026-11-23T12:00:"), "what should have begun begins now"
    assert [row["id"] for row in made["services"]] == [service, sandbox.world.services[9]["id"]]
    assert made["created_by"]["summary"] == "Priya Sharma"
    assert {row["id"] for row in made["teams"]} == {
        row["id"] for place in (0, 9) for row in sandbox.world.services[place]["teams"]
    }
    assert ask("GET", f"/services/{service}").json()["service"]["status"] == "maintenance"
    later = {"maintenance_window": {"start_time": iso(sandbox.world.now + HOUR / 2), "services": [{"id": service}]}}
    changed = ask("PUT", f"/maintenance_windows/{made['id']}", later).json()["maintenance_window"]
    assert changed["start_time"] == made["start_time"], "what has begun has begun"
    assert [row["id"] for row in changed["services"]] == [service]
    assert ask("GET", f"/services/{sandbox.world.services[9]['id']}").json()["service"]["status"] != "maintenance"


def test_a_window_to_come_is_put_off_and_puts_nothing_in_maintenance(ask: Ask, sandbox: Sandbox) -> None:
    made = ask("POST", "/maintenance_windows", window_of(sandbox, DAY, 2 * DAY, 0)).json()["maintenance_window"]
    path = f"/maintenance_windows/{made['id']}"
    times = {"start_time": iso(sandbox.world.now + 3 * DAY), "end_time": iso(sandbox.world.now + 4 * DAY)}
    assert ask("PUT", path, {"maintenance_window": times}).json()["maintenance_window"] == made | times
    assert ask("GET", f"/services/{sandbox.world.services[0]['id']}").json()["service"]["status"] != "maintenance"
    wrong = {"maintenance_window": {"end_time": iso(sandbox.world.now + 2 * DAY)}}
    assert "after the start" in errors(ask("PUT", path, wrong))
    past = ask("GET", "/maintenance_windows?filter=past").json()["maintenance_windows"][0]
    assert "over" in errors(ask("PUT", f"/maintenance_windows/{past['id']}", {"maintenance_window": {}}))
    assert ask("PUT", "/maintenance_windows/PNONE", {"maintenance_window": {}}).status_code == 404


def test_windows_are_listed_by_their_time_their_services_and_their_words(ask: Ask, sandbox: Sandbox) -> None:
    def numbers(query: str) -> list[int]:
        found = ask("GET", f"/maintenance_windows?{query}").json()["maintenance_windows"]
        return [row["sequence_number"] for row in found]

    assert numbers("") == numbers("filter=all") == [1, 2, 3, 4, 5]
    assert (numbers("filter=past"), numbers("filter=ongoing"), numbers("filter=future")) == ([1, 2], [3], [4, 5])
    assert numbers("filter=open") == [3, 4, 5]
    assert numbers("query=database") == [2, 4]
    assert numbers(f"service_ids[]={sandbox.world.windows[0]['services'][0]}") == [1]
    team = sandbox.world.services[0]["teams"][0]["id"]
    assert numbers(f"team_ids[]={team}") == []
    ask("POST", "/maintenance_windows", window_of(sandbox, DAY, 2 * DAY, 0))
    assert numbers(f"team_ids[]={team}") == [6]
    assert ask("GET", "/maintenance_windows?limit=2&offset=4&total=true").json()["total"] == 6
    assert "Filter" in errors(ask("GET", "/maintenance_windows?filter=soon"))
    whole = ask("GET", "/maintenance_windows?include[]=services&include[]=users&include[]=teams").json()
    row = whole["maintenance_windows"][0]
    assert row["services"][0]["description"]
    assert row["created_by"]["email"]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"services": []}, "Services cannot be empty."),
        ({"services": [{"id": "PNONE"}]}, "Services 1 is not a service of the account."),
        ({"start_time": "soon"}, "Start time is not a valid"),
        ({"end_time": "2026-11-01T00:00:00Z"}, "End time must be in the future"),
        ({"end_time": None}, "End time is"),
    ],
)
def test_what_is_wrong_with_a_window_is_said(ask: Ask, sandbox: Sandbox, fields: Any, sentence: str) -> None:
    body = window_of(sandbox, HOUR, 2 * HOUR, 0)
    body["maintenance_window"] |= fields
    assert errors(ask("POST", "/maintenance_windows", body)).startswith(sentence)
    assert ask("POST", "/maintenance_windows", body, sender="").json()["error"]["code"] == 1008
    assert len(ask("GET", "/maintenance_windows").json()["maintenance_windows"]) == 5


def test_settings_of_alert_grouping_are_walked_by_cursor_both_ways(ask: Ask, sandbox: Sandbox) -> None:
    path = "/alert_grouping_settings?limit=10"
    seen: list[str] = []
    pages = [ask("GET", path).json()]
    assert "before" not in pages[0]
    while "after" in pages[-1]:
        pages.append(ask("GET", f"{path}&after={pages[-1]['after']}").json())
    for page in pages:
        seen += [row["id"] for row in page["alert_grouping_settings"]]
    assert len(seen) == len(set(seen)) == len(sandbox.world.grouping)
    assert ask("GET", f"{path}&total=true").json()["total"] == len(seen)
    back = ask("GET", f"{path}&before={pages[2]['before']}").json()
    assert back["alert_grouping_settings"] == pages[1]["alert_grouping_settings"]
    assert "cursor" in errors(ask("GET", f"{path}&after=nonsense"))
    one = pages[0]["alert_grouping_settings"][0]
    assert ask("GET", f"/alert_grouping_settings/{one['id']}").json()["alert_grouping_setting"] == one
    assert ask("GET", "/alert_grouping_settings/PNONE").status_code == 404


def test_a_service_leaves_a_shared_setting_for_its_own(ask: Ask, sandbox: Sandbox) -> None:
    shared = sandbox.world.grouping[0]
    leaver, stayer = shared["services"]
    time = {"type": "time", "config": {"timeout": 120}}
    ask("PUT", f"/services/{leaver}", {"service": {"alert_grouping_parameters": time}})
    left = ask("GET", f"/alert_grouping_settings/{shared['id']}").json()["alert_grouping_setting"]
    assert [row["id"] for row in left["services"]] == [stayer]
    (own,) = ask("GET", f"/alert_grouping_settings?service_ids[]={leaver}").json()["alert_grouping_settings"]
    assert (own["type"], own["config"]) == ("time", {"timeout": 120})
    off = {"service": {"alert_grouping_parameters": {"type": None}}}
    shown = ask("PUT", f"/services/{leaver}", off).json()["service"]["alert_grouping_parameters"]
    assert shown == {"type": None}
    assert ask("GET", f"/alert_grouping_settings?service_ids[]={leaver}").json()["alert_grouping_settings"] == []


def named_by_policies(sandbox: Sandbox, team: str) -> set[str]:
    return {
        target["id"]
        for policy in sandbox.world.policies
        if team in {row["id"] for row in policy["teams"]}
        for rule in policy["escalation_rules"]
        for target in rule["targets"]
    }


def test_somebody_joins_a_team_changes_role_and_leaves(ask: Ask, sandbox: Sandbox) -> None:
    world = sandbox.world
    team = world.teams[0]["id"]
    user = next(
        row["id"]
        for place, row in enumerate(world.users)
        if place not in world.members[0]
        and row["role"] != "read_only_user"
        and row["id"] not in named_by_policies(sandbox, team)
    )
    path = f"/teams/{team}/users/{user}"

    def members() -> dict[str, str]:
        found = ask("GET", f"/teams/{team}/members?limit=100").json()["members"]
        return {row["user"]["id"]: row["role"] for row in found}

    before = members()
    assert sorted(before.values()) == ["manager", *["responder"] * (len(before) - 1)]
    assert ask("PUT", path, {"role": "observer"}).status_code == 204
    assert members() == before | {user: "observer"}
    assert team in {row["id"] for row in ask("GET", f"/users/{user}").json()["user"]["teams"]}
    assert user in {row["id"] for row in ask("GET", f"/users?team_ids[]={team}&limit=100").json()["users"]}
    ask("PUT", path, {"role": "responder"})
    assert members()[user] == "responder"
    bodies: tuple[Any, ...] = ({}, None)
    for body in bodies:
        assert ask("PUT", path, body).status_code == 204
        assert members()[user] == "responder"
    assert ask("DELETE", path).status_code == 204
    assert members() == before
    assert team not in {row["id"] for row in ask("GET", f"/users/{user}").json()["user"]["teams"]}
    assert ask("DELETE", path).status_code == 404


def test_what_pagerduty_refuses_of_team_members_is_refused(ask: Ask, sandbox: Sandbox) -> None:
    world = sandbox.world
    team = world.teams[0]["id"]
    reader = next(user["id"] for user in world.users if user["role"] == "read_only_user")
    assert "Read only users" in errors(ask("PUT", f"/teams/{team}/users/{reader}", {"role": "observer"}))
    assert "Role must be" in errors(ask("PUT", f"/teams/{team}/users/{world.users[1]['id']}", {"role": "boss"}))
    named = world.users[world.members[0][0]]["id"]
    level = {"escalation_delay_in_minutes": 5, "targets": [{"id": named, "type": "user_reference"}]}
    policy = {"name": "Named", "escalation_rules": [level], "teams": [{"id": team}]}
    assert ask("POST", "/escalation_policies", {"escalation_policy": policy}).status_code == 201
    assert "belong to an escalation policy" in errors(ask("DELETE", f"/teams/{team}/users/{named}"))
    assert errors(ask("PUT", f"/teams/{team}/users/{named}", []))
    assert ask("PUT", f"/teams/PNONE/users/{named}", {}).status_code == 404
    assert ask("PUT", f"/teams/{team}/users/PNONE", {}).status_code == 404
    whole = ask("GET", f"/teams/{team}/members?include[]=users&limit=1").json()
    assert whole["members"][0]["user"]["email"]
    assert whole["more"]


def test_a_workflow_that_was_started_leaves_its_notes(ask: Ask, sandbox: Sandbox) -> None:
    workflow = sandbox.world.workflows[0]["id"]
    incident = sandbox.world.incidents[-1].id
    listed = ask("GET", "/incident_workflows").json()["incident_workflows"]
    assert all("steps" not in row and "team" not in row for row in listed)
    whole = ask("GET", "/incident_workflows?include[]=steps&include[]=team&query=major").json()["incident_workflows"]
    assert [len(row["steps"]) for row in whole] == [2]
    assert ask("GET", f"/incident_workflows/{workflow}").json()["incident_workflow"] == whole[0]
    assert "Include" in errors(ask("GET", "/incident_workflows?include[]=triggers"))
    body = {"incident_workflow_instance": {"id": "mine", "incident": {"id": incident, "type": "incident_reference"}}}
    path = f"/incident_workflows/{workflow}/instances"
    started = ask("POST", path, body)
    assert started.status_code == 201
    assert started.json()["incident_workflow_instance"]["incident"]["id"] == incident
    notes = [row["content"] for row in ask("GET", f"/incidents/{incident}/notes").json()["notes"]]
    assert notes == [
        "Major incident, Add a Note: Major incident: join the bridge.",
        "Major incident, Send Status Update: We are on it.",
    ]
    assert "started before" in errors(ask("POST", path, body))
    disabled = sandbox.world.workflows[2]["id"]
    fresh = {"incident_workflow_instance": {"incident": {"id": incident}}}
    assert "disabled" in errors(ask("POST", f"/incident_workflows/{disabled}/instances", fresh))
    gone = {"incident_workflow_instance": {"incident": {"id": "PNONE"}}}
    assert ask("POST", path, gone).status_code == 404
    assert "is missing" in errors(ask("POST", path, {"incident_workflow_instance": {}}))
    assert ask("POST", "/incident_workflows/PNONE/instances", fresh).status_code == 404


def test_an_automation_action_is_invoked_by_whoever_asks(ask: Ask, sandbox: Sandbox) -> None:
    action = sandbox.world.automation_actions[0]
    path = f"/automation_actions/actions/{action['id']}/invocations"
    body = {"invocation": {"metadata": {"incident_id": sandbox.world.incidents[-1].id}}}
    made = [ask("POST", path, body).json()["invocation"] for _ in range(2)]
    assert made[0]["id"] != made[1]["id"]
    assert made[0]["action_snapshot"]["name"] == action["name"]
    assert made[0]["metadata"]["agent"]["summary"] == "Priya Sharma"
    nobody = ask("POST", path, body, sender="").json()["invocation"]
    assert nobody["metadata"]["agent"]["type"] == "account_reference"
    assert "Metadata" in errors(ask("POST", path, {"invocation": {"metadata": {}}}))
    assert ask("POST", "/automation_actions/actions/NONE/invocations", body).status_code == 404


def routed(*targets: Any, catch_all: str | None = None) -> dict[str, Any]:
    rules = [target if isinstance(target, dict) else {"actions": {"route_to": target}} for target in targets]
    path: dict[str, Any] = {"sets": [{"id": "start", "rules": rules}]}
    if catch_all is not None:
        path["catch_all"] = {"actions": {"route_to": catch_all}}
    return {"orchestration_path": path}


def test_a_routers_rules_are_replaced_as_a_whole(ask: Ask, sandbox: Sandbox) -> None:
    world = sandbox.world
    orchestration = f"/event_orchestrations/{world.orchestrations[0]['id']}"
    first, second = world.services[20]["id"], world.services[21]["id"]
    before = ask("GET", f"{orchestration}/router").json()["orchestration_path"]
    assert ask("GET", orchestration).json()["orchestration"]["routes"] == len(before["sets"][0]["rules"]) == 4
    kept = before["sets"][0]["rules"][1]
    answer = ask("PUT", f"{orchestration}/router", routed(first, kept, first, catch_all=second))
    path = answer.json()["orchestration_path"]
    assert ask("GET", f"{orchestration}/router").json()["orchestration_path"] == path
    rules = path["sets"][0]["rules"]
    assert [rule["actions"]["route_to"] for rule in rules] == [first, kept["actions"]["route_to"], first]
    assert rules[1] == kept
    assert len({rule["id"] for rule in rules}) == 3
    assert path["catch_all"] == {"actions": {"route_to": second}}
    assert path["version"] != before["version"]
    assert path["updated_at"].startswith("2026-11-23T12")
    assert path["updated_by"]["id"] == world.users[0]["id"]
    assert ask("GET", orchestration).json()["orchestration"]["routes"] == 3
    bare = ask("PUT", f"{orchestration}/router", routed()).json()["orchestration_path"]
    assert (bare["sets"][0]["rules"], bare["catch_all"]) == ([], {"actions": {"route_to": "unrouted"}})


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        (routed("PNONE"), "Sets 1 rules 1 actions route to is not a service of the account."),
        (routed("unrouted"), "Sets 1 rules 1 actions route to is not a service of the account."),
        (routed(catch_all="PNONE"), "Catch all actions route to is not a service"),
        (routed({"actions": {}}), "Sets 1 rules 1 actions must hold either"),
        (routed({"label": "x"}), "Sets 1 rules 1 actions is missing."),
        (routed({"actions": {"route_to": "PSVC000"}, "conditions": [{}]}), "Sets 1 rules 1 conditions 1 expression"),
        ({"orchestration_path": {"sets": []}}, "Sets cannot be empty."),
        ({"orchestration_path": {"sets": [{"id": "second", "rules": []}]}}, "Sets 1 id must be start."),
        ({"orchestration_path": {}}, "Orchestration path sets is missing."),
        (
            routed(
                "PSVC000",
                {"actions": {"dynamic_route_to": {"source": "event.x", "regex": ".*", "lookup_by": "service_id"}}},
            ),
            "Only the first rule",
        ),
    ],
)
def test_a_router_that_leads_nowhere_is_refused(ask: Ask, sandbox: Sandbox, path: Any, sentence: str) -> None:
    router = f"/event_orchestrations/{sandbox.world.orchestrations[0]['id']}/router"
    before = ask("GET", router).json()
    answer = errors(ask("PUT", router, path))
    assert answer.startswith(sentence) or answer.lower() == sentence.removeprefix("Orchestration path ").lower()
    assert ask("GET", router).json() == before


def test_orchestrations_are_sorted_and_only_their_own_page_tells_their_key(ask: Ask, sandbox: Sandbox) -> None:
    listed = ask("GET", "/event_orchestrations").json()["orchestrations"]
    assert [row["name"] for row in listed] == ["Platform events", "Storefront events", "Unused events"]
    by_routes = ask("GET", "/event_orchestrations?sort_by=routes:desc").json()["orchestrations"]
    assert [row["routes"] for row in by_routes] == [4, 3, 0]
    assert "Sort by" in errors(ask("GET", "/event_orchestrations?sort_by=colour"))
    assert "routing_key" not in ask("GET", "/event_orchestrations").text
    shown = ask("GET", f"/event_orchestrations/{listed[0]['id']}").json()["orchestration"]
    assert len(shown["integrations"][0]["parameters"]["routing_key"]) == 32
    rules = ask("GET", f"/event_orchestrations/{listed[0]['id']}/global").json()["orchestration_path"]
    assert (rules["type"], len(rules["sets"][0]["rules"])) == ("global", 1)
    for path in ("", "/router", "/global"):
        assert ask("GET", f"/event_orchestrations/none{path}").status_code == 404
    assert ask("GET", "/event_orchestrations/services/PNONE").status_code == 404


def update_of(page: dict[str, Any], kind: str, status: str, **more: Any) -> dict[str, Any]:
    def first(plural: str) -> dict[str, str]:
        return {"id": next(row["id"] for row in page[plural] if row["post_type"] == kind)}

    return {
        "message": "We are looking.",
        "status": {"id": next(row["id"] for row in page["statuses"] if row["description"] == status)},
        "severity": first("severities"),
        "impacted_services": [{"service": {"id": page["services"][0]["id"]}, "impact": first("impacts")}],
        "notify_subscribers": True,
        **more,
    }


def test_a_post_on_a_status_page_is_followed_up(ask: Ask, sandbox: Sandbox) -> None:
    page = sandbox.world.status_pages[0]
    posts = f"/status_pages/{page['id']}/posts"
    body = {
        "post": {
            "type": "status_page_post",
            "title": "Parcels are late",
            "post_type": "incident",
            "status_page": {"id": page["id"]},
            "updates": [update_of(page, "incident", "investigating")],
        }
    }
    answer = ask("POST", posts, body)
    assert answer.status_code == 201
    made = answer.json()["post"]
    assert made["updates"][0]["type"] == "status_page_post_update"
    assert "message" not in made["updates"][0]
    assert ask("GET", f"{posts}/{made['id']}").json()["post"] == made
    resolved = update_of(page, "incident", "resolved", message="They are not.", post={"id": made["id"]})
    update = ask("POST", f"{posts}/{made['id']}/post_updates", {"post_update": resolved}).json()["post_update"]
    assert (update["message"], update["reviewed_status"]) == ("They are not.", "approved")
    updates = ask("GET", f"{posts}/{made['id']}/post_updates?reviewed_status=approved").json()["post_updates"]
    assert [row["message"] for row in updates] == ["We are looking.", "They are not."]
    whole = ask("GET", f"{posts}/{made['id']}?include[]=status_page_post_update").json()["post"]
    assert whole["updates"] == updates
    listed = ask("GET", f"{posts}?status[]={resolved['status']['id']}&post_type=incident").json()["posts"]
    assert made["id"] in {row["id"] for row in listed}
    maintenance = ask("GET", f"{posts}?post_type=maintenance").json()["posts"]
    assert made["id"] not in {row["id"] for row in maintenance}
    assert ask("GET", f"{posts}?reviewed_status=not_reviewed").json()["posts"] == []
    assert len(ask("GET", f"{posts}?limit=2&total=true").json()["posts"]) == 2


def test_what_is_wrong_with_a_post_is_said(ask: Ask, sandbox: Sandbox) -> None:
    page, other = sandbox.world.status_pages
    posts = f"/status_pages/{page['id']}/posts"
    good = {
        "title": "Upgrade",
        "post_type": "maintenance",
        "starts_at": "2026-12-01T00:00:00Z",
        "ends_at": "2026-12-01T02:00:00Z",
        "status_page": {"id": page["id"]},
        "updates": [update_of(page, "maintenance", "scheduled")],
    }
    for fields, sentence in (
        ({"title": "x" * 129}, "Title must not be longer"),
        ({"post_type": "party"}, "Post type must be"),
        ({"updates": []}, "Updates cannot be empty"),
        ({"ends_at": None}, "Ends at is not"),
        ({"ends_at": "2026-11-30T00:00:00Z"}, "Ends at must be after"),
        ({"status_page": {"id": other["id"]}}, "Status page is not"),
        ({"updates": [update_of(page, "incident", "resolved")]}, "Updates 1 status is not a status"),
        ({"updates": [update_of(page, "maintenance", "scheduled", message="")]}, "Updates 1 message cannot be empty"),
        ({"updates": [update_of(other, "maintenance", "scheduled")]}, "Updates 1 status is not a status"),
    ):
        assert errors(ask("POST", posts, {"post": good | fields})).startswith(sentence)
    assert len(ask("GET", posts).json()["posts"]) == 3
    assert ask("POST", posts, {"post": good}).status_code == 201
    mine = page["posts"][0]
    wrong = {"post_update": update_of(page, "incident", "resolved", post={"id": page["posts"][1]["id"]})}
    assert "Post is not this post" in errors(ask("POST", f"{posts}/{mine['id']}/post_updates", wrong))
    assert ask("POST", f"{posts}/PNONE/post_updates", wrong).status_code == 404
    assert ask("GET", f"/status_pages/{other['id']}/posts/{mine['id']}").status_code == 404
    assert ask("GET", "/status_pages/PNONE/posts").status_code == 404
    assert "Post type" in errors(ask("GET", f"{posts}?post_type=party"))


def test_status_pages_have_their_words(ask: Ask, sandbox: Sandbox) -> None:
    private = ask("GET", "/status_pages?status_page_type=private").json()["status_pages"]
    assert [row["name"] for row in private] == ["Inside status"]
    assert "Status page type" in errors(ask("GET", "/status_pages?status_page_type=secret"))
    page = f"/status_pages/{private[0]['id']}"
    for plural, incident, maintenance in (("severities", 4, 1), ("impacts", 3, 2), ("statuses", 4, 3)):
        assert len(ask("GET", f"{page}/{plural}").json()[plural]) == incident + maintenance
        assert len(ask("GET", f"{page}/{plural}?post_type=incident").json()[plural]) == incident
        rest = ask("GET", f"{page}/{plural}?post_type=maintenance&limit=1").json()
        assert rest["more"] is (maintenance > 1)
        assert ask("GET", f"/status_pages/PNONE/{plural}").status_code == 404


def test_services_are_scored_by_what_they_are(ask: Ask, sandbox: Sandbox) -> None:
    service = sandbox.world.services[30]["id"]
    scores = f"/standards/scores/technical_services?ids={service}"

    def passed() -> dict[str, bool]:
        (found,) = ask("GET", scores).json()["resources"]
        assert found["score"] == {"passing": sum(row["pass"] for row in found["standards"]), "total": 3}
        return {row["type"]: row["pass"] for row in found["standards"]}

    description, depth, outbound = (row["type"] for row in ask("GET", "/standards").json()["standards"])
    assert passed() == {description: True, depth: True, outbound: False}
    ask("PUT", f"/services/{service}", {"service": {"description": ""}})
    hook = {
        "delivery_method": {"type": "http_delivery_method", "url": "http://localhost/x"},
        "events": ["incident.triggered"],
        "filter": {"type": "service_reference", "id": service},
    }
    ask("POST", "/webhook_subscriptions", {"webhook_subscription": hook})
    user = {"id": sandbox.world.users[0]["id"], "type": "user_reference"}
    flat = {"name": "Flat", "escalation_rules": [{"escalation_delay_in_minutes": 5, "targets": [user]}] * 2}
    policy = ask("POST", "/escalation_policies", {"escalation_policy": flat}).json()["escalation_policy"]["id"]
    ask("PUT", f"/services/{service}", {"service": {"escalation_policy": {"id": policy}}})
    assert passed() == {description: False, depth: False, outbound: True}


def test_standards_are_asked_for_by_what_there_is(ask: Ask, sandbox: Sandbox) -> None:
    first, second = (service["id"] for service in sandbox.world.services[:2])
    scores = "/standards/scores/technical_services"
    repeated = ask("GET", f"{scores}?ids={first}&ids={second}").json()
    assert ask("GET", f"{scores}?ids[]={first}&ids[]={second}").json() == repeated
    assert ask("GET", f"{scores}?ids={first},{second}").json() == repeated
    assert len(repeated["resources"]) == 2
    assert "empty" in errors(ask("GET", scores))
    assert "At most 100" in errors(ask("GET", f"{scores}?ids={','.join(map(str, range(101)))}"))
    assert ask("GET", f"{scores}?ids=PNONE").status_code == 404
    assert "Resource type" in errors(ask("GET", f"/standards/scores/planets?ids={first}"))
    sandbox.world.standards[0]["active"] = False
    sandbox.world.standards[1]["inclusions"] = [{"type": "technical_service_reference", "id": second}]
    sandbox.world.standards[2]["exclusions"] = [{"type": "technical_service_reference", "id": second}]
    totals = [row["score"]["total"] for row in ask("GET", f"{scores}?ids={first},{second}").json()["resources"]]
    assert totals == [1, 1]
    assert len(ask("GET", "/standards?active=true").json()["standards"]) == 2
    assert len(ask("GET", "/standards?active=false").json()["standards"]) == 1
    assert "Active" in errors(ask("GET", "/standards?active=perhaps"))


def test_paused_incidents_add_up_by_service_and_by_cause(ask: Ask, sandbox: Sandbox) -> None:
    def counts(query: str) -> tuple[int, int, int]:
        found = ask("GET", f"/paused_incident_reports/counts?{query}").json()["paused_incident_reporting_counts"]
        names = ("paused_count", "triggered_after_pause_count", "resolved_after_pause_count")
        paused, triggered, resolved = (found[name] for name in names)
        return paused, triggered, resolved

    half_year = f"since={iso(sandbox.world.now - 183 * DAY)}&until={iso(sandbox.world.now)}"
    whole = counts(half_year)
    assert whole[0] == len(sandbox.world.paused) == whole[1] + whole[2]
    assert min(whole) > 0
    parts = [counts(f"{half_year}&suspended_by={by}") for by in ("auto_pause", "rules")]
    assert tuple(map(sum, zip(*parts, strict=True))) == whole
    by_service = [counts(f"{half_year}&service_id={service['id']}")[0] for service in sandbox.world.services]
    assert sum(by_service) == whole[0]
    assert 0 < counts("")[0] < whole[0]
    assert "6 months" in errors(
        ask("GET", f"/paused_incident_reports/counts?since={iso(sandbox.world.now - 200 * DAY)}")
    )
    assert "Suspended by" in errors(ask("GET", "/paused_incident_reports/counts?suspended_by=luck"))
    assert ask("GET", "/paused_incident_reports/counts?service_id=PNONE").status_code == 404


def test_what_the_account_holds_is_the_same_for_the_same_seed(sandbox: Sandbox) -> None:
    again, other = generate(7, NOW), generate(8, NOW)
    for name in ("integrations", "windows", "grouping", "webhooks", "orchestrations", "status_pages", "paused"):
        assert getattr(again, name) == getattr(generate(7, NOW), name)
    assert again.integrations[0]["integration_key"] != other.integrations[0]["integration_key"]
    assert again.webhooks[0]["secret"] != other.webhooks[0]["secret"]


def test_a_read_only_token_changes_nothing_here(ask: Ask, sandbox: Sandbox) -> None:
    token = TOKENS["account_read_only"].value
    for method, path in (
        ("POST", "/services"),
        ("POST", "/maintenance_windows"),
        ("POST", "/webhook_subscriptions"),
        ("POST", "/service_dependencies/associate"),
        ("DELETE", f"/webhook_subscriptions/{sandbox.world.webhooks[0]['id']}"),
        ("PUT", f"/event_orchestrations/{sandbox.world.orchestrations[0]['id']}/router"),
    ):
        assert ask(method, path, {}, token=token).status_code == 403
    assert ask("GET", "/standards", token=token).status_code == 200


def test_a_service_without_grouping_is_valid_by_the_schema_wherever_it_is_shown(ask: Ask, schema_dir: Path) -> None:
    policy = ask("GET", "/escalation_policies?limit=1").json()["escalation_policies"][0]
    reference = {"id": policy["id"], "type": "escalation_policy_reference"}
    made = ask("POST", "/services", {"service": {"name": "Plain", "escalation_policy": reference}})
    path = f"/services/{made.json()['service']['id']}"
    changed = ask("PUT", path, {"service": {"alert_grouping_parameters": {"type": None}}})
    for method, template, answer in (
        ("POST", "/services", made),
        ("PUT", "/services/{id}", changed),
        ("GET", "/services/{id}", ask("GET", path)),
        ("GET", "/services", ask("GET", "/services?query=Plain")),
    ):
        assert problems(schema_dir, method, template, answer.status_code, answer.json()) == []
