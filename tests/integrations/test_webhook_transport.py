"""The way out for a team's notices: to public addresses alone, each as it was looked at, over TLS, signed, and soon given up."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import socket
import ssl
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import trustme

from integrations.fields import Sealed, open_for_webhook, reseal_for_webhook, seal, seal_for_webhook
from integrations.webhooks.message import address_of, new_secret
from integrations.webhooks.transport import Answer, Transport
from tests.tunnels import ConnectProxy, certified, serving, written

ROW = uuid.UUID(int=7)
HOST = "hooks.example.com"
LOOPBACK = "127.0.0.1"
SECRET = "pws_of-this-test"
BODY = b'{"id":"d1","event":"test"}'
OK = b"HTTP/1.1 204 No Content\r\n\r\n"
Play = Callable[[ssl.SSLSocket], None]


def answering(answer: bytes) -> Play:
    return lambda line: line.sendall(answer)


class Receiver:
    """A server over TLS that takes one request a connection, keeps it, and plays what comes after it."""

    def __init__(self, context: ssl.SSLContext, play: Play) -> None:
        self.requests: list[bytes] = []
        self._context, self._play = context, play
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                line, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(line,), daemon=True).start()

    def _serve(self, line: socket.socket) -> None:
        with contextlib.suppress(OSError), self._context.wrap_socket(line, server_side=True) as secure:
            data = b""
            while b"\r\n\r\n" not in data or not data.endswith(b"}"):
                if not (more := secure.recv(65_536)):
                    return
                data += more
            self.requests.append(data)
            self._play(secure)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trusted(authority: trustme.CA, tmp_path: Path, settings: Any) -> trustme.CA:
    settings.OUTBOUND_CA_FILE = written(authority, tmp_path)
    return authority


@contextlib.contextmanager
def receiver(authority: trustme.CA, play: Play, *names: str) -> Iterator[Receiver]:
    made = Receiver(certified(authority, *(names or (HOST,))), play)
    try:
        yield made
    finally:
        made.close()


def local(*told: str, **more: Any) -> Transport:
    """A transport that looks every name up as ``told``, by default as this host's, which it may reach."""
    more.setdefault("allowed", lambda address: address == LOOPBACK)
    return Transport(lookup=lambda host, port: list(told or (LOOPBACK,)), **more)


def send(transport: Transport, url: str, secrets: Sequence[str] = (SECRET,), at: int = 1_800_000_000) -> Answer:
    sealed = [(f"secret {place}", seal_for_webhook(ROW, f"secret {place}", one)) for place, one in enumerate(secrets)]
    address = seal_for_webhook(ROW, "address", url)
    return transport.send(ROW, address, sealed, delivery="d1", event="test", at=at, body=BODY)


# What arrives


def test_a_receiver_verifies_a_notice_by_a_few_lines_of_its_own(trusted: trustme.CA) -> None:
    with receiver(trusted, answering(OK)) as server:
        answer = send(local(), f"https://{HOST}:{server.port}/in?team=1")
    assert (answer.status, answer.arrived, answer.failure, answer.sent) == (204, True, "", True)
    [request] = server.requests
    head, _, body = request.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert first == "POST /in?team=1 HTTP/1.1"
    assert headers["Host"] == f"{HOST}:{server.port}"
    assert (headers["X-Pagewarden-Delivery"], headers["X-Pagewarden-Event"]) == ("d1", "test")
    # As docs/operations.md tells receivers.
    signed = headers["X-Pagewarden-Timestamp"].encode() + b"." + body
    expected = "v1=" + hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
    assert any(hmac.compare_digest(expected, one) for one in headers["X-Pagewarden-Signature"].split(","))
    assert body == BODY


def test_while_a_secret_takes_the_place_of_another_both_sign(trusted: trustme.CA) -> None:
    with receiver(trusted, answering(OK)) as server:
        send(local(), f"https://{HOST}:{server.port}/", ["pws_new", "pws_old"])
    [line] = [line for line in server.requests[0].split(b"\r\n") if line.startswith(b"X-Pagewarden-Signature: ")]
    found = line.split(b" ")[1].decode().split(",")
    assert found == [
        "v1=" + hmac.new(key, b"1800000000." + BODY, hashlib.sha256).hexdigest() for key in (b"pws_new", b"pws_old")
    ]


def test_an_answer_over_several_pieces_and_after_early_hints_is_read(trusted: trustme.CA) -> None:
    def play(line: ssl.SSLSocket) -> None:
        for part in (b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 2", b"02 Accepted\r\nContent-Length: 2\r\n", b"\r\n{}"):
            line.sendall(part)
            time.sleep(0.02)

    with receiver(trusted, play) as server:
        assert send(local(), f"https://{HOST}:{server.port}/").status == 202


# Where nothing is sent to


@pytest.mark.parametrize(
    "told",
    [
        ["127.0.0.1"],
        ["10.1.2.3", "fd00::1"],
        ["169.254.169.254"],
        ["::1"],
        ["fe80::1%eth0"],
        ["::ffff:127.0.0.1"],
        ["::ffff:169.254.169.254"],
        ["64:ff9b::a00:1"],
        ["0.0.0.0"],  # noqa: S104
        ["100.64.0.1"],
        ["224.0.0.1"],
    ],
)
def test_a_name_that_leads_inside_is_sent_nothing(told: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: pytest.fail("It was connected to."))
    answer = send(Transport(lookup=lambda host, port: told), f"https://{HOST}/")
    assert (answer.failure, answer.sent, answer.status) == ("private_address", False, 0)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "[::1]", "[::ffff:10.0.0.1]", "[fe80::1]"]
)
def test_an_address_inside_is_sent_nothing_even_if_it_was_stored(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: pytest.fail("It was connected to."))
    assert send(Transport(), f"https://{host}/").failure == "private_address"


@pytest.mark.parametrize(
    "host", ["2130706433", "0x7f000001", "0177.0.0.1", "127.1", "localhost", "localhost.", "db", "x.local"]
)
def test_what_is_no_full_name_is_not_even_looked_up(host: str) -> None:
    answer = send(local(), f"https://{host}/")
    assert (answer.failure, answer.sent) == ("address", False)


def test_it_is_connected_to_what_was_looked_at_and_not_looked_up_again(trusted: trustme.CA) -> None:
    asked: list[str] = []
    connected: list[str] = []

    def lookup(host: str, port: int) -> list[str]:
        # What a name leads to a moment later is elsewhere.
        asked.append(host)
        return [LOOPBACK] if len(asked) == 1 else ["10.0.0.1"]

    real = socket.create_connection

    def connect(address: tuple[str, int], **more: Any) -> socket.socket:
        connected.append(address[0])
        return real(address, **more)

    with receiver(trusted, answering(OK)) as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "create_connection", connect)
        answer = send(Transport(allowed=lambda each: each == LOOPBACK, lookup=lookup), f"https://{HOST}:{server.port}/")
    assert (answer.status, asked, connected) == (204, [HOST], [LOOPBACK])


def test_of_mixed_answers_only_what_is_public_is_connected_to(trusted: trustme.CA) -> None:
    with receiver(trusted, answering(OK)) as server:
        url = f"https://{HOST}:{server.port}/"
        assert send(local("10.0.0.1", LOOPBACK), url).status == 204
        assert send(local("10.0.0.1", "fd00::1"), url).failure == "private_address"


def test_no_setting_lets_it_reach_inside(settings: Any) -> None:
    settings.DEBUG = True
    assert send(Transport(lookup=lambda host, port: [LOOPBACK]), f"https://{HOST}/").failure == "private_address"


def test_a_redirect_is_not_followed(trusted: trustme.CA) -> None:
    with receiver(trusted, answering(OK)) as inside:
        away = f"HTTP/1.1 307 Moved\r\nLocation: https://{HOST}:{inside.port}/\r\nContent-Length: 0\r\n\r\n"
        with receiver(trusted, answering(away.encode())) as server:
            answer = send(local(), f"https://{HOST}:{server.port}/")
    assert (answer.status, answer.arrived, inside.requests) == (307, False, [])


# TLS


@pytest.mark.parametrize("names", [("other.example.com",), ("127.0.0.1",)])
def test_a_certificate_of_another_name_is_refused(trusted: trustme.CA, names: tuple[str, ...]) -> None:
    with receiver(trusted, answering(OK), *names) as server:
        answer = send(local(), f"https://{HOST}:{server.port}/")
    assert (answer.failure, answer.sent, server.requests) == ("tls", False, [])


def test_an_authority_that_nobody_trusts_is_refused(authority: trustme.CA) -> None:
    with receiver(authority, answering(OK)) as server:
        assert send(local(), f"https://{HOST}:{server.port}/").failure == "tls"


# Slow, huge, broken


def test_a_slow_answer_is_given_up_in_time(trusted: trustme.CA) -> None:
    def drip(line: ssl.SSLSocket) -> None:
        for byte in b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100:
            line.sendall(bytes([byte]))
            time.sleep(0.1)

    with receiver(trusted, drip) as server:
        began = time.monotonic()
        answer = send(local(seconds=0.6), f"https://{HOST}:{server.port}/")
    assert time.monotonic() - began < 2
    assert (answer.failure, answer.sent, answer.status) == ("timeout", True, 0)


def test_a_body_that_never_ends_holds_up_nothing_once_the_status_is_known(trusted: trustme.CA) -> None:
    def play(line: ssl.SSLSocket) -> None:
        line.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        time.sleep(3)

    with receiver(trusted, play) as server:
        began = time.monotonic()
        answer = send(local(seconds=0.5), f"https://{HOST}:{server.port}/")
    assert (answer.arrived, answer.failure) == (True, "")
    assert time.monotonic() - began < 2


def test_of_a_huge_answer_little_is_read(trusted: trustme.CA) -> None:
    taken = []

    def play(line: ssl.SSLSocket) -> None:
        line.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        sent = 0
        try:
            while sent < 100_000_000:
                line.sendall(b"10000\r\n" + b"x" * 65_536 + b"\r\n")
                sent += 65_536
        except OSError:
            taken.append(sent)

    with receiver(trusted, play) as server:
        began = time.monotonic()
        answer = send(local(), f"https://{HOST}:{server.port}/")
        assert answer.arrived
        assert time.monotonic() - began < 2
        deadline = time.monotonic() + 5
        while not taken and time.monotonic() < deadline:
            time.sleep(0.02)
    assert taken
    assert taken[0] < 20_000_000  # what the two systems had room for, not what was read


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (b"", "disconnected"),
        (b"HTTP/1.1 200 OK\r\nX: ", "disconnected"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 40_000, "malformed"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "malformed"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "malformed"),
    ],
)
def test_what_is_no_answer_is_none(trusted: trustme.CA, answer: bytes, failure: str) -> None:
    with receiver(trusted, answering(answer)) as server:
        found = send(local(), f"https://{HOST}:{server.port}/")
    assert (found.failure, found.arrived, found.sent) == (failure, False, True)


def test_nobody_listens() -> None:
    with socket.create_server((LOOPBACK, 0)) as listener:
        port = listener.getsockname()[1]
    answer = send(local(), f"https://{HOST}:{port}/")
    assert (answer.failure, answer.sent) == ("connect", False)


def test_a_look_up_that_takes_for_ever_is_given_up_in_time() -> None:
    waiting = threading.Event()

    def lookup(host: str, port: int) -> list[str]:
        waiting.wait(20)
        return []

    began = time.monotonic()
    answer = send(Transport(lookup=lookup, seconds=0.3), f"https://{HOST}/")
    waiting.set()
    assert time.monotonic() - began < 2
    assert (answer.failure, answer.sent) == ("resolve", False)


@pytest.mark.parametrize(
    ("status", "arrived", "final"),
    [
        (200, True, True),
        (202, True, True),
        (301, False, False),
        (404, False, False),
        (410, False, True),
        (429, False, False),
    ],
)
def test_what_counts_as_arrived_and_what_cannot_be_helped(status: int, arrived: bool, final: bool) -> None:
    assert (Answer(status).arrived, Answer(status).is_final) == (arrived, final)


# Through the corporate proxy


def test_the_proxy_opens_a_tunnel_and_sees_no_notice(trusted: trustme.CA, settings: Any) -> None:
    with receiver(trusted, answering(OK)) as server, serving(ConnectProxy(server.port)) as proxy:
        settings.OUTBOUND_PROXY = f"http://127.0.0.1:{proxy.port}"
        answer = send(local(), f"https://{HOST}/in")
    assert (answer.status, len(server.requests)) == (204, 1)
    assert proxy.heads[0].startswith(f"CONNECT {HOST}:443 HTTP/1.1\r\n")
    assert b"/in" not in proxy.carried
    assert BODY not in proxy.carried


@pytest.mark.parametrize(
    "page",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n<p>no</p>",
        b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: https://login.example/\r\n\r\n",
        b"<html>blocked</html>\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10_000,
    ],
)
def test_a_proxys_own_page_is_no_answer(trusted: trustme.CA, settings: Any, page: bytes) -> None:
    with receiver(trusted, answering(OK)) as server, serving(ConnectProxy(server.port, answer=page)) as proxy:
        settings.OUTBOUND_PROXY = f"http://127.0.0.1:{proxy.port}"
        answer = send(local(), f"https://{HOST}/in")
    assert (answer.failure, answer.sent, server.requests) == ("proxy", False, [])


def test_a_proxy_is_not_asked_for_what_leads_inside(settings: Any) -> None:
    with serving(ConnectProxy(1)) as proxy:
        settings.OUTBOUND_PROXY = f"http://127.0.0.1:{proxy.port}"
        for transport, url in (
            (Transport(lookup=lambda host, port: ["10.0.0.1"]), f"https://{HOST}/"),
            (Transport(), "https://169.254.169.254/"),
        ):
            assert send(transport, url).failure == "private_address"
    assert proxy.heads == []


def test_behind_a_proxy_a_name_that_only_the_proxy_knows_is_left_to_it(trusted: trustme.CA, settings: Any) -> None:
    def unknown(host: str, port: int) -> list[str]:
        raise socket.gaierror("not here")

    with receiver(trusted, answering(OK)) as server, serving(ConnectProxy(server.port)) as proxy:
        settings.OUTBOUND_PROXY = f"http://127.0.0.1:{proxy.port}"
        assert send(Transport(lookup=unknown), f"https://{HOST}/").status == 204
    settings.OUTBOUND_PROXY = ""
    assert send(Transport(lookup=unknown), f"https://{HOST}/").failure == "resolve"


def test_a_proxy_of_the_environment_counts_for_nothing(trusted: trustme.CA, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(ConnectProxy(1)) as proxy, receiver(trusted, answering(OK)) as server:
        for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert send(local(), f"https://{HOST}:{server.port}/").status == 204
    assert proxy.heads == []


# Addresses and secrets


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("https://hooks.example.com/services/T0/B0/s3cr3tXYZ1", "https://hooks.example.com/…XYZ1"),
        ("https://HOOKS.example.com", "https://hooks.example.com/"),
        ("https://hooks.example.com:8443/in", "https://hooks.example.com:8443/…"),
        ("https://[2606:4700::1]/", "https://[2606:4700::1]/"),
        ("https://hooks.example.com/?key=abcdefghijklmnop", "https://hooks.example.com/…mnop"),
    ],
)
def test_an_address_is_recognised_by_its_host_alone(url: str, hint: str) -> None:
    address = address_of(url)
    assert address.hint == hint
    assert "s3cr3t" not in repr(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.com/",
        "ftp://hooks.example.com/",
        "//hooks.example.com/",
        "hooks.example.com",
        "https://",
        "https:///path",
        "https://me:hunter2@hooks.example.com/",
        "https://hooks.example.com/#hunter2",
        "https://hooks.example.com\\@10.0.0.1/",
        "https://hooks.example.com:99999/hunter2",
        "https://hooks.example.com:0x50/",
        "https://hooks.example.com/a b",
        "https://hooks.example.com/\r\nX: hunter2",
        "https://hööks.example.com/",
        "https://[::1",
        "https://hooks..example.com/",
        "https://hooks.example.internal/",
        "https://a.home.arpa/",
        "https://example.com/" + "x" * 2_000,
    ],
)
def test_what_is_no_address_of_a_webhook_is_refused_without_its_text(url: str) -> None:
    with pytest.raises(ValueError) as raised:
        address_of(url)
    assert "hunter2" not in str(raised.value)


def test_a_secret_opens_for_its_row_and_as_what_it_is_alone(settings: Any) -> None:
    sealed = seal_for_webhook(ROW, "secret 1", SECRET)
    assert open_for_webhook(ROW, "secret 1", sealed) == SECRET
    assert open_for_webhook(ROW, "secret 2", sealed) is None
    assert open_for_webhook(ROW, "address", sealed) is None
    assert open_for_webhook(uuid.UUID(int=8), "secret 1", sealed) is None
    # A token does not open as one, whatever row it is put into.
    assert open_for_webhook(ROW, "secret 1", seal(ROW, "token")) is None
    assert open_for_webhook(ROW, "secret 1", Sealed(b"damaged")) is None


def test_what_does_not_open_is_not_sent(settings: Any) -> None:
    address = seal_for_webhook(ROW, "address", f"https://{HOST}/")
    for secrets in ([], [("secret 2", seal_for_webhook(ROW, "secret 1", SECRET))]):
        answer = local().send(ROW, address, secrets, delivery="d", event="test", at=1, body=BODY)
        assert (answer.failure, answer.sent) == ("sealed", False)


def test_with_a_new_key_it_is_sealed_anew_and_opens_as_before(settings: Any) -> None:
    from cryptography.fernet import Fernet

    old = seal_for_webhook(ROW, "address", "https://hooks.example.com/")
    assert reseal_for_webhook(old) is None
    new_key, old_keys = Fernet.generate_key().decode(), settings.FIELD_ENCRYPTION_KEY
    settings.FIELD_ENCRYPTION_KEY = [new_key, *old_keys]
    resealed = reseal_for_webhook(old)
    assert resealed is not None
    settings.FIELD_ENCRYPTION_KEY = [new_key]
    assert open_for_webhook(ROW, "address", resealed) == "https://hooks.example.com/"
    assert open_for_webhook(ROW, "address", old) is None


def test_secrets_are_long_and_never_the_same() -> None:
    made = {new_secret() for _ in range(100)}
    assert len(made) == 100
    assert all(secret.startswith("pws_") and len(secret) >= 47 for secret in made)
