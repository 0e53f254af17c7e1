"""The simulated PagerDuty's incidents: what is done to them, what is found near them, what they leave behind."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from integrations.pagerduty.sandbox.app import Sandbox
from integrations.pagerduty.sandbox.world import Incident, demo_from_email, iso, parse_time
from tests.integrations.conftest import TOKENS, Ask

DAY = 86_400
Found = dict[str, Any]


@pytest.fixture
def opened(sandbox: Sandbox) -> list[Incident]:
    """Open incidents, the newest first."""
    return [row for row in reversed(sandbox.world.incidents) if row.status != "resolved"]


@pytest.fixture
def show(ask: Ask) -> Callable[..., Found]:
    def get(incident: Incident, query: str = "") -> Found:
        found: Found = ask("GET", f"/incidents/{incident.id}?{query}").json()["incident"]
        return found

    return get


@pytest.fixture
def entries(ask: Ask) -> Callable[[Incident], list[Found]]:
    """An incident's log entries, the newest first."""

    def get(incident: Incident) -> list[Found]:
        found: list[Found] = ask("GET", f"/incidents/{incident.id}/log_entries?limit=100").json()["log_entries"]
        return found

    return get


def grouped(rows: list[Incident], more_than: int = 2) -> Incident:
    return next(row for row in rows if row.alerts > more_than)


def change(status: str) -> Found:
    return {"incident": {"type": "incident_reference", "status": status}}


def pass_time(sandbox: Sandbox, seconds: float) -> None:
    """The sandbox's clock runs with the machine's: this moves it on."""
    sandbox._offset += seconds


def test_a_snoozed_incident_is_acknowledged_and_triggers_again_when_its_time_is_over(
    ask: Ask, sandbox: Sandbox, opened: list[Incident], show: Callable[..., Found], entries: Callable[..., list[Found]]
) -> None:
    incident = next(row for row in opened if row.status == "triggered")
    answer = ask("POST", f"/incidents/{incident.id}/snooze", {"duration": 3600})
    assert answer.status_code == 201
    shown = answer.json()["incident"]
    assert shown["status"] == "acknowledged"
    (action,) = shown["pending_actions"]
    assert action["type"] == "unacknowledge"
    assert abs(parse_time(action["at"]) - sandbox.world.now - 3600) < 60
    snooze = next(entry for entry in entries(incident) if entry["type"] == "snooze_log_entry")
    assert snooze["changed_actions"] == [action]
    pass_time(sandbox, 3500)
    assert show(incident)["status"] == "acknowledged"
    pass_time(sandbox, 200)
    woken = show(incident)
    assert (woken["status"], woken["pending_actions"], woken["acknowledgements"]) == ("triggered", [], [])
    unacknowledged = entries(incident)[0]
    assert (unacknowledged["type"], unacknowledged["created_at"]) == ("unacknowledge_log_entry", action["at"])
    assert woken["last_status_change_at"] == action["at"]


def test_a_second_snooze_counts_and_a_resolved_incident_does_not_wake(
    ask: Ask, sandbox: Sandbox, opened: list[Incident], show: Callable[..., Found]
) -> None:
    longer, over = opened[0], opened[1]
    for incident in (longer, over):
        ask("POST", f"/incidents/{incident.id}/snooze", {"duration": 600})
    ask("POST", f"/incidents/{longer.id}/snooze", {"duration": 7200})
    ask("PUT", f"/incidents/{over.id}", change("resolved"))
    pass_time(sandbox, 700)
    assert show(longer)["status"] == "acknowledged"
    assert (show(over)["status"], show(over)["pending_actions"]) == ("resolved", [])
    pass_time(sandbox, 7200)
    assert (show(longer)["status"], show(over)["status"]) == ("triggered", "resolved")


def test_what_happened_stays_in_the_log_when_an_incident_is_opened_again(
    ask: Ask, opened: list[Incident], entries: Callable[..., list[Found]]
) -> None:
    incident = next(row for row in opened if row.status == "acknowledged")
    before = [entry["id"] for entry in entries(incident)]
    for status in ("resolved", "acknowledged", "triggered", "acknowledged"):
        assert ask("PUT", f"/incidents/{incident.id}", change(status)).json()["incident"]["status"] == status
    after = entries(incident)
    assert len({entry["id"] for entry in after}) == len(after)
    assert [entry["id"] for entry in after if entry["id"] in before] == before
    assert Counter(entry["type"] for entry in after[: len(after) - len(before)]) == {
        "resolve_log_entry": 1,
        "acknowledge_log_entry": 2,
        "unacknowledge_log_entry": 1,
    }
    for entry in after:
        assert ask("GET", f"/log_entries/{entry['id']}").json()["log_entry"]["id"] == entry["id"]


def test_escalating_assigns_to_whoever_is_on_call_at_that_level(
    ask: Ask, sandbox: Sandbox, opened: list[Incident], show: Callable[..., Found]
) -> None:
    incident = next(row for row in opened if row.level == 1)
    policy = show(incident, "include[]=escalation_policies")["escalation_policy"]
    level = len(policy["escalation_rules"])
    body = {"incident": {"type": "incident_reference", "escalation_level": level}}
    shown = ask("PUT", f"/incidents/{incident.id}", body).json()["incident"]
    on_calls = ask("GET", f"/oncalls?escalation_policy_ids[]={policy['id']}&limit=100").json()["oncalls"]
    there = {row["user"]["id"] for row in on_calls if row["escalation_level"] == level}
    assert shown["assignments"][0]["assignee"]["id"] in there
    assert shown["assigned_via"] == "escalation_policy"
    user = {"id": sandbox.world.users[4]["id"], "type": "user_reference"}
    body = {"incident": {"type": "incident_reference", "assignments": [{"assignee": user}]}}
    direct = ask("PUT", f"/incidents/{incident.id}", body).json()["incident"]
    assert (direct["assigned_via"], direct["assignments"][0]["assignee"]["id"]) == ("direct_assignment", user["id"])


def test_an_incident_keeps_its_type_its_bridge_and_its_body_and_shows_them_when_they_are_asked_for(
    ask: Ask, sandbox: Sandbox
) -> None:
    bridge = {"conference_number": "+1 415-555-1212,,,,1234#", "conference_url": "https://meet.example/1"}
    body = {
        "incident": {
            "type": "incident",
            "title": "Made here",
            "service": {"id": sandbox.world.services[0]["id"], "type": "service_reference"},
            "incident_type": {"name": "major_incident"},
            "conference_bridge": bridge,
            "body": {"type": "incident_body", "details": "All of it."},
        }
    }
    made = ask("POST", "/incidents", body).json()["incident"]
    assert made["incident_type"] == {"name": "major_incident"}
    assert made["alert_counts"] == {"all": 0, "triggered": 0, "resolved": 0}
    assert not {"conference_bridge", "body", "custom_fields"} & set(made)
    path = f"/incidents/{made['id']}?include[]=conference_bridge&include[]=body&include[]=custom_fields"
    shown = ask("GET", path).json()["incident"]
    assert shown["conference_bridge"] == bridge
    assert shown["body"]["details"] == "All of it."
    assert {row["name"] for row in shown["custom_fields"]} >= {"environment", "customers_affected"}


def test_incidents_hold_one_alert_or_several_and_count_them(ask: Ask, sandbox: Sandbox, opened: list[Incident]) -> None:
    sizes = Counter(row.alerts for row in sandbox.world.incidents)
    assert sizes[1] > sum(sizes.values()) / 2
    assert all(sizes[size] for size in range(2, 7))
    for incident in (opened[0], grouped(opened), grouped(sandbox.world.incidents, 4)):
        alerts = ask("GET", f"/incidents/{incident.id}/alerts?limit=100").json()["alerts"]
        counts = ask("GET", f"/incidents/{incident.id}").json()["incident"]["alert_counts"]
        assert counts == {
            "all": len(alerts),
            **{status: sum(1 for alert in alerts if alert["status"] == status) for status in ("triggered", "resolved")},
        }
        assert len({alert["id"] for alert in alerts}) == len({alert["alert_key"] for alert in alerts}) == len(alerts)
        for alert in alerts:
            assert alert["body"]["details"]["component"] == alert["service"]["summary"]
            assert ask("GET", f"/incidents/{incident.id}/alerts/{alert['id']}").json()["alert"] == alert
            found = ask("GET", f"/incidents?date_range=all&incident_key={alert['alert_key']}").json()["incidents"]
            assert [row["id"] for row in found] == [incident.id]


def test_alerts_are_listed_by_status_key_and_time(ask: Ask, opened: list[Incident]) -> None:
    incident = grouped(opened)
    path = f"/incidents/{incident.id}/alerts"
    everything = ask("GET", path).json()["alerts"]
    resolved = ask("GET", f"{path}?statuses[]=resolved").json()["alerts"]
    assert 0 < len(resolved) < len(everything)
    assert {alert["status"] for alert in resolved} == {"resolved"}
    key = everything[-1]["alert_key"]
    assert [alert["alert_key"] for alert in ask("GET", f"{path}?alert_key={key}").json()["alerts"]] == [key]
    newest = ask("GET", f"{path}?sort_by=created_at:desc").json()["alerts"]
    assert [alert["created_at"] for alert in newest] == sorted(
        (alert["created_at"] for alert in everything), reverse=True
    )
    shown = ask("GET", f"{path}?include[]=incidents&include[]=services&include[]=first_trigger_log_entries").json()
    alert = shown["alerts"][0]
    assert (alert["incident"]["type"], alert["service"]["type"]) == ("incident", "service")
    assert alert["first_trigger_log_entry"]["type"] == "trigger_log_entry"


def test_an_incident_is_resolved_with_its_last_alert(
    ask: Ask, opened: list[Incident], show: Callable[..., Found], entries: Callable[..., list[Found]]
) -> None:
    incident = grouped(opened, 3)
    path = f"/incidents/{incident.id}/alerts"
    open_alerts = ask("GET", f"{path}?statuses[]=triggered").json()["alerts"]
    first, *others = ({"id": alert["id"], "type": "alert", "status": "resolved"} for alert in open_alerts)
    one = ask("PUT", f"{path}/{first['id']}", {"alert": first}).json()["alert"]
    assert one["status"] == "resolved"
    assert show(incident)["status"] != "resolved"
    changed = ask("PUT", path, {"alerts": others}).json()["alerts"]
    assert [alert["status"] for alert in changed] == ["resolved"] * len(others)
    shown = show(incident)
    assert shown["status"] == "resolved"
    assert shown["alert_counts"] == {"all": incident.alerts, "triggered": 0, "resolved": incident.alerts}
    assert entries(incident)[0]["type"] == "resolve_log_entry"


def test_an_alert_moves_to_another_incident(ask: Ask, opened: list[Incident], show: Callable[..., Found]) -> None:
    source = grouped(opened)
    target = next(row for row in opened if row is not source)
    before = show(target)["alert_counts"]["all"]
    moving = ask("GET", f"/incidents/{source.id}/alerts").json()["alerts"][1]
    body = {"alert": {"type": "alert", "incident": {"id": target.id, "type": "incident_reference"}}}
    moved = ask("PUT", f"/incidents/{source.id}/alerts/{moving['id']}", body).json()["alert"]
    assert moved["incident"]["id"] == target.id
    assert ask("GET", f"/incidents/{source.id}/alerts/{moving['id']}").status_code == 404
    assert ask("GET", f"/incidents/{target.id}/alerts/{moving['id']}").json()["alert"] == moved
    assert show(source)["alert_counts"]["all"] == source.alerts - 1
    assert show(target)["alert_counts"]["all"] == before + 1
    found = ask("GET", f"/incidents?date_range=all&incident_key={moving['alert_key']}").json()["incidents"]
    assert [row["id"] for row in found] == [target.id]


def test_a_merged_incident_is_resolved_and_says_into_which(
    ask: Ask, opened: list[Incident], show: Callable[..., Found], entries: Callable[..., list[Found]]
) -> None:
    target, *sources = opened[:3]
    counts = [show(incident)["alert_counts"]["all"] for incident in (target, *sources)]
    body = {"source_incidents": [{"id": row.id, "type": "incident_reference"} for row in sources]}
    answer = ask("PUT", f"/incidents/{target.id}/merge", body).json()["incident"]
    assert (answer["id"], answer["type"]) == (target.id, "incident_reference")
    assert show(target)["alert_counts"]["all"] == sum(counts)
    assert sum("Merged" in entry.get("note", "") for entry in entries(target)) == 2
    for source in sources:
        shown = show(source)
        assert (shown["status"], shown["alert_counts"]["all"]) == ("resolved", 0)
        assert shown["resolve_reason"] == {"type": "merge_resolve_reason", "incident": answer}
        assert entries(source)[0]["type"] == "resolve_log_entry"
    ask("PUT", f"/incidents/{sources[0].id}", change("acknowledged"))
    assert "resolve_reason" not in show(sources[0])


def test_an_incident_never_holds_more_than_a_thousand_alerts(ask: Ask, opened: list[Incident]) -> None:
    target, source = opened[:2]
    target.alerts = 1000 - source.alerts
    body = {"source_incidents": [{"id": source.id, "type": "incident_reference"}]}
    target.alerts += 1
    refused = ask("PUT", f"/incidents/{target.id}/merge", body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, 2001)
    target.alerts = 1000
    move = {"alerts": [{"id": f"A{source.id[1:]}", "incident": {"id": target.id}}]}
    assert ask("PUT", f"/incidents/{source.id}/alerts", move).status_code == 400
    target.alerts = 1000 - source.alerts
    assert ask("PUT", f"/incidents/{target.id}/merge", body).status_code == 200


def test_a_responder_is_called_joins_by_acknowledging_and_can_be_called_off(
    ask: Ask, sandbox: Sandbox, opened: list[Incident], show: Callable[..., Found], entries: Callable[..., list[Found]]
) -> None:
    world, incident = sandbox.world, next(row for row in opened if row.status == "triggered")
    requester, joining, waiting = world.users[0]["id"], world.users[1], world.users[2]

    def called(*targets: tuple[str, str]) -> list[Found]:
        return [{"responder_request_target": {"id": identifier, "type": kind}} for identifier, kind in targets]

    def states() -> dict[str, str]:
        return {row["user"]["id"]: row["state"] for row in show(incident)["incidents_responders"]}

    path = f"/incidents/{incident.id}/responder_requests"
    body = {
        "requester_id": requester,
        "message": "Please help",
        "responder_request_targets": called((joining["id"], "user_reference"), (waiting["id"], "user_reference")),
    }
    made = ask("POST", path, body).json()["responder_request"]
    assert (made["requester"]["id"], made["incident"]["id"]) == (requester, incident.id)
    assert [row["id"] for row in made["responder_request_targets"]] == [joining["id"], waiting["id"]]
    assert states() == {joining["id"]: "pending", waiting["id"]: "pending"}
    assert [row["id"] for row in show(incident)["responder_requests"]] == [made["id"]]
    reached = [entry["user"]["id"] for entry in entries(incident) if entry["type"] == "notify_log_entry"]
    assert {joining["id"], waiting["id"]} <= set(reached)
    ask("PUT", f"/incidents/{incident.id}", change("acknowledged"), sender=joining["email"])
    assert states() == {joining["id"]: "joined", waiting["id"]: "pending"}
    targets = [{"id": user["id"], "type": "user_reference"} for user in (joining, waiting, world.users[3])]
    cancelled = ask("PUT", f"{path}/cancel", {"requester_id": requester, "responder_request_targets": targets}).json()
    assert [row["result"] for row in cancelled["responder_request_targets"]] == ["joined", "cancelled", "not_found"]
    assert states() == {joining["id"]: "joined", waiting["id"]: "user_cancelled"}


def test_a_policy_calls_whoever_is_on_call_for_it(ask: Ask, sandbox: Sandbox, opened: list[Incident]) -> None:
    incident, policy = opened[0], sandbox.world.policies[1]
    target = {"id": policy["id"], "type": "escalation_policy_reference"}
    requester = sandbox.world.users[0]["id"]
    path = f"/incidents/{incident.id}/responder_requests"
    # Without the wrapper that PagerDuty's example has, as its schema says.
    body = {"requester_id": requester, "message": "", "responder_request_targets": [target]}
    (called,) = ask("POST", path, body).json()["responder_request"]["responder_request_targets"]
    (responder,) = called["incident_responders"]
    assert responder["escalation_policy_requests"] == [policy["name"]]
    on_calls = ask("GET", f"/oncalls?escalation_policy_ids[]={policy['id']}&limit=100").json()["oncalls"]
    first = {row["user"]["id"] for row in on_calls if row["escalation_level"] == 1}
    assert responder["user"]["id"] in first
    off = ask("PUT", f"{path}/cancel", {"requester_id": requester, "responder_request_targets": [target]}).json()
    assert off["responder_request_targets"] == [{**target, "result": "cancelled"}]


def test_a_status_update_stands_in_the_log_and_reaches_the_teams(
    ask: Ask, sandbox: Sandbox, opened: list[Incident], entries: Callable[..., list[Found]]
) -> None:
    incident = opened[0]
    body = {"message": "We are on it.", "subject": "Disk", "html_message": "<p>We are on it.</p>"}
    update = ask("POST", f"/incidents/{incident.id}/status_updates", body).json()["status_update"]
    assert {name: update[name] for name in body} == body
    assert update["sender"]["summary"] == "Priya Sharma"
    assert "Status update: We are on it." in [entry.get("note") for entry in entries(incident)]
    teams = {team["id"] for team in sandbox.world.services[incident.service]["teams"]}
    told = {user["email"] for user in sandbox.world.users if teams & {team["id"] for team in user["teams"]}}
    window = f"since={iso(sandbox.world.now - 60)}&until={iso(sandbox.world.now + 600)}"
    path = f"/notifications?{window}&filter=email_notification&limit=100"
    assert {row["address"] for row in ask("GET", path).json()["notifications"]} >= told != set()
    assert ask("POST", f"/incidents/{incident.id}/status_updates", {"message": "x", "subject": "y"}).status_code == 400


@pytest.mark.parametrize(
    ("field", "value", "wrong"),
    [
        ("environment", "staging", "moon"),
        ("regions", ["us-east-1", "eu-west-1"], ["us-east-1", "us-east-1"]),
        ("regions", [], ["moon"]),
        ("labels", ["a", "b"], [str(number) for number in range(11)]),
        ("cause", "A full disk", "x" * 201),
        ("customers_affected", 12, 1.5),
        ("customers_affected", 0, True),
        ("revenue_at_risk", 1.5, "1.5"),
        ("data_loss", True, "yes"),
        ("detected_at", "2026-11-23T10:00:00Z", "yesterday"),
        ("postmortem", "https://wiki.example/42", "javascript:alert(1)"),
    ],
)
def test_a_custom_field_takes_what_its_type_allows(
    ask: Ask, opened: list[Incident], field: str, value: Any, wrong: Any
) -> None:
    path = f"/incidents/{opened[0].id}/custom_fields/values"

    def values() -> dict[str, Any]:
        return {row["name"]: row["value"] for row in ask("GET", path).json()["custom_fields"]}

    before = values()
    refused = ask("PUT", path, {"custom_fields": [{"name": field, "value": wrong}]})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, 2001)
    assert values() == before
    set_ = ask("PUT", path, {"custom_fields": [{"name": field, "value": value}]})
    assert set_.status_code == 201
    assert values() == {**before, field: value}
    cleared = ask("PUT", path, {"custom_fields": [{"name": field, "value": None}]}).json()["custom_fields"]
    assert {row["name"]: row["value"] for row in cleared} == {**before, field: None}


def test_a_change_of_custom_fields_is_logged_with_what_it_changed(
    ask: Ask, opened: list[Incident], entries: Callable[..., list[Found]]
) -> None:
    incident = opened[0]
    path = f"/incidents/{incident.id}/custom_fields/values"
    body = {"custom_fields": [{"name": "environment", "value": "staging"}, {"name": "labels", "value": ["card"]}]}
    ask("PUT", path, body)
    entry = entries(incident)[0]
    assert entry["type"] == "custom_field_value_change_log_entry"
    assert entry["changeset"] == ["Updated environment to staging", 'Updated labels to ["card"]']
    ask("PUT", path, body)
    assert entries(incident)[0]["id"] == entry["id"]


def test_incident_types_are_listed_by_their_state(ask: Ask) -> None:
    def names(query: str) -> list[str]:
        return [row["name"] for row in ask("GET", f"/incidents/types{query}").json()["incident_types"]]

    assert "incident_default" in names("")
    assert names("?filter=enabled") == names("")
    assert names("?filter=disabled") == ["fraud_incident"]
    assert set(names("?filter=all")) == {*names(""), "fraud_incident"}


def test_past_incidents_are_earlier_ones_of_the_service_the_most_alike_first(ask: Ask, sandbox: Sandbox) -> None:
    world = sandbox.world
    incident = world.incidents[-1]
    path = f"/incidents/{incident.id}/past_incidents"
    short = ask("GET", path).json()
    assert (len(short["past_incidents"]), short["limit"], short["total"]) == (5, 5, None)
    found = ask("GET", f"{path}?limit=999&total=true").json()
    assert found["total"] == len(found["past_incidents"]) > 5
    assert found["past_incidents"][:5] == short["past_incidents"]
    scores = [row["score"] for row in found["past_incidents"]]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > scores[-1] > 0
    by_id = {row.id: row for row in world.incidents}
    for row in found["past_incidents"]:
        past = by_id[row["incident"]["id"]]
        assert past.service == incident.service
        assert world.now - 185 * DAY < past.created < incident.created
        assert row["incident"]["title"] == past.title


def test_related_incidents_are_of_other_services_and_say_why(ask: Ask, sandbox: Sandbox) -> None:
    world, why = sandbox.world, Counter[str]()
    by_id = {row.id: row for row in world.incidents}
    edges = {(upper, lower) for upper, _, lower, _ in world.edges}
    for incident in world.incidents[-40:]:
        related = ask("GET", f"/incidents/{incident.id}/related_incidents").json()["related_incidents"]
        assert len(related) <= 20
        for row in related:
            other = by_id[row["incident"]["id"]]
            assert other.service != incident.service
            services = {world.services[place]["id"] for place in (incident.service, other.service)}
            for relationship in row["relationships"]:
                why[relationship["type"]] += 1
                if relationship["type"] == "service_dependency":
                    metadata = relationship["metadata"]
                    edge = metadata["dependent_services"][0]["id"], metadata["supporting_services"][0]["id"]
                    assert set(edge) == services
                    assert edge in edges
    assert why.keys() == {"service_dependency", "machine_learning_inferred"}


def test_merged_incidents_are_related_by_feedback(ask: Ask, sandbox: Sandbox, opened: list[Incident]) -> None:
    target = opened[0]
    source = next(row for row in opened if row.service != target.service and abs(row.created - target.created) < 7200)
    ask("PUT", f"/incidents/{target.id}/merge", {"source_incidents": [{"id": source.id}]})
    path = f"/incidents/{target.id}/related_incidents?additional_details[]=incident"
    related = {row["incident"]["id"]: row for row in ask("GET", path).json()["related_incidents"]}
    assert related[source.id]["incident"]["status"] == "resolved"
    reasons = [row["metadata"].get("grouping_classification") for row in related[source.id]["relationships"]]
    assert "prior_feedback" in reasons


def test_an_outlier_says_how_often_its_kind_occurs_on_the_service(ask: Ask, sandbox: Sandbox) -> None:
    incident = sandbox.world.incidents[-1]
    found = ask("GET", f"/incidents/{incident.id}/outlier_incident").json()["outlier_incident"]
    occurrence = found["incident"]["occurrence"]
    assert occurrence["count"] >= 1
    assert 0 < occurrence["frequency"] < 1
    assert not any(letter.isdigit() for letter in found["incident_template"]["mined_text"])
    body = {
        "incident": {
            "type": "incident",
            "title": "Nobody saw such a thing before",
            "service": {"id": sandbox.world.services[incident.service]["id"], "type": "service_reference"},
        }
    }
    made = ask("POST", "/incidents", body).json()["incident"]["id"]
    path = f"/incidents/{made}/outlier_incident?additional_details[]=incident"
    unheard = ask("GET", path).json()["outlier_incident"]["incident"]
    assert (unheard["occurrence"]["category"], unheard["occurrence"]["count"]) == ("anomaly", 1)
    assert unheard["status"] == "triggered"
    ask("PUT", f"/incidents/{made}", change("resolved"))
    ask("POST", "/incidents", body)
    again = ask("GET", path).json()["outlier_incident"]["incident"]["occurrence"]
    assert (again["category"], again["count"]) == ("rare", 2)
    assert ask("GET", f"/incidents/{made}/outlier_incident?since=2199-01-01").status_code == 400


def test_business_services_are_impacted_over_every_step_of_the_dependencies(ask: Ask, sandbox: Sandbox) -> None:
    world = sandbox.world
    business = {row["id"] for row in world.business}
    lower_of = {(upper, lower) for upper, _, lower, _ in world.edges}

    def rests_on(upper: str, lower: str, seen: frozenset[str] = frozenset()) -> bool:
        return any(
            below == lower or (below not in seen and rests_on(below, lower, seen | {below}))
            for above, below in lower_of
            if above == upper
        )

    kinds = Counter[str]()
    for incident in world.incidents[-60:]:
        shown = ask("GET", f"/incidents/{incident.id}/business_services/impacts").json()
        service = world.services[incident.service]["id"]
        assert {row["id"] for row in shown["services"]} == {row for row in business if rests_on(row, service)}
        for row in shown["services"]:
            assert row["status"] == ("not_impacted" if incident.status == "resolved" else "impacted")
            kinds[row["status"]] += 1
        assert shown["next_cursor"] is None
    assert kinds["impacted"]


def test_times_are_told_and_read_in_the_zone_that_is_asked_for(ask: Ask, sandbox: Sandbox) -> None:
    incident = sandbox.world.incidents[-1]
    plain = ask("GET", "/incidents?sort_by=created_at:desc&limit=1").json()["incidents"][0]
    zoned = ask("GET", "/incidents?sort_by=created_at:desc&limit=1&time_zone=Asia/Kolkata").json()["incidents"][0]
    assert zoned["created_at"].endswith("+05:30")
    assert parse_time(zoned["created_at"]) == parse_time(plain["created_at"])
    entry = ask("GET", f"/incidents/{incident.id}/log_entries?time_zone=Asia/Kolkata").json()["log_entries"][-1]
    assert entry["created_at"].endswith("+05:30")
    window = "since=2026-11-20T00:00:00&until=2026-11-21T00:00:00&total=true&limit=1"
    local = ask("GET", f"/incidents?{window}&time_zone=Asia/Kolkata").json()["total"]
    shifted = "since=2026-11-19T18:30:00Z&until=2026-11-20T18:30:00Z&total=true&limit=1"
    assert local == ask("GET", f"/incidents?{shifted}").json()["total"] > 0


@pytest.mark.parametrize(
    ("include", "path"),
    [
        ("users", ("assignments", 0, "assignee")),
        ("assignees", ("assignments", 0, "assignee")),
        ("users", ("acknowledgements", 0, "acknowledger")),
        ("acknowledgers", ("acknowledgements", 0, "acknowledger")),
        ("agents", ("last_status_change_by",)),
        ("services", ("service",)),
        ("teams", ("teams", 0)),
        ("escalation_policies", ("escalation_policy",)),
        ("first_trigger_log_entries", ("first_trigger_log_entry",)),
    ],
)
def test_include_puts_whole_objects_where_references_were(ask: Ask, include: str, path: tuple[Any, ...]) -> None:
    def at_path(query: str) -> str:
        found: Any = ask("GET", f"/incidents?statuses[]=acknowledged&limit=1{query}").json()["incidents"][0]
        for step in path:
            found = found[step]
        kind: str = found["type"]
        return kind

    assert at_path("").endswith("_reference")
    assert at_path(f"&include[]={include}") == at_path("").removesuffix("_reference")


def test_a_trigger_shows_its_channel_when_it_is_asked_for(ask: Ask, sandbox: Sandbox) -> None:
    incident = sandbox.world.incidents[-1]
    path = f"/incidents/{incident.id}/log_entries?limit=100"

    def trigger(query: str = "") -> Found:
        found: Found = ask("GET", path + query).json()["log_entries"][-1]
        assert found["type"] == "trigger_log_entry"
        return found

    assert "details" not in trigger()["channel"]
    shown = trigger("&include[]=channels")["channel"]["details"]
    assert shown["component"] == sandbox.world.services[incident.service]["name"]


def test_change_events_are_listed_in_utc_newest_first(ask: Ask, sandbox: Sandbox) -> None:
    world = sandbox.world
    since, until = world.now - 60 * DAY, world.now - 10 * DAY
    path = f"/change_events?since={iso(since)}&until={iso(until)}&limit=100&total=true"
    found = ask("GET", path).json()
    times = [row["timestamp"] for row in found["change_events"]]
    assert times == sorted(times, reverse=True)
    assert found["total"] == sum(1 for row in world.changes if since <= row.at <= until) > 0
    one = found["change_events"][0]
    assert ask("GET", f"/change_events/{one['id']}").json()["change_event"] == one
    service = one["services"][0]["id"]
    own = ask("GET", f"/services/{service}/change_events?limit=100").json()["change_events"]
    assert {row["services"][0]["id"] for row in own} == {service}
    assert one["id"] in {row["id"] for row in own}
    integration = one["integration"]["id"]
    by_integration = ask("GET", f"{path}&integration_ids[]={integration}").json()["change_events"]
    assert {row["integration"]["id"] for row in by_integration} == {integration}
    team = world.services[next(row for row in reversed(world.changes) if row.at <= until).service]["teams"][0]["id"]
    assert one in ask("GET", f"{path}&team_ids[]={team}").json()["change_events"]


@pytest.mark.parametrize("time", ["2026-11-20", "2026-11-20T00:00:00", "2026-11-20T00:00:00%2B05:30", "yesterday"])
def test_change_events_take_no_time_but_utc(ask: Ask, time: str) -> None:
    assert ask("GET", f"/change_events?since={time}").status_code == 400
    assert ask("GET", f"/services/PSVC000/change_events?until={time}").status_code == 400


def test_changes_near_an_incident_say_why_they_are_shown(ask: Ask, sandbox: Sandbox) -> None:
    world, reasons = sandbox.world, Counter[str]()
    places = {service["id"]: place for place, service in enumerate(world.services)}
    for change_ in world.changes[:: max(1, len(world.changes) // 60)]:
        incident = next((row for row in world.incidents if 0 < row.created - change_.at < DAY), None)
        if incident is None:
            continue
        path = f"/incidents/{incident.id}/related_change_events"
        found = ask("GET", path).json()["change_events"]
        for row in found:
            reason = row["correlation_reason"]["reason"]
            reasons[reason] += 1
            assert incident.created - DAY <= parse_time(row["timestamp"]) + 1
            assert parse_time(row["timestamp"]) <= incident.created
            if reason == "most_recent":
                assert places[row["services"][0]["id"]] == incident.service
        assert len(ask("GET", f"{path}?limit=1").json()["change_events"]) == min(1, len(found))
    assert reasons.keys() == {"most_recent", "related_service"}


def test_notification_rules_are_listed_by_urgency_with_their_methods(ask: Ask, sandbox: Sandbox) -> None:
    user = sandbox.world.users[0]["id"]

    def rules(query: str = "") -> list[Found]:
        found: list[Found] = ask("GET", f"/users/{user}/notification_rules{query}").json()["notification_rules"]
        return found

    methods = {row["id"]: row for row in ask("GET", f"/users/{user}/contact_methods").json()["contact_methods"]}
    high, low, everything = rules(), rules("?urgency=low"), rules("?urgency=all")
    assert high == rules("?urgency=high") != []
    assert {row["urgency"] for row in high} == {"high"}
    assert {row["urgency"] for row in low} <= {"low"}
    assert sorted(row["id"] for row in everything) == sorted(row["id"] for row in [*high, *low])
    for row in everything:
        assert row["contact_method"]["id"] in methods
        assert row["contact_method"]["type"].endswith("_reference")
        assert "address" not in row["contact_method"]
    for row in rules("?include[]=contact_methods"):
        assert row["contact_method"] == methods[row["contact_method"]["id"]]
    assert ask("GET", f"/users/{user}/notification_rules?urgency=none").status_code == 400
    assert ask("GET", "/users/PNONE/notification_rules").status_code == 404


def test_notifications_need_a_window_of_less_than_three_months(ask: Ask, sandbox: Sandbox) -> None:
    now = sandbox.world.now
    assert ask("GET", "/notifications").status_code == 400
    assert ask("GET", f"/notifications?since={iso(now - DAY)}").status_code == 400
    assert ask("GET", f"/notifications?since={iso(now - 93 * DAY)}&until={iso(now)}").status_code == 400
    assert ask("GET", f"/notifications?since={iso(now - DAY)}&until={iso(now)}&filter=pigeon").status_code == 400
    path = f"/notifications?since={iso(now - 7 * DAY)}&until={iso(now)}&limit=100"
    found = ask("GET", f"{path}&total=true").json()
    assert found["total"] > 0
    assert all(now - 7 * DAY <= parse_time(row["started_at"]) <= now for row in found["notifications"])
    for row in ask("GET", f"{path}&filter=sms_notification&include[]=users").json()["notifications"]:
        assert (row["type"], row["user"]["type"]) == ("sms_notification", "user")
        assert row["address"]


def test_audit_records_are_paged_by_cursor_newest_first_while_the_trail_grows(ask: Ask, sandbox: Sandbox) -> None:
    now = sandbox.world.now
    path = f"/audit/records?since={iso(now - 30 * DAY)}&until={iso(now)}&limit=7"
    expected = [row.id for row in reversed(sandbox.world.audit) if now - 30 * DAY <= row.at <= now]
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = ask("GET", f"{path}&cursor={cursor}").json()
        assert page["limit"] == 7
        seen += [row["id"] for row in page["records"]]
        cursor = page["next_cursor"]
        # What is recorded meanwhile moves no row from one page to another.
        body = {"escalation_policy": {"type": "escalation_policy", "name": f"Name {len(seen)}"}}
        assert ask("PUT", "/escalation_policies/PESC000", body).status_code == 200
    assert seen == expected
    assert len(seen) > 14
    assert ask("GET", f"{path}&cursor=nonsense").status_code == 400
    assert ask("GET", f"{path}&cursor=%ff").status_code == 400


def test_a_change_of_configuration_is_recorded_with_who_did_what(ask: Ask, sandbox: Sandbox) -> None:
    policy = sandbox.world.policies[0]
    before = policy["name"]
    token = TOKENS["user_manager"]
    body = {"escalation_policy": {"type": "escalation_policy", "name": "Renamed"}}
    assert ask("PUT", f"/escalation_policies/{policy['id']}", body, token=token.value).status_code == 200
    record = ask("GET", "/audit/records").json()["records"][0]
    assert (record["action"], record["root_resource"]["id"]) == ("update", policy["id"])
    assert record["actors"][0]["id"] == sandbox.world.users[0]["id"]
    assert record["method"]["truncated_token"] == token.value[-4:]
    assert {"name": "name", "before_value": before, "value": "Renamed"} in record["details"]["fields"]
    rule = {"escalation_delay_in_minutes": 20, "targets": [{"id": sandbox.world.users[0]["id"], "type": "user"}]}
    made = {"escalation_policy": {"type": "escalation_policy", "name": "New", "escalation_rules": [rule]}}
    identifier = ask("POST", "/escalation_policies", made).json()["escalation_policy"]["id"]
    created = ask("GET", "/audit/records?actions[]=create").json()["records"][0]
    assert (created["root_resource"]["id"], created["root_resource"]["type"]) == (
        identifier,
        "escalation_policy_reference",
    )
    assert created["actors"][0]["type"] == "api_key_reference"
    count = len(sandbox.world.audit)
    ask("POST", "/escalation_policies", {"escalation_policy": {"name": "x"}})
    ask("POST", "/schedules/preview", {})
    assert len(sandbox.world.audit) == count


def test_who_joins_a_team_or_leaves_it_is_in_the_trail(ask: Ask, sandbox: Sandbox) -> None:
    team = sandbox.world.teams[0]["id"]
    # Whom a policy names cannot leave.
    named = {
        target["id"] for row in sandbox.world.policies for rule in row["escalation_rules"] for target in rule["targets"]
    }
    user = next(row["id"] for row in sandbox.world.users if row["role"] == "user" and row["id"] not in named)
    for method, change_ in (("PUT", "added"), ("DELETE", "removed")):
        body = {"role": "responder"} if method == "PUT" else None
        assert ask(method, f"/teams/{team}/users/{user}", body).is_success
        record = ask("GET", "/audit/records").json()["records"][0]
        assert (record["action"], record["root_resource"]["id"]) == ("update", team)
        (members,) = record["details"]["references"]
        assert [row["id"] for row in members[change_]] == [user]


def test_audit_records_are_filtered_and_limited_to_a_month(ask: Ask, sandbox: Sandbox) -> None:
    now = sandbox.world.now
    window = f"since={iso(now - 31 * DAY)}&until={iso(now)}"
    assert ask("GET", f"/audit/records?since={iso(now - 31 * DAY - 60)}&until={iso(now)}").status_code == 400
    for row in ask("GET", f"/audit/records?{window}&root_resource_types[]=teams").json()["records"]:
        assert row["root_resource"]["type"] == "team_reference"
    user = sandbox.world.users[0]["id"]
    assert ask("GET", f"/audit/records?{window}&actor_id={user}").status_code == 400
    own = ask("GET", f"/audit/records?{window}&actor_id={user}&actor_type=user_reference").json()["records"]
    assert {row["actors"][0]["id"] for row in own} <= {user}
    for row in ask("GET", f"/audit/records?{window}&method_type=browser").json()["records"]:
        assert row["method"]["type"] == "browser"
    for row in ask("GET", "/audit/records").json()["records"]:
        assert now - DAY - 60 <= parse_time(row["execution_time"].replace("Z", "+00:00"))
    assert ask("GET", "/audit/records?actions[]=look").status_code == 400
    assert ask("GET", "/audit/records", token=TOKENS["user_reader"].value).status_code == 403
    assert ask("GET", "/audit/records", token=TOKENS["user_manager"].value).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/incidents/{open}/snooze", {"duration": 0}, 400),
        ("POST", "/incidents/{open}/snooze", {"duration": 604_801}, 400),
        ("POST", "/incidents/{open}/snooze", [], 400),
        ("POST", "/incidents/{resolved}/snooze", {"duration": 60}, 400),
        ("POST", "/incidents/PNONE/snooze", {"duration": 60}, 404),
        ("PUT", "/incidents/{open}/merge", {"source_incidents": []}, 400),
        ("PUT", "/incidents/{open}/merge", {"source_incidents": [{"id": "PNONE"}]}, 400),
        ("PUT", "/incidents/{open}/merge", {"source_incidents": [{"id": "{open}"}]}, 400),
        ("PUT", "/incidents/{resolved}/merge", {"source_incidents": [{"id": "{open}"}]}, 400),
        ("PUT", "/incidents/PNONE/merge", {"source_incidents": [{"id": "{open}"}]}, 404),
        ("PUT", "/incidents/{open}/alerts", {"alerts": [{}] * 251}, 413),
        ("PUT", "/incidents/{open}/alerts", {"alerts": [{"status": "resolved"}]}, 400),
        ("PUT", "/incidents/{open}/alerts", {"alerts": [{"id": "ANONE", "status": "resolved"}]}, 404),
        ("PUT", "/incidents/{open}/alerts", {"alerts": [{"id": "{alert}"}, {"id": "{alert}"}]}, 400),
        ("PUT", "/incidents/{open}/alerts/{alert}", {"alert": {"status": "gone"}}, 400),
        ("PUT", "/incidents/{open}/alerts/{alert}", {"alert": {"incident": {"id": "PNONE"}}}, 404),
        ("PUT", "/incidents/{open}/alerts/{alert}", {"alert": {"incident": {"id": "{resolved}"}}}, 400),
        ("PUT", "/incidents/{open}/alerts/ANONE", {"alert": {"status": "resolved"}}, 404),
        ("POST", "/incidents/{open}/responder_requests", {"requester_id": "PNONE"}, 400),
        ("POST", "/incidents/PNONE/responder_requests", {}, 404),
        ("PUT", "/incidents/{open}/responder_requests/cancel", {"responder_request_targets": [3]}, 400),
        ("POST", "/incidents/{open}/status_updates", {"message": " "}, 400),
        ("PUT", "/incidents/{open}/custom_fields/values", {"custom_fields": []}, 400),
        ("PUT", "/incidents/{open}/custom_fields/values", {"custom_fields": [{"name": "none", "value": 1}]}, 400),
        ("PUT", "/incidents/{open}/custom_fields/values", {"custom_fields": [{"name": "labels"}]}, 400),
        ("PUT", "/incidents/{open}", {"incident": {"incident_type": {"name": "fraud_incident"}}}, 400),
        ("PUT", "/incidents/{open}", {"incident": {"conference_bridge": {"conference_url": "ftp:x"}}}, 400),
        ("PUT", "/incidents/{open}", {"incident": {"service": {"id": "PNONE"}}}, 400),
        ("GET", "/incidents/{open}/past_incidents?limit=1000", None, 400),
        ("GET", "/incidents/{open}/past_incidents?limit=0", None, 400),
        ("GET", "/incidents/PNONE/related_incidents", None, 404),
        ("GET", "/incidents/PNONE/outlier_incident", None, 404),
        ("GET", "/incidents/PNONE/business_services/impacts", None, 404),
        ("GET", "/incidents/PNONE/related_change_events", None, 404),
        ("GET", "/incidents/types?filter=some", None, 400),
        ("GET", "/incidents/{open}/alerts?sort_by=colour", None, 400),
        ("GET", "/incidents?sort_by=urgency,created_at,resolved_at", None, 400),
        ("GET", "/change_events/01NONE", None, 404),
        ("GET", "/services/PNONE/change_events", None, 404),
        ("GET", "/log_entries/RNONE", None, 404),
    ],
)
def test_bad_requests_about_incidents_get_pagerdutys_errors(
    ask: Ask, sandbox: Sandbox, opened: list[Incident], method: str, path: str, body: Any, status: int
) -> None:
    names = {"open": opened[0].id, "resolved": sandbox.world.incidents[0].id, "alert": f"A{opened[0].id[1:]}"}

    def filled(value: Any) -> Any:
        if isinstance(value, str):
            for name, identifier in names.items():
                value = value.replace(f"{{{name}}}", identifier)
        elif isinstance(value, dict):
            return {name: filled(inner) for name, inner in value.items()}
        elif isinstance(value, list):
            return [filled(inner) for inner in value]
        return value

    answer = ask(method, filled(path), filled(body))
    assert answer.status_code == status, answer.text
    assert set(answer.json()["error"]) >= {"message", "code"}


@pytest.mark.parametrize("what", ["snooze", "status_updates", "merge", "alerts"])
def test_a_write_to_an_incident_needs_a_from_where_pagerduty_asks_for_it(
    ask: Ask, opened: list[Incident], what: str
) -> None:
    method = "PUT" if what in ("merge", "alerts") else "POST"
    assert ask(method, f"/incidents/{opened[0].id}/{what}", {}, sender="").json()["error"]["code"] == 1008
    assert ask(method, f"/incidents/{opened[0].id}/{what}", {}, sender=demo_from_email(7)).status_code == 400


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/incidents/{id}/past_incidents"),
        ("GET", "/incidents/{id}/related_incidents"),
        ("GET", "/incidents/{id}/outlier_incident"),
        ("POST", "/incidents/{id}/responder_requests"),
        ("PUT", "/incidents/{id}/responder_requests/cancel"),
        ("GET", "/incidents/types"),
        ("GET", "/audit/records"),
    ],
)
def test_a_smaller_plan_lacks_what_pagerduty_sells_apart(ask: Ask, sandbox: Sandbox, method: str, path: str) -> None:
    sandbox.world.kind = "plan_gated"
    incident = sandbox.world.incidents[-1].id
    answer = ask(method, path.format(id=incident), None if method == "GET" else {})
    assert (answer.status_code, answer.json()["error"]["code"]) == (402, 2014)
    assert "incidents_responders" not in ask("GET", f"/incidents/{incident}").json()["incident"]


def test_escalating_is_an_assignment_of_its_moment_and_counts_even_to_the_same_person(
    ask: Ask, sandbox: Sandbox, opened: list[Incident], show: Callable[..., Found], entries: Callable[..., list[Found]]
) -> None:
    incident = next(row for row in opened if row.status == "triggered" and row.level == 1 and not row.repeats)
    pass_time(sandbox, 600)
    assert ask("PUT", f"/incidents/{incident.id}", {"incident": {"escalation_level": 2}}).is_success
    newest = entries(incident)[0]["created_at"]
    assert show(incident)["assignments"][0]["at"] == newest
    assert {"assign_log_entry", "escalate_log_entry"} <= {
        entry["type"] for entry in entries(incident) if entry["created_at"] == newest
    }


def test_no_incident_is_made_on_a_disabled_service_or_where_nobody_is_on_call(ask: Ask, sandbox: Sandbox) -> None:
    world = sandbox.world

    def made(service: Found, **more: Any) -> Any:
        reference = {"id": service["id"], "type": "service_reference"}
        return ask("POST", "/incidents", {"incident": {"type": "incident", "title": "x", "service": reference, **more}})

    service = next(row for row in world.services if row["status"] == "active")
    assert made(service).status_code == 201
    assert ask("PUT", f"/services/{service['id']}", {"service": {"status": "disabled"}}).is_success
    refused = made(service)
    assert (refused.status_code, "disabled" in refused.text) == (400, True)
    silent = {"id": world.policies[0]["id"], "type": "escalation_policy_reference"}
    world.policies[0]["escalation_rules"] = [{**world.policies[0]["escalation_rules"][0], "targets": []}]
    other = next(row for row in world.services if row["status"] == "active" and row["id"] != service["id"])
    before = len(world.incidents)
    refused = made(other, escalation_policy=silent)
    assert (refused.status_code, "Nobody is on call" in refused.text) == (400, True)
    assert len(world.incidents) == before


@pytest.mark.parametrize("path", ["/incidents", "/audit/records", "/alert_grouping_settings", "/v3/schedules"])
def test_a_page_of_no_rows_is_refused_for_it_would_never_end(ask: Ask, path: str) -> None:
    assert ask("GET", f"{path}?limit=0").status_code == 400


def test_the_trail_tells_of_rules_layers_and_of_services_that_were_disabled(ask: Ask, sandbox: Sandbox) -> None:
    world = sandbox.world
    policy, schedule, service = world.policies[0], world.schedules[0], world.services[0]
    rule = {"escalation_delay_in_minutes": 29, "targets": [{"id": world.users[0]["id"], "type": "user_reference"}]}
    layers = [{**schedule["schedule_layers"][0], "name": "Renamed"}]
    ask("PUT", f"/escalation_policies/{policy['id']}", {"escalation_policy": {"escalation_rules": [rule]}})
    change = {"type": "schedule", "name": "x", "time_zone": "Europe/London", "schedule_layers": layers}
    ask("PUT", f"/schedules/{schedule['id']}", {"schedule": change})
    ask("PUT", f"/services/{service['id']}", {"service": {"status": "disabled"}})
    records = ask("GET", "/audit/records?limit=100").json()["records"]
    told = {
        record["root_resource"]["id"]: {field["name"]: field for field in record["details"].get("fields", ())}
        for record in reversed(records)
    }
    assert '"escalation_delay_in_minutes":29' in told[policy["id"]]["escalation_rules"]["value"]
    assert "Renamed" in told[schedule["id"]]["schedule_layers"]["value"]
    assert (told[service["id"]]["status"]["before_value"], told[service["id"]]["status"]["value"]) == (
        "active",
        "disabled",
    )


def test_no_incident_is_made_on_a_service_in_maintenance_until_that_is_over(ask: Ask, sandbox: Sandbox) -> None:
    now = sandbox.world.now
    service = {"id": sandbox.world.services[0]["id"], "type": "service_reference"}
    body = {"incident": {"type": "incident", "title": "Down", "service": service}}
    window = {"start_time": iso(now - 60), "end_time": iso(now + 3600), "services": [service]}
    assert ask("POST", "/maintenance_windows", {"maintenance_window": window}).status_code == 201
    refused = ask("POST", "/incidents", body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, 2001)
    assert "maintenance" in refused.json()["error"]["errors"][0]
    assert ask("GET", f"/incidents?since={iso(now)}&until={iso(now + 600)}").json()["incidents"] == []
    pass_time(sandbox, 3700)
    assert ask("POST", "/incidents", body).status_code == 201


@pytest.mark.parametrize("delegated", [True, False])
def test_an_incident_is_not_escalated_to_nobody(
    ask: Ask, sandbox: Sandbox, opened: list[Incident], show: Callable[..., Found], delegated: bool
) -> None:
    incident = next(row for row in opened if row.level == 1)
    own = show(incident)["escalation_policy"]["id"]
    policy = next(row for row in sandbox.world.policies if (row["id"] == own) != delegated)
    for rule in policy["escalation_rules"][not delegated :]:
        rule["targets"] = []
    before = show(incident)
    change_: Found = {"escalation_level": 2}
    if delegated:
        change_ = {"escalation_policy": {"id": policy["id"], "type": "escalation_policy_reference"}}
    change_ |= {"type": "incident_reference", "title": "New"}
    for path, asked in (
        (f"/incidents/{incident.id}", {"incident": change_}),
        ("/incidents", {"incidents": [{"id": incident.id, **change_}]}),
    ):
        refused = ask("PUT", path, asked)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, 2001)
    assert show(incident) == before


def test_the_trail_tells_a_change_at_the_end_of_many_rules_and_what_a_service_hangs_on(
    ask: Ask, sandbox: Sandbox
) -> None:
    world = sandbox.world
    policy, service = world.policies[0], world.services[0]
    targets = [{"id": user["id"], "type": "user_reference"} for user in world.users[:10]]
    rules = [{"escalation_delay_in_minutes": 30, "targets": targets} for _ in range(20)]

    def trail(root: str) -> dict[str, Found]:
        records = ask("GET", "/audit/records").json()["records"]
        record = next(row for row in records if row["root_resource"]["id"] == root)
        return {row["name"]: row for row in record["details"]["fields"]}

    path = f"/escalation_policies/{policy['id']}"
    kept = ask("PUT", path, {"escalation_policy": {"escalation_rules": rules}}).json()["escalation_policy"]
    rules = [*kept["escalation_rules"][:-1], {**kept["escalation_rules"][-1], "escalation_delay_in_minutes": 31}]
    assert ask("PUT", path, {"escalation_policy": {"escalation_rules": rules}}).is_success
    told = trail(policy["id"])["escalation_rules"]
    for name, last in (("before_value", 30), ("value", 31)):
        delays = [row["escalation_delay_in_minutes"] for row in json.loads(told[name])]
        assert delays == [30] * 19 + [last]
    for field, value, shown in (
        ("escalation_policy", {"id": world.policies[3]["id"], "type": "escalation_policy_reference"}, "PESC003"),
        ("alert_grouping_parameters", {"type": "time", "config": {"timeout": 900}}, "900"),
        ("auto_pause_notifications_parameters", {"enabled": True, "timeout": 120}, "120"),
    ):
        assert ask("PUT", f"/services/{service['id']}", {"service": {field: value}}).is_success
        told = trail(service["id"])[field]
        assert shown in told["value"]
        assert shown not in told["before_value"]
