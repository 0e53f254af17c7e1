"""The MCP door of a running portal in front of the simulated PagerDuty: who sees which tools, what they answer, what a denial
teaches, and what is on record of it."""

from __future__ import annotations

import dataclasses
import json
import socket
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from integrations.pagerduty.catalog import BOUNDS_OF, PRESETS, TOOLS
from integrations.pagerduty.sandbox.world import demo_from_email, demo_tokens
from policies.core.call import State
from tests.gateway.mcp import LEGACY, MODERN, Mcp
from tests.gateway.processes import Portal, free_port, running

SEED = 7
STATES = {
    "add_note_to_incident": "on",
    "update_incident": "needs_approval",
    "list_teams": "off",
    "get_past_incidents": "off",
}


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Portal]:
    port = free_port()
    with running("-m", "integrations.pagerduty.sandbox", "--port", str(port), "--seed", str(SEED), port=port):
        made = Portal(tmp_path_factory.mktemp("portal"), f"http://127.0.0.1:{port}")
        try:
            made.seed(states=STATES, token=demo_tokens(SEED)["account"].value, from_email=demo_from_email(SEED))
            made.seeded["more"] = json.loads(
                made.shell(
                    "import json\n"
                    "from integrations.actions import do_issue_agent_key, do_register_token\n"
                    "from integrations.models import Connection\n"
                    "from integrations.pagerduty.catalog import PRESETS, TOOLS\n"
                    "from policies.models import User\n"
                    "ada, row = User.objects.get(name='Ada'), Connection.objects.get()\n"
                    "issue = lambda row, name, **more: do_issue_agent_key(row, name=name, by=ada, tools=TOOLS, **more)[1]\n"
                    "bounded = do_register_token(row.team, name='Bounded', kind='account', region='sandbox', by=ada,\n"
                    f"    token={demo_tokens(SEED)['account_2'].value!r}, from_email=row.from_email, team_ids=['PTEAM00'])\n"
                    "print(json.dumps({\n"
                    "    'core': issue(row, 'core', narrowed_to=PRESETS['core'], calls_per_minute=0),\n"
                    "    'bounded': issue(bounded, 'bounded', calls_per_minute=0),\n"
                    "    'elsewhere': issue(row, 'elsewhere', networks=['192.0.2.0/24']),\n"
                    "    'slow': issue(row, 'slow', calls_per_minute=2),\n"
                    "}))"
                )
            )
            made.start()
            yield made
        finally:
            made.close()


@pytest.fixture(params=[MODERN, LEGACY])
def mcp(portal: Portal, request: pytest.FixtureRequest) -> Mcp:
    return Mcp(portal.url, portal.seeded["key"], request.param)


def where(portal: Portal, error: dict[str, Any]) -> str:
    """The page that explains a denial to people."""
    return f"{portal.url}/explain/?decision={error['decision_id']}"


def of(portal: Portal, name: str) -> Mcp:
    return Mcp(portal.url, portal.seeded["more"][name])


def records(portal: Portal, *decisions: str) -> list[dict[str, Any]]:
    found = portal.entries(decision_id__in=list(decisions))
    return [{**entry["record"], **entry["record"]["details"], "kind": entry["kind"]} for entry in found]


def test_a_key_sees_the_tools_it_may_call_in_the_catalogues_order(mcp: Mcp) -> None:
    expected = [
        name
        for name, tool in TOOLS.items()
        if STATES.get(name, tool.default.value) in (State.ON.value, State.NEEDS_APPROVAL.value)
    ]
    listed = mcp.listed()
    assert list(listed) == expected
    assert "approval" in listed["update_incident"]["description"].partition(".")[0]
    assert listed["list_incidents"]["annotations"] == {"readOnlyHint": True}
    assert listed["add_note_to_incident"]["annotations"]["readOnlyHint"] is False


def test_a_narrowed_key_sees_what_it_is_narrowed_to(portal: Portal) -> None:
    writes = {"update_incident", "resolve_incident", "create_schedule_override"}
    core = PRESETS["core"] - (writes - {"update_incident"})
    assert set(of(portal, "core").listed()) == core
    error = of(portal, "core").use("list_priorities").error
    assert (error["rule"], error["where"]) == ("narrowed_key", where(portal, error))


def test_a_bounded_key_sees_no_tool_that_reaches_the_whole_account(portal: Portal) -> None:
    listed = of(portal, "bounded").listed()
    assert "list_priorities" not in listed
    assert {"list_incidents", "get_service", "list_business_service_impacts"} <= set(listed)
    for name in listed:
        # What is answered from the mirror holds no more than the bounds do.
        operations = TOOLS[name].operations
        assert not operations or any(BOUNDS_OF[each] != "unbounded" for each in operations), name
    assert {name for name, tool in TOOLS.items() if not tool.operations and tool.default is State.ON} <= set(listed)
    found = of(portal, "bounded").use("list_services", limit=100)
    assert {team["id"] for row in found.content["services"] for team in row["teams"]} == {"PTEAM00"}
    denied = of(portal, "bounded").use("get_service", service_id="PSVC00E").error
    assert (denied["kind"], denied["rule"]) == ("denied", "bounds")
    assert denied["where"] == where(portal, denied)


def test_a_denial_says_by_what_and_what_to_do_and_is_on_record(mcp: Mcp, portal: Portal) -> None:
    found = mcp.use("create_incident", service_id="PSVC000", title="Nothing works")
    error = found.error
    assert error["kind"] == "denied"
    assert error["rule"] == "tool_off"
    assert error["problem"] == "create_incident is switched off for Payments."
    assert error["remedy"] == "Ask a manager of Payments to switch create_incident on."
    assert error["where"] == where(portal, error)
    assert found.decisions == [error["decision_id"]]
    (entry,) = records(portal, error["decision_id"])
    assert (entry["verdict"], entry["tool"], entry["door"]) == ("deny", "create_incident", "mcp")
    assert "Nothing works" not in json.dumps(entry)


def test_a_tool_that_needs_approval_says_whom_to_ask(mcp: Mcp) -> None:
    error = mcp.use("update_incident", incident_id="PI0003OT", status="acknowledged").error
    assert (error["kind"], error["rule"]) == ("needs_approval", "needs_approval")
    assert "manager of Payments" in error["remedy"]


def test_a_tool_that_is_not_there_is_denied_and_the_nearest_are_named(mcp: Mcp, portal: Portal) -> None:
    error = mcp.use("list_incident", limit=3).error
    assert (error["kind"], error["rule"]) == ("denied", "not_in_catalogue")
    assert "list_incidents" in error["did_you_mean"]
    (entry,) = records(portal, error["decision_id"])
    assert "list_incident" not in json.dumps(entry)  # whatever somebody sent is kept as a digest alone


def test_authorisation_is_judged_before_the_arguments_are(mcp: Mcp) -> None:
    assert mcp.use("create_incident", nonsense=1).error["kind"] == "denied"
    assert mcp.use("get_incident", nonsense=1).error["kind"] == "invalid"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"incident_id": ""}, "incident_id is empty"),
        ({"incident_id": '"PI0003OT"'}, "quotation marks"),
        ({"incident_id": "PI0003OT/notes"}, "no id"),
        ({"incident_id": "../users/me"}, "no id"),
        ({"incident_id": 7}, "must be a text"),
        ({}, "needs incident_id"),
        ({"incident_id": "PI0003OT", "incident": "PI0003OT"}, "does not take incident"),
        ({"incident_id": "PI0003OT", "detail": "everything"}, "detail cannot be"),
        ({"incident_id": "PI0003OT", "time_zone": "Mars/Olympus"}, "time_zone is no time zone"),
    ],
)
def test_wrong_arguments_are_not_sent_and_the_answer_says_what_to_pass(
    portal: Portal, arguments: dict[str, Any], said: str
) -> None:
    before = arrived(portal)
    error = Mcp(portal.url, portal.seeded["key"]).use("get_incident", **arguments).error
    assert error["kind"] == "invalid"
    assert said in error["problem"]
    assert error["remedy"]
    assert arrived(portal) == before
    (entry,) = records(portal, error["decision_id"])
    assert (entry["outcome"], entry["verdict"]) == ("invalid", "allow")
    assert entry["problem"].startswith("argument")


def arrived(portal: Portal) -> int:
    with urllib.request.urlopen(f"{portal.upstream_url}/_sandbox/stats", timeout=10) as answer:
        return int(json.load(answer)["total"])


def test_a_name_stands_for_its_id_and_the_search_is_on_record_like_any_call(mcp: Mcp, portal: Portal) -> None:
    found = mcp.use("get_service", service_id="CHECKOUT")
    assert found.content["service"]["id"] == "PSVC000"
    entries = records(portal, *found.decisions)
    assert [entry["tool"] for entry in entries] == ["list_services", "get_service"]
    assert {json.dumps(entry["use"]) for entry in entries} == {json.dumps(entries[0]["use"])}
    assert entries[0]["use"]["tool"] == "get_service"


def test_an_ambiguous_name_is_answered_with_the_candidates(mcp: Mcp) -> None:
    error = mcp.use("get_service", service_id="check").error
    assert error["kind"] == "invalid"
    assert {"id": "PSVC000", "name": "checkout"} in error["candidates"]


def test_a_name_that_may_not_be_looked_up_is_told_with_what_to_pass(mcp: Mcp) -> None:
    error = mcp.use("list_team_members", team_id="Payments").error
    assert (error["kind"], error["tool"]) == ("denied", "list_teams")
    assert "Pass the team's id" in error["remedy"]


def test_pagerdutys_own_names_are_served_and_not_listed(mcp: Mcp) -> None:
    assert "get_technical_service_dependencies" not in mcp.listed()
    found = mcp.use("get_technical_service_dependencies", service_id="PSVC000")
    assert not found.is_error
    assert mcp.use("manage_incidents", incident_id="PI0003OT", status="resolved").error["tool"] == "resolve_incident"


def test_what_came_from_outside_is_marked(mcp: Mcp) -> None:
    found = mcp.use("list_incidents", limit=5, sort_by=["created_at:desc"])
    assert all(set(row["title"]) == {"outside"} for row in found.content["incidents"])
    assert found.content["count"] == 5
    assert found.content["more"] == {"offset": 5}


def test_pagerdutys_refusals_are_told_with_what_to_do(mcp: Mcp) -> None:
    error = mcp.use("get_incident", incident_id="PNOBODY").error
    assert (error["kind"], error["status"], error["retry"]) == ("refused", 404, False)
    assert error["remedy"]


def test_a_write_with_a_key_of_its_own_is_sent_once(mcp: Mcp, portal: Portal) -> None:
    meta = {"pagewarden/idempotency-key": f"note-{mcp.version}"}
    first = mcp.use("add_note_to_incident", meta, incident_id="PI0003OT", note="Looked.")
    before = arrived(portal)
    again = mcp.use("add_note_to_incident", meta, incident_id="PI0003OT", note="Looked.")
    assert not first.is_error
    assert arrived(portal) == before
    assert "was not sent again" in again.content["notes"][0]
    assert [entry["kind"] for entry in records(portal, *first.decisions)] == ["intent", "result"]


def test_a_call_limit_says_how_long_to_wait(portal: Portal) -> None:
    slow = of(portal, "slow")
    errors = [found.error for found in (slow.use("list_priorities") for _ in range(4)) if found.is_error]
    assert errors
    assert all(error["rule"] == "call_limit" and 1 <= error["retry_after_seconds"] <= 31 for error in errors)


@pytest.mark.parametrize("why", ["unknown", "malformed", "network"])
def test_strangers_are_alike_to_the_caller_and_told_apart_in_the_journal(portal: Portal, why: str) -> None:
    secret = {
        "unknown": "pwk_aaaaaaaa_" + "b" * 32,
        "malformed": "nobody",
        "network": portal.seeded["more"]["elsewhere"],
    }[why]
    status, body, headers = Mcp(portal.url, secret).send("tools/list")
    assert status == 401
    assert headers["www-authenticate"].startswith(f'Bearer resource_metadata="{portal.url}/.well-known/')
    stranger = Mcp(portal.url, "x").send("tools/list")
    assert body == stranger[1]
    assert dict(headers, date="") == dict(stranger[2], date="")
    document = headers["www-authenticate"].partition('"')[2].rstrip('"')
    with urllib.request.urlopen(document, timeout=10) as answer:
        metadata = json.load(answer)
    assert metadata["resource"] == f"{portal.url}/mcp"
    assert metadata["bearer_methods_supported"] == ["header"]


def test_what_is_asked_is_read_from_the_body_and_never_from_headers(portal: Portal) -> None:
    request = Mcp(portal.url, portal.seeded["key"]).request("tools/call", {"name": "create_incident", "arguments": {}})
    request.add_header("Mcp-Name", "list_incidents")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=10)
    assert refused.value.code == 400
    legacy = Mcp(portal.url, portal.seeded["key"], LEGACY)
    request = legacy.request("tools/call", {"name": "create_incident", "arguments": {}})
    request.add_header("Mcp-Name", "list_incidents")
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert json.load(answer)["result"]["isError"] is True


def test_a_revoked_key_sees_nothing_at_once(portal: Portal) -> None:
    secret = portal.shell(
        "from integrations.actions import do_issue_agent_key\n"
        "from integrations.models import Connection\n"
        "from integrations.pagerduty.catalog import TOOLS\n"
        "from policies.models import User\n"
        "row = Connection.objects.get(name='Main')\n"
        "print(do_issue_agent_key(row, name='brief', by=User.objects.get(name='Ada'), tools=TOOLS)[1])"
    ).strip()
    brief = Mcp(portal.url, secret)
    until = time.monotonic() + 3
    while brief.send("tools/list")[0] != 200:
        assert time.monotonic() < until
    portal.shell(
        "from policies.actions import do_revoke_key\nfrom policies.models import AgentKey, User\n"
        "do_revoke_key(AgentKey.objects.get(name='brief'), by=User.objects.get(name='Ada'))"
    )
    time.sleep(1)
    assert brief.send("tools/list")[0] == 401
    assert brief.send("tools/call", {"name": "list_incidents", "arguments": {}})[0] == 401


def test_a_write_whose_caller_goes_away_is_on_record_to_its_end(portal: Portal) -> None:
    client = dataclasses.replace(Mcp(portal.url, portal.seeded["key"]), version=LEGACY)
    request = client.request(
        "tools/call", {"name": "add_note_to_incident", "arguments": {"incident_id": "PI0003OT", "note": "Gone."}}
    )
    assert isinstance(request.data, bytes)
    head = "".join(f"{name}: {value}\r\n" for name, value in request.header_items())
    raw = f"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\n{head}Content-Length: {len(request.data)}\r\n\r\n".encode()
    slow = json.dumps({"fault": "slow:1", "count": 1}).encode()
    urllib.request.urlopen(f"{portal.env['PAGERDUTY_SANDBOX_URL']}/_sandbox/fault", slow, timeout=5).read()

    def counted(kind: str) -> int:
        return len(portal.entries(tool="add_note_to_incident", kind=kind))

    def wait_for_more(kind: str, before: int) -> None:
        until = time.monotonic() + 20
        while counted(kind) == before:
            assert time.monotonic() < until
            time.sleep(0.01)

    intents, results = counted("intent"), counted("result")
    with socket.create_connection(("127.0.0.1", portal.port), 5) as line:
        line.sendall(raw + request.data)
        wait_for_more("intent", intents)
        assert counted("result") == results
    wait_for_more("result", results)
