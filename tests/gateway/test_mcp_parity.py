"""Both doors alike: every tool is used by MCP in front of one simulated account, and the very calls that reached PagerDuty are
made by REST in front of another, the same at its start. What arrives, what is decided and what is recorded must not differ.

Tools without an operation reach nothing and are at no path, so that the REST door does not have them: ``test_mirrored_tools.py``.
"""

from __future__ import annotations

import datetime as dt
import http.client
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from integrations.pagerduty.catalog import TOOLS
from integrations.pagerduty.sandbox.world import demo_from_email, demo_tokens, generate
from tests.gateway.mcp import Mcp, Used
from tests.gateway.processes import Answer, Portal, free_port, running
from tests.integrations.test_tools_reads import rows
from tests.integrations.test_tools_writes import Made, cases

NOW = dt.datetime(2026, 11, 23, 12, tzinfo=dt.UTC)
SEED = 7
APART = {"door", "decision_id", "use", "recorded_at", "upstream", "actor", "credential", "client", "ip"}
"""What an entry tells of the door, the moment and the key."""


@dataclass(frozen=True)
class Arrived:
    """One request as it reached PagerDuty."""

    method: str
    path: str
    """With its query."""
    body: bytes


@dataclass
class Recorder:
    """Stands before a simulated account and writes down what arrives there."""

    target: str
    port: int = field(default_factory=free_port)
    arrived: list[Arrived] = field(default_factory=list)

    @contextmanager
    def serving(self) -> Iterator[str]:
        recorder, lock = self, threading.Lock()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                self.raw_requestline = self.rfile.readline(65_537)
                if not self.raw_requestline or not self.parse_request():
                    self.close_connection = True
                    return
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                # One after the other: what is asked at once would come in any order.
                with lock:
                    recorder.arrived.append(Arrived(self.command, self.path, body))
                    line = http.client.HTTPConnection(urlsplit(recorder.target).netloc, timeout=30)
                    line.request(self.command, self.path, body or None, dict(self.headers))
                    answer = line.getresponse()
                    content = answer.read()
                    line.close()
                self.send_response_only(answer.status)
                for name in ("content-type", "x-request-id"):
                    if answer.headers[name]:
                        self.send_header(name, answer.headers[name])
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{self.port}"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


@dataclass(frozen=True)
class Side:
    """A portal with an account of its own: every tool on, off, and in need of approval, each for a key of its own."""

    portal: Portal
    recorder: Recorder
    keys: dict[str, str]

    def records(self, decision_ids: list[str]) -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = {each: [] for each in decision_ids}
        for entry in self.portal.entries(kind__in=["intent", "result"]):
            if entry["decision_id"] in found:
                record = entry["record"]
                found[entry["decision_id"]].append(
                    {
                        "kind": entry["kind"],
                        **{name: record[name] for name in ("tool", "verdict", "outcome")},
                        **{name: value for name, value in record["details"].items() if name not in APART},
                        "upstream": record["details"].get("upstream", {}).get("status"),
                    }
                )
        return found


KEYS = """
import json
from integrations.actions import do_issue_agent_key, do_register_token
from integrations.models import Connection
from integrations.pagerduty.catalog import TOOLS
from policies.actions import do_set_tools
from policies.core.call import State
from policies.models import Team, User
ada, main = User.objects.get(name='Ada'), Connection.objects.get(name='Main')
found = {'on': do_issue_agent_key(main, name='every tool', by=ada, tools=TOOLS, calls_per_minute=0)[1]}
for name, token, state in %s:
    team = Team.objects.create(name=name, slug=state)
    row = do_register_token(team, name='Main', token=token, kind='account', region='sandbox', from_email=main.from_email,
        by=ada, whole_account=True)
    do_set_tools(team, states=dict.fromkeys(TOOLS, State(state)), tools=TOOLS, by=ada, reason='no reason')
    found[state] = do_issue_agent_key(row, name='none', by=ada, tools=TOOLS, calls_per_minute=0)[1]
print(json.dumps(found))
"""


@contextmanager
def side(folder: Path) -> Iterator[Side]:
    tokens = demo_tokens(SEED)
    port = free_port()
    sandbox = ("--port", str(port), "--seed", str(SEED), "--now", NOW.isoformat())
    with ExitStack() as stack:
        stack.enter_context(running("-m", "integrations.pagerduty.sandbox", *sandbox, port=port))
        recorder = Recorder(f"http://127.0.0.1:{port}")
        portal = Portal(folder, stack.enter_context(recorder.serving()))
        stack.callback(portal.close)
        portal.seed(token=tokens["account"].value, states=dict.fromkeys(TOOLS, "on"), from_email=demo_from_email(SEED))
        others = [
            ("Closed", tokens["account_2"].value, "off"),
            ("Asking", tokens["account_3"].value, "needs_approval"),
        ]
        keys = json.loads(portal.shell(KEYS % (others,)))
        portal.start()
        yield Side(portal, recorder, keys)


@dataclass(frozen=True)
class Visit:
    """One tool: by MCP, and what reached PagerDuty made again by REST."""

    tool: str
    used: Used
    arrived: list[Arrived]
    again: list[Answer]
    arrived_again: list[Arrived]
    refused: dict[str, tuple[Used, Answer]]
    """State → the tool by MCP and the last of its calls by REST, with the key whose team has every tool in that state."""


@pytest.fixture(scope="module")
def visits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Side, Side, list[Visit]]]:
    world = generate(SEED, NOW)
    made = Made({})
    found = []
    with (
        side(tmp_path_factory.mktemp("mcp")) as by_mcp,
        side(tmp_path_factory.mktemp("rest")) as by_rest,
    ):
        reads, writes = rows(world), cases(world)
        for name in (*reads, *writes):
            start = len(by_mcp.recorder.arrived)
            given = reads[name] if name in reads else writes[name](made).arguments
            used = Mcp(by_mcp.portal.url, by_mcp.keys["on"]).use(name, **given)
            made.answers[name] = used.content
            arrived = by_mcp.recorder.arrived[start:]
            start = len(by_rest.recorder.arrived)
            again = [_by_rest(by_rest, call, "on") for call in arrived]
            arrived_again = by_rest.recorder.arrived[start:]
            refused = {
                state: (
                    Mcp(by_mcp.portal.url, by_mcp.keys[state]).use(name, **given),
                    _by_rest(by_rest, next(call for call in reversed(arrived)), state),
                )
                for state in ("off", "needs_approval")
            }
            found.append(Visit(name, used, arrived, again, arrived_again, refused))
        yield by_mcp, by_rest, found


def _by_rest(where: Side, call: Arrived, state: str) -> Answer:
    body = json.loads(call.body) if call.body else None
    return where.portal.call(call.method, call.path, body, key=where.keys[state])


def test_every_tool_is_used_and_none_fails(visits: tuple[Side, Side, list[Visit]]) -> None:
    assert {visit.tool for visit in visits[2]} == {name for name, tool in TOOLS.items() if tool.operations}
    for visit in visits[2]:
        assert not visit.used.is_error, (visit.tool, visit.used.text)
        assert visit.arrived, visit.tool


def test_what_arrives_at_pagerduty_is_the_same_to_the_byte(visits: tuple[Side, Side, list[Visit]]) -> None:
    for visit in visits[2]:
        assert visit.arrived_again == visit.arrived, visit.tool


def test_entries_differ_in_the_door_alone(visits: tuple[Side, Side, list[Visit]]) -> None:
    by_mcp, by_rest, found = visits
    of_mcp = by_mcp.records([each for visit in found for each in visit.used.decisions])
    decisions = {visit.tool: [answer.headers["x-pagewarden-decision"] for answer in visit.again] for visit in found}
    of_rest = by_rest.records([each for visit in found for each in decisions[visit.tool]])
    for visit in found:
        # What is asked at once arrives in any order.
        ours = sorted((of_mcp[each] for each in visit.used.decisions), key=json.dumps)
        theirs = sorted((of_rest[each] for each in decisions[visit.tool]), key=json.dumps)
        assert all(ours), visit.tool
        assert ours == theirs, visit.tool


@pytest.mark.parametrize("state", ["off", "needs_approval"])
def test_what_is_not_allowed_is_denied_alike(visits: tuple[Side, Side, list[Visit]], state: str) -> None:
    by_mcp, by_rest, found = visits
    for visit in found:
        used, answer = visit.refused[state]
        decision_id = answer.headers["x-pagewarden-decision"]
        (ours,) = by_mcp.records(used.decisions)[used.decisions[0]]
        (theirs,) = by_rest.records([decision_id])[decision_id]
        same = ["kind", "verdict", "outcome", "rule", "team"]
        if theirs["tool"] == visit.tool:
            # Not another that is needed beside it: the worst verdict of several is told, and of equals the first.
            same += ["tool", "reason", "risk"]
        assert {name: ours[name] for name in same} == {name: theirs[name] for name in same}, visit.tool
        assert used.error["kind"] == ("denied" if state == "off" else state)
        assert answer.status == 403


def test_a_denied_tool_reaches_nothing(visits: tuple[Side, Side, list[Visit]]) -> None:
    by_mcp, by_rest, found = visits
    assert len(by_mcp.recorder.arrived) == sum(len(visit.arrived) for visit in found)
    assert len(by_rest.recorder.arrived) == sum(len(visit.arrived_again) for visit in found)
