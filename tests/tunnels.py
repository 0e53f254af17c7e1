"""What stands on the way to PagerDuty, for tests: a corporate proxy, and a server over TLS with a certificate of its own."""

from __future__ import annotations

import contextlib
import datetime as dt
import re
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import trustme

T = TypeVar("T", bound=socketserver.TCPServer)
OPEN = b"HTTP/1.1 200 Connection established\r\n\r\n"


class ConnectProxy(socketserver.ThreadingTCPServer):
    """Opens a tunnel to ``to``, whatever host it is asked for, and keeps what it was asked and what went through."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, to: int, *, wants: str = "", answer: bytes = OPEN) -> None:
        """``wants``: the value of Proxy-Authorization without which it answers 407. ``answer``: what it says to CONNECT."""
        super().__init__(("127.0.0.1", 0), _Tunnelling)
        self.to = to
        self.wants = wants
        self.answer = answer
        self.heads: list[str] = []
        self.carried = bytearray()

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class _Tunnelling(socketserver.BaseRequestHandler):
    server: ConnectProxy

    def handle(self) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            if not (data := self.request.recv(65_536)):
                return
            head += data
        self.server.heads.append(head.decode("latin-1"))
        if self.server.wants and f"\r\nProxy-Authorization: {self.server.wants}\r\n" not in self.server.heads[-1]:
            self.request.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 2\r\n\r\nno")
            return
        self.request.sendall(self.server.answer)
        if not self.server.answer.startswith(OPEN[:13]):
            return
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.server.to)) as other:
            threading.Thread(target=self._back, args=(other,), daemon=True).start()
            while data := self.request.recv(65_536):
                self.server.carried += data
                other.sendall(data)

    def _back(self, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := other.recv(65_536):
                self.request.sendall(data)


class SecureServer(socketserver.ThreadingTCPServer):
    """Answers every request with an empty document, over TLS."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), _Answering)
        self.context = context
        self.received: list[bytes] = []

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def handle_error(self, request: object, client_address: object) -> None:
        """A caller that does not trust the certificate goes away: that is what is tested."""


class _Answering(socketserver.BaseRequestHandler):
    server: SecureServer

    def handle(self) -> None:
        with self.server.context.wrap_socket(self.request, server_side=True) as secure:
            data = b""
            while received := secure.recv(65_536):
                data += received
                head, found, rest = data.partition(b"\r\n\r\n")
                length = re.search(rb"(?i)content-length: (\d+)", head)
                if not found or len(rest) < (int(length[1]) if length else 0):
                    continue
                self.server.received.append(data)
                data = b""
                status = b"201 Created" if head.startswith(b"POST") else b"200 OK"
                secure.sendall(
                    b"HTTP/1.1 " + status + b"\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
                )


@contextlib.contextmanager
def serving(server: T) -> Iterator[T]:
    with server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()


def certified(authority: trustme.CA, *names: str, expired: bool = False) -> ssl.SSLContext:
    """A server's side of TLS, with a certificate for ``names``."""
    ended = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names, not_after=ended if expired else None).configure_cert(context)
    return context


def written(authority: trustme.CA, folder: Path) -> str:
    """The authority's certificate as a file, for OUTBOUND_CA_FILE."""
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    return str(folder / "authority.pem")
