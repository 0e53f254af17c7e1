"""The REST door of a running portal, from outside: what goes through, what does not, and what is on record of both."""

from __future__ import annotations

import http.client
import json
import socket
import time
import urllib.request
from pathlib import Path
from typing import Any

from tests.gateway.processes import TOKEN, Portal, received

NOTE = {"note": {"content": "the disk is full"}}


def last(portal: Portal, decision_id: str) -> list[dict[str, Any]]:
    return portal.entries(decision_id=decision_id)


def key_with(portal: Portal, arguments: str) -> str:
    """Another key of the same connection."""
    return portal.shell(
        "from integrations.actions import do_issue_agent_key\nfrom integrations.models import Connection\n"
        "from integrations.pagerduty.catalog import TOOLS\n"
        f"print(do_issue_agent_key(Connection.objects.get(), name='other', by='test', tools=TOOLS, {arguments})[1])"
    ).strip()


def test_a_read_goes_through_and_is_on_record(portal: Portal, upstream: tuple[str, Path]) -> None:
    answer = portal.call("GET", "/incidents?limit=25")
    assert answer.status == 200
    assert answer.headers["x-request-id"] == "req-1"
    [entry] = last(portal, answer.headers["x-pagewarden-decision"])
    assert (entry["kind"], entry["tool"], entry["verdict"], entry["outcome"]) == (
        "result",
        "list_incidents",
        "allow",
        "done",
    )
    assert entry["record"]["details"]["arguments"] == {"query": {"limit": "25"}}
    assert entry["record"]["details"]["upstream"]["status"] == 200


def test_a_denied_write_has_pagerdutys_shape_is_on_record_and_never_leaves(
    portal: Portal, upstream: tuple[str, Path]
) -> None:
    before = len(received(upstream[1]))
    answer = portal.call(
        "POST",
        "/incidents",
        {"incident": {"type": "incident", "title": "x", "service": {"id": "PSVC001", "type": "service_reference"}}},
    )
    assert answer.status == 403
    error = answer.json()["error"]
    assert error["code"] == 2010
    assert isinstance(error["errors"], list)
    assert "create_incident is switched off for Payments" in error["errors"][0]
    [entry] = last(portal, answer.headers["x-pagewarden-decision"])
    assert (entry["verdict"], entry["outcome"]) == ("deny", "denied")
    assert len(received(upstream[1])) == before


def test_a_tool_that_needs_approval_is_denied_and_says_so(portal: Portal) -> None:
    answer = portal.call("PUT", "/incidents/PT4KHLK", {"incident": {"type": "incident", "status": "acknowledged"}})
    assert answer.status == 403
    assert "approval" in answer.errors[0]
    [entry] = last(portal, answer.headers["x-pagewarden-decision"])
    assert entry["verdict"] == "needs_approval"


def test_an_unknown_operation_is_refused_and_its_path_is_not_kept(portal: Portal) -> None:
    answer = portal.call("GET", "/no/such/path-4155550123")
    assert answer.status == 403
    [entry] = last(portal, answer.headers["x-pagewarden-decision"])
    assert "4155550123" not in json.dumps(entry)


def test_a_refused_operation_says_why_and_what_instead_and_so_does_its_entry(
    portal: Portal, upstream: tuple[str, Path]
) -> None:
    before = len(received(upstream[1]))
    answer = portal.call("DELETE", "/users/PDEF456")
    assert answer.status == 403
    why, instead = answer.errors
    assert why.startswith("deleteUser is refused. It creates, changes or removes people's accounts")
    assert instead.startswith("Instead: Terraform's pagerduty_user")
    [entry] = last(portal, answer.headers["x-pagewarden-decision"])
    details = entry["record"]["details"]
    assert (entry["verdict"], entry["outcome"], entry["tool"]) == ("deny", "denied", "")
    assert (details["rule"], details["operation"]) == ("refused_operation", "deleteUser")
    assert (details["reason"], details["remedy"]) == (why, instead)
    assert len(received(upstream[1])) == before


def test_an_allowed_write_leaves_an_intent_and_a_result(portal: Portal, upstream: tuple[str, Path]) -> None:
    answer = portal.call(
        "POST",
        "/incidents/PT4KHLK/notes",
        NOTE,
        headers={"From": "someone@else.example", "Cookie": "a=b", "X-Other": "1"},
    )
    assert answer.status == 201
    intent, result = last(portal, answer.headers["x-pagewarden-decision"])
    assert (intent["kind"], intent["outcome"], result["kind"], result["outcome"]) == (
        "intent",
        "intended",
        "result",
        "done",
    )
    assert intent["record"]["details"]["targets"] == [{"type": "incident", "id": "PT4KHLK"}]
    sent = received(upstream[1])[-1]
    assert sent["path"] == "/incidents/PT4KHLK/notes"
    head = sent["head"].lower()
    assert f"authorization: token token={TOKEN}".lower() in head
    assert "from: mina@example.com" in head
    assert "cookie" not in head
    assert "x-other" not in head
    assert "someone@else" not in head


def test_a_strangers_credential_is_refused_alike_and_counted_not_written(portal: Portal) -> None:
    def of_calls() -> list[dict[str, Any]]:
        # What the portal notices for itself (a minute's count of strangers, an alarm) may be written at any moment: here,
        # of other tests' calls.
        return [entry for entry in portal.entries() if entry["kind"] in ("intent", "result")]

    before, counts = of_calls(), len(portal.entries(kind="rejected"))
    answers = [
        portal.call("GET", "/incidents", key=key)
        for key in (
            "",
            "wrong",
            "pwk_aaaaaaaa_" + "b" * 32,
            portal.seeded["key"][:-1] + ("a" if portal.seeded["key"][-1] != "a" else "b"),
        )
    ]
    assert {answer.status for answer in answers} == {401}
    assert len({answer.body for answer in answers}) == 1
    assert of_calls() == before
    assert len(portal.entries(kind="rejected")) <= counts + 1


def test_both_forms_of_the_header_and_a_trailing_slash_are_accepted(portal: Portal) -> None:
    key = portal.seeded["key"]
    assert portal.call("GET", "/incidents", key="", headers={"Authorization": f"Bearer {key}"}).status == 200
    assert (
        portal.call("GET", "/incidents/?offset=0", key="", headers={"Authorization": f"Token token={key}"}).status
        == 200
    )


def test_a_narrowed_key_may_use_its_tools_alone(portal: Portal) -> None:
    key = key_with(portal, "narrowed_to=['list_services']")
    _settle(portal, key)
    assert portal.call("GET", "/services", key=key).status == 200
    denied = portal.call("GET", "/incidents", key=key)
    assert denied.status == 403
    assert "narrowed" in denied.errors[0]


def test_a_key_from_the_wrong_network_is_refused(portal: Portal) -> None:
    key = key_with(portal, "networks=['10.0.0.0/8']")
    time.sleep(1.2)
    assert portal.call("GET", "/services", key=key).status == 401


def test_over_its_limit_a_key_gets_pagerdutys_429_with_its_reset(portal: Portal) -> None:
    key = key_with(portal, "calls_per_minute=3")
    _settle(portal, key)
    statuses = [portal.call("GET", "/services", key=key) for _ in range(4)]
    assert statuses[-1].status == 429
    assert statuses[-1].json()["error"]["code"] == 2020
    assert 1 <= int(statuses[-1].headers["ratelimit-reset"]) <= 21
    assert last(portal, statuses[-1].headers["x-pagewarden-decision"])[0]["outcome"] == "denied"


def _settle(portal: Portal, key: str) -> None:
    """Wait until the portal knows a new key: within a second. Costs one call of it."""
    until = time.monotonic() + 2
    while portal.call("GET", "/no/such", key=key).status == 401:
        assert time.monotonic() < until
        time.sleep(0.05)


def test_too_much_gets_its_4xx_and_its_entry(portal: Portal, upstream: tuple[str, Path]) -> None:
    before = len(received(upstream[1]))
    long = portal.call("POST", "/incidents/PT4KHLK/notes", {"note": {"content": "x" * 30_000}})
    assert (long.status, long.json()["error"]["code"]) == (413, 413)
    wide = portal.call("GET", "/incidents", headers={"X-Wide": "y" * 17_000})
    assert wide.status == 431
    packed = portal.call("POST", "/incidents/PT4KHLK/notes", NOTE, headers={"Content-Encoding": "gzip"})
    assert packed.status == 415
    for answer in (long, wide, packed):
        [entry] = last(portal, answer.headers["x-pagewarden-decision"])
        assert entry["outcome"] == "invalid"
    assert len(received(upstream[1])) == before


def test_authorisation_is_judged_before_the_body(portal: Portal) -> None:
    denied = portal.call("POST", "/incidents", raw=b"{")
    assert denied.status == 403
    invalid = portal.call("POST", "/incidents/PT4KHLK/notes", raw=b"{")
    assert invalid.status == 400
    assert invalid.json()["error"]["code"] == 2001


def test_an_empty_body_is_refused_not_sent(portal: Portal) -> None:
    answer = portal.call("POST", "/incidents/PT4KHLK/notes", raw=b"")
    assert answer.status == 400
    assert "body" in answer.errors[0]


def test_encoded_paths_are_matched_as_they_came(portal: Portal, upstream: tuple[str, Path]) -> None:
    before = len(received(upstream[1]))
    for path in (
        "/incidents%2FPT4KHLK",
        "/incidents/%2e%2e/users",
        "//incidents",
        "/Incidents",
        "/incidents/PT4KHLK/../../users/me",
        "/incidents/PT4KHLK;x",
    ):
        connection = http.client.HTTPConnection("127.0.0.1", portal.port, timeout=10)
        connection.request("GET", f"/pagerduty{path}", headers={"Authorization": f"Token token={portal.seeded['key']}"})
        answer = connection.getresponse()
        assert answer.status in (400, 403, 404), path
        answer.read()
        connection.close()
    assert len(received(upstream[1])) == before


def test_the_probes_answer(portal: Portal) -> None:
    for path, word in (("/healthz", b"up"), ("/readyz", b"ready"), ("/metrics", b"python_info")):
        connection = http.client.HTTPConnection("127.0.0.1", portal.port, timeout=10)
        connection.request("GET", path)
        answer = connection.getresponse()
        assert (answer.status, word in answer.read()) == (200, True)
        connection.close()


def test_strangers_fill_no_disk_through_a_page(portal: Portal) -> None:
    big = b"%x\r\n%s\r\n" % (6_000_001, b"x" * 6_000_001)
    for told, sent in ((b"Content-Length: 99999999999", b""), (b"Transfer-Encoding: chunked", big)):
        with socket.create_connection(("127.0.0.1", portal.port), timeout=10) as line:
            line.sendall(b"POST /sign-in/ HTTP/1.1\r\nHost: localhost\r\n" + told + b"\r\n\r\n" + sent)
            assert line.recv(64).startswith(b"HTTP/1.1 413 "), told


def test_a_change_of_policy_binds_the_next_write_and_a_revocation_everything(portal: Portal) -> None:
    key = key_with(portal, "calls_per_minute=0")
    _settle(portal, key)
    assert portal.call("POST", "/incidents/PT4KHLK/notes", NOTE, key=key).status == 201
    portal.shell(_set_tool("off"))
    assert portal.call("POST", "/incidents/PT4KHLK/notes", NOTE, key=key).status == 403
    portal.shell(_set_tool("on"))
    time.sleep(1.2)
    assert portal.call("POST", "/incidents/PT4KHLK/notes", NOTE, key=key).status == 201
    portal.shell(
        "from policies.actions import do_revoke_key\nfrom policies.models import AgentKey\n"
        f"do_revoke_key(AgentKey.objects.get(prefix='{key.split('_')[1]}'), by='test')"
    )
    # (test_pipeline.py times reads and writes to the second, without the poll.)
    assert portal.call("POST", "/incidents/PT4KHLK/notes", NOTE, key=key).status == 401
    assert portal.call("GET", "/incidents", key=key).status == 401


def test_an_expired_key_is_refused_and_a_used_one_shows_when(portal: Portal) -> None:
    key = key_with(
        portal, "expires_at=__import__('django').utils.timezone.now() + __import__('datetime').timedelta(seconds=8)"
    )
    _settle(portal, key)
    # What was said of the key when a request began holds no longer when its body is whole.
    call = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "list_services"}}).encode()
    note = json.dumps(NOTE).encode()
    slow = [
        (_begun(portal, key, "/pagerduty/incidents/PT4KHLK/notes", len(note)), note),
        (_begun(portal, key, "/mcp", len(call)), call),
    ]
    until = time.monotonic() + 15
    while portal.call("GET", "/services", key=key).status != 401:
        assert time.monotonic() < until
        time.sleep(0.3)
    rest, mcp = (_finished(line, body) for line, body in slow)
    assert rest.startswith(b"HTTP/1.1 401")
    assert b"cannot be confirmed now" in mcp
    assert b'"result"' not in mcp
    shown = "print(AgentKey.objects.exclude(last_used_at=None).filter(prefix='" + key.split("_")[1] + "').count())"
    until = time.monotonic() + 10
    while portal.shell(f"from policies.models import AgentKey\n{shown}").strip() != "1":
        assert time.monotonic() < until, "last use is flushed every five seconds"


def _begun(portal: Portal, key: str, path: str, length: int) -> socket.socket:
    """A request whose head is sent, and as yet none of its body."""
    line = socket.create_connection(("127.0.0.1", portal.port), timeout=20)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nAccept: application/json\r\n"
        f"Authorization: Bearer {key}\r\nContent-Length: {length}\r\n\r\n"
    )
    line.sendall(head.encode())
    return line


def _finished(line: socket.socket, body: bytes) -> bytes:
    with line:
        line.sendall(body)
        return line.recv(65536)


def test_a_body_that_does_not_arrive_is_given_up_with_its_408_and_its_entry(
    upstream: tuple[str, Path], tmp_path: Path
) -> None:
    hasty = Portal(tmp_path, upstream[0], {"CALL_TIME_LIMIT": "1"})
    try:
        hasty.seed(states={"add_note_to_incident": "on"})
        hasty.start()
        with socket.create_connection(("127.0.0.1", hasty.port), timeout=10) as caller:
            caller.sendall(
                b"POST /pagerduty/incidents/PT4KHLK/notes HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                + f"Authorization: Token token={hasty.seeded['key']}\r\nContent-Length: 100\r\n\r\n{{".encode()
            )
            answer = caller.recv(65536)
        assert answer.startswith(b"HTTP/1.1 408")
        assert b"did not arrive within 1 seconds" in answer
        [entry] = hasty.entries(kind="result")
        assert entry["outcome"] == "invalid"
    finally:
        hasty.close()


def _set_tool(state: str) -> str:
    return (
        "from policies.actions import do_set_tools\nfrom policies.models import Team\nfrom policies.core.call import State\n"
        "from integrations.pagerduty.catalog import TOOLS\n"
        f"states = {{'add_note_to_incident': State('{state}')}}\n"
        "do_set_tools(Team.objects.get(slug='payments'), states=states, tools=TOOLS, by='test')"
    )


def test_the_token_shows_nowhere(portal: Portal) -> None:
    answers = [
        portal.call("GET", "/incidents"),
        portal.call("GET", "/no"),
        portal.call("POST", "/incidents", raw=b"\xff"),
    ]
    everything = (
        portal.log()
        + json.dumps(portal.entries())
        + "".join(str(answer.headers) + answer.body.decode() for answer in answers)
    )
    assert TOKEN not in everything
    database = portal.folder / "portal.sqlite3"
    if database.exists():
        assert TOKEN.encode() not in database.read_bytes()
    assert portal.seeded["key"] not in everything


def test_the_probes_and_the_metrics_tell_how_it_goes(portal: Portal) -> None:
    def get(path: str) -> str:
        with urllib.request.urlopen(f"{portal.url}{path}", timeout=10) as answer:
            text: str = answer.read().decode()
            return text

    assert json.loads(get("/healthz")) == {"status": "up"}
    ready = json.loads(get("/readyz"))
    assert ready["status"] == "ready"
    assert set(ready["checks"]) == {"database", "journal", "configuration"}
    assert portal.call("GET", "/incidents").status == 200
    assert portal.call("DELETE", "/users/PUSR001").status == 403
    assert portal.call("GET", "/incidents", key="nobodys").status == 401
    shown = get("/metrics")
    assert 'pagewarden_calls_total{door="rest",outcome="done",tool="list_incidents",verdict="allow"}' in shown
    assert 'pagewarden_calls_total{door="rest",outcome="denied",tool="",verdict="deny"}' in shown
    assert 'pagewarden_rejected_credentials_total{reason="malformed"}' in shown
    assert "pagewarden_call_seconds_bucket" in shown


def test_at_the_end_the_counted_strangers_are_on_record_and_the_journal_verifies(portal: Portal) -> None:
    portal.stop()
    rejected = portal.entries(kind="rejected")
    assert sum(entry["record"]["details"]["count"] for entry in rejected) >= 4
    verified = portal.manage("verify_audit", "--json")
    assert json.loads(verified.stdout)["status"] == "intact"
