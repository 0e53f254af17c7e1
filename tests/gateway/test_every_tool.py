"""Every tool with an operation, through the REST door of a running portal against the simulated PagerDuty: once denied and
once allowed, and what is on record of both."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import re
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import httpx
import pytest

from integrations.pagerduty.catalog import INCLUDES, OPERATIONS, TOOLS, tools_for
from integrations.pagerduty.sandbox.app import Sandbox
from integrations.pagerduty.sandbox.world import demo_from_email, demo_tokens, generate
from tests.calls import Calls
from tests.calls import calls as all_calls
from tests.gateway.processes import Answer, Portal, free_port, running
from tests.published_schema import problems

NOW = dt.datetime(2026, 11, 23, 12, tzinfo=dt.UTC)
SEED = 7
TOKENS = demo_tokens(SEED)
MASKED = {
    ("address",): "•••{end}",
    ("http_cal_url",): "[masked]",
    ("web_cal_url",): "[masked]",
    ("integration_email",): "[masked]",
    ("integration_key",): "[masked]",
    ("routing_key",): "[masked]",
    ("delivery_method", "secret"): "[masked]",
    ("delivery_method", "url"): "{host}/[masked]",
    ("custom_headers", "value"): "[masked]",
    ("inputs", "value"): "[masked]",
    ("action_data_reference", "script"): "[masked]",
    ("action_data_reference", "invocation_command"): "[masked]",
    ("action_data_reference", "process_automation_job_arguments"): "[masked]",
}
"""The end of a field's path → what is shown in place of its text, wherever the account shows one."""
CLOCKED = {
    *("at", "created_at", "last_status_change_at", "requested_at", "resolved_at", "responded_at", "updated_at"),
    *("execution_time", "last_incident_timestamp", "reported_at", "timestamp"),  # of what was just done
    *("start", "end", "since", "until"),  # of windows that end or begin now
    *("value", "before_value"),  # of an audit record: they tell when something was changed, or since when it is so
}
"""Fields with the moment of the call: the account behind the door was asked later than the one that was asked directly."""
APART = dt.timedelta(minutes=5)
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)?")
NEEDED = {operation for tool in TOOLS.values() for operation in tool.operations}


@dataclass(frozen=True)
class Visit:
    """One row of the table of calls: what came back where it was denied, where it was allowed, and from the sandbox itself."""

    name: str
    method: str
    path: str
    body: Any
    denied: Answer
    allowed: Answer
    direct: httpx.Response

    @property
    def operation(self) -> str:
        return self.name.partition(" ")[0]

    @property
    def tools(self) -> list[str]:
        """The tools that the call needs, by what is asked for: written down here, not taken from the door's own reading."""
        if self.operation == "listOnCalls":
            return ["get_user_oncall_status" if "user_ids%5B%5D=" in self.path else "list_oncalls"]
        if self.operation in ("updateIncident", "updateIncidents"):
            incidents = self.body["incidents"] if self.operation == "updateIncidents" else [self.body["incident"]]
            resolves = any(incident.get("status") == "resolved" for incident in incidents)
            updates = any(
                incident.keys() - {"id", "type", "resolution", "status"}
                or incident.get("status", "resolved") != "resolved"
                for incident in incidents
            )
            return ["update_incident"] * updates + ["resolve_incident"] * resolves
        if self.operation in ("updateIncidentAlert", "updateIncidentAlerts"):
            alerts = self.body["alerts"] if self.operation == "updateIncidentAlerts" else [self.body["alert"]]
            resolves = any(alert.get("status") == "resolved" for alert in alerts)
            return ["resolve_incident"] * resolves + ["update_incident_alerts"]
        return [tool.name for tool in tools_for(self.operation)]


@dataclass(frozen=True)
class Round:
    """All calls, each made three times, and what the portal's journal and the sandbox's counters say of them."""

    portal: Portal
    visits: list[Visit]
    entries: dict[str, list[dict[str, Any]]]
    """Decision id → its entries, in order."""
    arrived: tuple[int, int]
    """Calls that had arrived at the sandbox before and after all the denied ones."""

    def entries_of(self, answer: Answer) -> list[dict[str, Any]]:
        return self.entries.get(answer.headers.get("x-pagewarden-decision", ""), [])


def arrivals(url: str) -> int:
    with urllib.request.urlopen(f"{url}/_sandbox/stats", timeout=10) as answer:
        return int(json.load(answer)["total"])


def keys(portal: Portal) -> dict[str, str]:
    """Secrets of three agent keys without a call limit: of a team that has every tool on, with an account token and with a
    user's, and of one that has every tool off."""
    made = portal.shell(
        "import json\n"
        "from integrations.actions import do_issue_agent_key, do_register_token\n"
        "from integrations.models import Connection\n"
        "from integrations.pagerduty.catalog import TOOLS\n"
        "from policies.actions import do_set_tools\n"
        "from policies.core.call import State\n"
        "from policies.models import Team, User\n"
        "ada, search = User.objects.get(name='Ada'), Team.objects.get(name='Search')\n"
        "def key(team, name, token, kind):\n"
        "    connection = do_register_token(team, name=name, token=token, kind=kind, region='sandbox', by=ada,\n"
        f"        from_email={demo_from_email(SEED)!r}, whole_account=True)\n"
        "    return do_issue_agent_key(connection, name=name, by=ada, tools=TOOLS, calls_per_minute=0)[1]\n"
        "do_set_tools(search, states=dict.fromkeys(TOOLS, State.OFF), tools=TOOLS, by=ada)\n"
        f"user = key(Connection.objects.get().team, 'User', {TOKENS['user_manager'].value!r}, 'user')\n"
        f"denied = key(search, 'Denied', {TOKENS['account_2'].value!r}, 'account')\n"
        "print(json.dumps({'user': user, 'denied': denied}))"
    )
    return {"account": portal.seeded["key"], **json.loads(made)}


def as_a_tool_may(calls: Calls) -> Calls:
    """The calls without what the door lets no tool include: the table asks the sandbox itself for everything it has."""
    allowed = {}
    for name, (method, path, body) in calls.items():
        bare, _, query = path.partition("?")
        served = tools_for(name.partition(" ")[0])
        kept = [
            (key, value)
            for key, value in parse_qsl(query, keep_blank_values=True)
            if key != "include[]" or all(value in INCLUDES[tool.name] for tool in served)
        ]
        allowed[name] = (method, f"{bare}?{urlencode(kept)}" if kept else bare, body)
    return allowed


def ask_directly(sandbox: Sandbox, calls: Calls) -> dict[str, httpx.Response]:
    async def ask() -> dict[str, httpx.Response]:
        answers = {}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(sandbox), base_url="http://sandbox") as client:
            for name, (method, path, body) in calls.items():
                token = TOKENS["user_manager" if path.startswith("/users/me") else "account"]
                headers = {"Authorization": f"Token token={token.value}", "From": demo_from_email(SEED)}
                content = None if body is None else json.dumps(body).encode()
                answers[name] = await client.request(method, path, content=content, headers=headers)
        return answers

    return asyncio.run(ask())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Round]:
    calls = as_a_tool_may(all_calls(generate(SEED, NOW)))
    port = free_port()
    sandbox = (
        "-m",
        "integrations.pagerduty.sandbox",
        "--port",
        str(port),
        "--seed",
        str(SEED),
        "--now",
        NOW.isoformat(),
    )
    with running(*sandbox, port=port):
        portal = Portal(tmp_path_factory.mktemp("portal"), url := f"http://127.0.0.1:{port}")
        try:
            portal.seed(
                token=TOKENS["account"].value, states=dict.fromkeys(TOOLS, "on"), from_email=demo_from_email(SEED)
            )
            key = keys(portal)
            portal.start()
            before = arrivals(url)
            denied = {name: portal.call(*call, key=key["denied"]) for name, call in calls.items()}
            after = arrivals(url)
            direct = ask_directly(Sandbox(SEED, NOW), calls)
            visits = []
            for name, (method, path, body) in calls.items():
                whose = "user" if path.startswith("/users/me") else "account"
                allowed = portal.call(method, path, body, key=key[whose])
                visits.append(Visit(name, method, path, body, denied[name], allowed, direct[name]))
            entries: dict[str, list[dict[str, Any]]] = {}
            for entry in portal.entries(kind__in=["intent", "result"]):
                entries.setdefault(entry["decision_id"], []).append(entry)
            yield Round(portal, visits, entries, (before, after))
        finally:
            portal.close()


def texts(node: Any) -> Iterator[str]:
    """Every text of a document."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict | list):
        for value in node.values() if isinstance(node, dict) else node:
            yield from texts(value)


def urls(node: Any) -> Iterator[str]:
    """Every ``self`` of a document that is set."""
    if isinstance(node, dict):
        if isinstance(node.get("self"), str):
            yield node["self"]
        for value in node.values():
            yield from urls(value)
    elif isinstance(node, list):
        for value in node:
            yield from urls(value)


def differences(here: Any, there: Any, door: str, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Where what the door answers is not what the account answers: the path, and both values. Nothing is left out: what the
    door writes otherwise must be written as is said here. ``door``: the URL that stands in place of the account's own."""
    where = "/".join(path)
    if isinstance(here, dict) and isinstance(there, dict):
        for name in sorted(here.keys() | there.keys()):
            if name in here and name in there:
                yield from differences(here[name], there[name], door, (*path, name))
            else:
                yield f"{where}/{name}: only {'there' if name in there else 'here'}"
    elif isinstance(here, list) and isinstance(there, list) and len(here) == len(there):
        for mine, theirs in zip(here, there, strict=True):
            yield from differences(mine, theirs, door, path)
    elif isinstance(there, str) and there and isinstance(here, str):
        expected = there
        if path[-1] == "self":
            expected = there.replace("https://api.pagerduty.com/", f"{door}/", 1)
        elif masked := next((form for ending, form in MASKED.items() if path[-len(ending) :] == ending), None):
            expected = masked.format(end=there[-2:], host="/".join(there.split("/", 3)[:3]))
        if here != expected and not (path[-1] in CLOCKED and later(here, expected)):
            yield f"{where}: {here!r}, there {expected!r}"[:300]
    elif path[-1:] == ("time_to_respond_seconds",) and isinstance(here, int) and isinstance(there, int):
        # From when somebody was asked to when they answered: two moments of what was just done.
        if abs(here - there) > APART.total_seconds():
            yield f"{where}: {here!r}, there {there!r}"
    elif type(here) is not type(there) or here != there:
        yield f"{where}: {here!r}, there {there!r}"[:300]


def later(here: str, there: str) -> bool:
    """Whether they are one text but for moments, each written alike, the first's at most ``APART`` after the second's."""
    if MOMENT.sub("", here) != MOMENT.sub("", there):
        return False
    pairs = zip(MOMENT.findall(here), MOMENT.findall(there), strict=True)
    return all(
        re.sub(r"\d", "0", mine) == re.sub(r"\d", "0", theirs)
        and dt.timedelta() <= dt.datetime.fromisoformat(mine) - dt.datetime.fromisoformat(theirs) <= APART
        for mine, theirs in pairs
    )


def test_every_tool_and_every_operation_of_the_catalogue_is_met(made: Round) -> None:
    assert {visit.operation for visit in made.visits} == NEEDED
    allowed = [entry for visit in made.visits for entry in made.entries_of(visit.allowed)]
    assert {entry["tool"] for entry in allowed} == {name for name, tool in TOOLS.items() if tool.operations}
    assert {entry["record"]["details"]["operation"] for entry in allowed} == NEEDED


def test_every_call_of_a_tool_that_is_off_is_denied_recorded_and_never_sent(made: Round) -> None:
    wrong: dict[str, Any] = {}
    for visit in made.visits:
        answer, entries = visit.denied, made.entries_of(visit.denied)
        if answer.status != 403 or len(entries) != 1:
            wrong[visit.name] = (answer.status, len(entries))
            continue
        error, entry = answer.json()["error"], entries[0]
        details = entry["record"]["details"]
        tool = TOOLS[visit.tools[0]]
        told = {
            "message": (error["message"], "Access Denied"),
            "code": (error["code"], 2010),
            "reason": (error["errors"][0], f"{tool.name} is switched off for Search."),
            "content type": (answer.headers["content-type"], "application/json"),
            "kind": (entry["kind"], "result"),
            "verdict": (entry["verdict"], "deny"),
            "outcome": (entry["outcome"], "denied"),
            "tool": (entry["tool"], tool.name),
            "risk": (details["risk"], tool.risk.value),
            "operation": (details["operation"], visit.operation),
            "status": (details["status"], 403),
            "upstream": (details.get("upstream"), None),
        }
        if faults := {name: pair for name, pair in told.items() if pair[0] != pair[1]}:
            wrong[visit.name] = faults
    assert wrong == {}, json.dumps(wrong, indent=1)
    assert made.arrived[0] == made.arrived[1], "a denied call arrived at the sandbox"


def test_every_call_of_a_tool_that_is_on_is_answered_as_the_account_itself_answers(made: Round) -> None:
    wrong: dict[str, Any] = {}
    for visit in made.visits:
        here, there = visit.allowed, visit.direct
        if here.status != there.status_code or not there.is_success:
            wrong[visit.name] = (here.status, there.status_code, here.body.decode()[:300])
        elif not here.body or not there.content:
            if here.body != there.content:
                wrong[visit.name] = (here.body.decode()[:300], there.text[:300])
        elif found := list(differences(here.json(), there.json(), f"{made.portal.url}/pagerduty")):
            wrong[visit.name] = found[:8]
    assert wrong == {}, json.dumps(wrong, indent=1)


def test_every_document_names_itself_by_a_url_of_the_door(made: Round) -> None:
    named = {visit.name: list(urls(visit.allowed.json())) for visit in made.visits if visit.allowed.body}
    strange = {
        url for listed in named.values() for url in listed if not url.startswith(f"{made.portal.url}/pagerduty/")
    }
    assert strange == set()
    assert sum(map(bool, named.values())) > len(NEEDED) / 4


def test_every_allowed_call_is_on_record_a_write_with_its_intent_before(made: Round) -> None:
    wrong: dict[str, Any] = {}
    for visit in made.visits:
        entries = made.entries_of(visit.allowed)
        writes = not OPERATIONS[visit.operation].reads
        kinds = [(entry["kind"], entry["outcome"]) for entry in entries]
        if kinds != [("intent", "intended")] * writes + [("result", "done")]:
            wrong[visit.name] = kinds
            continue
        risks = sorted((TOOLS[name].risk for name in visit.tools), key=lambda risk: risk.rank)
        for entry in entries:
            details = entry["record"]["details"]
            told = {
                "verdict": (entry["verdict"], "allow"),
                "tool": (entry["tool"], visit.tools[0]),
                "tools": (details.get("tools", visit.tools), visit.tools),
                "risk": (details["risk"] in risks, True),
                "operation": (details["operation"], visit.operation),
                "path": (details["path"], OPERATIONS[visit.operation].path),
                "method": (details["method"], visit.method),
            }
            if entry["kind"] == "result":
                upstream = details["upstream"]
                told["upstream"] = (upstream["status"], visit.direct.status_code)
                told["status"] = (details["status"], visit.allowed.status)
                told["request id"] = (upstream["request_id"], visit.allowed.headers["x-request-id"])
            if faults := {name: pair for name, pair in told.items() if pair[0] != pair[1]}:
                wrong[visit.name] = faults
    assert wrong == {}, json.dumps(wrong, indent=1)


def test_every_answer_through_the_door_validates_against_the_published_schema(made: Round, schema_dir: Path) -> None:
    wrong: dict[str, Any] = {}
    for visit in made.visits:
        answer, operation = visit.allowed, OPERATIONS[visit.operation]
        document = answer.json() if answer.body else None
        if faults := problems(schema_dir, operation.method, operation.path, answer.status, document):
            wrong[visit.name] = faults[:3]
    assert wrong == {}, json.dumps(wrong, indent=1)


def test_no_entry_keeps_a_free_text_that_a_call_carried(made: Round) -> None:
    carried = {text for visit in made.visits for text in texts(visit.body)}
    carried |= {value for visit in made.visits for _, value in parse_qsl(visit.path.partition("?")[2])}
    free = {text for text in carried if len(text) > 12 and " " in text}
    assert len(free) >= 5
    written = json.dumps(list(made.entries.values()), ensure_ascii=False)
    assert {text for text in free if text in written or json.dumps(text)[1:-1] in written} == set()
