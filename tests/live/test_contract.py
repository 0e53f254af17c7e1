"""The contract test, run against the simulated account as if it were the true one: it finds nothing where nothing differs, and
names what does."""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from integrations.pagerduty.catalog import OPERATIONS, TOOLS
from integrations.pagerduty.resolve import match
from integrations.pagerduty.sandbox.app import Sandbox
from integrations.pagerduty.sandbox.world import demo_tokens
from tests.gateway.processes import ROOT, free_port, running
from tests.live.altered import SEED
from tests.live.contract import MAXIMUM_CALLS, PROBES, Answered, Asker, Probe, WouldWrite
from tests.live.shapes import Shape, add, compare, named, unknown_kinds

NOW = dt.datetime(2026, 11, 23, 12, tzinfo=dt.UTC)
READS = {name for tool in TOOLS.values() for name in tool.operations if OPERATIONS[name].reads}
OTHER = demo_tokens(SEED)
"""The tokens of an account of another seed than the one it is compared with."""


@pytest.fixture(scope="module")
def account() -> Iterator[str]:
    port = free_port()
    with running("-m", "integrations.pagerduty.sandbox", "--port", str(port), "--seed", str(SEED), port=port):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def altered_account() -> Iterator[str]:
    port = free_port()
    command = ("-m", "granian", "--interface", "asgi", "--log-level", "error", "--port", str(port), "--factory")
    with running(*command, "tests.live.altered:make", port=port):
        yield f"http://127.0.0.1:{port}"


def run(report: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """``make test-live``, as a person runs it."""
    kept = {name: value for name, value in os.environ.items() if name != "CI" and not name.startswith("PAGERDUTY_LIVE")}
    return subprocess.run(
        [sys.executable, "-m", "tests.live", "--report", str(report)],
        cwd=ROOT,
        env={**kept, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def against(url: str, token: str, report: Path) -> tuple[int, str, dict[str, Any]]:
    """Exit status, what was shown, and the report."""
    ran = run(report, PAGERDUTY_LIVE_TOKEN=token, PAGERDUTY_LIVE_REGION="sandbox", PAGERDUTY_SANDBOX_URL=url)
    assert report.is_file(), ran.stdout + ran.stderr
    return ran.returncode, ran.stdout + ran.stderr, json.loads(report.read_text())


def shape(*documents: Any) -> Shape:
    merged: Shape = {}
    for document in documents:
        add(merged, document)
    return merged


def differences(live: Any, *sandbox: Any) -> list[str]:
    return [str(each) for each in compare(shape(live), shape(*sandbox))]


# The whole run


def test_every_read_of_the_catalogue_is_asked_for_and_nothing_else() -> None:
    asked = [probe.operation for probe in PROBES]
    assert len(asked) == len(set(asked))
    assert set(asked) == READS


def test_an_account_like_the_sandbox_shows_no_difference(account: str, tmp_path: Path) -> None:
    token = OTHER["user_manager"].value
    status, shown, report = against(account, token, tmp_path / "report.json")
    told = report["operations"]
    assert {name: each["differences"] for name, each in told.items() if each["differences"]} == {}, shown
    assert {name: (each["outcome"], each["note"]) for name, each in told.items() if each["outcome"] != "answered"} == {}
    assert [name for name, each in told.items() if each["note"]] == []
    assert (status, report["differences"], set(told)) == (0, 0, READS)
    assert report["calls"] <= MAXIMUM_CALLS
    assert report["journal"] == {"results": report["calls"], "intents": 0}
    with urllib.request.urlopen(f"{account}/_sandbox/stats", timeout=10) as answer:
        arrived = json.load(answer)
    assert arrived["total"] == report["calls"]
    for call in arrived["calls"]:
        found = match(*call.split(" "))
        assert found is not None
        assert found[0].reads
    written = shown + json.dumps(report)
    world = Sandbox(SEED).world
    values = [token, *(service["id"] for service in world.services)]
    values += [value for user in world.users for value in (user["name"], user["email"], user["id"])]
    assert [value for value in values if value in written] == []


def test_an_altered_answer_is_named_and_refusals_are_told_apart(altered_account: str, tmp_path: Path) -> None:
    status, shown, report = against(altered_account, OTHER["account"].value, tmp_path / "report.json")
    told = report["operations"]
    assert status == 1
    found = told["listPriorities"]["differences"]
    assert [line for line in found if not line.startswith("not valid")] == [
        "types differ: $.priorities[]<priority>.name (live integer; sandbox string)",
        "only live: $.priorities[]<priority>.shade (string)",
        "only sandbox: $.priorities[]<priority>.summary (string)",
    ]
    outcomes = {
        name: each["outcome"] for name, each in told.items() if each["outcome"] not in ("answered", "not tried")
    }
    assert outcomes == {
        "listStandards": "plan",
        "listAuditRecords": "access",
        "getBusinessServiceImpacts": "absent",
        "listExtensionSchemas": "refused",
    }
    assert told["getCurrentUser"]["note"] == "the token is the account's, and no user's"
    assert told["getExtensionSchema"]["note"].startswith("the account has no extension schema")
    assert told["listExtensionSchemas"]["differences"] == ["status differs: live 418; sandbox 200"]
    assert report["differences"] == len(found) + 1
    assert "1 not in the account's plan (402): listStandards" in shown
    assert f"  {found[-1]}" in shown


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({}, "Set PAGERDUTY_LIVE_TOKEN to a PagerDuty API token"),
        ({"CI": "true", "PAGERDUTY_LIVE_TOKEN": "x" * 20}, "CI is set: the contract test never runs there"),
        ({"PAGERDUTY_LIVE_TOKEN": "x" * 20, "PAGERDUTY_LIVE_REGION": "mars"}, "PAGERDUTY_LIVE_REGION is us or eu."),
        ({"PAGERDUTY_LIVE_TOKEN": "short"}, "A PagerDuty token is 16 to 512 letters"),
    ],
)
def test_what_cannot_run_says_why(environment: dict[str, str], says: str, tmp_path: Path) -> None:
    ran = run(tmp_path / "report.json", **environment)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert says in ran.stderr
    assert len(ran.stderr.splitlines()) == 1
    assert not (tmp_path / "report.json").exists()


@pytest.mark.parametrize("trouble", ["a refused token", "nobody there"])
def test_an_account_that_cannot_be_asked_ends_the_run_after_one_call(
    account: str, tmp_path: Path, trouble: str
) -> None:
    url, says = account, "PagerDuty does not know this token"
    if trouble == "nobody there":
        url, says = f"http://127.0.0.1:{free_port()}", "PagerDuty could not be reached."
    token = OTHER["revoked"].value
    report = tmp_path / "report.json"
    ran = run(report, PAGERDUTY_LIVE_TOKEN=token, PAGERDUTY_LIVE_REGION="sandbox", PAGERDUTY_SANDBOX_URL=url)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert says in ran.stderr
    assert token not in ran.stderr
    assert not report.exists()


# Asking


def test_a_write_is_not_sent_even_where_it_is_asked_for() -> None:
    sent: list[str] = []

    def send(method: str, path: str, body: Any) -> Answered:
        sent.append(path)
        return Answered(200, {})

    with pytest.raises(WouldWrite, match="createIncident"):
        Asker(send, NOW).ask_all([Probe("createIncident")])
    assert sent == []


def test_the_next_thing_is_asked_for_only_while_answers_are_empty_and_calls_are_left() -> None:
    asked: list[str] = []

    def send(method: str, path: str, body: Any) -> Answered:
        asked.append(path.partition("?")[0])
        rows = {"incidents": [{"id": f"P{number}"} for number in range(9)]}
        return Answered(200, rows if path.startswith("/incidents?") else {"notes": [{}] if "P1" in path else []})

    probes = [
        probe for probe in PROBES if probe.operation in ("listIncidents", "listIncidentNotes", "getPastIncidents")
    ]
    seen = Asker(send, NOW, most=4).ask_all(probes)
    assert asked == ["/incidents", "/incidents/P0/notes", "/incidents/P1/notes", "/incidents/P0/past_incidents"]
    assert seen["getPastIncidents"].note == "4 calls had been made"


# Shapes


def test_fields_and_types_that_differ_are_named_by_their_path() -> None:
    sandbox = {"user": {"type": "user", "name": "A", "age": 1, "teams": [{"id": "P1"}]}}
    live = {"user": {"type": "user", "name": 1, "teams": [{"id": "P1", "role": "x"}]}}
    assert differences(live, sandbox) == [
        "only sandbox: $.user<user>.age (integer)",
        "types differ: $.user<user>.name (live integer; sandbox string)",
        "only live: $.user<user>.teams[].role (string)",
    ]


def test_what_one_side_has_not_shown_is_no_difference() -> None:
    assert differences({"a": [], "b": None, "c": 1}, {"a": [{"x": 1}], "b": "t", "c": 1.5}) == []
    assert differences({"a": [{"x": 1}], "b": "t"}, {"a": [], "b": None}) == []
    # Some of the sandbox's objects lack the field: so it may be lacking.
    assert differences({"rows": [{"a": 1}]}, {"rows": [{"a": 1, "b": 2}, {"a": 1}]}) == []


def test_objects_are_compared_with_their_own_kind() -> None:
    sandbox = {"rows": [{"type": "note", "text": "t"}, {"type": "page", "to": "P1"}]}
    assert differences({"rows": [{"type": "page", "to": "P2"}]}, sandbox) == []
    live = {"rows": [{"type": "call", "number": 1}]}
    assert differences(live, sandbox) == []
    assert unknown_kinds(shape(live), shape(sandbox)) == ["$.rows[]<call>"]


def test_names_that_an_account_chose_itself_are_never_shown() -> None:
    live = {"custom_details": {"salary_of_ada": 1}, "Team Payments": "x", "type": "Our type"}
    assert set(shape(live)) == {"$", "$.custom_details", "$.*", "$.type"}
    assert named(["rows", 3, "details", "salary_of_ada"]) == "$.rows[].details"
