"""Tools that are answered from the mirror, at the MCP door: decided and recorded like any other, with nothing sent."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from integrations.pagerduty.catalog import TOOLS
from integrations.pagerduty.sandbox.world import demo_from_email, demo_tokens
from tests.gateway.mcp import LEGACY, MODERN, Mcp
from tests.gateway.processes import Portal, free_port, running

SEED = 7
TOKENS = demo_tokens(SEED)
MIRRORED = sorted(name for name, tool in TOOLS.items() if not tool.operations)
ASKED: dict[str, dict[str, Any]] = {
    "who_is_paged": {"service_id": "checkout"},
    "coverage_gaps": {},
    "schedule_quality": {},
    "review_escalation_policy": {},
    "response_times": {"by": "level"},
    "oncall_load": {},
    "suggest_overrides": {"schedule_id": "Payments primary"},
}
"""Every tool without operations, with arguments that make sense."""

MORE = """
import json
from integrations.actions import do_issue_agent_key, do_register_token
from integrations.models import Connection
from integrations.pagerduty.catalog import TOOLS
from policies.actions import do_set_tools
from policies.core.call import State
from policies.models import Team, User
ada, main = User.objects.get(name='Ada'), Connection.objects.get()
names = [name for name, tool in TOOLS.items() if not tool.operations]
def key(row, name, **more):
    return do_issue_agent_key(row, name=name, by=ada, tools=TOOLS, **{'calls_per_minute': 0, **more})[1]
def register(team, name, token, **bounds):
    return do_register_token(team, name=name, token=token, kind='account', region='sandbox', by=ada,
        from_email=main.from_email, **bounds)
do_set_tools(main.team, states={name: State.ON for name in names}, tools=TOOLS, by=ada)
bounded = register(main.team, 'Bounded', TOKEN_2, team_ids=['PTEAM00'])
unread = register(main.team, 'Unread', TOKEN_3, whole_account=True)
search = Team.objects.get(name='Search')
states = {names[0]: State.OFF, names[1]: State.NEEDS_APPROVAL, names[2]: State.ON}
do_set_tools(search, states=states, tools=TOOLS, by=ada)
closed = register(search, 'Closed', TOKEN_4, whole_account=True)
print(json.dumps({
    'narrow': key(main, 'narrow', narrowed_to=['list_services']),
    'slow': key(main, 'slow', calls_per_minute=2),
    'bounded': key(bounded, 'bounded'),
    'unread': key(unread, 'unread'),
    'closed': key(closed, 'closed'),
    'stopped': key(main, 'stopped'),
    'by_state': {'off': names[0], 'needs_approval': names[1]},
}))
"""

READ = """
from integrations import mirror, mirror_history
from integrations.models import Connection
# A year of incidents takes a mirror as long as PagerDuty's limits have it.
mirror_history.KEPT_DAYS = 10
for name in ('Main', 'Bounded'):
    row, again = Connection.objects.select_related('team').get(name=name), True
    while not (run := mirror.sync(row, by='a test', seconds=60, calls=2_000, again=again)).done:
        assert not run.told, run
        again = False
"""


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Portal]:
    """The mirror of its first connection is read, and of a bounded one; that of another is not."""
    port = free_port()
    with running("-m", "integrations.pagerduty.sandbox", "--port", str(port), "--seed", str(SEED), port=port):
        made = Portal(tmp_path_factory.mktemp("portal"), f"http://127.0.0.1:{port}")
        try:
            made.seed(token=TOKENS["account"].value, from_email=demo_from_email(SEED))
            tokens = "".join(f"TOKEN_{n} = {TOKENS[f'account_{n}'].value!r}\n" for n in (2, 3, 4))
            made.seeded["more"] = json.loads(made.shell(tokens + MORE))
            made.shell(READ)
            made.start()
            yield made
        finally:
            made.close()


@pytest.fixture(params=[MODERN, LEGACY])
def mcp(portal: Portal, request: pytest.FixtureRequest) -> Mcp:
    return Mcp(portal.url, portal.seeded["key"], request.param)


def of(portal: Portal, name: str) -> Mcp:
    return Mcp(portal.url, portal.seeded["more"][name])


def arrived(portal: Portal) -> int:
    with urllib.request.urlopen(f"{portal.upstream_url}/_sandbox/stats", timeout=10) as answer:
        return int(json.load(answer)["total"])


def entry_of(portal: Portal, decision_id: str) -> dict[str, Any]:
    """The only one of a decision."""
    [entry] = portal.entries(decision_id=decision_id)
    return {**entry["record"], **entry["record"]["details"], "kind": entry["kind"]}


def until(told: Callable[[], bool]) -> None:
    """What was changed in the database binds the next read within a second."""
    end = time.monotonic() + 5
    while not told():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_every_tool_without_operations_is_used_here() -> None:
    assert sorted(ASKED) == MIRRORED


@pytest.mark.parametrize("name", MIRRORED)
def test_an_answer_is_on_record_once_and_nothing_is_sent(portal: Portal, mcp: Mcp, name: str) -> None:
    assert mcp.listed()[name]["annotations"] == {"readOnlyHint": True}
    before = arrived(portal)
    found = mcp.use(name, **ASKED[name])
    assert not found.is_error, found.text
    assert arrived(portal) == before
    entry = entry_of(portal, found.decisions[0])
    assert len(found.decisions) == 1
    assert (entry["kind"], entry["verdict"], entry["outcome"], entry["tool"]) == ("result", "allow", "done", name)
    risk = TOOLS[name].risk.value
    assert (entry["door"], entry["rule"], entry["risk"], entry["status"]) == ("mcp", "tool_on", risk, 200)
    assert entry["use"]["tool"] == name
    assert entry["mirror"]["as_of"] == found.content["as_of"]
    assert (entry["operation"], entry["method"], entry["path"], "upstream" in entry) == ("", "", "", False)


def test_who_is_paged_is_told_by_name_and_the_entry_keeps_the_ids_and_not_the_name(portal: Portal, mcp: Mcp) -> None:
    found = mcp.use("who_is_paged", service_id="Checkout", urgency="high")
    assert found.content["service"] == {"id": "PSVC000", "name": "checkout"}
    assert found.content["levels"][0]["level"] == 1
    people = [person for level in found.content["levels"] for person in level.get("pages", ())]
    assert people
    assert all(person["id"] and person["name"] and person["by"] for person in people)
    addresses = [notice["to"] for person in people for notice in person["told"] if "to" in notice]
    assert addresses
    assert all("•••" in address for address in addresses)
    entry = entry_of(portal, found.decisions[0])
    policy = found.content["escalation_policy"]["id"]
    assert entry["targets"] == [
        {"type": "service", "id": "PSVC000"},
        {"type": "escalation_policy", "id": policy},
    ]
    assert entry["arguments"]["arguments"]["urgency"] == "high"
    assert "Checkout" not in json.dumps(entry)


def test_gaps_are_told_with_what_a_lower_level_covers_apart(mcp: Mcp) -> None:
    found = mcp.use("coverage_gaps", limit=100)
    rows = found.content["escalation_policies"]
    assert any(row["unreachable_minutes"] for row in rows)
    assert any(not row["unreachable_minutes"] and row.get("covered_by_lower_minutes") for row in rows)
    one = next(row for row in rows if row["unreachable_minutes"])
    again = mcp.use("coverage_gaps", escalation_policy_id=one["id"]).content["escalation_policies"]
    assert [row["id"] for row in again] == [one["id"]]


def test_a_name_that_means_nothing_or_several_things_is_invalid_and_on_record_once(portal: Portal, mcp: Mcp) -> None:
    near = mcp.use("who_is_paged", service_id="check")
    assert (near.error["kind"], near.error["candidates"][0].keys()) == ("invalid", {"id", "name"})
    unknown = mcp.use("who_is_paged", service_id="PNOBODY")
    assert unknown.error["kind"] == "invalid"
    assert "list_services" in unknown.error["remedy"]
    for found in (near, unknown):
        entry = entry_of(portal, found.decisions[0])
        assert (entry["verdict"], entry["outcome"], entry["status"]) == ("allow", "invalid", 400)
        assert entry["problem"] == "argument:service_id"
    assert "check" not in json.dumps(entry_of(portal, near.decisions[0])["arguments"])


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("who_is_paged", {}, "either service_id or escalation_policy_id"),
        ("who_is_paged", {"service_id": "PSVC000", "at": "yesterday"}, "at is no time in ISO 8601"),
        ("who_is_paged", {"service_id": "PSVC000", "at": "2001-01-01T00:00:00Z"}, "at is past"),
        ("coverage_gaps", {"until": "2001-01-01T00:00:00Z"}, "until is past"),
        ("coverage_gaps", {"services": "PSVC000"}, "does not take services"),
        ("schedule_quality", {"schedule_id": 7}, "must be a text"),
        ("response_times", {"days": 30}, "days must be 28, 90 or 365"),
        ("suggest_overrides", {}, "needs schedule_id"),
        ("schedule_quality", {"time_zone": "Mars/Olympus"}, "time_zone is no time zone"),
    ],
)
def test_wrong_arguments_are_told_with_what_to_pass(
    portal: Portal, mcp: Mcp, name: str, arguments: dict[str, Any], said: str
) -> None:
    error = mcp.use(name, **arguments).error
    assert (error["kind"], said in error["problem"], bool(error["remedy"])) == ("invalid", True, True)
    entry = entry_of(portal, error["decision_id"])
    assert (entry["verdict"], entry["outcome"]) == ("allow", "invalid")
    assert entry["problem"].startswith("argument")


def test_a_connection_that_was_not_read_yet_says_how_to_have_it_read(portal: Portal) -> None:
    for name in MIRRORED:
        found = of(portal, "unread").use(name, **ASKED[name])
        assert found.error["kind"] == "failed"
        assert "has not read Unread into its mirror yet" in found.error["problem"]
        assert "Schedules page" in found.error["remedy"]
        entry = entry_of(portal, found.decisions[0])
        assert (entry["verdict"], entry["outcome"], entry["status"]) == ("allow", "failed", 503)


def test_a_bounded_connection_tells_of_what_is_inside_alone(portal: Portal) -> None:
    bounded = of(portal, "bounded")
    assert set(MIRRORED) <= set(bounded.listed())
    whole = Mcp(portal.url, portal.seeded["key"]).use("schedule_quality", limit=100).content
    inside = bounded.use("schedule_quality", limit=100).content
    assert 0 < inside["total"] < whole["total"]
    outside = bounded.use("who_is_paged", service_id="PSVC00E").error
    missing = bounded.use("who_is_paged", service_id="PNOSUCH").error
    # What is another's and what does not exist get one answer.
    assert outside["problem"].replace("PSVC00E", "PNOSUCH") == missing["problem"]


def test_a_narrowed_key_does_not_see_them_and_is_denied(portal: Portal) -> None:
    narrow = of(portal, "narrow")
    assert narrow.listed().keys() == {"list_services"}
    for name in MIRRORED:
        error = narrow.use(name, **ASKED[name]).error
        assert (error["kind"], error["rule"]) == ("denied", "narrowed_key")
        assert entry_of(portal, error["decision_id"])["outcome"] == "denied"


@pytest.mark.parametrize("state", ["off", "needs_approval"])
def test_a_team_that_has_one_off_or_to_be_approved_is_denied(portal: Portal, state: str) -> None:
    name = portal.seeded["more"]["by_state"][state]
    error = of(portal, "closed").use(name, **ASKED[name]).error
    assert error["kind"] == ("denied" if state == "off" else state)
    assert error["where"].endswith(f"/explain/?decision={error['decision_id']}")
    assert entry_of(portal, error["decision_id"])["verdict"] == ("deny" if state == "off" else state)


def test_a_call_limit_binds(portal: Portal) -> None:
    slow = of(portal, "slow")
    found = [slow.use("coverage_gaps") for _ in range(4)]
    limited = [each.error for each in found if each.is_error]
    assert limited
    assert {error["rule"] for error in limited} == {"call_limit"}


def test_a_stop_and_a_lock_bind_within_a_second(portal: Portal) -> None:
    key = of(portal, "stopped")
    assert not key.use("coverage_gaps").is_error
    portal.shell(
        "from policies.actions import do_set_tool_rule, do_stop\n"
        "from policies.models import AgentKey, User\n"
        "from integrations.pagerduty.catalog import TOOLS\n"
        "ada = User.objects.get(name='Ada')\n"
        "do_stop(by=ada, key=AgentKey.objects.get(name='stopped'), reason='it loops')\n"
        "do_set_tool_rule('schedule_quality', tools=TOOLS, by=ada, locked=True, reason='a trial')"
    )
    until(lambda: key.use("coverage_gaps").is_error)
    assert key.use("coverage_gaps").error["rule"] == "stopped"
    whole = Mcp(portal.url, portal.seeded["key"])
    until(lambda: whole.use("schedule_quality").is_error)
    assert whole.use("schedule_quality").error["rule"] == "locked"
    portal.shell(
        "from policies.actions import do_set_tool_rule\nfrom policies.models import User\n"
        "from integrations.pagerduty.catalog import TOOLS\n"
        "do_set_tool_rule('schedule_quality', tools=TOOLS, by=User.objects.get(name='Ada'), locked=False)"
    )
    until(lambda: not whole.use("schedule_quality").is_error)


def test_the_rest_door_does_not_have_them(portal: Portal) -> None:
    for path in ("/who_is_paged", "/coverage_gaps", "/schedule_quality?schedule_id=PSCHED0"):
        answer = portal.call("GET", path)
        assert answer.status == 403
        assert entry_of(portal, answer.headers["x-pagewarden-decision"])["rule"] == "not_in_catalogue"


def test_the_journal_is_whole_and_the_log_is_clean(portal: Portal) -> None:
    assert portal.manage("verify_audit").stdout.startswith("Intact")
    assert "Traceback" not in portal.log()
