"""The way to PagerDuty's hosts: public addresses alone, each as it was looked at, or the corporate proxy; certificates always
verified. For reads and writes alike."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import ssl
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import trustme
import uvloop
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured

from integrations.gateway.integration import Connection, Reply, Request
from integrations.outbound import Proxy, is_public, proxy_of, tls
from integrations.pagerduty.transport import Transport
from tests.integrations.test_transport import BOTH, READ, answer, connection_to, server
from tests.tunnels import ConnectProxy, SecureServer, certified, serving, written

NAME = "api.pagerduty.test"
PUBLIC = "198.41.0.4"
TOKEN = b"upstream-TOKEN-0123456789"


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("52.35.16.242", True),
        ("198.41.0.4", True),
        ("172.15.255.255", True),
        ("172.32.0.0", True),
        ("100.63.255.255", True),
        ("2606:4700::1", True),
        ("2a05:d014::1", True),
        ("64:ff9b::3423:10f2", True),  # NAT64 of a public one: a host that has IPv6 alone
        ("64:ff9b::a00:1", False),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b:1::3423:10f2", False),
        ("0.0.0.0", False),  # noqa: S104
        ("10.0.0.1", False),
        ("100.64.0.1", False),
        ("127.0.0.1", False),
        ("127.255.255.254", False),
        ("169.254.169.254", False),
        ("172.16.0.1", False),
        ("172.31.255.255", False),
        ("192.0.0.170", False),
        ("192.0.2.1", False),
        ("192.88.99.1", False),
        ("192.168.1.1", False),
        ("198.18.0.1", False),
        ("198.51.100.1", False),
        ("203.0.113.1", False),
        ("224.0.0.1", False),
        ("239.255.255.255", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("::1", False),
        ("::ffff:10.0.0.1", False),
        ("::ffff:52.35.16.242", False),
        ("::127.0.0.1", False),
        ("100::1", False),
        ("2001::1", False),  # Teredo
        ("2001:db8::1", False),
        ("2002:a00:1::", False),  # 6to4
        ("3fff::1", False),
        ("fc00::1", False),
        ("fd12::1", False),
        ("fe80::1", False),
        ("fe80::1%eth0", False),
        ("2606:4700::1%eth0", False),
        ("fec0::1", False),
        ("ff02::1", False),
        ("4000::1", False),
        ("0177.0.0.1", False),
        ("2130706433", False),
        ("", False),
        (NAME, False),
    ],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert is_public(address) is public


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("", None),
        ("http://proxy.example:3128", Proxy("proxy.example", 3128)),
        ("http://10.0.0.1:8080/", Proxy("10.0.0.1", 8080)),
        ("http://[fd00::1]:8080", Proxy("fd00::1", 8080)),
        ("http://me:pass@proxy.example:3128", Proxy("proxy.example", 3128, "Basic bWU6cGFzcw==")),
        ("http://me:p%40s%3As@proxy.example:3128", Proxy("proxy.example", 3128, "Basic bWU6cEBzOnM=")),
        ("http://me@proxy.example:3128", Proxy("proxy.example", 3128, "Basic bWU6")),
    ],
)
def test_a_proxys_address(url: str, proxy: Proxy | None) -> None:
    assert proxy_of(url) == proxy
    assert "Basic" not in repr(proxy)


@pytest.mark.parametrize(
    "url",
    [
        "proxy.example:3128",
        "https://me:hunter2@proxy.example:3128",
        "socks5://me:hunter2@proxy.example:3128",
        "http://me:hunter2@proxy.example",
        "http://me:hunter2@proxy.example:0x50",
        "http://me:hunter2@proxy.example:99999",
        "http://me:hunter2@:3128",
        "http://me:hunter2@proxy.example:3128/path",
        "http://me:hunter2@proxy.example:3128?x",
        "http://me:hunter2%0d%0aX@proxy.example:3128",
        "http://me:hunter2%ff@proxy.example:3128",
        "http://me%3A:hunter2@proxy.example:3128",
        "http://me:hunter2@pro xy.example:3128",
        "http://me:hunter2@prx%0d%0a:3128",
    ],
)
def test_an_address_that_is_no_proxys_is_refused_at_the_start_without_its_password(url: str, settings: Any) -> None:
    settings.OUTBOUND_PROXY = url
    with pytest.raises(ImproperlyConfigured) as raised:
        Transport()
    [message] = [message for message in run_checks(tags=["security"]) if message.id == "portal.E006"]
    for told in (str(raised.value), str(message)):
        assert "OUTBOUND_PROXY" in told
        assert "hunter2" not in told


@pytest.mark.parametrize(
    "content", [None, b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_a_file_without_authorities_is_refused_at_the_start(
    content: bytes | None, tmp_path: Path, settings: Any
) -> None:
    settings.OUTBOUND_CA_FILE = str(tmp_path / "ca.pem")
    if content is not None:
        (tmp_path / "ca.pem").write_bytes(content)
    with pytest.raises(ImproperlyConfigured, match=r"OUTBOUND_CA_FILE is .*ca\.pem"):
        Transport()
    assert "portal.E007" in {message.id for message in run_checks(tags=["security"])}


def test_certificates_and_names_are_verified_and_old_tls_is_not_spoken(tmp_path: Path) -> None:
    for file in ("", written(trustme.CA(), tmp_path)):
        context = tls(file)
        assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2
        assert len(context.get_ca_certs()) > 50  # the public ones, in any case


# To a host of PagerDuty's: a connection of the region us


def to_pagerduty(port: int, scheme: str = "https") -> Connection:
    return dataclasses.replace(connection_to(f"{scheme}://{NAME}:{port}"), region="us")


async def ask(connection: Connection, request: Request, times: int = 1) -> Reply:
    transport = Transport()
    try:
        for _ in range(times):
            reply = await transport.send(connection, request, time.monotonic() + 5, connection.sealed)
        return reply
    finally:
        await transport.close()


class Resolver:
    """The loop's own, replaced: what a name leads to, look-up by look-up, and which addresses were connected to. A connection
    to an address that ``reaches`` names goes to that port of this host."""

    def __init__(self, *answers: list[str] | OSError, reaches: dict[str, int]) -> None:
        self.answers = list(answers)
        self.reaches = reaches
        self.asked: list[str] = []
        self.connected: list[tuple[str, str | None]] = []

    def install(self) -> None:
        loop: Any = asyncio.get_running_loop()
        connect = loop.create_connection

        async def getaddrinfo(host: str, port: int, **options: Any) -> list[Any]:
            self.asked.append(host)
            found = self.answers[min(len(self.asked), len(self.answers)) - 1]
            if isinstance(found, OSError):
                raise found
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

        async def create_connection(factory: Any, host: str, port: int, **options: Any) -> Any:
            self.connected.append((host, options.get("server_hostname")))
            if host not in self.reaches:
                raise ConnectionRefusedError(host)
            del loop.getaddrinfo  # what is local is connected to as ever
            try:
                return await connect(factory, "127.0.0.1", self.reaches[host], **options)
            finally:
                loop.getaddrinfo = getaddrinfo

        loop.getaddrinfo, loop.create_connection = getaddrinfo, create_connection


async def resolved(resolver: Resolver, request: Request, times: int = 1) -> tuple[Reply, list[bytes]]:
    """What becomes of a request to a name that leads where ``resolver`` says, and the heads that arrived."""
    async with server(answer("200 OK")) as (url, heads):
        port = int(url.rpartition(":")[2])
        resolver.reaches = dict.fromkeys(resolver.reaches, port)
        resolver.install()
        return await ask(to_pagerduty(port, "http"), request, times), heads


@BOTH
@pytest.mark.parametrize(
    "told", [["127.0.0.1"], ["10.1.2.3", "fd00::1"], ["169.254.169.254"], ["::ffff:127.0.0.1"], ["64:ff9b::a00:1"]]
)
def test_a_name_that_leads_inside_is_sent_nothing(request_: Request, told: list[str]) -> None:
    resolver = Resolver(told, reaches=dict.fromkeys(told, 0))
    reply, heads = asyncio.run(resolved(resolver, request_))
    assert (reply.failure, reply.sent, reply.attempts, heads) == ("private_address", False, 1, [])
    assert resolver.connected == []
    assert told[0] in reply.detail


@BOTH
def test_of_mixed_answers_the_public_ones_count(request_: Request) -> None:
    resolver = Resolver(["10.0.0.1", PUBLIC, "127.0.0.1"], reaches={PUBLIC: 0, "127.0.0.1": 0})
    reply, heads = asyncio.run(resolved(resolver, request_))
    assert (reply.status, len(heads)) == (200, 1)
    assert resolver.connected == [(PUBLIC, None)]
    assert heads[0].split(b"\r\n")[1].startswith(f"Host: {NAME}:".encode())


@BOTH
def test_a_name_that_leads_elsewhere_a_moment_later_is_connected_to_where_it_was_looked_at(request_: Request) -> None:
    resolver = Resolver([PUBLIC], ["127.0.0.1"], reaches={PUBLIC: 0, "127.0.0.1": 0, NAME: 0})
    reply, _ = asyncio.run(resolved(resolver, request_))
    assert reply.status == 200
    assert (resolver.asked, resolver.connected) == ([NAME], [(PUBLIC, None)])


@BOTH
def test_where_one_address_does_not_answer_the_next_one_is_asked(request_: Request) -> None:
    resolver = Resolver(["198.41.0.5", PUBLIC], reaches={PUBLIC: 0})
    reply, heads = asyncio.run(resolved(resolver, request_))
    assert (reply.status, len(heads)) == (200, 1)
    assert [address for address, _ in resolver.connected] == ["198.41.0.5", PUBLIC]


@BOTH
@pytest.mark.parametrize(
    ("found", "failure"), [(socket.gaierror(-2, "not known"), "resolve"), ([], "resolve"), ([PUBLIC], "connect")]
)
def test_a_name_that_leads_nowhere_is_told_as_such(request_: Request, found: Any, failure: str) -> None:
    reply, _ = asyncio.run(resolved(Resolver(found, reaches={}), request_))
    assert (reply.failure, reply.sent) == (failure, False)


@BOTH
def test_the_sandbox_may_be_anywhere(request_: Request) -> None:
    async def scenario() -> int:
        async with server(answer("200 OK")) as (url, _):
            return (await ask(connection_to(url.replace("127.0.0.1", "localhost")), request_)).status

    assert asyncio.run(scenario()) == 200


# Certificates, at an address that was looked at


def impersonated(
    request: Request, context: ssl.SSLContext, *, region: str = "us"
) -> tuple[Reply, list[bytes], list[tuple[str, str | None]]]:
    async def scenario(port: int) -> tuple[Reply, list[tuple[str, str | None]]]:
        resolver = Resolver([PUBLIC], reaches={PUBLIC: port})
        resolver.install()
        return await ask(to_pagerduty(port), request, times=2), resolver.connected

    with serving(SecureServer(context)) as listening:
        reply, connected = asyncio.run(scenario(listening.port))
        return reply, listening.received, connected


@pytest.fixture
def authority(tmp_path: Path, settings: Any) -> trustme.CA:
    """One that OUTBOUND_CA_FILE names."""
    made = trustme.CA()
    settings.OUTBOUND_CA_FILE = written(made, tmp_path)
    return made


@BOTH
def test_a_certificate_of_a_trusted_authority_for_the_name_is_accepted(
    request_: Request, authority: trustme.CA
) -> None:
    reply, received, connected = impersonated(request_, certified(authority, NAME))
    assert (reply.status, reply.failure, len(received)) == (201 if request_ is not READ else 200, "", 2)
    assert connected == [(PUBLIC, NAME)]  # the address, and whose certificate it must be; once for both


@BOTH
@pytest.mark.parametrize("wrong", ["authority", "name", "address", "expired", "self-signed", "TLS 1.1"])
def test_a_certificate_that_is_not_the_hosts_gets_nothing(
    request_: Request, authority: trustme.CA, wrong: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = trustme.CA()
    (tmp_path / "other").mkdir()
    # What other programs take from the environment does not widen whom this one trusts.
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.setenv(name, written(other, tmp_path / "other"))
    monkeypatch.setenv("PYTHONHTTPSVERIFY", "0")
    context = {
        "authority": lambda: certified(other, NAME),
        "name": lambda: certified(authority, "api.pagerduty.example"),
        "address": lambda: certified(authority, PUBLIC),
        "expired": lambda: certified(authority, NAME, expired=True),
        "self-signed": lambda: certified(other.create_child_ca(), NAME),
        "TLS 1.1": lambda: certified(authority, NAME),
    }[wrong]()
    if wrong == "TLS 1.1":
        context.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLSv1"):
            context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    reply, received, _ = impersonated(request_, context)
    assert (reply.failure, reply.sent, reply.status, received) == ("tls", False, 0, [])


# Through the corporate proxy

LOOPS = pytest.mark.parametrize("loop", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
Loop = Callable[[Coroutine[Any, Any, Reply]], Reply]


def proxied(
    request: Request, proxy: ConnectProxy, settings: Any, *, loop: Loop = asyncio.run, user: str = "", times: int = 1
) -> Reply:
    settings.OUTBOUND_PROXY = f"http://{user}127.0.0.1:{proxy.port}"
    with serving(proxy):
        return loop(ask(to_pagerduty(443), request, times))


@BOTH
@LOOPS
def test_through_the_proxy_the_token_goes_to_the_host_alone(
    request_: Request, loop: Loop, authority: trustme.CA, settings: Any
) -> None:
    with serving(SecureServer(certified(authority, NAME))) as listening:
        proxy = ConnectProxy(listening.port, wants="Basic bWU6cEBzcw==")
        reply = proxied(request_, proxy, settings, loop=loop, user="me:p%40ss@", times=2)
        assert (reply.status, reply.failure) == (201 if request_ is not READ else 200, "")
        assert len(listening.received) == 2
        assert TOKEN in listening.received[0]
    # One tunnel for both, and nothing in its request but where to, and by whom.
    assert proxy.heads == [
        f"CONNECT {NAME}:443 HTTP/1.1\r\nHost: {NAME}:443\r\nUser-Agent: Pagewarden/0.1\r\n"
        "Proxy-Authorization: Basic bWU6cEBzcw==\r\n\r\n"
    ]
    assert TOKEN not in proxy.carried
    assert b"proxy-authorization" not in b"".join(listening.received).lower()


@BOTH
@LOOPS
def test_a_proxy_that_opens_the_traffic_itself_is_found_out(
    request_: Request, loop: Loop, authority: trustme.CA, settings: Any
) -> None:
    with serving(SecureServer(certified(trustme.CA(), NAME))) as listening:
        reply = proxied(request_, ConnectProxy(listening.port), settings, loop=loop)
        assert (reply.failure, reply.sent, listening.received) == ("tls", False, [])


@BOTH
@LOOPS
@pytest.mark.parametrize(
    ("said", "detail"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n", "407"),
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", "403"),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "502"),
        (b"HTTP/1.1 302 Found\r\nLocation: https://login.example/\r\n\r\n", "302"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "100"),
        (b"HTTP/1.1 200 Fine\r\n\r\nand more", "said more"),
        (b"HTTP/1.1 200\r\nX: y\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "said more"),
        (b"HTTP/2 200 OK\r\n\r\n", "no proxy"),
        (b"HTTP/1.1 2000 OK\r\n\r\n", "no proxy"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "no proxy"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "no proxy"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000, "said more"),
        (b"", "broke off"),
        (b"HTTP/1.1 200 O", "broke off"),
    ],
    ids=lambda value: value[:24].decode("latin-1") if isinstance(value, bytes) else None,
)
def test_a_proxy_that_does_not_let_it_through_is_told_as_such_and_nothing_was_sent(
    request_: Request, loop: Loop, said: bytes, detail: str, settings: Any
) -> None:
    proxy = ConnectProxy(9, answer=said)
    reply = proxied(request_, proxy, settings, loop=loop)
    assert (reply.failure, reply.sent, reply.attempts) == ("proxy", False, 1)
    assert detail in reply.detail
    assert proxy.carried == b""


@BOTH
def test_a_proxy_that_is_not_there_or_wants_a_password_is_told_as_such(
    request_: Request, settings: Any, authority: trustme.CA
) -> None:
    settings.OUTBOUND_PROXY = "http://127.0.0.1:9"
    reply = asyncio.run(ask(to_pagerduty(443), request_))
    assert (reply.failure, reply.sent) == ("proxy", False)
    assert "cannot be reached" in reply.detail
    reply = proxied(request_, ConnectProxy(9, wants="Basic x"), settings, user="me:hunter2@")
    assert (reply.failure, reply.sent) == ("proxy", False)
    assert "407" in reply.detail
    assert "hunter2" not in repr(reply)


@BOTH
def test_a_proxy_that_says_nothing_is_given_up_in_time(request_: Request, settings: Any) -> None:
    settings.CONNECT_TIME_LIMIT = 0.3
    with socket.create_server(("127.0.0.1", 0)) as mute:
        settings.OUTBOUND_PROXY = f"http://127.0.0.1:{mute.getsockname()[1]}"
        reply = asyncio.run(ask(to_pagerduty(443), request_))
    assert (reply.failure, reply.sent, reply.seconds < 2) == ("connect_timeout", False, True)


@BOTH
def test_the_sandbox_is_reached_without_the_proxy(request_: Request, settings: Any) -> None:
    settings.OUTBOUND_PROXY = "http://127.0.0.1:9"

    async def scenario() -> int:
        async with server(answer("200 OK")) as (url, _):
            return (await ask(connection_to(url), request_)).status

    assert asyncio.run(scenario()) == 200
