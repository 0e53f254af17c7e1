"""One call or more of every operation that a tool needs: the row that a new tool brings."""

from __future__ import annotations

from typing import Any

from integrations.pagerduty.sandbox.world import World, number_id, parse_time

SINCE, UNTIL = "2026-11-20T00:00:00Z", "2026-11-27T00:00:00Z"
Calls = dict[str, tuple[str, str, Any]]


def calls(world: World) -> Calls:
    """operationId (with a number) → method, path, body. In an order in which each finds what it needs."""
    incident, resolved = world.incidents[-1].id, world.incidents[0].id
    service, policy = world.services[0]["id"], world.policies[0]["id"]
    schedule, v3, user = world.schedules[1]["id"], world.v3[0]["id"], world.users[0]["id"]
    team = world.teams[0]["id"]
    entry = world.incidents[-1].happenings()[0].id
    merged, source, snoozed, helped = (world.incidents[place].id for place in (-3, -4, -5, -6))
    several = next(row.id for row in reversed(world.incidents[:-10]) if row.alerts > 2 and row.status != "resolved")
    fields = {row["name"]: row["id"] for row in world.custom_fields}
    changed = world.services[world.changes[-1].service]["id"]
    ref = {"id": user, "type": "user_reference"}
    month = {"filters": {"created_at_start": "2026-10-20T00:00:00Z", "created_at_end": "2026-11-23T00:00:00Z"}}
    range_ = {"filters": {"date_range_start": "2026-10-20T00:00:00Z", "date_range_end": "2026-11-23T00:00:00Z"}}
    member = {"type": "user_member", "user_id": user}
    rule = {"escalation_delay_in_minutes": 20, "targets": [ref]}
    window = f"since={SINCE}&until={UNTIL}"
    rotas = f"/v3/schedules/{v3}"
    rotation, over = world.v3[0]["rotations"][0], world.v3[0]["overrides"][0]["id"]
    events = f"{rotas}/rotations/{rotation['id']}/events"
    sunny, rotations = f"/v3/schedules/{world.v3[2]['id']}", [row["id"] for row in world.v3[2]["rotations"]]
    custom = f"/v3/schedules/{world.v3[3]['id']}/custom_shifts"
    # Where each policy has services, those of the one with the fewest go over to the first.
    given_up = min(world.policies[1:], key=lambda row: len(_services_of(world, row)))
    later = next(
        (row["id"], override["id"])
        for row in world.schedules
        for override in row["overrides"]
        if parse_time(override["start"]) > world.now + 7200
    )
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
        "getPastIncidents": ("GET", f"/incidents/{incident}/past_incidents?limit=20&total=true", None),
        "getPastIncidents 2": ("GET", f"/incidents/{incident}/past_incidents", None),
        "getRelatedIncidents": ("GET", f"/incidents/{incident}/related_incidents", None),
        "getRelatedIncidents 2": ("GET", f"/incidents/{merged}/related_incidents?additional_details[]=incident", None),
        "getOutlierIncident": ("GET", f"/incidents/{incident}/outlier_incident", None),
        "getIncidentImpactedBusinessServices": ("GET", f"/incidents/{merged}/business_services/impacts", None),
        "getIncidentFieldValues": ("GET", f"/incidents/{merged}/custom_fields/values", None),
        "setIncidentFieldValues": (
            "PUT",
            f"/incidents/{merged}/custom_fields/values",
            {
                "custom_fields": [
                    {"name": "environment", "value": "staging"},
                    {"id": fields["regions"], "value": ["us-east-1", "eu-west-1"]},
                    {"id": fields["labels"], "value": ["checkout", "card"]},
                    {"id": fields["cause"], "value": "A full disk"},
                    {"id": fields["customers_affected"], "value": 12},
                    {"id": fields["revenue_at_risk"], "value": 1.5},
                    {"id": fields["data_loss"], "value": True},
                    {"id": fields["detected_at"], "value": "2026-11-23T10:00:00Z"},
                    {"id": fields["postmortem"], "value": "https://wiki.example/42"},
                ]
            },
        ),
        "updateIncidentAlert": (
            "PUT",
            f"/incidents/{several}/alerts/A{several[1:]}",
            {"alert": {"type": "alert", "status": "resolved"}},
        ),
        "updateIncidentAlerts": (
            "PUT",
            f"/incidents/{several}/alerts",
            {
                "alerts": [
                    {
                        "id": f"A{several[1:]}1",
                        "type": "alert",
                        "incident": {"id": merged, "type": "incident_reference"},
                    },
                    {"id": f"A{several[1:]}2", "type": "alert", "status": "triggered"},
                ]
            },
        ),
        "listIncidentAlerts 2": (
            "GET",
            f"/incidents/{merged}/alerts?include[]=services&include[]=first_trigger_log_entries&include[]=incidents"
            "&sort_by=created_at:desc",
            None,
        ),
        "mergeIncidents": (
            "PUT",
            f"/incidents/{merged}/merge",
            {"source_incidents": [{"id": source, "type": "incident_reference"}]},
        ),
        "createIncidentSnooze": ("POST", f"/incidents/{snoozed}/snooze", {"duration": 3600}),
        "createIncidentResponderRequest": (
            "POST",
            f"/incidents/{helped}/responder_requests",
            {
                "requester_id": user,
                "message": "Please help",
                "responder_request_targets": [
                    {"responder_request_target": {"id": world.users[3]["id"], "type": "user_reference"}},
                    {"responder_request_target": {"id": policy, "type": "escalation_policy_reference"}},
                ],
            },
        ),
        "cancelIncidentResponderRequest": (
            "PUT",
            f"/incidents/{helped}/responder_requests/cancel",
            {
                "requester_id": user,
                "responder_request_targets": [{"id": world.users[3]["id"], "type": "user_reference"}],
            },
        ),
        "createIncidentStatusUpdate": (
            "POST",
            f"/incidents/{helped}/status_updates",
            {"message": "We are on it.", "subject": "Disk", "html_message": "<p>We are on it.</p>"},
        ),
        "getIncident 3": (
            "GET",
            f"/incidents/{merged}?include[]=custom_fields&include[]=first_trigger_log_entries&include[]=agents"
            "&include[]=conference_bridge&include[]=priorities",
            None,
        ),
        "getIncident 5": (
            "GET",
            f"/incidents/{number_id('PI', len(world.incidents), 6)}?include[]=body",
            None,
        ),
        "getIncident 4": ("GET", f"/incidents/{source}?time_zone=Asia/Kolkata", None),
        "listIncidentLogEntries 3": ("GET", f"/incidents/{merged}/log_entries?include[]=channels", None),
        "listIncidentLogEntries 4": ("GET", f"/incidents/{snoozed}/log_entries?time_zone=Asia/Kolkata", None),
        "listIncidentLogEntries 5": ("GET", f"/incidents/{helped}/log_entries", None),
        "listIncidentTypes": ("GET", "/incidents/types?filter=all", None),
        "listNotifications": ("GET", f"/notifications?{window}&limit=100&include[]=users", None),
        "listNotifications 2": ("GET", f"/notifications?{window}&filter=email_notification", None),
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
        "createEscalationPolicy 2": (
            "POST",
            "/escalation_policies",
            {
                "escalation_policy": {
                    "type": "escalation_policy",
                    "name": "By shifts",
                    "escalation_rules": [
                        {
                            "escalation_delay_in_minutes": 5,
                            "targets": [{"id": v3, "type": "schedule_v3_reference"}],
                            "escalation_rule_assignment_strategy": "round_robin",
                        }
                    ],
                }
            },
        ),
        **{
            f"updateService {number}": (
                "PUT",
                f"/services/{moved}",
                {"service": {"escalation_policy": {"id": policy, "type": "escalation_policy_reference"}}},
            )
            for number, moved in enumerate(_services_of(world, given_up), 2)
        },
        "deleteEscalationPolicy": ("DELETE", f"/escalation_policies/{given_up['id']}", None),
        "listSchedules": ("GET", "/schedules?include[]=schedule_layers", None),
        "listSchedules 2": (
            "GET",
            f"/schedules?include[]=schedule_layers&include[]=final_schedule&include[]=overrides_subschedule&{window}"
            f"&include_next_oncall_for_user={user}&time_zone=UTC",
            None,
        ),
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
        "deleteScheduleOverride": ("DELETE", f"/schedules/{later[0]}/overrides/{later[1]}", None),
        "createSchedulePreview": (
            "POST",
            f"/schedules/preview?{window}&overflow=true",
            {
                "schedule": {
                    "type": "schedule",
                    "name": "Maybe",
                    "time_zone": "Europe/London",
                    "schedule_layers": [layer],
                }
            },
        ),
        "listOnCalls": ("GET", "/oncalls?limit=100", None),
        "listOnCalls 2": ("GET", f"/oncalls?user_ids[]={user}&earliest=true&include[]=users&{window}", None),
        "listOnCalls 3": (
            "GET",
            f"/oncalls?schedule_ids[]={v3}&schedule_ids[]=null&include[]=schedules&include[]=escalation_policies"
            f"&time_zone=Asia/Kolkata&{window}",
            None,
        ),
        "listSchedulesV3": ("GET", "/v3/schedules", None),
        "getScheduleV3": ("GET", f"/v3/schedules/{v3}?include[]=final_schedule&{window}", None),
        "getScheduleV3 2": ("GET", f"{sunny}?include[]=final_schedule&include[]=users&overflow=true&{window}", None),
        "updateScheduleV3": ("PUT", f"/v3/schedules/{v3}", {"schedule": {"name": "Renamed"}}),
        "createScheduleV3": (
            "POST",
            "/v3/schedules",
            {
                "schedule": {
                    "name": "New rota",
                    "time_zone": "Asia/Kolkata",
                    "description": "Of shifts",
                    "teams": [{"id": team, "type": "team_reference"}],
                }
            },
        ),
        "listRotations": ("GET", f"{rotas}/rotations", None),
        "getRotation": ("GET", f"{rotas}/rotations/{rotation['id']}", None),
        "createRotation": ("POST", f"{rotas}/rotations", {}),
        "createEvent": (
            "POST",
            f"{sunny}/rotations/{rotations[0]}/events",
            {
                "event": {
                    "name": "Evenings",
                    "start_time": {"date_time": "2026-12-01T18:00:00+11:00", "time_zone": "Australia/Sydney"},
                    "end_time": {"date_time": "2026-12-01T20:00:00+11:00", "time_zone": "Australia/Sydney"},
                    "effective_since": "2026-12-01T00:00:00Z",
                    "effective_until": "2027-06-01T00:00:00Z",
                    "recurrence": ["RRULE:FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,FR", "EXDATE:20261214T180000"],
                    "assignment_strategy": {
                        "type": "rotating_member_assignment_strategy",
                        "shifts_per_member": 2,
                        "members": [member, {"type": "empty_member"}],
                    },
                }
            },
        ),
        "listEvents": ("GET", f"{events}?limit=10", None),
        "getEvent": ("GET", f"{events}/{rotation['events'][0]['id']}?{window}", None),
        "updateEvent": (
            "PUT",
            f"{events}/{rotation['events'][0]['id']}",
            {"event": {"effective_until": "2027-06-01T00:00:00Z"}},
        ),
        "deleteEvent": (
            "DELETE",
            f"{sunny}/rotations/{rotations[1]}/events/{world.v3[2]['rotations'][1]['events'][0]['id']}",
            None,
        ),
        "deleteRotation": ("DELETE", f"{sunny}/rotations/{rotations[2]}", None),
        "createOverrides": (
            "POST",
            f"/v3/schedules/{v3}/overrides",
            {
                "overrides": [
                    {
                        "type": "override_shift",
                        "rotation_id": rotation["id"],
                        "start_time": "2026-11-25T00:00:00Z",
                        "end_time": "2026-11-25T08:00:00Z",
                        "overridden_member": member,
                        "overriding_member": {"type": "user_member", "user_id": world.users[1]["id"]},
                    }
                ]
            },
        ),
        "listOverrides": ("GET", f"/v3/schedules/{v3}/overrides?{window}", None),
        "getOverride": ("GET", f"{rotas}/overrides/{over}", None),
        "updateOverride": ("PUT", f"{rotas}/overrides/{over}", {"override": {"overriding_member": member}}),
        "deleteOverride": ("DELETE", f"{rotas}/overrides/{over}", None),
        "listCustomShifts": ("GET", f"{custom}?{window}&time_zone=UTC", None),
        "getCustomShift": ("GET", f"{custom}/{world.v3[3]['custom_shifts'][0]['id']}", None),
        "updateCustomShift": (
            "PUT",
            f"{custom}/{world.v3[3]['custom_shifts'][0]['id']}",
            {"custom_shift": {"assignments": [{"type": "shift_assignment", "member": member}]}},
        ),
        "deleteCustomShift": ("DELETE", f"{custom}/{world.v3[3]['custom_shifts'][0]['id']}", None),
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
        "getAnalyticsMetricsIncidentsAll 2": (
            "POST",
            "/analytics/metrics/incidents/all",
            {**month, "aggregate_unit": "week", "time_zone": "Asia/Kolkata", "order": "asc"},
        ),
        "getAnalyticsMetricsIncidentsServiceAll": ("POST", "/analytics/metrics/incidents/services/all", month),
        "getAnalyticsMetricsIncidentsTeamAll": ("POST", "/analytics/metrics/incidents/teams/all", month),
        "getAnalyticsMetricsIncidentsEscalationPolicyAll": (
            "POST",
            "/analytics/metrics/incidents/escalation_policies/all",
            {**month, "aggregate_unit": "month"},
        ),
        "getAnalyticsIncidentsById": ("GET", f"/analytics/raw/incidents/{resolved}", None),
        "getAnalyticsIncidentResponsesById": ("GET", f"/analytics/raw/incidents/{helped}/responses", None),
        "getAnalyticsResponderIncidents": (
            "POST",
            f"/analytics/raw/responders/{world.users[world.incidents[-1].assignee or 0]['id']}/incidents",
            {**month, "limit": 20, "order": "asc"},
        ),
        "getAnalyticsMetricsRespondersAll": ("POST", "/analytics/metrics/responders/all", range_),
        "getAnalyticsMetricsRespondersTeam": ("POST", "/analytics/metrics/responders/teams", range_),
        "getAnalyticsIncidents": ("POST", "/analytics/raw/incidents", {**month, "limit": 50}),
        "listAbilities": ("GET", "/abilities", None),
        **_account_calls(world),
        "getUserNotificationRules": ("GET", f"/users/{user}/notification_rules?include[]=contact_methods", None),
        "getUserNotificationRules 2": ("GET", f"/users/{user}/notification_rules?urgency=all", None),
        "listChangeEvents": ("GET", f"/change_events?{window}&total=true", None),
        "getChangeEvent": ("GET", f"/change_events/{world.changes[0].id}", None),
        "listServiceChangeEvents": ("GET", f"/services/{changed}/change_events?limit=5", None),
        "listIncidentRelatedChangeEvents": ("GET", f"/incidents/{incident}/related_change_events", None),
        "listAuditRecords": ("GET", "/audit/records?limit=50", None),
        "listAuditRecords 2": ("GET", "/audit/records?since=2026-11-01T00:00:00Z&until=2026-11-20T00:00:00Z", None),
    }


def _services_of(world: World, policy: dict[str, Any]) -> list[str]:
    return [row["id"] for row in world.services if row["escalation_policy"]["id"] == policy["id"]]


def _account_calls(world: World) -> Calls:
    """Services and what surrounds them, teams, webhooks, workflows, orchestrations, status pages, standards."""
    service, other = world.services[0]["id"], world.services[7]["id"]
    business, policy, team = world.business[0]["id"], world.policies[0]["id"], world.teams[0]["id"]
    targets = {t["id"] for row in world.policies for rule in row["escalation_rules"] for t in rule["targets"]}
    newcomer = next(
        row["id"]
        for place, row in enumerate(world.users)
        if place not in world.members[0] and row["role"] != "read_only_user"
    )
    member = next(world.users[place]["id"] for place in world.members[0] if world.users[place]["id"] not in targets)
    incident = world.incidents[-7].id
    window, setting = world.windows[-1]["id"], world.grouping[0]["id"]
    orchestration = world.orchestrations[0]["id"]
    page = world.status_pages[0]
    post = page["posts"][0]

    def word(plural: str, kind: str) -> dict[str, str]:
        return {"id": next(row["id"] for row in page[plural] if row["post_type"] == kind)}

    def update(kind: str) -> dict[str, Any]:
        return {
            "type": "status_page_post_update",
            "message": "We are looking.",
            "status": word("statuses", kind),
            "severity": word("severities", kind),
            "impacted_services": [
                {"service": {"id": page["services"][0]["id"]}, "impact": word("impacts", kind)},
            ],
            "update_frequency_ms": None,
            "notify_subscribers": False,
        }

    ends = {
        "supporting_service": {"id": other, "type": "service"},
        "dependent_service": {"id": business, "type": "business_service"},
    }
    hours = {
        "type": "fixed_time_per_day",
        "time_zone": "America/Lima",
        "start_time": "09:00:00",
        "end_time": "17:00:00",
        "days_of_week": [1, 2, 3, 4, 5],
    }
    constant = {"type": "constant", "urgency": "high"}
    return {
        "createService": (
            "POST",
            "/services",
            {
                "service": {
                    "type": "service",
                    "name": "A new service",
                    "escalation_policy": {"id": policy, "type": "escalation_policy_reference"},
                    "incident_urgency_rule": {
                        "type": "use_support_hours",
                        "during_support_hours": constant,
                        "outside_support_hours": {"type": "constant", "urgency": "low"},
                    },
                    "support_hours": hours,
                    "scheduled_actions": [
                        {
                            "type": "urgency_change",
                            "at": {"type": "named_time", "name": "support_hours_start"},
                            "to_urgency": "high",
                        }
                    ],
                    "alert_grouping_parameters": {"type": "time", "config": {"timeout": 600}},
                }
            },
        ),
        "updateService": (
            "PUT",
            f"/services/{other}",
            {"service": {"type": "service", "auto_resolve_timeout": 0, "acknowledgement_timeout": 600}},
        ),
        "listServices 2": ("GET", "/services?limit=100&include[]=integrations", None),
        "getServiceIntegration": ("GET", f"/services/{service}/integrations/PINT{service[-3:]}", None),
        "getServiceIntegration 2": (
            "GET",
            f"/services/{service}/integrations/PEML{service[-3:]}?include[]=services",
            None,
        ),
        "listBusinessServices": ("GET", "/business_services?total=true", None),
        "getBusinessService": ("GET", f"/business_services/{business}", None),
        "getBusinessServiceImpacts": (
            "GET",
            "/business_services/impacts?additional_fields[]=services.highest_impacting_priority"
            "&additional_fields[]=total_impacted_count",
            None,
        ),
        "getBusinessServiceImpacts 2": ("GET", f"/business_services/impacts?ids[]={business}", None),
        "getBusinessServiceSupportingServiceImpacts": (
            "GET",
            f"/business_services/{business}/supporting_services/impacts",
            None,
        ),
        "createServiceDependency": ("POST", "/service_dependencies/associate", {"relationships": [ends]}),
        "deleteServiceDependency": ("POST", "/service_dependencies/disassociate", {"relationships": [ends]}),
        "listMaintenanceWindows": (
            "GET",
            "/maintenance_windows?include[]=services&include[]=teams&include[]=users&total=true",
            None,
        ),
        "getMaintenanceWindow": ("GET", f"/maintenance_windows/{window}?include[]=services", None),
        "listMaintenanceWindows 2": ("GET", "/maintenance_windows?filter=past", None),
        "createMaintenanceWindow": (
            "POST",
            "/maintenance_windows",
            {
                "maintenance_window": {
                    "type": "maintenance_window",
                    "start_time": "2026-12-01T00:00:00Z",
                    "end_time": "2026-12-01T02:00:00Z",
                    "services": [{"id": service, "type": "service_reference"}],
                    "description": "New disks",
                }
            },
        ),
        "updateMaintenanceWindow": (
            "PUT",
            f"/maintenance_windows/{window}",
            {"maintenance_window": {"type": "maintenance_window", "description": "Put off"}},
        ),
        "listAlertGroupingSettings": ("GET", "/alert_grouping_settings?total=true", None),
        "listAlertGroupingSettings 2": ("GET", f"/alert_grouping_settings?service_ids[]={service}", None),
        "getAlertGroupingSetting": ("GET", f"/alert_grouping_settings/{setting}", None),
        "listTeams": ("GET", "/teams?query=a", None),
        "getTeam": ("GET", f"/teams/{team}", None),
        "updateTeamUser": ("PUT", f"/teams/{team}/users/{newcomer}", {"role": "observer"}),
        "listTeamUsers": ("GET", f"/teams/{team}/members", None),
        "listTeamUsers 2": ("GET", f"/teams/{team}/members?include[]=users&limit=2", None),
        "deleteTeamUser": ("DELETE", f"/teams/{team}/users/{member}", None),
        "listPriorities": ("GET", "/priorities", None),
        "createWebhookSubscription": (
            "POST",
            "/webhook_subscriptions",
            {
                "webhook_subscription": {
                    "type": "webhook_subscription",
                    "delivery_method": {
                        "type": "http_delivery_method",
                        "url": "https://example.com/receive",
                        "custom_headers": [{"name": "X-Mine", "value": "mine"}],
                    },
                    "description": "Elsewhere",
                    "events": ["incident.triggered", "incident.resolved"],
                    "filter": {"id": service, "type": "service_reference"},
                }
            },
        ),
        "listWebhookSubscriptions": ("GET", "/webhook_subscriptions?total=true", None),
        "listWebhookSubscriptions 2": (
            "GET",
            f"/webhook_subscriptions?filter_type=service&filter_id={service}",
            None,
        ),
        "getWebhookSubscription": ("GET", f"/webhook_subscriptions/{world.webhooks[0]['id']}", None),
        "deleteWebhookSubscription": ("DELETE", f"/webhook_subscriptions/{world.webhooks[1]['id']}", None),
        "listExtensionSchemas": ("GET", "/extension_schemas?limit=3", None),
        "getExtensionSchema": ("GET", f"/extension_schemas/{world.extension_schemas[0]['id']}", None),
        "listIncidentWorkflows": ("GET", "/incident_workflows?include[]=steps&include[]=team", None),
        "listIncidentWorkflows 2": ("GET", "/incident_workflows?query=major", None),
        "getIncidentWorkflow": ("GET", f"/incident_workflows/{world.workflows[0]['id']}", None),
        "createIncidentWorkflowInstance": (
            "POST",
            f"/incident_workflows/{world.workflows[0]['id']}/instances",
            {"incident_workflow_instance": {"incident": {"id": incident, "type": "incident_reference"}}},
        ),
        "createAutomationActionInvocation": (
            "POST",
            f"/automation_actions/actions/{world.automation_actions[0]['id']}/invocations",
            {"invocation": {"metadata": {"incident_id": incident}}},
        ),
        "createAutomationActionInvocation 2": (
            "POST",
            f"/automation_actions/actions/{world.automation_actions[1]['id']}/invocations",
            {"invocation": {"metadata": {"incident_id": incident, "alert_id": f"A{incident[1:]}"}}},
        ),
        "listEventOrchestrations": ("GET", "/event_orchestrations?sort_by=routes:desc", None),
        "getOrchestration": ("GET", f"/event_orchestrations/{orchestration}", None),
        "getOrchPathRouter": ("GET", f"/event_orchestrations/{orchestration}/router", None),
        "getOrchPathGlobal": ("GET", f"/event_orchestrations/{orchestration}/global", None),
        "getOrchPathService": ("GET", f"/event_orchestrations/services/{service}", None),
        "getOrchPathService 2": ("GET", f"/event_orchestrations/services/{other}", None),
        "updateOrchPathRouter": (
            "PUT",
            f"/event_orchestrations/{orchestration}/router",
            {
                "orchestration_path": {
                    "type": "router",
                    "sets": [
                        {
                            "id": "start",
                            "rules": [
                                {
                                    "label": "Where the event says",
                                    "actions": {
                                        "dynamic_route_to": {
                                            "source": "event.custom_details.service",
                                            "regex": ".*",
                                            "lookup_by": "service_name",
                                        }
                                    },
                                },
                                {
                                    "label": "Databases",
                                    "conditions": [{"expression": "event.summary matches part 'database'"}],
                                    "actions": {"route_to": service},
                                },
                            ],
                        }
                    ],
                    "catch_all": {"actions": {"route_to": other}},
                }
            },
        ),
        "listStatusPages": ("GET", "/status_pages?status_page_type=public", None),
        "listStatusPageSeverities": ("GET", f"/status_pages/{page['id']}/severities?post_type=incident", None),
        "listStatusPageImpacts": ("GET", f"/status_pages/{page['id']}/impacts", None),
        "listStatusPageStatuses": ("GET", f"/status_pages/{page['id']}/statuses?post_type=maintenance", None),
        "createStatusPagePost": (
            "POST",
            f"/status_pages/{page['id']}/posts",
            {
                "post": {
                    "type": "status_page_post",
                    "title": "New disks",
                    "post_type": "maintenance",
                    "starts_at": "2026-12-01T00:00:00Z",
                    "ends_at": "2026-12-01T02:00:00Z",
                    "updates": [update("maintenance")],
                    "status_page": {"id": page["id"], "type": "status_page"},
                }
            },
        ),
        "createStatusPagePostUpdate": (
            "POST",
            f"/status_pages/{page['id']}/posts/{post['id']}/post_updates",
            {"post_update": update("incident")},
        ),
        "listStatusPagePosts": ("GET", f"/status_pages/{page['id']}/posts?post_type=incident", None),
        "getStatusPagePost": (
            "GET",
            f"/status_pages/{page['id']}/posts/{post['id']}?include[]=status_page_post_update",
            None,
        ),
        "listStatusPagePostUpdates": ("GET", f"/status_pages/{page['id']}/posts/{post['id']}/post_updates", None),
        "listStandards": ("GET", "/standards?active=true", None),
        "listResourceStandardsManyServices": (
            "GET",
            f"/standards/scores/technical_services?ids={service}&ids={other}",
            None,
        ),
        "getPausedIncidentReportCounts": ("GET", "/paused_incident_reports/counts?suspended_by=auto_pause", None),
    }
