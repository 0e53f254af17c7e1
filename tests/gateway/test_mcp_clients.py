"""The official MCP client, unmodified, at the MCP door: the newest on each of its ways in, and the last 1.x."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from integrations.pagerduty.sandbox.world import demo_from_email, demo_tokens
from tests.gateway.processes import ROOT, Portal, free_port, running

OLD = ROOT / ".tools" / "mcp-1.30"
"""Where ``make`` puts the old client: two versions do not fit into one environment."""
CLIENTS = {
    "newest": ("", "auto", "2.3.0", "2026-07-28"),
    "newest, no questions asked": ("", "2026-07-28", "2.3.0", "2026-07-28"),
    "newest, by the handshake": ("", "legacy", "2.3.0", "2025-11-25"),
    "the last 1.x": (str(OLD), "legacy", "1.30.0", "2025-11-25"),
}
"""Where it is found beside the environment, how it connects, its version → the revision that it then speaks."""


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Portal]:
    port = free_port()
    with running("-m", "integrations.pagerduty.sandbox", "--port", str(port), "--seed", "7", port=port):
        portal = Portal(tmp_path_factory.mktemp("portal"), f"http://127.0.0.1:{port}")
        try:
            states = {"add_note_to_incident": "on", "update_incident": "needs_approval"}
            portal.seed(token=demo_tokens(7)["account"].value, states=states, from_email=demo_from_email(7))
            portal.start()
            yield portal
        finally:
            portal.close()


def run_client(url: str, key: str, where: str, mode: str) -> dict[str, Any]:
    """What the client found, having done the scenario's work."""
    assert not where or Path(where).is_dir(), f"{where} is not there: make test installs it."
    # -P: beside it stands a module that is called mcp, too.
    command = [sys.executable, "-P", str(ROOT / "tests/gateway/mcp_client_scenario.py"), url, key, mode]
    environment = {**os.environ, "PYTHONPATH": where}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    done: dict[str, Any] = json.loads(ran.stdout)
    return done


@pytest.mark.parametrize("client", CLIENTS)
def test_the_client_lists_calls_pages_and_is_denied_with_what_to_do(door: Portal, client: str) -> None:
    where, mode, version, revision = CLIENTS[client]
    done = run_client(f"{door.url}/mcp", door.seeded["key"], where, mode)
    assert (done["version"], done["revision"]) == (version, revision)
    assert done["tools"][:2] == ["list_incidents", "get_incident"]
    assert {"add_note_to_incident", "update_incident"} <= set(done["tools"])
    assert "resolve_incident" not in done["tools"]
    assert (done["pages"], done["seen"], done["unique"]) == (3, 300, 300)
    assert done["got"]
    entries = {entry["decision_id"]: entry for entry in door.entries(kind="result")}
    for what, kind, rule, explained in (
        ("denied", "denied", "tool_off", True),
        ("unapproved", "needs_approval", "needs_approval", True),
        ("wrong", "invalid", None, False),
        ("unknown", "denied", "not_in_catalogue", False),
    ):
        failed, said = done[what]
        error = said["error"]
        assert failed, what
        page = f"{door.url}/explain/?decision={error['decision_id']}" if explained else None
        assert (error["kind"], error.get("rule"), error.get("where")) == (kind, rule, page), what
        assert all(error[word] for word in ("problem", "remedy", "decision_id")), what
        outcome = entries[error["decision_id"]]["outcome"]
        assert outcome == ("invalid" if kind == "invalid" else "denied"), what
    assert done["denied"][1]["error"]["problem"] == "resolve_incident is switched off for Payments."
    assert done["wrong"][1]["error"]["remedy"] == "Pass it without: P1."
    # The newest shows the answer's own words, the old one the status.
    assert ("missing, unknown, revoked or expired" if version == "2.3.0" else "401 Unauthorized") in done["stranger"][0]
    assert {entries[decision]["tool"] for decision in done["decisions"]} == {"get_incident"}


def test_nothing_of_it_is_in_the_log_and_the_journal_is_whole(door: Portal) -> None:
    log = door.log()
    assert "Traceback" not in log
    assert door.seeded["key"] not in log
    assert "Terminating session" not in log
    assert door.manage("verify_audit").stdout.startswith("Intact")
