"""MCP's own conformance tests for servers, as published, at the MCP door: which of them pass, and which cannot apply and why."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from integrations.pagerduty.sandbox.world import demo_from_email, demo_tokens
from tests.gateway.processes import ROOT, Portal, free_port, running

TOOLS = ROOT / ".tools" / "conformance" / "node_modules"
"""Where ``make`` puts both versions, and the node that they need: newer than Debian's."""
PASS = {
    *("server-initialize", "server-session-lifecycle", "server-stateless", "ping", "tools-list", "tools-call-error"),
    *("tools-call-simple-text", "server-sse-polling", "server-sse-multiple-streams", "dns-rebinding-protection"),
    *("caching", "http-header-validation", "http-custom-header-server-validation", "sep-2164-resource-not-found"),
    *("input-required-result-missing-input-response", "input-required-result-unsupported-methods"),
    *("input-required-result-ignore-extra-params", "input-required-result-validate-input"),
}
"""Scenarios that pass whole, but for the checks that ``NOT_OURS`` names."""
FIXTURE = "needs a tool of its own of the server"
ASKS_BACK = f"{FIXTURE}, one that asks something of the client: none here does"
NO_RESOURCES = "the door has no resources, and says so in its capabilities"
NO_PROMPTS = "the door has no prompts, and says so in its capabilities"
CANNOT_APPLY = {
    **dict.fromkeys(("tools-call-image", "tools-call-audio", "tools-call-embedded-resource"), FIXTURE),
    **dict.fromkeys(("tools-call-mixed-content", "tools-call-with-progress", "json-schema-2020-12"), FIXTURE),
    "tools-call-with-logging": f"{FIXTURE}, and logging that the client sets: the journal is not its affair",
    "logging-set-level": "the door sends no log messages, and says so in its capabilities",
    "completion-complete": "the door completes nothing, and says so in its capabilities",
    **dict.fromkeys(("tools-call-sampling", "tools-call-elicitation"), ASKS_BACK),
    **dict.fromkeys(("elicitation-sep1034-defaults", "elicitation-sep1330-enums"), ASKS_BACK),
    **{
        f"input-required-result-{name}": ASKS_BACK
        for name in (
            *("basic-elicitation", "basic-sampling", "basic-list-roots", "request-state", "multiple-input-requests"),
            *("multi-round", "result-type", "tampered-state", "capability-check"),
        )
    },
    "input-required-result-non-tool-request": NO_PROMPTS,
    **dict.fromkeys(("resources-list", "resources-read-text", "resources-read-binary"), NO_RESOURCES),
    **dict.fromkeys(("resources-templates-read", "resources-subscribe", "resources-unsubscribe"), NO_RESOURCES),
    **dict.fromkeys(("prompts-list", "prompts-get-simple", "prompts-get-with-args"), NO_PROMPTS),
    **dict.fromkeys(("prompts-get-embedded-resource", "prompts-get-with-image"), NO_PROMPTS),
}
"""Scenario → why it cannot apply."""
NOT_OURS = {
    **dict.fromkeys(
        ("sep-2575-server-rejects-undeclared-capability", "sep-2575-missing-capability-http-400"), ASKS_BACK
    ),
    "sep-2549-prompts-list-caching-hints": NO_PROMPTS,
    "sep-2549-resources-list-caching-hints": NO_RESOURCES,
    "sep-2549-resources-templates-list-caching-hints": NO_RESOURCES,
    **{
        f"sep-2243-server-{name}": "no tool here mirrors a parameter in a header"
        for name in (
            *("no-xmcp-tool", "decode-base64", "validate-param-match", "reject-invalid-param-chars"),
            "reject-param-mismatch",
        )
    },
}
"""Check of a scenario that passes otherwise → why it cannot apply."""


@pytest.fixture(scope="module")
def node() -> Path:
    if shutil.which("npm") is None:
        if os.environ.get("REQUIRE_NODE"):
            pytest.fail("npm is not on the PATH, and MCP's conformance tests are required here.")
        pytest.skip("node and npm are not installed")
    assert TOOLS.is_dir(), f"{TOOLS} is not there: make test installs it."
    return TOOLS / ".bin" / "node"


@pytest.fixture(scope="module")
def url(node: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The door's, for whoever has no way to send a key: what stands there adds it to each request, and changes nothing else."""
    port = free_port()
    with running("-m", "integrations.pagerduty.sandbox", "--port", str(port), "--seed", "7", port=port):
        portal = Portal(tmp_path_factory.mktemp("portal"), f"http://127.0.0.1:{port}")
        try:
            portal.seed(token=demo_tokens(7)["account"].value, states={}, from_email=demo_from_email(7))
            portal.start()
            server = ThreadingHTTPServer(("127.0.0.1", 0), handler(portal))
            threading.Thread(target=server.serve_forever, daemon=True).start()
            try:
                yield f"http://127.0.0.1:{server.server_address[1]}/mcp"
            finally:
                server.shutdown()
                server.server_close()
            assert "Traceback" not in portal.log()
        finally:
            portal.close()


def handler(portal: Portal) -> type[BaseHTTPRequestHandler]:
    class Forward(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            connection = http.client.HTTPConnection("127.0.0.1", portal.port, timeout=30)
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                connection.putheader(name, value)
            connection.putheader("Authorization", f"Bearer {portal.seeded['key']}")
            connection.endheaders(body)
            answer = connection.getresponse()
            content = answer.read()
            connection.close()
            self.send_response_only(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = _forward

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Forward


@pytest.mark.parametrize(
    ("release", "options"),
    [
        ("release", ("--suite", "all")),  # It knows no revision but the handshake's, and takes no word for it.
        ("next", ("--suite", "all", "--spec-version", "2025-11-25")),
        ("next", ("--suite", "all", "--spec-version", "2026-07-28")),
    ],
    ids=["0.1.16", "0.2.0 at 2025-11-25", "0.2.0 at 2026-07-28"],
)
def test_every_scenario_that_can_apply_passes(
    node: Path, url: str, tmp_path: Path, release: str, options: tuple[str, ...]
) -> None:
    program = TOOLS / release / "dist" / "index.js"
    command = [str(node), str(program), "server", "--url", url, *options, "--output-dir", str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120)
    found: dict[str, list[dict[str, Any]]] = {}
    for folder in tmp_path.iterdir():
        scenario = re.sub(r"^server-(.+)-\d{4}-\d\d-\d\dT.+$", r"\1", folder.name)
        found[scenario] = json.loads((folder / "checks.json").read_text())
    assert len(found) >= 30, ran.stdout + ran.stderr
    assert found.keys() <= PASS | CANNOT_APPLY.keys()
    failed = {
        (scenario, check["id"]): check.get("errorMessage")
        for scenario in found.keys() & PASS
        for check in found[scenario]
        if check["status"] == "FAILURE" and check["id"] not in NOT_OURS
    }
    assert failed == {}
    passed = sum(check["status"] == "SUCCESS" for scenario in found.keys() & PASS for check in found[scenario])
    assert passed >= {"0.1.16": 6, "2025-11-25": 10, "2026-07-28": 55}[options[-1] if len(options) > 2 else "0.1.16"]
    # What cannot apply and passes all the same belongs into the other list.
    for scenario in found.keys() & CANNOT_APPLY.keys():
        assert any(check["status"] == "FAILURE" for check in found[scenario]), scenario
