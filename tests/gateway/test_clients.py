"""PagerDuty's own Python client, unmodified, at the REST door and at the simulated account itself: old over http, new over TLS.

The account was written by the hands that wrote the door, and could flatter it: here the client tells what it is worth alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from integrations.pagerduty.sandbox.world import demo_from_email, demo_tokens
from tests.gateway.processes import ROOT, Portal, free_port, running

OLD = ROOT / ".tools" / "pagerduty-5.3"
"""Where ``make`` puts the old client: two versions do not fit into one environment."""
WRITES = ("create_incident", "update_incident", "resolve_incident", "add_note_to_incident", "create_schedule_override")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a test authority and a certificate for 127.0.0.1 and localhost."""
    folder = tmp_path_factory.mktemp("authority")
    made = trustme.CA()
    made.cert_pem.write_to_path(str(folder / "ca.pem"))
    issued = made.issue_cert("127.0.0.1", "localhost")
    issued.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    (folder / "key.pem").write_bytes(issued.private_key_pem.bytes())
    return folder


@pytest.fixture(params=["http", "https"])
def account(request: pytest.FixtureRequest, authority: Path) -> Iterator[str]:
    """The simulated account's address, in clear or over TLS."""
    port = free_port()
    tls = request.param == "https"
    certificates = ("--tls-cert", str(authority / "cert.pem"), "--tls-key", str(authority / "key.pem")) if tls else ()
    with running("-m", "integrations.pagerduty.sandbox", "--port", str(port), *certificates, port=port):
        yield f"{request.param}://127.0.0.1:{port}"


@pytest.fixture
def door(account: str, authority: Path, tmp_path: Path) -> Iterator[Portal]:
    """A portal before the account, both in clear or both over TLS."""
    tls = account.startswith("https")
    extra = {"OUTBOUND_CA_FILE": str(authority / "ca.pem")} if tls else {}
    portal = Portal(tmp_path, account, extra, certificates=authority if tls else None)
    try:
        portal.seed(
            token=demo_tokens(7)["account"].value, states=dict.fromkeys(WRITES, "on"), from_email=demo_from_email(7)
        )
        portal.start()
        yield portal
    finally:
        portal.close()


def run_client(url: str, authority: Path, *arguments: str) -> dict[str, Any]:
    """The scenario at ``url``, by the client that goes with it: what it found, having done the same work everywhere."""
    environment = {**os.environ, "PYTHONPATH": ""}
    if url.startswith("https"):
        environment |= {"SSL_CERT_FILE": str(authority / "ca.pem"), "REQUESTS_CA_BUNDLE": str(authority / "ca.pem")}
    else:
        assert OLD.is_dir(), f"{OLD} is not there: make test installs it."
        environment["PYTHONPATH"] = str(OLD)
    command = [sys.executable, str(ROOT / "tests/gateway/client_scenario.py"), url, *arguments]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180)
    assert ran.returncode == 0, ran.stderr
    done: dict[str, Any] = json.loads(ran.stdout)
    assert done["version"].startswith("5.3") == url.startswith("http:")
    assert done["listed"] == 4800
    assert (done["created"], done["updated"], done["resolved"]) == ("triggered", "acknowledged", "resolved")
    assert (done["got"], done["noted"], done["found"]) == (True, "Noted by the client.", True)
    assert done["overridden"] == 201
    assert done["analytics"] > 10
    return done


def test_the_client_works_unmodified_and_every_call_of_it_is_on_record(door: Portal, authority: Path) -> None:
    done = run_client(f"{door.url}/pagerduty", authority, door.seeded["key"])
    assert done["self"].startswith(f"{door.url}/pagerduty/incidents/")
    assert (done["denied"]["status"], done["missing"]["status"]) == (403, 403)
    assert done["denied"]["errors"][0] == "create_escalation_policy is switched off for Payments."
    assert done["missing"]["errors"][0].startswith("listVendors is refused. It only reads")
    assert done["missing"]["errors"][1].startswith("Instead: Terraform's pagerduty_vendor")
    entries = door.entries(kind__in=["intent", "result"])
    assert sum(entry["tool"] == "list_incidents" for entry in entries) >= 48
    for tool in WRITES:
        kinds = [(entry["kind"], entry["outcome"]) for entry in entries if entry["tool"] == tool]
        assert kinds == [("intent", "intended"), ("result", "done")], tool
    [denied] = [entry for entry in entries if entry["decision_id"] == done["denied"]["decision"]]
    assert (denied["verdict"], denied["outcome"], denied["tool"]) == ("deny", "denied", "create_escalation_policy")
    assert demo_tokens(7)["account"].value not in json.dumps(entries) + door.log() + json.dumps(done)
    assert door.manage("verify_audit").stdout.startswith("Intact")


def test_the_client_does_the_same_work_directly_at_the_simulated_account(account: str, authority: Path) -> None:
    done = run_client(account, authority, demo_tokens(7)["account"].value, demo_from_email(7))
    assert done["self"].startswith("https://api.pagerduty.com/incidents/")
    assert done["policy"] == "Watched"
    # Whether the account has webhooks is its own affair: what counts is that no portal refuses them here.
    assert done["webhooks"] in (200, 404)
