"""Strangers: whatever is wrong with their key they get the same, however many they are they leave few rows, and good calls do
not wait for them."""

from __future__ import annotations

import asyncio
import hmac
import json
import socket
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from integrations.gateway import strangers
from integrations.gateway.identity import Identified, Identities, KnownKey, Rejected
from integrations.gateway.pipeline import REFUSALS_PER_MINUTE
from integrations.gateway.strangers import NAMED, TOLD_APART, Strangers
from policies import keys
from policies.core.call import Entry, Kind, Principal
from tests.gateway.processes import Portal


@pytest.fixture(scope="module")
def proxied(upstream: tuple[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Portal]:
    """A portal behind a trusted proxy, with a revoked and an expired key, and one for another network."""
    portal = Portal(tmp_path_factory.mktemp("strangers"), upstream[0], {"TRUSTED_PROXIES": "127.0.0.1/32"})
    try:
        portal.seed(states={"add_note_to_incident": "on"})
        out = portal.shell(
            "import datetime as dt, json\nfrom django.utils import timezone\n"
            "from integrations.actions import do_issue_agent_key\nfrom integrations.models import Connection\n"
            "from integrations.pagerduty.catalog import TOOLS\nfrom policies.actions import do_revoke_key\n"
            "from policies.models import AgentKey\n"
            "def issue(name, **more):\n"
            "    return do_issue_agent_key(Connection.objects.get(), name=name, by='test', tools=TOOLS, **more)\n"
            "revoked, expired = issue('revoked'), issue('expired')\n"
            "do_revoke_key(revoked[0], by='test')\n"
            "past = timezone.now() - dt.timedelta(days=1)\n"
            "AgentKey.objects.filter(pk=expired[0].pk).update(expires_at=past)\n"
            "elsewhere = issue('elsewhere', networks=['192.0.2.0/24'])\n"
            "print(json.dumps([revoked[1], expired[1], elsewhere[1]]))"
        )
        portal.seeded["bad"] = [
            *json.loads(out),
            keys.shown(*keys.new_key()),
            portal.seeded["key"][:-4] + "2345",
            "y_NbAkKc66ryYTWUXYEu",
            "",
        ]
        portal.start()
        yield portal
    finally:
        portal.close()


def exchanged(portal: Portal, requests: list[bytes]) -> list[bytes]:
    """Raw answers to raw requests, one after the other on a connection, without their dates."""
    answers = []
    with socket.create_connection(("127.0.0.1", portal.port), timeout=20) as caller:
        file = caller.makefile("rb")
        for request in requests:
            caller.sendall(request)
            head = b"".join(iter(file.readline, b"\r\n"))
            length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
            kept = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"date:")]
            answers.append(b"\r\n".join(kept) + b"\r\n\r\n" + file.read(length))
    return answers


def asked(portal: Portal, key: str, source: str, body: bytes = b"") -> bytes:
    method, path = ("POST", "/incidents/PT4KHLK/notes") if body else ("GET", "/incidents?limit=25")
    framing = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n" if body else ""
    return (
        f"{method} /pagerduty{path} HTTP/1.1\r\nHost: 127.0.0.1:{portal.port}\r\nX-Forwarded-For: {source}\r\n"
        f"Authorization: Token token={key}\r\n{framing}\r\n"
    ).encode() + body


@pytest.mark.parametrize("body", [b"", b'{"note": {"content": "x"}}'])
def test_whatever_is_wrong_with_a_key_the_answer_is_the_same_to_the_byte(proxied: Portal, body: bytes) -> None:
    answers = exchanged(proxied, [asked(proxied, key, "203.0.113.1", body) for key in proxied.seeded["bad"]])
    assert answers[0].startswith(b"HTTP/1.1 401 ")
    assert len(answers) == 7
    assert set(answers) == {answers[0]}


def test_beyond_its_limit_a_source_is_told_to_come_later_and_a_good_key_from_there_is_not(proxied: Portal) -> None:
    source = "203.0.113.2"
    bad = proxied.seeded["bad"]
    requests = [asked(proxied, bad[number % len(bad)], source) for number in range(REFUSALS_PER_MINUTE + 40)]
    answers = exchanged(proxied, requests)
    statuses = Counter(answer[9:12] for answer in answers)
    assert set(statuses) == {b"401", b"429"}
    assert REFUSALS_PER_MINUTE <= statuses[b"401"] < REFUSALS_PER_MINUTE + 40
    assert [answer[9:12] for answer in answers[-7:]] == [b"429"] * 7
    assert len(set(answers[-7:])) == 1  # these, too, whatever was wrong
    head, _, body = answers[-1].partition(b"\r\n\r\n")
    assert b"retry-after: 1" in head.lower()
    assert b"ratelimit-reset: 1" in head.lower()
    assert b"ratelimit-limit: %d" % REFUSALS_PER_MINUTE in head.lower()
    assert json.loads(body)["error"]["code"] == 2020
    [good, other] = exchanged(
        proxied, [asked(proxied, proxied.seeded["key"], source), asked(proxied, bad[0], "203.0.113.3")]
    )
    assert good.startswith(b"HTTP/1.1 200 ")
    assert other.startswith(b"HTTP/1.1 401 ")


def test_a_strangers_big_body_is_read_off_and_answered(proxied: Portal) -> None:
    answers = exchanged(proxied, [asked(proxied, "nobodys", "203.0.113.4", b"x" * 900_000)] * 2)
    assert [answer[9:12] for answer in answers] == [b"401", b"401"]


def test_a_flood_from_many_sources_leaves_a_row_that_counts_them_all(proxied: Portal) -> None:
    proxied.stop()
    before = proxied.entries(kind="rejected")
    proxied.start()
    bad = proxied.seeded["bad"]
    requests = [
        asked(proxied, bad[number % len(bad)], f"10.{number % 250}.{number // 250}.1") for number in range(6_000)
    ]
    requests += [asked(proxied, bad[0], "203.0.113.5")] * 50
    assert {answer[9:12] for answer in exchanged(proxied, requests)} == {b"401"}
    proxied.stop()
    [*rows] = proxied.entries(kind="rejected")[len(before) :]
    details = [row["record"]["details"] for row in rows]
    assert len(rows) <= 2
    assert sum(row["count"] for row in details) == 6_050
    assert len(details[-1]["sources"]) <= NAMED
    assert details[-1]["sources"][0]["ip"] == "203.0.113.5"  # the busiest is named, whenever it began
    assert set(details[-1]["reasons"]) == {"malformed", "unknown", "revoked", "expired", "network"}
    assert json.loads(proxied.manage("verify_audit", "--json").stdout)["status"] == "intact"
    proxied.start()


# In this process


def known(secret: str, **more: Any) -> KnownKey:
    prefix, rest = keys.parse_key(secret) or ("", "")
    principal = Principal(Kind.AGENT, f"key:{prefix}", "a", 1, "Payments")
    values = {"networks": (), "expires_at": float("inf"), "calls_per_minute": 0, **more}
    return KnownKey(prefix, keys.digest_of(prefix, rest), principal, "", **values)


def test_whatever_is_wrong_with_a_key_it_costs_one_hash_and_one_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    good, revoked, expired = (keys.shown(*keys.new_key()) for _ in range(3))
    rows = [known(good), known(revoked, is_revoked=True), known(expired, expires_at=1.0)]
    identities = Identities({row.id: row for row in rows})
    hashed = Counter[str]()
    was, compared = keys.digest_of, hmac.compare_digest

    def digest_of(prefix: str, secret: str) -> str:
        hashed["hash"] += 1
        return was(prefix, secret)

    def compare_digest(one: str, other: str) -> bool:
        hashed["comparison"] += 1
        assert len(one) == len(other) == 64
        return bool(compared(one, other))

    monkeypatch.setattr(keys, "digest_of", digest_of)
    monkeypatch.setattr(hmac, "compare_digest", compare_digest)
    said = []
    for secret in (keys.shown(*keys.new_key()), good[:-1] + "é", "", revoked, expired, good):
        hashed.clear()
        found = identities.agent(secret, "198.51.100.7", time.time())
        assert hashed == {"hash": 1, "comparison": 1}
        said.append(found.reason if isinstance(found, Rejected) else "good")
    assert said == ["unknown", "malformed", "malformed", "revoked", "expired", "good"]
    assert isinstance(identities.agent(good, "", time.time()), Identified)


class Kept:
    """Where entries go."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.away = False

    def append(self, entry: Entry) -> asyncio.Future[None]:
        future = asyncio.get_running_loop().create_future()
        if self.away:
            future.set_exception(OSError("the database is away"))
        else:
            self.entries.append(entry)
            future.set_result(None)
        return future


def test_what_cannot_be_written_is_counted_on_and_nothing_is_lost() -> None:
    kept = Kept()

    async def run() -> None:
        found = Strangers(kept.append)
        kept.away = True
        for number in range(3 * TOLD_APART):
            await found.refuse(f"10.{number % 250}.{number // 250}.1", "unknown")
        found.record()
        await asyncio.sleep(0)
        kept.away = False
        await found.refuse("203.0.113.1", "expired")
        found.record()
        found.record()  # nothing came since: no row
        await asyncio.sleep(0)

    asyncio.run(run())
    [entry] = kept.entries
    assert entry.details["count"] == 3 * TOLD_APART + 1
    assert entry.details["reasons"] == {"unknown": 3 * TOLD_APART, "expired": 1}
    named = sum(source["count"] for source in entry.details["sources"])
    assert named + entry.details["others"] == entry.details["count"]


def test_memory_is_bounded_however_many_sources_there_are() -> None:
    async def run() -> Strangers:
        found = Strangers(Kept().append)
        for number in range(30_000):
            await found.refuse(f"2001:db8:{number // 250:x}:{number % 250:x}::1", "unknown")
        return found

    found = asyncio.run(run())
    assert len(found._counted) <= TOLD_APART
    assert len(found._sources._buckets) <= 10_000


def test_refusals_wait_their_turn_while_good_calls_come_and_not_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    async def flood(found: Strangers, calls: int) -> float:
        began = time.monotonic()
        await asyncio.gather(*(found.refuse("203.0.113.1", "unknown") for _ in range(calls)))
        return time.monotonic() - began

    async def run() -> list[float]:
        found = Strangers(Kept().append)
        alone = await flood(found, 200)
        found.make_way()
        first = await flood(found, strangers.BURST)
        beside = await flood(found, 100)
        monkeypatch.setattr(strangers, "MAXIMUM_WAITING", 0)
        return [alone, first, beside, await flood(found, 5_000)]

    alone, first, beside, crowd = asyncio.run(run())
    turn = 1 / strangers.ANSWERS_PER_SECOND
    assert beside >= 90 * turn
    assert alone < 90 * turn
    assert first < 90 * turn
    assert crowd < 2_500 * turn  # more than may wait: answered at once
