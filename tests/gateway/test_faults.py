"""What PagerDuty and the network can do wrong, played by the faulting stub: no write twice, reads once more, all on record."""

from __future__ import annotations

import json
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.processes import Portal, free_port, running

NOTE = {"note": {"content": "the disk is full"}}


class Stub:
    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def post(self, path: str) -> None:
        urllib.request.urlopen(urllib.request.Request(f"{self.url}/_stub/{path}", method="POST"), timeout=5).read()

    def fault(self, name: str) -> None:
        self.post("clear")
        self.post(f"fault/{name}")

    def count(self) -> int:
        with urllib.request.urlopen(f"{self.url}/_stub/stats", timeout=5) as answer:
            return int(json.load(answer)["n"])


@pytest.fixture(scope="module")
def stub(bench_dir: Path) -> Iterator[Stub]:
    port = free_port()
    with running(str(bench_dir / "stub" / "stub.py"), "--port", str(port), port=port):
        yield Stub(port)


@pytest.fixture(scope="module")
def portal(stub: Stub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Portal]:
    portal = Portal(tmp_path_factory.mktemp("portal"), stub.url, {"CALL_TIME_LIMIT": "3", "ANSWER_LIMIT": "60000"})
    try:
        portal.seed(states={"add_note_to_incident": "on"})
        portal.start()
        yield portal
    finally:
        portal.close()


@pytest.fixture(autouse=True)
def _no_fault_is_left(stub: Stub) -> Iterator[None]:
    yield
    stub.fault("none")


def entries(portal: Portal, answer: Any) -> list[dict[str, Any]]:
    return portal.entries(decision_id=answer.headers["x-pagewarden-decision"])


def test_every_self_is_rewritten_and_nothing_else(portal: Portal, stub: Stub) -> None:
    theirs = json.loads(
        urllib.request.urlopen(
            urllib.request.Request(f"{stub.url}/incidents?limit=25", headers={"Authorization": "Token token=x"}),
            timeout=5,
        ).read()
    )
    ours = portal.call("GET", "/incidents?limit=25").json()

    def rewritten(node: Any) -> Any:
        if isinstance(node, dict):
            return {
                key: value.replace("https://api.pagerduty.com", f"{portal.url}/pagerduty")
                if key == "self" and isinstance(value, str)
                else rewritten(value)
                for key, value in node.items()
            }
        return [rewritten(item) for item in node] if isinstance(node, list) else node

    assert ours == rewritten(theirs)
    assert "https://api.pagerduty.com" not in json.dumps(ours)


@pytest.mark.parametrize(
    ("fault", "sent", "status", "outcome"),
    [
        ("500", 2, 500, "failed"),
        ("502", 2, 502, "failed"),
        ("reset", 2, 502, "failed"),
        ("truncated", 2, 502, "failed"),
        ("hang", 1, 504, "failed"),
        ("429:60", 1, 429, "refused"),
    ],
)
def test_a_read_is_tried_once_more_where_that_can_help(
    portal: Portal, stub: Stub, fault: str, sent: int, status: int, outcome: str
) -> None:
    stub.fault(fault)
    before = stub.count()
    answer = portal.call("GET", "/incidents?limit=25")
    assert answer.status == status
    assert answer.json()["error"]["message"]
    assert stub.count() - before == sent
    [entry] = entries(portal, answer)
    assert entry["outcome"] == outcome
    assert entry["record"]["details"]["upstream"]["attempts"] == sent


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        ("reset", 502),
        ("truncated", 502),
        ("hang", 502),
        ("malformed", 502),
        ("500", 500),
        ("502", 502),
    ],
)
def test_a_write_is_sent_once_and_an_unclear_outcome_is_called_unknown(
    portal: Portal, stub: Stub, fault: str, status: int
) -> None:
    # A text of its own: an identical write after an unknown outcome is not sent.
    note = {"note": {"content": f"the disk is full: {fault}"}}
    portal.call("POST", "/incidents/PT4K000/notes", note)  # so that a connection is there to be reused
    stub.fault(fault)
    before = stub.count()
    answer = portal.call("POST", "/incidents/PT4K000/notes", note)
    assert answer.status == status
    assert answer.headers["x-pagewarden-outcome"] == "unknown"
    assert stub.count() - before == 1
    intent, result = entries(portal, answer)
    assert (intent["outcome"], result["outcome"]) == ("intended", "unknown")


def test_a_refused_write_is_relayed_and_called_refused(portal: Portal, stub: Stub) -> None:
    stub.fault("429:1")
    before = stub.count()
    answer = portal.call("POST", "/incidents/PT4K000/notes", NOTE)
    assert (answer.status, stub.count() - before) == (429, 1)
    assert entries(portal, answer)[1]["outcome"] == "refused"


def test_an_answer_over_the_limit_is_not_relayed(portal: Portal, stub: Stub, tmp_path: Path) -> None:
    small = Portal(tmp_path, stub.url, {"ANSWER_LIMIT": "1000"})
    try:
        small.seed()
        small.start()
        answer = small.call("GET", "/incidents?limit=25")
        assert answer.status == 502
        assert "size limit" in answer.errors[0]
    finally:
        small.close()


def test_a_slow_answer_is_waited_for_and_a_malformed_one_is_not_relayed(portal: Portal, stub: Stub) -> None:
    stub.fault("slowbody:1")
    assert portal.call("GET", "/incidents?limit=25").status == 200
    stub.fault("malformed")
    answer = portal.call("GET", "/incidents?limit=25")
    assert answer.status == 502
    assert entries(portal, answer)[0]["outcome"] == "failed"


def test_where_nobody_listens_a_write_is_called_failed_not_unknown(tmp_path: Path) -> None:
    portal = Portal(tmp_path, f"http://127.0.0.1:{free_port()}")
    try:
        portal.seed(states={"add_note_to_incident": "on"})
        portal.start()
        answer = portal.call("POST", "/incidents/PT4K000/notes", NOTE)
        assert answer.status == 502
        assert "x-pagewarden-outcome" not in answer.headers
        assert [entry["outcome"] for entry in entries(portal, answer)] == ["intended", "failed"]
    finally:
        portal.close()


def test_a_caller_who_goes_away_does_not_cost_the_record(portal: Portal, stub: Stub) -> None:
    stub.fault("latency:800")
    before = {entry["decision_id"] for entry in portal.entries()}
    with socket.create_connection(("127.0.0.1", portal.port)) as caller:
        body = json.dumps(NOTE).encode()
        caller.sendall(
            b"POST /pagerduty/incidents/PT4K000/notes HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            + f"Authorization: Token token={portal.seeded['key']}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        time.sleep(0.3)
    time.sleep(1.2)
    new = [entry for entry in portal.entries() if entry["decision_id"] not in before]
    assert [entry["outcome"] for entry in new] == ["intended", "done"]


def test_without_its_journal_the_portal_sends_no_write_and_answers_no_read(portal: Portal, stub: Stub) -> None:
    portal.sql("ALTER TABLE policies_entry RENAME TO entry_gone")
    try:
        before = stub.count()
        write = portal.call("POST", "/incidents/PT4K000/notes", NOTE)
        assert write.status == 503
        assert stub.count() == before
        read = portal.call("GET", "/incidents?limit=25")
        assert read.status == 503
        assert b"PT4K000" not in read.body
        denied = portal.call("POST", "/incidents", {"incident": {}})
        assert denied.status == 503
    finally:
        portal.sql("ALTER TABLE entry_gone RENAME TO policies_entry")
    assert portal.call("GET", "/incidents?limit=25").status == 200


def test_a_write_that_was_sent_but_cannot_be_recorded_says_so_and_never_invites_a_second_try(
    portal: Portal, stub: Stub
) -> None:
    stub.fault("latency:2000")
    answers: list[Any] = []
    # Of an incident of its own: what became of another such note a moment ago would be told in its place.
    caller = threading.Thread(target=lambda: answers.append(portal.call("POST", "/incidents/PT4KGNE/notes", NOTE)))
    caller.start()
    time.sleep(0.5)
    portal.sql("ALTER TABLE policies_entry RENAME TO entry_gone")
    try:
        caller.join(timeout=20)
        [answer] = answers
        assert answer.status == 502
        assert answer.headers["x-pagewarden-outcome"] == "unknown"
        assert "could not be recorded" in answer.errors[0]
    finally:
        portal.sql("ALTER TABLE entry_gone RENAME TO policies_entry")


def test_the_journal_still_verifies_in_a_process_of_its_own(portal: Portal) -> None:
    portal.stop()
    assert json.loads(portal.manage("verify_audit", "--json").stdout)["status"] == "intact"
    portal.shell("from policies.journal import write_checkpoint\nwrite_checkpoint()")
    [file] = (portal.folder / "checkpoints").glob("*.json")
    found = json.loads(portal.manage("verify_audit", "--json", "--checkpoint", str(file)).stdout)
    assert (found["status"], found["anchored"]) == ("intact", True)


@pytest.mark.parametrize(
    "broken",
    [{"SECRET_KEY_FILE": "/nowhere"}, {"PAGEWARDEN_ENV_FILE": "/nowhere"}, {"DATABASE_URL": "sqlite:////nowhere/x"}],
)
def test_verification_that_cannot_run_does_not_say_broken(tmp_path: Path, broken: dict[str, str]) -> None:
    portal = Portal(tmp_path, "http://127.0.0.1:9", broken)
    try:
        if "SECRET_KEY_FILE" in broken:
            portal.env.pop("PAGEWARDEN_ENV_FILE")
        ran = portal.manage("verify_audit", "--json", check=False)
        assert (ran.returncode, json.loads(ran.stdout)["status"]) == (2, "unknown")
        assert "Traceback" not in ran.stderr
    finally:
        portal.close()
