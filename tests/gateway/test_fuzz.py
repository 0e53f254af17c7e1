"""Hostile input at the door: each request with a valid key gets a PagerDuty-shaped 4xx and its entry, and no stack trace."""

from __future__ import annotations

import datetime as dt
import http.client
import json
import os
import random
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.calls import calls
from tests.gateway.processes import Portal, free_port, received, running
from tests.published_schema import nodes, published

ROUNDS = 400
GOOD = {"note": {"content": "x"}}


def body(rng: random.Random) -> bytes:
    """One of the many ways for a body to be wrong."""
    nasty = rng.choice(
        ["\x00", "\ud800", "\udfff", "\u202e", "😀", "\ufeff", "' OR 1=1 --", "{{7*7}}", "../../etc/passwd"]
    )
    no_object: list[Any] = [None, 1, -1.5, True, [], [[]], "text", nasty]
    kind = rng.randrange(14)
    text = json.dumps({"note": {"content": nasty}})
    if kind == 0:
        return bytes(rng.randrange(256) for _ in range(rng.randrange(1, 200)))
    if kind == 1:
        return json.dumps(rng.choice(no_object)).encode()
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


NOW = dt.datetime(2026, 11, 23, 12, tzinfo=dt.UTC)
WRONG: tuple[Any, ...] = (None, 3, "x", True, [], [1], {}, {"id": []})
FIELDS = ("id", "type", "name", "service", "status", "start")


def wrong_bodies(right: dict[str, Any]) -> Iterator[Any]:
    """Objects that are JSON and no request of the operation: what only PagerDuty can judge."""
    yield {}
    for wrong in WRONG:
        for root in right:
            yield {root: wrong}
            yield {root: [wrong]}
            yield {root: dict.fromkeys(FIELDS, wrong)}
            yield from ({root: {"title": "x", "name": "x", field: wrong}} for field in FIELDS)


def test_objects_of_the_wrong_types_are_answered_by_the_account_and_each_is_on_record(tmp_path: Path) -> None:
    from integrations.pagerduty.catalog import TOOLS
    from integrations.pagerduty.sandbox.world import demo_from_email, demo_tokens, generate

    port = free_port()
    with running("-m", "integrations.pagerduty.sandbox", "--port", str(port), "--now", NOW.isoformat(), port=port):
        portal = Portal(tmp_path, f"http://127.0.0.1:{port}")
        try:
            portal.seed(
                token=demo_tokens(7)["account"].value, states=dict.fromkeys(TOOLS, "on"), from_email=demo_from_email(7)
            )
            portal.start()
            connection = http.client.HTTPConnection("127.0.0.1", portal.port, timeout=20)
            decisions = set()
            for name, (method, path, right) in calls(generate(7, NOW)).items():
                for document in wrong_bodies(right) if isinstance(right, dict) else ():
                    connection.request(
                        method,
                        f"/pagerduty{path}",
                        body=json.dumps(document).encode(),
                        headers={
                            "Authorization": f"Token token={portal.seeded['key']}",
                            "Content-Type": "application/json",
                        },
                    )
                    answer = connection.getresponse()
                    raw = answer.read()
                    assert answer.status < 500, (name, document, raw)
                    if answer.status >= 400:
                        assert json.loads(raw)["error"]["message"], (name, document)
                    decisions.add(answer.headers["x-pagewarden-decision"])
            assert len(decisions) > 500
            assert decisions <= {entry["decision_id"] for entry in portal.entries(kind="result")}
            assert "Traceback" not in portal.log()
        finally:
            portal.close()


SECRETS = ("+14155550100", "4155550100", "mina.k@secret.example", "y_NbAkKc66ryYTWUXYEu")
COMMON = ("title", "name", "description", "content", "status", "id", "type", "email", "address", "time_zone", "since")


def fields_of(folder: Path | None, method: str, template: str) -> list[str]:
    """Every name that the published schema gives to a parameter or to a field of the body, however deep."""
    names = set(COMMON)
    if folder is None:
        return sorted(names)
    operation = published(folder, method, template)
    for node in nodes(folder, operation["parameters"], operation.get("requestBody", {})):
        if node.get("in") == "query" and isinstance(node.get("name"), str):
            names.add(node["name"])
        if isinstance(node.get("properties"), dict):
            names |= node["properties"].keys()
    return sorted(names)


def test_what_is_planted_in_every_field_of_every_operation_is_in_no_row(portal: Portal) -> None:
    from integrations.pagerduty.catalog import HOLDS, OPERATIONS, TAKES

    folder = Path(os.environ["PAGERDUTY_SCHEMA_DIR"]) if os.environ.get("PAGERDUTY_SCHEMA_DIR") else None
    connection = http.client.HTTPConnection("127.0.0.1", portal.port, timeout=20)
    statuses = Counter[int]()
    for operation in OPERATIONS.values():
        fields = fields_of(folder, operation.method, operation.path)
        for secret in SECRETS:
            plain = secret.isalnum() or "_" in secret
            target = operation.path.replace("{entity_type}", "users")
            target = re.sub(r"{\w+}", secret if plain else "PT4KHLK", target)
            takes = sorted(TAKES[operation.id] - {"include[]"})  # it has a list of values
            # Every name there is, which is too much for any operation; and what it takes alone, which is sent on.
            for some in (*(fields[start : start + 60] for start in range(0, len(fields), 60)), takes):
                inner: Any = dict.fromkeys(some, secret)
                inner |= {"nested": [dict.fromkeys(some, secret)], "number": 14155550100, secret: secret}
                document = (
                    {"incident": inner}
                    if "updateIncident" in operation.id
                    else dict.fromkeys(HOLDS[operation.id] if some is takes else (*some[:2], secret), inner)
                )
                asked = "&".join(f"{quote(field)}={quote(secret)}" for field in some)
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
                statuses[answer.status] += 1
    assert set(statuses) <= {200, 201, 400, 403}, statuses
    assert sum(statuses.values()) >= len(SECRETS) * len(OPERATIONS)
    assert statuses[200] > 30, statuses  # they were judged and sent, not only refused
    rows = portal.shell("from policies.models import Entry\nprint([list(e.values()) for e in Entry.objects.values()])")
    everything = rows + portal.log()
    for secret in SECRETS:
        assert secret not in everything


def test_nothing_that_is_asked_for_adds_a_line_to_the_log_or_acts_in_it(
    upstream: tuple[str, Path], tmp_path: Path
) -> None:
    forged, secret = "2026-11-24 00:00:00,000 INFO portal: forged", "u+AbC3dEf9GhI2jKl5mN"
    portal = Portal(tmp_path, upstream[0])

    def ask() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", portal.port, timeout=20)
        target = quote(f"/nothing/x\x1b[2J\r\n{forged}\u202e\u2028{secret}", safe="/")
        connection.request("GET", target, headers={"Host": "127.0.0.1", "User-Agent": secret})
        connection.getresponse().read()
        connection.close()

    try:
        portal.seed(states={})
        portal.start(static=True)
        ask()
        portal.stop()
        # Without the files that its pages name: an error that nobody catches, and that the server writes.
        manifest = tmp_path / "static" / "staticfiles.json"
        manifest.write_text(manifest.read_text().replace("icon", "gone"))
        portal.start()
        ask()
        portal.stop()  # The server writes in its own time.
        log = portal.log()
    finally:
        portal.close()
    assert "forged" in log  # It is told what was asked for.
    assert "Application callable raised" in log
    assert [line for line in log.splitlines() if not re.match(r"2\d{3}-\d\d-\d\d \d\d:|    ", line)] == []
    assert [line for line in log.splitlines() if line.startswith(forged)] == []
    assert not set("\x1b\r\u202e\u2028") & set(log)
    assert secret not in log
