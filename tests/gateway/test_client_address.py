"""Whose address counts: the connection's own, or behind trusted proxies the last one that is none of them."""

from __future__ import annotations

import asyncio
from ipaddress import ip_network
from types import SimpleNamespace
from typing import Any

import pytest

from integrations.gateway import runtime
from integrations.gateway.http import Networks, client_ip
from integrations.gateway.pipeline import Answer
from integrations.gateway.rest import RestDoor
from policies.core.call import Call, Outcome

PROXIES = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


@pytest.mark.parametrize(
    ("peer", "forwarded", "proxies", "address"),
    [
        ("203.0.113.9", None, PROXIES, "203.0.113.9"),
        ("203.0.113.9", b"198.51.100.1", PROXIES, "203.0.113.9"),  # nobody we know says so
        ("10.0.0.1", b"198.51.100.1", (), "10.0.0.1"),  # nobody is trusted
        ("10.0.0.1", b"198.51.100.1", PROXIES, "198.51.100.1"),
        ("10.0.0.1", b"6.6.6.6, 198.51.100.1", PROXIES, "198.51.100.1"),  # what the caller wrote itself comes first
        ("10.0.0.1", b"6.6.6.6, 198.51.100.1, 10.0.0.2", PROXIES, "198.51.100.1"),
        ("10.0.0.1", b"10.0.0.3, 10.0.0.2", PROXIES, "10.0.0.3"),  # from inside
        ("fd00::1", b"2001:db8::7", PROXIES, "2001:db8::7"),
        ("10.0.0.1", b"not an address", PROXIES, "10.0.0.1"),
        ("10.0.0.1", b"\xff\x00, ::::", PROXIES, "10.0.0.1"),
        ("10.0.0.1", b", ".join([b"6.6.6.6"] * 5_000), PROXIES, "6.6.6.6"),
        ("", b"198.51.100.1", PROXIES, ""),
    ],
)
def test_the_callers_address(peer: str, forwarded: bytes | None, proxies: Networks, address: str) -> None:
    assert client_ip({"client": (peer, 1)}, forwarded, proxies) == address


def test_what_each_proxy_writes_on_a_line_of_its_own_is_one_list(
    monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    """As HAProxy does. By the last line alone the caller of two proxies would be the first proxy, in a network of ours."""
    settings.TRUSTED_PROXIES = ["10.0.0.0/8"]
    calls: list[Call] = []

    class Pipeline:
        def identify(self, secret: str, ip: str, at: float) -> None:
            return None

        async def run(self, call: Call, known: None) -> Answer:
            calls.append(call)
            return Answer(401, Outcome.DENIED, problem="nobody")

    async def nothing(*given: object) -> dict[str, Any]:
        return {}

    monkeypatch.setattr(runtime, "current", lambda: SimpleNamespace(pipeline=Pipeline()))
    for lines in ((b"6.6.6.6, 198.51.100.1", b"10.0.0.3"), (b"198.51.100.1", b"10.0.0.4", b"10.0.0.3")):
        scope = {
            "http_version": "1.1",
            "method": "GET",
            "path": "/pagerduty/incidents",
            "query_string": b"",
            "headers": [(b"x-forwarded-for", line) for line in lines],
            "client": ("10.0.0.2", 1),
        }
        asyncio.run(RestDoor()(scope, nothing, nothing))  # type: ignore[arg-type]
    assert [call.client.ip for call in calls] == ["198.51.100.1"] * 2
