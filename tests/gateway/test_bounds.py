"""Two teams of one PagerDuty account, each through a connection that is bounded to its own part: every call that there is, with
the ids of either and with ids of nobody, and not a word of the other's in any answer."""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from integrations.gateway.integration import Bounds, Connection
from integrations.pagerduty.bounds import MAXIMUM_NAMED, Held, _included, _Outside, _Owners
from integrations.pagerduty.catalog import BOUNDS_OF, TOOLS
from integrations.pagerduty.sandbox.world import World, demo_from_email, demo_tokens, generate
from tests.calls import calls as all_calls
from tests.gateway.mcp import Mcp
from tests.gateway.processes import Answer, Portal, free_port, running
from tests.gateway.test_every_tool import arrivals, as_a_tool_may
from tests.integrations.test_tools_reads import rows

NOW = dt.datetime(2026, 11, 23, 12, tzinfo=dt.UTC)
SEED = 7
TOKENS = demo_tokens(SEED)
WORD = re.compile(rb"[A-Za-z0-9_-]{6,40}")
BOUNDS = {
    "a": {"team_ids": ["PTEAM00"], "service_ids": []},
    "b": {"team_ids": ["PTEAM01"], "service_ids": ["PSVC00E"]},
    "c": {"team_ids": [], "service_ids": ["PSVC002", "PSVC003"]},
}


def issue(portal: Portal) -> dict[str, str]:
    """A key each for a team with every tool on, whose connections are bounded as ``BOUNDS`` says."""
    tokens = {"a": TOKENS["account_4"].value, "b": TOKENS["account_5"].value, "c": TOKENS["account_3"].value}
    made = portal.shell(
        "import json\n"
        "from integrations.actions import do_issue_agent_key, do_register_token\n"
        "from integrations.pagerduty.catalog import TOOLS\n"
        "from policies.models import Team, User\n"
        "ada, team, keys = User.objects.get(name='Ada'), Team.objects.get(name='Payments'), {}\n"
        f"for name, bounds in {BOUNDS!r}.items():\n"
        f"    connection = do_register_token(team, name=name, token={tokens!r}[name], kind='account', region='sandbox', by=ada,\n"
        f"        from_email={demo_from_email(SEED)!r}, **bounds)\n"
        "    keys[name] = do_issue_agent_key(connection, name=name, by=ada, tools=TOOLS, calls_per_minute=0)[1]\n"
        "print(json.dumps(keys))"
    )
    keys: dict[str, str] = json.loads(made)
    return keys


@dataclass(frozen=True)
class Place:
    portal: Portal
    keys: dict[str, str]
    world: World

    def ask(self, who: str, method: str, path: str, body: Any = None) -> Answer:
        return self.portal.call(method, path, body, key=self.keys[who])

    def arrived(self) -> int:
        return arrivals(self.portal.upstream_url)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    port = free_port()
    sandbox = ("--port", str(port), "--seed", str(SEED), "--now", NOW.isoformat())
    with running("-m", "integrations.pagerduty.sandbox", *sandbox, port=port):
        portal = Portal(tmp_path_factory.mktemp("portal"), f"http://127.0.0.1:{port}")
        try:
            portal.seed(
                token=TOKENS["account"].value, states=dict.fromkeys(TOOLS, "on"), from_email=demo_from_email(SEED)
            )
            keys = issue(portal)
            portal.start()
            yield Place(portal, keys, generate(SEED, NOW))
        finally:
            portal.close()


def own(row: dict[str, Any], bounds: dict[str, list[str]]) -> bool:
    """Whether a row of the account is inside: written down here, not taken from the portal's own reading."""
    teams = {team["id"] for team in row.get("teams") or [row.get("team") or {"id": ""}]}
    return bool(teams & set(bounds["team_ids"])) or row["id"] in bounds["service_ids"]


def foreign(world: World, bounds: dict[str, list[str]], *, met: bool = True) -> dict[str, list[str]]:
    """Ids of what is outside by kind, as the account itself has it. ``met``: but for what is part of what is inside, for that
    names it: an own service's policy, whom an own policy or schedule pages, who worked on an own incident."""
    services = {row["id"] for row in world.services if own(row, bounds)}
    policies = {row["id"] for row in world.policies if own(row, bounds)}
    places = {place for place, row in enumerate(world.services) if row["id"] in services}
    teams = [place for place, row in enumerate(world.teams) if row["id"] in bounds["team_ids"]]
    seen: set[str] = set(bounds["team_ids"])
    if met:
        used = {row["escalation_policy"]["id"] for row in world.services if row["id"] in bounds["service_ids"]}
        shown = [row for row in world.policies if row["id"] in policies | used]
        shown += [row for row in (*world.schedules, *world.v3) if own(row, bounds)]
        seen |= used | {team["id"] for row in world.services if row["id"] in services for team in row["teams"]}
        seen |= {id for row in shown for id in re.findall(r"(?:PUSR|PSCH|PV3S)\w+", json.dumps(row))}
        seen |= {
            world.users[place]["id"]
            for incident in world.incidents
            if incident.service in places
            for place in (incident.assignee, *(step[2] for step in incident.steps()))
            if place is not None
        }
    rows = {
        "team": [row["id"] for row in world.teams],
        "service": [row["id"] for row in world.services if row["id"] not in services],
        "escalation_policy": [row["id"] for row in world.policies if row["id"] not in policies],
        "schedule": [row["id"] for row in world.schedules if not own(row, bounds)],
        "schedule_v3": [row["id"] for row in world.v3 if not own(row, bounds)],
        "user": [row["id"] for row in world.users if not own(row, bounds)],
        "incident": [row.id for row in world.incidents if row.service not in places],
        "business_service": [row["id"] for row in world.business if not own(row, bounds)],
        "incident_workflow": [row["id"] for row in world.workflows if not own(row, bounds)],
        "event_orchestration": [row["id"] for row in world.orchestrations if row["team"] not in teams],
        "maintenance_window": [row["id"] for row in world.windows if not services & set(row["services"])],
        "alert_grouping_setting": [row["id"] for row in world.grouping if not services & set(row["services"])],
        "change_event": [change.id for change in world.changes if change.service not in places],
    }
    return {kind: [id for id in ids if id not in seen] for kind, ids in rows.items()}


def inside(world: World, bounds: dict[str, list[str]]) -> dict[str, list[str]]:
    """Ids of what is inside by itself, by kind."""
    everything = foreign(world, {"team_ids": [], "service_ids": []}, met=False)
    outside = foreign(world, bounds, met=False)
    return {kind: sorted(set(ids) - set(outside[kind])) for kind, ids in everything.items()}


def words(answer: Answer) -> set[str]:
    return {word.decode() for word in WORD.findall(answer.body)}


def swap(call: tuple[str, str, Any], ids: dict[str, str]) -> tuple[str, str, Any]:
    """The call with other ids in it."""
    method, path, body = call
    text = json.dumps([path, body])
    for old, new in ids.items():
        text = re.sub(rf"(?<![\w-]){re.escape(old)}(?![\w-])", new, text)
    path, body = json.loads(text)
    return method, path, body


def words_of(call: tuple[str, str, Any]) -> set[str]:
    return {word.decode() for word in WORD.findall(json.dumps(call).encode())}


NOT_HERE = {
    "createEscalationPolicy": "the table's names no team",
    "getBusinessServiceServiceDependencies": "the account's all reach over teams",
    "getIncidentAlert": "the table's is of another incident",
    "getLogEntry": "the table's is of another team's incident",
    "getMaintenanceWindow": "the team has none",
    "getWebhookSubscription": "the table's is of the whole account",
    "listEscalationPolicies": "the table includes the targets, some of which are others'",
    "updateMaintenanceWindow": "the team has none",
    "updateOrchPathRouter": "the table's sends events where they say themselves",
}
"""What the team with the bounds "a" gets no answer to from the table of calls, and why."""


@pytest.mark.parametrize("who", BOUNDS)
def test_nothing_of_another_team_is_in_any_answer(place: Place, who: str) -> None:
    """Every call of the table as it is, and with all ids swapped for some inside."""
    world, bounds = place.world, BOUNDS[who]
    canaries = {id for ids in foreign(world, bounds).values() for id in ids}
    # Whoever writes is the connection's own person, and nobody of the team's.
    canaries.discard("PUSR000")
    own = inside(world, bounds)
    swapped = {id: own[kind][0] for kind, ids in foreign(world, bounds, met=False).items() for id in ids if own[kind]}
    leaks: list[tuple[str, str]] = []
    denied: set[str] = set()
    answered: set[str] = set()
    for name, call in sorted(as_a_tool_may(all_calls(world)).items(), key=lambda row: row[0] == "deleteTeamUser"):
        for asked in (call, swap(call, {id: swapped[id] for id in words_of(call) & swapped.keys()})):
            answer = place.ask(who, *asked)
            leaks += [(name, word) for word in words(answer) & canaries - words_of(asked)]
            (denied if answer.status == 403 else answered).add(name.partition(" ")[0])
    assert leaks == []
    unbounded = {operation for operation, word in BOUNDS_OF.items() if word == "unbounded"}
    assert not unbounded & answered
    # What is allowed is not merely everything denied.
    if who == "a":
        assert denied - answered - unbounded == NOT_HERE.keys()


@pytest.mark.parametrize("who", BOUNDS)
def test_nothing_of_another_team_is_in_what_a_tool_makes_of_answers(place: Place, who: str) -> None:
    """Every tool that reads, by MCP: names it looks up and calls it makes beside its own are held like any other."""
    world, bounds = place.world, BOUNDS[who]
    canaries = {id for ids in foreign(world, bounds).values() for id in ids} - {"PUSR000"}
    own = inside(world, bounds)
    swapped = {id: own[kind][0] for kind, ids in foreign(world, bounds, met=False).items() for id in ids if own[kind]}
    mcp = Mcp(place.portal.url, place.keys[who])
    leaks, answered = [], set()
    for name, arguments in rows(world).items():
        inner = swap(
            (name, "", arguments), {id: swapped[id] for id in words_of((name, "", arguments)) & swapped.keys()}
        )
        for asked, detail in itertools.product((arguments, inner[2]), ("slim", "full")):
            used = mcp.use(name, **asked, detail=detail)
            said = {word.decode() for word in WORD.findall(used.text.encode())}
            leaks += [(name, word) for word in said & canaries - words_of((name, "", asked))]
            if not used.is_error:
                answered.add(name)
    assert leaks == []
    assert len(answered) > (20 if who == "c" else 35), sorted(answered)


KINDS = {
    "business_services": "business_service",
    "change_events": "change_event",
    "escalation_policies": "escalation_policy",
    "event_orchestrations": "event_orchestration",
    "incident_workflows": "incident_workflow",
    "incidents": "incident",
    "alert_grouping_settings": "alert_grouping_setting",
    "maintenance_windows": "maintenance_window",
    "responders": "user",
    "schedules": "schedule",
    "services": "service",
    "teams": "team",
    "technical_services": "service",
    "users": "user",
}
"""A path's segment → what kind of thing the id after it is."""
PATHS = {name: call for name, call in as_a_tool_may(all_calls(generate(SEED, NOW))).items() if " " not in name}


def first_id(path: str) -> tuple[str, str] | None:
    """The kind and the id that a path names first."""
    segments = path.partition("?")[0].strip("/").split("/")
    for segment, id in itertools.pairwise(segments):
        if segment in KINDS and (id[:1] == "P" or "-" in id):
            return ("schedule_v3" if segments[0] == "v3" else KINDS[segment]), id
    return None


def test_what_is_anothers_and_what_is_nowhere_are_answered_alike(place: Place) -> None:
    """In words, in status and in the calls that it takes; and nothing is done to it."""
    outside = foreign(place.world, BOUNDS["a"], met=False)
    apart, decisions = [], []
    for name, (method, path, body) in PATHS.items():
        if (found := first_id(path)) is None:
            continue
        kind, id = found
        nowhere = "ffffffff-ffff-4fff-8fff-ffffffffffff" if "-" in id else id[:4] + "Z" * (len(id) - 4)
        told = []
        # Once before: what is known for a minute of all that is inside is asked for then.
        place.ask("a", method, path.replace(id, nowhere[:-1] + ("e" if "-" in id else "Y"), 1), body)
        for other in (outside[kind][1 % len(outside[kind])], nowhere):
            before = place.arrived()
            answer = place.ask("a", method, path.replace(id, other, 1), body)
            told.append((answer.status, answer.body.replace(other.encode(), b"?"), place.arrived() - before))
            decisions.append(answer.headers["x-pagewarden-decision"])
        if told[0] != told[1] or told[0][0] != 403:
            apart.append((name, told))
    assert apart == []
    entries = [
        entry for entry in place.portal.entries(kind__in=["intent", "result"]) if entry["decision_id"] in decisions
    ]
    assert {(entry["kind"], entry["verdict"], entry["record"]["details"]["rule"]) for entry in entries} == {
        ("result", "deny", "bounds")
    }
    assert len(entries) == len(decisions) > 150


NEW_POLICY = {
    "type": "escalation_policy",
    "name": "Ours",
    "escalation_rules": [
        {"escalation_delay_in_minutes": 20, "targets": [{"id": "PSCH000", "type": "schedule_reference"}]}
    ],
}
TEAM_A, TEAM_B = {"id": "PTEAM00", "type": "team_reference"}, {"id": "PTEAM01", "type": "team_reference"}
USER_B = {"type": "user_member", "user_id": "PUSR001"}
INCIDENT = {"type": "incident", "title": "Ours", "service": {"id": "PSVC000", "type": "service_reference"}}
POLICY_B = {"id": "PESC001", "type": "escalation_policy_reference"}
ROUTER = "/event_orchestrations/c154a4d9-3e5a-4816-9326-35938e81dbd2/router"


def month(**filters: Any) -> dict[str, Any]:
    return {
        "filters": {"created_at_start": "2026-10-20T00:00:00Z", "created_at_end": "2026-11-23T00:00:00Z", **filters}
    }


@pytest.mark.parametrize(
    ("who", "method", "path", "body", "status", "said"),
    [
        # Filters are intersected with what was asked, in the one spelling that PagerDuty has.
        ("a", "GET", "/incidents?team_ids[]=PTEAM01", None, 403, "None of the team ids that were asked for"),
        ("a", "GET", "/incidents?team_ids[]=PTEAM01&team_ids[]=PTEAM00", None, 200, ""),
        ("a", "GET", "/incidents?team_ids=PTEAM01", None, 400, "team_ids[]"),
        ("a", "GET", "/incidents?service_ids=PSVC007", None, 400, "service_ids[]"),
        ("a", "GET", "/incidents?service_ids[]=PSVC007", None, 403, "None of the service ids that were asked for"),
        ("a", "GET", "/incidents?service_ids[]=PSVC007&service_ids[]=PSVC000", None, 200, ""),
        ("a", "POST", "/analytics/raw/incidents", month(service_ids=["PSVC007"]), 403, "None of the service ids"),
        ("a", "POST", "/analytics/raw/incidents", month(service_ids=["PSVC000"]), 200, ""),
        ("a", "GET", "/oncalls?escalation_policy_ids[]=PESC001", None, 403, "None of the escalation policy ids"),
        ("a", "POST", "/analytics/raw/incidents", month(team_ids=["PTEAM01"]), 403, "None of the team ids"),
        ("a", "POST", "/analytics/raw/incidents", month(team_ids="PTEAM01"), 403, "must be a list"),
        ("a", "POST", "/analytics/raw/incidents", {"filters": ["PTEAM01"]}, 403, "filters must be an object"),
        ("a", "POST", "/analytics/metrics/incidents/all", month(escalation_policy_ids=["PESC001"]), 403, "PESC001"),
        ("c", "GET", "/services", None, 403, "held by teams alone"),
        ("c", "GET", "/users", None, 403, "held by teams alone"),
        ("c", "GET", "/incidents?service_ids[]=PSVC000", None, 403, "None of the service ids"),
        # What is new must be somebody's who is inside.
        ("a", "POST", "/escalation_policies", {"escalation_policy": NEW_POLICY}, 403, "must name its teams"),
        ("a", "POST", "/escalation_policies", {"escalation_policy": {**NEW_POLICY, "teams": [TEAM_B]}}, 403, "PTEAM01"),
        (
            "a",
            "POST",
            "/escalation_policies",
            {"escalation_policy": {**NEW_POLICY, "teams": [TEAM_A, TEAM_B]}},
            403,
            "PTEAM01",
        ),
        ("a", "POST", "/escalation_policies", {"escalation_policy": {**NEW_POLICY, "teams": [TEAM_A]}}, 201, ""),
        ("c", "POST", "/escalation_policies", {"escalation_policy": NEW_POLICY}, 403, "belongs to a team"),
        ("a", "POST", "/v3/schedules", {"schedule": {"name": "Rota", "time_zone": "UTC"}}, 403, "must name its teams"),
        ("a", "POST", "/incidents", {"incident": INCIDENT}, 201, ""),
        ("a", "POST", "/incidents", {"incident": {**INCIDENT, "service": {"id": "PSVC007"}}}, 403, "PSVC007"),
        (
            "a",
            "POST",
            "/incidents",
            {"incident": {"type": "incident", "title": "Whose?"}},
            403,
            "must name its service",
        ),
        ("c", "POST", "/incidents", {"incident": {**INCIDENT, "service": {"id": "PSVC002"}}}, 201, ""),
        # Nobody outside is woken, assigned or put on call.
        ("a", "POST", "/incidents", {"incident": {**INCIDENT, "escalation_policy": POLICY_B}}, 403, "PESC001"),
        (
            "a",
            "POST",
            "/incidents",
            {"incident": {**INCIDENT, "assignments": [{"assignee": {"id": "PUSR001", "type": "user_reference"}}]}},
            403,
            "PUSR001",
        ),
        # A reference whose type and place are at odds is judged as both.
        (
            "a",
            "POST",
            "/incidents",
            {"incident": {**INCIDENT, "service": {"id": "PTEAM00", "type": "team_reference"}}},
            403,
            "service PTEAM00",
        ),
        ("a", "POST", "/incidents", {"incident": {**INCIDENT, "thing": {"id": "PSVC007"}}}, 403, "cannot be told"),
        ("a", "POST", "/incidents", {"incident": {**INCIDENT, "vendor_id": "P1"}}, 403, "vendor_id"),
        ("a", "POST", "/incidents", {"incident": {**INCIDENT, "user_id": ["PUSR001"]}}, 403, "PUSR001"),
        (
            "a",
            "POST",
            "/v3/schedules/PV3S000/custom_shifts",
            {
                "custom_shifts": [
                    {"type": "custom_shift", "assignments": [{"type": "shift_assignment", "member": USER_B}]}
                ]
            },
            403,
            "PUSR001",
        ),
        # Nothing inside is handed to anybody outside.
        (
            "a",
            "PUT",
            "/services/PSVC000",
            {"service": {"type": "service", "escalation_policy": POLICY_B}},
            403,
            "PESC001",
        ),
        (
            "a",
            "PUT",
            "/escalation_policies/PESC000",
            {"escalation_policy": {"teams": []}},
            403,
            "take the escalation policy",
        ),
        ("a", "PUT", "/schedules/PSCH000", {"schedule": {"teams": None, "time_zone": "UTC"}}, 403, "take the schedule"),
        (
            "a",
            "PUT",
            ROUTER,
            {"orchestration_path": {"catch_all": {"actions": {"route_to": "PSVC007"}}}},
            403,
            "PSVC007",
        ),
        (
            "a",
            "POST",
            "/webhook_subscriptions",
            {"webhook_subscription": {"filter": {"type": "account_reference"}, "type": "webhook_subscription"}},
            403,
            "must name its filter",
        ),
        (
            "a",
            "POST",
            "/webhook_subscriptions",
            {"webhook_subscription": {"filter": {"type": "account_reference", "id": "PTEAM00"}}},
            403,
            "cannot be told",
        ),
        (
            "a",
            "PUT",
            "/incidents",
            {"incidents": [{"id": f"PI00{n:04d}", "title": "x"} for n in range(101)]},
            403,
            "at most 100",
        ),
        # What bounds cannot hold.
        ("a", "GET", "/teams", None, 403, "allow list_teams account-wide"),
        ("a", "GET", "/audit/records", None, 403, "list_audit_records reaches the whole"),
    ],
)
def test_a_call_is_kept_inside(
    place: Place, who: str, method: str, path: str, body: Any, status: int, said: str
) -> None:
    answer = place.ask(who, method, path, body)
    assert answer.status == status, answer.body
    if said:
        assert said in " ".join(answer.errors)


def test_bounds_of_teams_and_services_are_a_union(place: Place) -> None:
    incidents = place.ask("b", "GET", "/incidents?date_range=all&limit=100").json()["incidents"]
    assert {incident["service"]["id"] == "PSVC00E" for incident in incidents} == {True, False}
    assert {team["id"] for incident in incidents for team in incident["teams"]} == {"PTEAM01", "PTEAM02"}
    policies = {row["escalation_policy"]["id"] for row in place.ask("b", "GET", "/oncalls?limit=100").json()["oncalls"]}
    assert {"PESC001", "PESC002"} <= policies
    assert place.ask("b", "GET", "/services/PSVC00E").status == 200
    assert place.ask("b", "GET", "/services/PSVC00F").status == 403


def test_an_entry_tells_what_was_forced_and_who_looked(place: Place) -> None:
    answer = place.ask("b", "GET", "/incidents?limit=1")
    entry = place.portal.entries(decision_id=answer.headers["x-pagewarden-decision"])[0]["record"]["details"]
    assert "PSVC00E" in entry["held"]["service_ids"]
    place.ask("a", "GET", "/incidents/PI000001/notes")
    looked = [entry for entry in place.portal.entries(actor="job:bounds") if entry["tool"] == "get_incident"]
    assert looked[-1]["record"]["details"]["on_behalf_of"] == "a"
    # What was found is for administrators and auditors: the team could learn from it what another has.
    assert {entry["team_id"] for entry in looked} == {None}


def test_an_answer_that_is_not_released_is_on_record(place: Place) -> None:
    answer = place.ask("a", "GET", "/services/PSVC007")
    entry = place.portal.entries(decision_id=answer.headers["x-pagewarden-decision"])[0]
    assert (entry["verdict"], entry["outcome"]) == ("deny", "denied")
    upstream = entry["record"]["details"]["upstream"]
    assert (upstream["withheld"], upstream["attempts"]) == (True, 1)
    # The team's own people read it: they learn no more than the agent did.
    assert not {"status", "bytes"} & upstream.keys()


def test_a_tool_that_an_administrator_allows_account_wide_works_and_no_other(place: Place) -> None:
    place.portal.shell(
        "from integrations.actions import do_set_account_wide\n"
        "from integrations.models import Connection\n"
        "from policies.models import User\n"
        "do_set_account_wide(Connection.objects.get(name='a'), tools=['list_priorities'], by=User.objects.get(name='Ada'))"
    )
    until = time.monotonic() + 5
    while (answer := place.ask("a", "GET", "/priorities")).status == 403 and time.monotonic() < until:
        time.sleep(0.1)
    assert answer.status == 200
    assert place.ask("a", "GET", "/teams").status == 403
    assert place.ask("b", "GET", "/priorities").status == 403


def test_what_a_write_makes_is_known_at_once(place: Place) -> None:
    """Who owns what is remembered for a minute, but not over the connection's own writes."""
    assert place.ask("a", "GET", "/alert_grouping_settings").status == 200  # lists the services inside
    policy = {"id": "PESC000", "type": "escalation_policy_reference"}
    made = place.ask(
        "a", "POST", "/services", {"service": {"type": "service", "name": "Newest", "escalation_policy": policy}}
    )
    id = made.json()["service"]["id"]
    assert place.ask("a", "GET", f"/alert_grouping_settings?service_ids[]={id}").status == 200
    assert place.ask("a", "GET", f"/services/{id}/change_events").status == 200


def priority(id: str) -> dict[str, str]:
    return {"id": id, "type": "priority_reference"}


@pytest.mark.parametrize(
    ("method", "path", "body", "said"),
    [
        # A priority is nobody's, but it is one only where a priority stands: PagerDuty goes by the place.
        (
            "POST",
            "/escalation_policies",
            {
                "escalation_policy": {
                    **NEW_POLICY,
                    "teams": [TEAM_A],
                    "escalation_rules": [{"escalation_delay_in_minutes": 20, "targets": [priority("PUSR001")]}],
                }
            },
            "a priority under targets",
        ),
        (
            "POST",
            "/incidents/PI000001/responder_requests",
            {
                "requester_id": "PUSR000",
                "message": "",
                "responder_request_targets": [{"responder_request_target": priority("PUSR001")}],
            },
            "a priority under responder_request_target",
        ),
        # An id that is no reference says nothing of whose a new thing is, or stays.
        ("POST", "/incidents", {"incident": {**INCIDENT, "service": "PSVC007"}}, "must name its service"),
        (
            "POST",
            "/escalation_policies",
            {"escalation_policy": {**NEW_POLICY, "teams": ["PTEAM01"]}},
            "must name its teams",
        ),
        ("POST", "/maintenance_windows", {"maintenance_window": {"services": ["PSVC007"]}}, "must name its services"),
        (
            "PUT",
            "/escalation_policies/PESC000",
            {"escalation_policy": {"teams": ["PTEAM01"]}},
            "take the escalation policy",
        ),
        ("GET", "/standards/scores/technical_services?ids=PSVC000/", None, "no id of PagerDuty's"),
    ],
)
def test_nothing_passes_as_what_nobody_judges(place: Place, method: str, path: str, body: Any, said: str) -> None:
    answer = place.ask("a", method, path, body)
    assert answer.status == 403, answer.body
    assert said in " ".join(answer.errors)


def test_a_priority_may_be_set(place: Place) -> None:
    incident = place.ask("a", "POST", "/incidents", {"incident": INCIDENT}).json()["incident"]["id"]
    body = {"incident": {"type": "incident_reference", "priority": priority("PPRI000")}}
    assert place.ask("a", "PUT", f"/incidents/{incident}", body).status == 200


def forget(place: Place, who: str) -> None:
    """Nothing that was known of who owns what is any more: a write came."""
    own = {"a": "PSVC000", "b": "PSVC00E", "c": "PSVC002"}[who]
    assert place.ask(who, "PUT", f"/services/{own}", {"service": {"name": 5}}).status == 400


@pytest.mark.parametrize(
    ("who", "method", "path", "other"),
    [
        ("a", "PUT", "/maintenance_windows/{}", "PMW0000"),
        ("a", "GET", "/webhook_subscriptions/{}", "PWHK000"),
        ("a", "DELETE", "/webhook_subscriptions/{}", "PWHK000"),
        # Of the other kind, which PagerDuty answers with 400, or with a parameter that it refuses.
        ("a", "GET", "/schedules/{}", "PV3S001"),
        ("a", "GET", "/v3/schedules/{}?time_zone=Nowhere", "PV3S001"),
        # Where services are bounds, a schedule is judged by the policies that use it.
        ("b", "GET", "/schedules/{}", "PSCH003"),
        ("b", "GET", "/schedules/{}/users", "PSCH003"),
        ("b", "GET", "/v3/schedules/{}/overrides", "PV3S000"),
        ("c", "GET", "/schedules/{}", "PSCH003"),
    ],
)
def test_what_is_anothers_takes_as_many_calls_as_what_is_nowhere_when_nothing_is_known_yet(
    place: Place, who: str, method: str, path: str, other: str
) -> None:
    body = {"maintenance_window": {"description": "x"}} if method == "PUT" else None
    told = []
    for id in (other, other[:4] + "ZZZ"):
        forget(place, who)
        before = place.arrived()
        answer = place.ask(who, method, path.format(id), body)
        told.append((answer.status, answer.body.replace(id.encode(), b"?"), place.arrived() - before))
    assert told[0] == told[1]
    assert told[0][0] == 403


@pytest.mark.parametrize(
    ("who", "path", "name"),
    [
        # A policy and a schedule that page people of other teams, and a service that bounds name, of another team's policy.
        ("a", "/escalation_policies/PESC00C", "escalation_policy"),
        ("a", "/schedules/PSCH00E", "schedule"),
        ("b", "/services/PSVC00E", "service"),
    ],
)
def test_what_was_read_may_be_sent_back_whole(place: Place, who: str, path: str, name: str) -> None:
    document = place.ask(who, "GET", path).json()[name]
    ids = set(re.findall(r"(?:PUSR|PESC|PTEAM)\w+", json.dumps(document)))
    outside = {id for ids in foreign(place.world, BOUNDS[who], met=False).values() for id in ids}
    assert ids & outside
    answer = place.ask(who, "PUT", path, {name: document})
    assert answer.status == 200, answer.body
    # And no more than was there.
    added = {**document, "teams": [*document["teams"], {"id": "PTEAM03", "type": "team_reference"}]}
    assert place.ask(who, "PUT", path, {name: added}).status == 403


def test_a_part_that_was_read_may_be_sent_back_whole(place: Place) -> None:
    """It names itself, and what it came by."""
    open_ones = "/incidents?date_range=all&limit=50&statuses[]=triggered&statuses[]=acknowledged"
    alerts = next(
        alerts
        for incident in place.ask("a", "GET", open_ones).json()["incidents"]
        if (alerts := place.ask("a", "GET", f"/incidents/{incident['id']}/alerts").json()["alerts"])
    )
    path = f"/incidents/{alerts[0]['incident']['id']}/alerts"
    rotation = "/v3/schedules/PV3S000/rotations/ROT00000000000000000010001/events"
    event = place.ask("a", "GET", rotation).json()["events"][0]
    overrides = "/v3/schedules/PV3S000/overrides"
    days = "?since=2026-11-01T00:00:00Z&until=2026-12-30T00:00:00Z"
    override = place.ask("a", "GET", overrides + days).json()["overrides"][0]
    for where, body in (
        (f"{path}/{alerts[0]['id']}", {"alert": alerts[0]}),
        (path, {"alerts": alerts}),
        (f"{rotation}/{event['id']}", {"event": event}),
        (f"{overrides}/{override['id']}", {"override": override}),
    ):
        # (Whose shift it is may have left the team meanwhile.)
        assert b"cannot be told" not in place.ask("a", "PUT", where, body).body


def test_an_own_thing_is_not_left_to_the_others_that_share_it(place: Place) -> None:
    shared = {"schedule": {"name": "Shared", "time_zone": "UTC", "teams": [TEAM_A, TEAM_B]}}
    made = place.portal.call("POST", "/v3/schedules", shared, key=place.portal.seeded["key"])
    path = f"/v3/schedules/{made.json()['schedule']['id']}"
    assert place.ask("a", "PUT", path, shared).status == 200
    answer = place.ask("a", "PUT", path, {"schedule": {**shared["schedule"], "teams": [TEAM_B]}})
    assert answer.status == 403
    assert "take the schedule" in " ".join(answer.errors)


def test_a_part_that_is_not_there_is_answered_like_one_of_anothers(place: Place) -> None:
    answer = place.ask("a", "GET", "/services/PSVC000/integrations/PNOSUCH")
    assert answer.status == 403
    assert "integration PNOSUCH is not within" in " ".join(answer.errors)


def test_what_was_known_of_who_owns_what_is_not_kept_beyond_its_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """After each write the lists of what is inside are kept anew: those before must go."""
    now = 1000.0
    monkeypatch.setattr("integrations.pagerduty.bounds.time", SimpleNamespace(monotonic=lambda: now))
    held = Held()
    connection = Connection(
        "1", "a", 1, "Payments", "sandbox", "http://sandbox", "token", b"", "", Bounds(team_ids=frozenset({"PTEAM00"}))
    )

    async def look(path: str, query: str) -> Any:
        return {"services": [{"id": "PSVC000"}], "more": False}

    async def scenario() -> int:
        nonlocal now
        for _ in range(10):
            held._written["1"] = held._written.get("1", 0) + 1
            await _Owners(held, connection, look).services()
            now += 30
        return len(held._known)

    assert asyncio.run(scenario()) == 2


def test_what_include_puts_into_an_answer_is_not_looked_up_without_end() -> None:
    connection = Connection(
        "1", "a", 1, "Payments", "sandbox", "http://sandbox", "token", b"", "", Bounds(team_ids=frozenset({"PTEAM00"}))
    )
    looks = 0

    async def look(path: str, query: str) -> Any:
        nonlocal looks
        looks += 1
        return {"user": {"teams": [{"id": "PTEAM00"}]}}

    people = {"oncalls": [{"user": {"type": "user", "id": f"PUSR{n:03d}"}} for n in range(300)]}
    with pytest.raises(_Outside, match="more than 100"):
        asyncio.run(_included(people, _Owners(Held(), connection, look)))
    assert looks <= MAXIMUM_NAMED
