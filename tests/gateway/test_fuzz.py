"""Hostile input at the door: each request with a valid key gets a PagerDuty-shaped 4xx and its entry, and no stack trace."""

from __future__ import annotations

import http.client
import json
import random
from pathlib import Path
from typing import Any

from tests.gateway.processes import Portal, received

ROUNDS = 400
GOOD = {"note": {"content": "x"}}


def body(rng: random.Random) -> bytes:
    """One of the many ways for a body to be wrong."""
    nasty = rng.choice(
        ["\x00", "\ud800", "\udfff", "\u202e", "😀", "\ufeff", "' OR 1=1 --", "{{7*7}}", "../../etc/passwd"]
    )
    wrong: list[Any] = [None, 1, -1.5, True, [], {}, [[]], "text", nasty, {"note": []}, {"note": {"content": {}}}]
    kind = rng.randrange(14)
    text = json.dumps({"note": {"content": nasty}})
    if kind == 0:
        return bytes(rng.randrange(256) for _ in range(rng.randrange(1, 200)))
    if kind == 1:
        return json.dumps(rng.choice(wrong[:8])).encode()
    if kind == 2:
        return text.encode("utf-8", "surrogatepass")[: rng.randrange(1, len(text))]
    if kind == 3:
        return rng.choice([b"[", b'{"a":']) * rng.randrange(100, 3000)
    if kind == 4:
        return b'{"note":' + b"[" * 500 + b"]" * 500 + b"}"
    if kind == 5:
        return text.encode(rng.choice(["utf-16", "utf-32", "utf-8-sig"]), "surrogatepass")
    if kind == 6:
        return b'{"note":{"content":"a"},"note":{"content":"b"}}'
    if kind == 7:
        return b'{"note":{"content":' + rng.choice([b"NaN", b"Infinity", b"-Infinity", b"1e9999", b"9" * 400]) + b"}}"
    if kind == 8:
        return b'{"note":{"content":"\\ud800' + b"\\u0000" * rng.randrange(3) + b'"}}'
    if kind == 9:
        return json.dumps({"note": {"content": ["x"] * 30_000}}).encode()[:19_000]
    if kind == 10:
        return b""
    if kind == 11:
        return b"note=x&content=y"
    if kind == 12:
        return b'{"note":{"content":"\xff\xfe"}}'
    return json.dumps({"x" * rng.randrange(1, 50): {nasty: nasty}}).encode("utf-8", "surrogatepass") + b"}"


def path(rng: random.Random) -> str:
    parts = [
        "incidents",
        "..",
        "%2e%2e",
        "%00",
        "PT4KHLK",
        "%ff",
        "notes",
        "a" * 200,
        "%c0%af",
        "users",
        "me",
        ";",
        "\\",
        "~",
    ]
    if rng.random() < 0.5:
        return "/incidents/PT4KHLK/notes"
    return "/" + "/".join(rng.choice(parts) for _ in range(rng.randrange(1, 6)))


def query(rng: random.Random) -> str:
    bad = [
        "limit=1&limit=2",
        "%ff=1",
        "a=%00",
        "token=x",
        "include[]=calendar_urls",
        "=",
        "A=1",
        "a" * 300 + "=1",
        "x[=1",
    ]
    return f"?{rng.choice(bad)}" if rng.random() < 0.3 else ""


def test_every_hostile_request_gets_a_4xx_and_an_entry(portal: Portal, upstream: tuple[str, Path]) -> None:
    rng = random.Random(20261123)
    before = len(received(upstream[1]))
    decisions: dict[str, tuple[str, int]] = {}
    connection = http.client.HTTPConnection("127.0.0.1", portal.port, timeout=20)
    for _ in range(ROUNDS):
        method = rng.choice(["POST", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "QUERY"])
        target = path(rng) + query(rng)
        headers = {
            "Authorization": f"Token token={portal.seeded['key']}",
            "Content-Type": rng.choice(
                ["application/json", "application/json", "text/plain", "a" * 300, "application/json; charset=utf-7"]
            ),
            "User-Agent": rng.choice(["x", "\xff\xfe", "a" * 2000, "curl/8.0", "{}"]),
            "X-Forwarded-For": "1.2.3.4, ::::, \xff",
        }
        connection.request(method, f"/pagerduty{target}", body=body(rng), headers=headers)
        answer = connection.getresponse()
        raw = answer.read()
        assert 400 <= answer.status < 500, (method, target, answer.status, raw)
        assert answer.headers["Content-Type"] == "application/json"
        error = json.loads(raw)["error"]
        assert isinstance(error["message"], str)
        assert isinstance(error["code"], int)
        assert error["errors"]
        decision = answer.headers["x-pagewarden-decision"]
        assert decision not in decisions
        decisions[decision] = (method, answer.status)
        if answer.headers.get("connection") == "close":
            connection.close()
    assert len(received(upstream[1])) == before  # none of it was sent
    entries = {entry["decision_id"]: entry for entry in portal.entries(kind="result")}
    for decision, (method, status) in decisions.items():
        assert decision in entries, (method, status)
        assert entries[decision]["record"]["details"]["status"] == status
    assert "Traceback" not in portal.log()
    assert portal.manage("verify_audit").stdout.startswith("Intact")
    assert portal.call("POST", "/incidents/PT4KHLK/notes", GOOD).status == 201  # and it still works


SECRETS = ("+14155550100", "mina.k@secret.example", "y_NbAkKc66ryYTWUXYEu")


def test_what_is_planted_in_every_field_of_every_operation_is_in_no_row(portal: Portal) -> None:
    from integrations.pagerduty.catalog import OPERATIONS, TOOLS

    fields = (
        "title",
        "name",
        "description",
        "content",
        "status",
        "id",
        "type",
        "email",
        "address",
        "time_zone",
        "since",
        "html_url",
    )
    connection = http.client.HTTPConnection("127.0.0.1", portal.port, timeout=20)
    served = sorted({operation for tool in TOOLS.values() for operation in tool.operations})
    for number, name in enumerate([*served, "deleteUser", "createUser", "updateService"]):
        operation = OPERATIONS[name]
        secret = SECRETS[number % len(SECRETS)]
        target = operation.path
        for parameter in ("id", "alert_id"):
            target = target.replace(f"{{{parameter}}}", "PT4KHLK")
        inner: Any = dict.fromkeys(fields, secret) | {"nested": [dict.fromkeys(fields, secret)], secret: secret}
        document = dict.fromkeys(
            ("incident", "note", "schedule", "escalation_policy", "filters", "overrides", secret), inner
        )
        asked = "&".join(f"{field}={secret.replace('+', '%2B')}" for field in fields)
        sent = json.dumps(document).encode() if operation.has_body else None
        headers = {
            "Authorization": f"Token token={portal.seeded['key']}",
            "Content-Type": "application/json",
            "User-Agent": secret,
            "From": secret,
            "X-Request-Id": secret,
        }
        connection.request(operation.method, f"/pagerduty{target}?{asked}", body=sent, headers=headers)
        answer = connection.getresponse()
        answer.read()
        assert answer.status in (200, 201, 400, 403), (name, answer.status)
    everything = json.dumps(portal.entries()) + portal.log()
    rows = portal.shell("from policies.models import Entry\nprint([list(e.values()) for e in Entry.objects.values()])")
    for secret in SECRETS:
        assert secret not in everything + rows
