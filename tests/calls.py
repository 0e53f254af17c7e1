"""One call or more of every operation that a tool needs: the row that a new tool brings."""

from __future__ import annotations

from typing import Any

from integrations.pagerduty.sandbox.world import World

SINCE, UNTIL = "2026-11-20T00:00:00Z", "2026-11-27T00:00:00Z"
Calls = dict[str, tuple[str, str, Any]]


def calls(world: World) -> Calls:
    """operationId (with a number) → method, path, body. In an order in which each finds what it needs."""
    incident, resolved = world.incidents[-1].id, world.incidents[0].id
    service, policy = world.services[0]["id"], world.policies[0]["id"]
    schedule, v3, user = world.schedules[1]["id"], world.v3[0]["id"], world.users[0]["id"]
    team = world.teams[0]["id"]
    entry = world.incidents[-1].happenings()[0].id
    ref = {"id": user, "type": "user_reference"}
    month = {"filters": {"created_at_start": "2026-10-20T00:00:00Z", "created_at_end": "2026-11-23T00:00:00Z"}}
    range_ = {"filters": {"date_range_start": "2026-10-20T00:00:00Z", "date_range_end": "2026-11-23T00:00:00Z"}}
    member = {"type": "user_member", "user_id": user}
    rule = {"escalation_delay_in_minutes": 20, "targets": [ref]}
    window = f"since={SINCE}&until={UNTIL}"
    layer = dict(world.schedules[1]["schedule_layers"][0])
    return {
        "listIncidents": ("GET", "/incidents?limit=100&statuses[]=triggered&statuses[]=acknowledged&total=true", None),
        "listIncidents 2": (
            "GET",
            f"/incidents?date_range=all&service_ids[]={service}&team_ids[]={team}&urgencies[]=high&sort_by=created_at:desc"
            "&include[]=services&include[]=users&include[]=teams&include[]=assignees&include[]=escalation_policies",
            None,
        ),
        "getIncident": ("GET", f"/incidents/{incident}?include[]=acknowledgers", None),
        "getIncident 2": ("GET", f"/incidents/{resolved}", None),
        "listIncidentAlerts": ("GET", f"/incidents/{incident}/alerts", None),
        "getIncidentAlert": ("GET", f"/incidents/{incident}/alerts/A{incident[1:]}", None),
        "listIncidentLogEntries": ("GET", f"/incidents/{resolved}/log_entries", None),
        "createIncidentNote": ("POST", f"/incidents/{incident}/notes", {"note": {"content": "Looked."}}),
        "listIncidentNotes": ("GET", f"/incidents/{incident}/notes", None),
        "createIncident": (
            "POST",
            "/incidents",
            {
                "incident": {
                    "type": "incident",
                    "title": "Disk is full",
                    "service": {"id": service, "type": "service_reference"},
                    "body": {"type": "incident_body", "details": "All of it."},
                }
            },
        ),
        "updateIncident": (
            "PUT",
            f"/incidents/{incident}",
            {"incident": {"type": "incident_reference", "status": "acknowledged", "urgency": "low"}},
        ),
        "updateIncidents": (
            "PUT",
            "/incidents",
            {
                "incidents": [
                    {"id": incident, "type": "incident_reference", "status": "resolved", "resolution": "Fixed."}
                ]
            },
        ),
        "listIncidentLogEntries 2": ("GET", f"/incidents/{incident}/log_entries?include[]=incidents", None),
        "listServices": ("GET", "/services?limit=100&include[]=escalation_policies&include[]=teams", None),
        "getService": ("GET", f"/services/{service}", None),
        "getTechnicalServiceServiceDependencies": ("GET", f"/service_dependencies/technical_services/{service}", None),
        "getBusinessServiceServiceDependencies": (
            "GET",
            f"/service_dependencies/business_services/{world.business[0]['id']}",
            None,
        ),
        "listEscalationPolicies": ("GET", "/escalation_policies?include[]=targets&include[]=services", None),
        "getEscalationPolicy": ("GET", f"/escalation_policies/{policy}", None),
        "createEscalationPolicy": (
            "POST",
            "/escalation_policies",
            {"escalation_policy": {"type": "escalation_policy", "name": "New", "escalation_rules": [rule]}},
        ),
        "updateEscalationPolicy": (
            "PUT",
            f"/escalation_policies/{policy}",
            {"escalation_policy": {"type": "escalation_policy", "name": "Renamed", "num_loops": 3}},
        ),
        "listSchedules": ("GET", "/schedules?include[]=schedule_layers", None),
        "getSchedule": ("GET", f"/schedules/{schedule}?{window}&time_zone=Asia/Kolkata", None),
        "getSchedule 2": ("GET", f"/schedules/{schedule}?{window}&overflow=true", None),
        "updateSchedule": (
            "PUT",
            f"/schedules/{schedule}",
            {
                "schedule": {
                    "type": "schedule",
                    "name": "New name",
                    "time_zone": "Europe/London",
                    "schedule_layers": [layer],
                }
            },
        ),
        "listScheduleUsers": ("GET", f"/schedules/{schedule}/users?{window}", None),
        "createScheduleOverride": (
            "POST",
            f"/schedules/{schedule}/overrides",
            {"overrides": [{"start": "2026-11-25T00:00:00Z", "end": "2026-11-25T08:00:00Z", "user": ref}]},
        ),
        "listScheduleOverrides": ("GET", f"/schedules/{schedule}/overrides?{window}", None),
        "listOnCalls": ("GET", "/oncalls?limit=100", None),
        "listOnCalls 2": ("GET", f"/oncalls?user_ids[]={user}&earliest=true&include[]=users&{window}", None),
        "listSchedulesV3": ("GET", "/v3/schedules", None),
        "getScheduleV3": ("GET", f"/v3/schedules/{v3}?include[]=final_schedule&{window}", None),
        "updateScheduleV3": ("PUT", f"/v3/schedules/{v3}", {"schedule": {"name": "Renamed"}}),
        "createOverrides": (
            "POST",
            f"/v3/schedules/{v3}/overrides",
            {
                "overrides": [
                    {
                        "type": "override_shift",
                        "rotation_id": world.v3[0]["rotation"],
                        "start_time": "2026-11-25T00:00:00Z",
                        "end_time": "2026-11-25T08:00:00Z",
                        "overridden_member": member,
                        "overriding_member": {"type": "user_member", "user_id": world.users[1]["id"]},
                    }
                ]
            },
        ),
        "listOverrides": ("GET", f"/v3/schedules/{v3}/overrides?{window}", None),
        "createCustomShifts": (
            "POST",
            f"/v3/schedules/{v3}/custom_shifts",
            {
                "custom_shifts": [
                    {
                        "type": "custom_shift",
                        "start_time": "2026-11-25T00:00:00Z",
                        "end_time": "2026-11-25T08:00:00Z",
                        "assignments": [{"type": "shift_assignment", "member": member}],
                    }
                ]
            },
        ),
        "listUsers": ("GET", "/users?limit=100&include[]=contact_methods&include[]=notification_rules", None),
        "getUser": ("GET", f"/users/{user}?include[]=contact_methods&include[]=teams", None),
        "getCurrentUser": ("GET", "/users/me", None),
        "getUserContactMethods": ("GET", f"/users/{user}/contact_methods", None),
        "listLogEntries": ("GET", f"/log_entries?limit=100&team_ids[]={team}&is_overview=true", None),
        "listLogEntries 2": ("GET", f"/log_entries?limit=100&since={SINCE}&include[]=services&include[]=teams", None),
        "getLogEntry": ("GET", f"/log_entries/{entry}", None),
        "getAnalyticsMetricsIncidentsAll": ("POST", "/analytics/metrics/incidents/all", month),
        "getAnalyticsMetricsIncidentsService": ("POST", "/analytics/metrics/incidents/services", month),
        "getAnalyticsMetricsIncidentsTeam": ("POST", "/analytics/metrics/incidents/teams", month),
        "getAnalyticsMetricsIncidentsEscalationPolicy": (
            "POST",
            "/analytics/metrics/incidents/escalation_policies",
            month,
        ),
        "getAnalyticsMetricsRespondersAll": ("POST", "/analytics/metrics/responders/all", range_),
        "getAnalyticsMetricsRespondersTeam": ("POST", "/analytics/metrics/responders/teams", range_),
        "getAnalyticsIncidents": ("POST", "/analytics/raw/incidents", {**month, "limit": 50}),
        "listAbilities": ("GET", "/abilities", None),
    }
