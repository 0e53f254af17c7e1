"""A running portal and PagerDuty's own host by its own name, by way of the corporate proxy that the settings name."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from tests.gateway.processes import TOKEN, Portal
from tests.tunnels import OPEN, ConnectProxy, SecureServer, certified, serving, written

HOST = "api.pagerduty.com"
PASSWORD = "corporate-hunter2"
NOTE = {"note": {"content": "the disk is full"}}


@dataclass(frozen=True)
class Way:
    portal: Portal
    proxy: ConnectProxy
    pagerduty: SecureServer


@pytest.fixture(scope="module")
def way(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    folder, authority = tmp_path_factory.mktemp("proxied"), trustme.CA()
    wants = "Basic " + base64.b64encode(f"portal:{PASSWORD}".encode()).decode()
    with (
        serving(SecureServer(certified(authority, HOST))) as pagerduty,
        serving(ConnectProxy(pagerduty.port, wants=wants)) as proxy,
    ):
        (folder / "proxy").write_text(f"http://portal:{PASSWORD}@127.0.0.1:{proxy.port}\n")
        settings = {
            "OUTBOUND_PROXY_FILE": str(folder / "proxy"),
            "OUTBOUND_CA_FILE": written(authority, folder),
            "HTTPS_PROXY": "http://127.0.0.1:9",
            "NO_PROXY": "*",
        }
        portal = Portal(folder, "http://127.0.0.1:9", settings)
        try:
            portal.seed(states={"add_note_to_incident": "on"}, region="us")
            portal.start()
            yield Way(portal, proxy, pagerduty)
        finally:
            portal.close()


def test_reads_and_writes_reach_pagerduty_through_the_proxy_which_sees_nothing_of_them(way: Way) -> None:
    assert way.portal.call("GET", "/incidents").status == 200
    assert way.portal.call("POST", "/incidents/PT4KHLK/notes", NOTE).status == 201
    assert len(way.pagerduty.received) == 2
    for received in way.pagerduty.received:
        assert f"\r\nHost: {HOST}\r\nAuthorization: Token token={TOKEN}\r\n".encode() in received
    assert {head.split("\r\n")[0] for head in way.proxy.heads} == {f"CONNECT {HOST}:443 HTTP/1.1"}
    assert TOKEN.encode() not in way.proxy.carried


def test_a_proxy_that_refuses_is_named_and_nothing_was_sent(way: Way) -> None:
    sent = len(way.pagerduty.received)
    way.proxy.answer = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
    try:
        # A write's connection is kept for three seconds, a read's for thirty: a new one is what the proxy refuses.
        way.portal.stop()
        way.portal.start()
        answers = [way.portal.call("GET", "/incidents"), way.portal.call("POST", "/incidents/PT4KHLK/notes", NOTE)]
    finally:
        way.proxy.answer = OPEN
    for answer in answers:
        assert answer.status == 502
        assert answer.errors[0] == "The corporate proxy did not let the call through to PagerDuty."
        assert "x-pagewarden-outcome" not in answer.headers
        entry = way.portal.entries(decision_id=answer.headers["x-pagewarden-decision"], kind="result")[0]
        assert (entry["outcome"], entry["record"]["details"]["upstream"]["failure"]) == ("failed", "proxy")
    assert len(way.pagerduty.received) == sent


def test_the_proxys_password_shows_nowhere(way: Way) -> None:
    shown = way.portal.log() + json.dumps(way.portal.entries()) + way.portal.manage("check").stdout
    encoded = base64.b64encode(f"portal:{PASSWORD}".encode()).decode()
    assert PASSWORD not in shown
    assert encoded not in shown
    assert encoded.encode() not in b"".join(way.pagerduty.received)


def test_a_portal_whose_settings_are_wrong_does_not_start(tmp_path: Path) -> None:
    for wrong, word in (
        ({"OUTBOUND_PROXY": f"socks5://me:{PASSWORD}@127.0.0.1:1080"}, "OUTBOUND_PROXY is not an address"),
        ({"OUTBOUND_PROXY_FILE": str(tmp_path / "missing")}, "missing"),
        ({"OUTBOUND_CA_FILE": str(tmp_path / "missing")}, "OUTBOUND_CA_FILE is"),
    ):
        portal = Portal(tmp_path, "http://127.0.0.1:9", wrong)
        try:
            told = portal.manage("check", check=False)
            assert told.returncode != 0
            assert word in told.stderr
            assert PASSWORD not in told.stderr + told.stdout
            with pytest.raises(AssertionError, match="the portal did not start"):
                portal.start()
            assert PASSWORD not in portal.log()
        finally:
            portal.close()
