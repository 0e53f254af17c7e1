"""The one way out for what the portal itself sends to a team's webhook. Its address and its secrets are opened here and nowhere
else.

A manager chooses where it goes, so it must not reach inside: the name is looked up here, only public addresses are connected to,
each at the very address that was looked at; no redirect is followed, and of an answer only the status counts. The certificate is
verified for the host's name, directly and through the corporate proxy alike. What waits in one call waits for all of it together:
there is one time limit, and a server that answers byte by byte does not stretch it.
"""

from __future__ import annotations

import re
import socket
import ssl
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass
from typing import Final

import httptools
from django.conf import settings
from django.views.decorators.debug import sensitive_variables

from integrations.fields import Sealed, open_for_webhook
from integrations.outbound import Proxy, is_public, proxy_of, tls
from integrations.webhooks.message import USER_AGENT, Address, address_of, request

SECONDS: Final = 10.0
"""For all of one sending, from the look-up of the name on."""
HEAD_LIMIT: Final = 16_384
"""Bytes of an answer's head, or of a proxy's."""
BODY_LIMIT: Final = 16_384
"""Bytes of an answer's body that are read before the connection is closed; none is kept."""
_CONNECT_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})[ \r]")

Lookup = Callable[[str, int], Sequence[str]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one sending."""

    status: int = 0
    """Of HTTP; 0: no whole head came."""
    failure: str = ""
    """Empty, or a word: ``sealed``, ``address``, ``private_address``, ``resolve``, ``connect``, ``tls``, ``proxy``, ``timeout``,
    ``disconnected``, ``malformed``."""
    detail: str = ""
    """More of it, for the record and for people. Nothing of the address's path."""
    sent: bool = True
    """False: not a byte of the request had left."""
    milliseconds: int = 0

    @property
    def arrived(self) -> bool:
        return 200 <= self.status < 300

    @property
    def is_final(self) -> bool:
        """Whether another try cannot help: it arrived, or the receiver says that it is gone for good (410)."""
        return self.arrived or self.status == 410


class _Failed(Exception):
    def __init__(self, failure: str, detail: str) -> None:
        super().__init__(detail)
        self.failure = failure


def look_up(host: str, port: int) -> Sequence[str]:
    """The addresses of a name. Raises ``OSError`` or ``UnicodeError``."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class _Reading:
    """Reads one answer, and stops at its end or at what is read of it at most."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._received = self._body = 0
        self.status = 0
        self.ended = False

    def feed(self, data: bytes) -> None:
        self._received += len(data)
        self._parser.feed_data(data)
        if not self.status and self._received > HEAD_LIMIT:
            raise _Failed("malformed", f"a head of over {HEAD_LIMIT:,} bytes")
        self.ended = self.ended or self._body > BODY_LIMIT or self._received > HEAD_LIMIT + 4 * BODY_LIMIT

    # llhttp's callbacks

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        self.status = status if status >= 200 else 0  # 100 and 103 come before the answer

    def on_body(self, body: bytes) -> None:
        self._body += len(body)

    def on_message_complete(self) -> None:
        self.ended = bool(self.status)


class Transport:
    """Sends notices, one connection each."""

    def __init__(
        self,
        *,
        allowed: Callable[[str], bool] = is_public,
        lookup: Lookup = look_up,
        seconds: float = SECONDS,
    ) -> None:
        """``allowed`` and ``lookup`` are for tests, which have no public address: nothing in the settings changes them."""
        self._allowed = allowed
        self._lookup = lookup
        self._seconds = seconds
        self._trust = tls(settings.OUTBOUND_CA_FILE)
        # From the setting alone, as towards PagerDuty.
        self._proxy = proxy_of(settings.OUTBOUND_PROXY)

    @sensitive_variables()
    def send(
        self,
        row_id: uuid.UUID,
        address: Sealed,
        secrets: Sequence[tuple[str, Sealed]],
        *,
        delivery: str,
        event: str,
        at: int,
        body: bytes,
    ) -> Answer:
        """Send ``body`` to the address that is sealed for the webhook ``row_id``, signed with each of its ``secrets`` (what each
        was sealed as, and the sealed). Whatever the network does comes back as an ``Answer``."""
        began = time.monotonic()
        url = open_for_webhook(row_id, "address", address)
        opened = [open_for_webhook(row_id, what, sealed) for what, sealed in secrets]
        keys = [secret for secret in opened if secret is not None]
        if url is None or not keys or len(keys) < len(opened):
            told = "The webhook's address or secret does not open with the keys that are set."
            return Answer(failure="sealed", detail=told, sent=False)
        try:
            where = address_of(url)
        except ValueError as error:
            return Answer(failure="address", detail=str(error), sent=False)
        message = request(where, keys, delivery=delivery, event=event, at=at, body=body)
        answer = self._exchange(where, message, began + self._seconds)
        spent = round((time.monotonic() - began) * 1_000)
        return Answer(answer.status, answer.failure, answer.detail, answer.sent, spent)

    def _exchange(self, where: Address, message: bytes, deadline: float) -> Answer:
        sent = False
        try:
            with closing(self._connected(where, deadline)) as line:
                sent = True
                line.settimeout(_left(deadline))
                line.sendall(message)
                return Answer(_read(line, deadline))
        except _Failed as error:
            return Answer(failure=error.failure, detail=str(error), sent=sent)
        except TimeoutError:
            return Answer(failure="timeout", detail=f"no answer within {self._seconds:g} seconds", sent=sent)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            return Answer(failure="malformed", detail=_detail(error), sent=sent)
        except OSError as error:  # ssl.SSLError among them
            return Answer(failure="disconnected" if sent else "connect", detail=_detail(error), sent=sent)

    def _connected(self, where: Address, deadline: float) -> ssl.SSLSocket:
        """A connection to the host itself, over TLS.

        Raises:
            _Failed, OSError: nothing was sent.
        """
        addresses = self._addresses(where, deadline)
        line = self._tunnel(where, self._proxy, deadline) if self._proxy else self._direct(where, addresses, deadline)
        try:
            line.settimeout(_left(deadline))
            return self._trust.wrap_socket(line, server_hostname=where.host)
        except TimeoutError:
            line.close()
            raise
        except (ssl.SSLError, OSError) as error:
            line.close()
            raise _Failed("tls", _detail(error)) from None

    def _addresses(self, where: Address, deadline: float) -> list[str]:
        """Where to connect to. Through the proxy, which looks the name up itself, this is only what the portal can know of it: a
        name that leads inside as far as it sees is refused, and one that it cannot look up is left to the proxy."""
        if where.is_ip:
            told = [where.host]
        else:
            try:
                told = list(_within(lambda: self._lookup(where.host, where.port), _left(deadline)))
            except TimeoutError:
                raise _Failed("resolve", f"the name {where.host} could not be looked up in time") from None
            except (OSError, UnicodeError) as error:
                if self._proxy is not None:
                    return []
                raise _Failed("resolve", _detail(error)) from None
        addresses = [address for address in told if self._allowed(address)]
        if not addresses and told:
            raise _Failed("private_address", f"{where.host} is said to be at {told[0]}, which is no public address")
        if not addresses and self._proxy is None:
            raise _Failed("resolve", f"the name {where.host} has no address")
        return addresses

    def _direct(self, where: Address, addresses: Sequence[str], deadline: float) -> socket.socket:
        failed: OSError | None = None
        for address in addresses:
            try:
                # The very address that was looked at: a name would be looked up again.
                limit = min(settings.CONNECT_TIME_LIMIT, _left(deadline))
                return socket.create_connection((address, where.port), timeout=limit)
            except OSError as error:
                failed = error
        raise _Failed("connect", _detail(failed) if failed else "there is no address") from None

    def _tunnel(self, where: Address, proxy: Proxy, deadline: float) -> socket.socket:
        """By way of the corporate proxy, on which nothing has been said to the host yet."""
        try:
            limit = min(settings.CONNECT_TIME_LIMIT, _left(deadline))
            line = socket.create_connection((proxy.host, proxy.port), timeout=limit)
        except (OSError, UnicodeError) as error:
            raise _Failed("proxy", f"The proxy cannot be reached: {_detail(error)}") from None
        try:
            host = f"[{where.host}]" if ":" in where.host else where.host
            lines = f"CONNECT {host}:{where.port} HTTP/1.1\r\nHost: {host}:{where.port}\r\nUser-Agent: {USER_AGENT}\r\n"
            if proxy.authorization:
                lines += f"Proxy-Authorization: {proxy.authorization}\r\n"
            line.sendall(f"{lines}\r\n".encode("ascii"))
            head = b""
            while b"\r\n\r\n" not in head and len(head) <= HEAD_LIMIT:
                line.settimeout(_left(deadline))
                if not (data := line.recv(4_096)):
                    raise _Failed("proxy", "The proxy broke off.")
                head += data
            status = _CONNECT_STATUS.match(head)
            if status is None:
                raise _Failed("proxy", "What answered to CONNECT is no proxy.")
            if not status[1].startswith(b"2"):
                raise _Failed("proxy", f"The proxy answered {status[1].decode()} to CONNECT.")
            if not head.endswith(b"\r\n\r\n") or head.count(b"\r\n\r\n") != 1:
                raise _Failed("proxy", "The proxy said more than that the tunnel is open.")
        except TimeoutError:
            line.close()
            raise
        except OSError as error:
            line.close()
            raise _Failed("proxy", f"The proxy broke off: {_detail(error)}") from None
        except BaseException:
            line.close()
            raise
        return line


def _read(line: ssl.SSLSocket, deadline: float) -> int:
    """The status that was answered with. Once it is known, nothing that happens to the rest of the answer changes it."""
    reading = _Reading()
    try:
        while not reading.ended:
            line.settimeout(_left(deadline))
            if not (data := line.recv(16_384)):
                break
            reading.feed(data)
    except (OSError, httptools.HttpParserError):
        if not reading.status:
            raise
    if not reading.status:
        raise _Failed("disconnected", "closed before a whole answer")
    return reading.status


def _left(deadline: float) -> float:
    """Seconds. Raises ``TimeoutError`` where none is left: 0 would mean to wait for nothing, or for ever."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _within(work: Callable[[], Sequence[str]], seconds: float) -> Sequence[str]:
    """The system's look-up has no time limit of its own: whoever waits for it gives up, and its thread ends when it does."""
    future: Future[Sequence[str]] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # whoever waits is told, whatever it is
            future.set_exception(error)

    threading.Thread(target=run, name="look-up", daemon=True).start()
    return future.result(seconds)


def _detail(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:200]
