"""Two teams at one MCP door at once, each with its own account and tools: no answer is another's, no key outlives its end."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.mcp import LEGACY, MODERN, Mcp
from tests.gateway.processes import TOKEN, Portal

OTHER = "another-TOKEN-0123456789"
ACCOUNTS = {TOKEN: "PAYMENTS", OTHER: "SEARCH"}
AT_ONCE = 16


class Account(BaseHTTPRequestHandler):
    """Two accounts under one address: the token tells which, and everything in the answer says it."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        name = ACCOUNTS[self.headers["Authorization"].partition("token=")[2]]
        row = {"id": f"P{name}1", "type": "incident", "title": f"Of {name}", "status": "triggered"}
        document = {"incidents": [row], "services": [row], "teams": [row], "more": False, "limit": 25, "offset": 0}
        time.sleep(random.random() / 100)  # so that they overtake each other
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def portal(tmp_path: Path) -> Iterator[Portal]:
    """Payments has no ``list_teams``, Search no ``list_services``; each has a key that stays and one that goes."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Account)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    made = Portal(tmp_path, f"http://127.0.0.1:{server.server_address[1]}")
    try:
        made.seed(states={"list_teams": "off"})
        made.seeded["keys"] = json.loads(
            made.shell(
                "import json\n"
                "from integrations.actions import do_issue_agent_key, do_register_token\n"
                "from integrations.models import Connection\n"
                "from integrations.pagerduty.catalog import TOOLS\n"
                "from policies.actions import do_set_tools\n"
                "from policies.core.call import State\n"
                "from policies.models import Team, User\n"
                "ada, payments = User.objects.get(name='Ada'), Connection.objects.get()\n"
                "search = Team.objects.get(name='Search')\n"
                f"other = do_register_token(search, name='Other', token={OTHER!r}, kind='account', region='sandbox',\n"
                "    from_email='omar@example.com', by=ada, whole_account=True)\n"
                "do_set_tools(search, states={'list_services': State.OFF}, tools=TOOLS, by=ada)\n"
                "issue = lambda row, name: do_issue_agent_key(row, name=name, by=ada, tools=TOOLS, calls_per_minute=0)[1]\n"
                "print(json.dumps({'PAYMENTS': issue(payments, 'stays'), 'SEARCH': issue(other, 'stays'),\n"
                "    'PAYMENTS goes': issue(payments, 'goes'), 'SEARCH goes': issue(other, 'goes')}))"
            )
        )
        made.start()
        yield made
    finally:
        made.close()
        server.shutdown()
        server.server_close()


def test_keys_of_two_teams_at_once_see_each_their_own_and_nothing_once_they_are_revoked(portal: Portal) -> None:
    end = revoking = revoked = float("inf")
    seen = Counter[tuple[str, str]]()
    lock = threading.Lock()

    def work(number: int) -> None:
        rng = random.Random(number)
        while time.monotonic() < end:
            name, secret = rng.choice(list(portal.seeded["keys"].items()))
            team, gone = name.split()[0], name.endswith("goes")
            own, foreign = ("list_services", "list_teams") if team == "PAYMENTS" else ("list_teams", "list_services")
            client = Mcp(portal.url, secret, rng.choice([MODERN, LEGACY]))
            what = rng.choice(["list", "incidents", "own", "foreign"])
            sent = time.monotonic()
            if what == "list":
                status, body, _ = client.send("tools/list")
            else:
                tool = {"incidents": "list_incidents", "own": own, "foreign": foreign}[what]
                status, body, _ = client.send("tools/call", {"name": tool, "arguments": {}})
            if gone and sent > revoked + 1:
                assert status in (401, 429), (name, what)  # Strangers are slowed down.
                what = "turned away"
            elif status in (401, 429):
                assert gone, name
                assert time.monotonic() > revoking, name
                what = "turned away"
            elif gone and time.monotonic() > revoking and ("error" in body or body["result"].get("isError")):
                # Its key was good when it came, and no more when it was decided.
                assert not any(f"P{account}1" in json.dumps(body) for account in ACCOUNTS.values()), (name, what)
                what = "cut off"
            elif what == "list":
                tools = {tool["name"] for tool in body["result"]["tools"]}
                assert (own in tools, foreign in tools) == (True, False), name
            elif what == "foreign":
                error = json.loads(body["result"]["content"][0]["text"])["error"]
                assert (error["kind"], error["rule"]) == ("denied", "tool_off"), name
                assert f"{foreign} is switched off for {team.title()}." in error["problem"]
                assert error["where"] == f"{portal.url}/explain/?decision={error['decision_id']}"
            else:
                text = json.dumps(body)
                other = ({*ACCOUNTS.values()} - {team}).pop()
                assert (f"P{team}1" in text, other in text) == (True, False), (name, what)
            with lock:
                seen[team, what] += 1

    with ThreadPoolExecutor(AT_ONCE) as pool:
        running = [pool.submit(work, number) for number in range(AT_ONCE)]
        try:
            time.sleep(2)
            revoking = time.monotonic()
            portal.shell(
                "from policies.actions import do_revoke_key\nfrom policies.models import AgentKey, User\n"
                "ada = User.objects.get(name='Ada')\n"
                "for key in AgentKey.objects.filter(name='goes'): do_revoke_key(key, by=ada)"
            )
            revoked = time.monotonic()
        finally:
            end = time.monotonic() + 3
        for done in running:
            done.result()
    for team in ACCOUNTS.values():
        for what in ("list", "incidents", "own", "foreign", "turned away"):
            assert seen[team, what] >= 3, (team, what, seen)
    # What is on record belongs to the team whose key it was, and to its connection.
    for entry in portal.entries(kind="result"):
        details = entry["record"]["details"]
        assert details["connection"] == ("Main" if entry["team_id"] == portal.seeded["team"] else "Other")
    assert "Traceback" not in portal.log()
