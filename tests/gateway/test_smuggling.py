"""Requests that two readers could take differently, as raw bytes at a running portal: what arrives upstream is, byte for
byte, the request that was judged, or nothing is."""

from __future__ import annotations

import gzip
import json
import re
import socket
import socketserver
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.gateway.processes import TOKEN, Portal

EVIL = "evil.example"
LEAKS = ("Set-Cookie", "Location", "Server", "Access-Control-Allow-Origin", "X-Powered-By", "X-Internal", "Via")
"""Headers that the upstream answers with and that no client gets."""
CRLF = "\r\n"


class Recorder(socketserver.ThreadingTCPServer):
    """Keeps every byte that arrives, and answers each request with the same."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self._taken = bytearray()

    def take(self, data: bytes) -> None:
        self._taken += data

    def taken(self) -> bytes:
        """What has arrived since this was last asked."""
        data = bytes(self._taken)
        self._taken.clear()
        return data


class Answering(socketserver.BaseRequestHandler):
    server: Recorder

    def handle(self) -> None:
        data = b""
        while received := self.request.recv(65_536):
            self.server.take(received)
            data += received
            while b"\r\n\r\n" in data:
                head, _, rest = data.partition(b"\r\n\r\n")
                length = re.search(rb"(?i)content-length: (\d+)", head)
                size = int(length[1]) if length else 0
                if len(rest) < size:
                    break
                data = rest[size:]
                told = "".join(f"{name}: {EVIL}\r\n" for name in LEAKS)
                status = "201 Created" if head.startswith(b"POST") else "200 OK"
                self.request.sendall(
                    f"HTTP/1.1 {status}\r\nContent-Type: application/json; charset=utf-7\r\n{told}"
                    "X-Request-Id: theirs\r\nContent-Length: 2\r\n\r\n{}".encode()
                )


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    with Recorder() as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield listening
        listening.shutdown()


@pytest.fixture(scope="module")
def portal(recorder: Recorder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Portal]:
    portal = Portal(tmp_path_factory.mktemp("portal"), recorder.url)
    try:
        portal.seed(states={"add_note_to_incident": "on"})
        portal.start()
        yield portal
    finally:
        portal.close()


# What is sent. Texts are Latin-1: one character is one byte. KEY stands for the agent key.

AUTH = "Authorization: Token token=KEY"
LIST = "/incidents?limit=25"
NOTES = "/incidents/PT4KHLK/notes"
NOTE = '{"note":{"content":"full"}}'


def get(target: str = LIST, *headers: str, method: str = "GET", version: str = "HTTP/1.1", auth: str = AUTH) -> str:
    lines = [f"{method} /pagerduty{target} {version}", "Host: portal.example", *([auth] if auth else []), *headers]
    return CRLF.join(lines) + CRLF * 2


def post(body: str = NOTE, *headers: str, target: str = NOTES, kind: str | None = "application/json") -> str:
    """A write whose body is framed by one Content-Length."""
    return unframed(f"Content-Length: {len(body)}", *headers, target=target, kind=kind) + body


def unframed(
    *headers: str, target: str = NOTES, kind: str | None = "application/json", version: str = "HTTP/1.1"
) -> str:
    """The head of a write, which says nothing of its body but what ``headers`` do."""
    kinds = [] if kind is None else [f"Content-Type: {kind}"]
    return CRLF.join([f"POST /pagerduty{target} {version}", "Host: portal.example", AUTH, *kinds, *headers]) + CRLF * 2


def chunks(*parts: str, end: str = "0\r\n\r\n") -> str:
    return "".join(f"{len(part):x}\r\n{part}\r\n" for part in parts) + end


# What arrives: golden requests, in our own order.

OURS = (
    f"Authorization: Token token={TOKEN}",
    "Accept: application/vnd.pagerduty+json;version=2",
    "Accept-Encoding: identity",
    "User-Agent: Pagewarden/0.1",
)


def read(target: str = LIST) -> str:
    return CRLF.join([f"GET {target} HTTP/1.1", "Host: UPSTREAM", *OURS]) + CRLF * 2


def write(body: str = NOTE) -> str:
    ours = (*OURS, "From: mina@example.com", "Content-Type: application/json", f"Content-Length: {len(body)}")
    return CRLF.join([f"POST {NOTES} HTTP/1.1", "Host: UPSTREAM", *ours]) + CRLF * 2 + body


@dataclass(frozen=True)
class Case:
    name: str
    sent: str
    arrives: str = ""
    """Empty: nothing."""
    statuses: str = ""
    """Of the answers, in order; empty: one 2xx where something arrives, else 4xx alone or a closed connection."""
    ends: bool = False
    """The caller says no more after it."""


def golden(name: str, sent: str, arrives: str | None = None, statuses: str = "") -> Case:
    """A request that is sent on, clean; as the plain read or write where it is not said otherwise."""
    default = write() if sent.lstrip().startswith("POST") else read()
    return Case(name, sent, default if arrives is None else arrives, statuses)


def refused(name: str, sent: str, statuses: str = "", *, ends: bool = False) -> Case:
    return Case(name, sent, "", statuses, ends)


INCLUDED = read("/incidents?include%5B%5D=users")
CASES = (
    golden("a read", get()),
    golden("a write", post()),
    # Framing
    golden(
        "CL and TE: chunks count, and the connection ends",
        unframed("Content-Length: 4", "Transfer-Encoding: chunked") + chunks(NOTE) + get("/users"),
        None,
        "201",
    ),
    golden(
        "TE and CL: chunks count, and the connection ends",
        unframed("Transfer-Encoding: chunked", "Content-Length: 4") + chunks(NOTE) + get("/users"),
        None,
        "201",
    ),
    refused(
        "CL and TE: a body that ends before its chunks do",
        unframed("Content-Length: 6", "Transfer-Encoding: chunked") + "0\r\n\r\n" + get("/users"),
    ),
    refused("two lengths", unframed(f"Content-Length: {len(NOTE)}", "Content-Length: 5") + NOTE),
    golden("the same length twice", unframed(f"Content-Length: {len(NOTE)}", f"Content-Length: {len(NOTE)}") + NOTE),
    refused("a list of lengths", unframed(f"Content-Length: {len(NOTE)}, {len(NOTE)}") + NOTE),
    refused("a length with a plus", unframed(f"Content-Length: +{len(NOTE)}") + NOTE),
    refused("a negative length", unframed("Content-Length: -1") + NOTE),
    refused("a length with junk", unframed(f"Content-Length: {len(NOTE)} x") + NOTE),
    refused("a length in hexadecimal", unframed(f"Content-Length: 0x{len(NOTE):x}") + NOTE),
    refused("a length that is none", unframed("Content-Length: ") + NOTE),
    refused("a length of more than 64 bits", unframed("Content-Length: 18446744073709551643") + NOTE),
    golden("blanks before a length", unframed(f"Content-Length:   {len(NOTE)}") + NOTE),
    golden("noughts before a length", unframed(f"Content-Length: 000{len(NOTE)}") + NOTE),
    refused("a blank before the colon", unframed(f"Content-Length : {len(NOTE)}") + NOTE),
    refused("a length too long", unframed("Content-Length: 100") + NOTE, ends=True),
    refused("a length too short: half a document", unframed("Content-Length: 20") + NOTE),
    golden("chunks", unframed("Transfer-Encoding: chunked") + chunks(NOTE[:5], NOTE[5:])),
    golden("chunks, after a tab", unframed("Transfer-Encoding:\tchunked") + chunks(NOTE)),
    golden("chunks, in capitals", unframed("TRANSFER-ENCODING: CHUNKED") + chunks(NOTE)),
    golden(
        "chunks with extensions", unframed("Transfer-Encoding: chunked") + f"{len(NOTE):x};a=b\r\n{NOTE}\r\n0;c\r\n\r\n"
    ),
    golden(
        "chunks with trailers",
        unframed("Transfer-Encoding: chunked", "Trailer: From")
        + chunks(NOTE, end=f"0\r\nFrom: a@{EVIL}\r\nAuthorization: x\r\n\r\n"),
    ),
    refused(
        "chunks of a size too long",
        unframed("Transfer-Encoding: chunked") + f"{len(NOTE) + 9:x}\r\n{NOTE}\r\n0\r\n\r\n",
        ends=True,
    ),
    refused("chunks of a size that is none", unframed("Transfer-Encoding: chunked") + f"0x1b\r\n{NOTE}\r\n0\r\n\r\n"),
    refused(
        "chunks of a size of more than 64 bits",
        unframed("Transfer-Encoding: chunked") + f"f00000000000000{len(NOTE):x}\r\n{NOTE}\r\n0\r\n\r\n",
    ),
    refused("chunks with bare line feeds", unframed("Transfer-Encoding: chunked") + f"{len(NOTE):x}\n{NOTE}\n0\n\n"),
    refused("chunks without an end", unframed("Transfer-Encoding: chunked") + chunks(NOTE, end=""), ends=True),
    refused("TE: xchunked", unframed("Transfer-Encoding: xchunked") + chunks(NOTE)),
    refused("TE: chunked, identity", unframed("Transfer-Encoding: chunked, identity") + chunks(NOTE)),
    refused("TE: identity, chunked", unframed("Transfer-Encoding: identity, chunked") + chunks(NOTE)),
    refused("TE: gzip, chunked", unframed("Transfer-Encoding: gzip, chunked") + chunks(NOTE)),
    refused("TE: chunked, chunked", unframed("Transfer-Encoding: chunked, chunked") + chunks(NOTE)),
    refused("TE twice", unframed("Transfer-Encoding: chunked", "Transfer-Encoding: identity") + chunks(NOTE)),
    refused(
        "TE twice, both chunked", unframed("Transfer-Encoding: chunked", "Transfer-Encoding: chunked") + chunks(NOTE)
    ),
    refused("TE and no chunks", unframed("Transfer-Encoding: chunked") + NOTE, ends=True),
    refused("TE in HTTP/1.0", unframed("Transfer-Encoding: chunked", version="HTTP/1.0") + chunks(NOTE)),
    refused("no framing at all", unframed() + NOTE),
    # Trailing data
    golden("a stranger's request after a body", post() + get("/users", auth=""), None, "201 401"),
    golden("half a request after a body", post() + "GET /pagerduty/users HTTP/1.1\r\nX: ", None, "201"),
    golden("nonsense after a body", post() + "\0\0\0\r\n\r\n", None, "201 400"),
    golden("another request after a read", get() + post(), read() + write(), "200 201"),
    golden("a denied request after a read", get() + get("/users/PDEF456", method="DELETE"), read(), "200 403"),
    golden("empty lines before a request", CRLF * 2 + get()),
    golden(
        "a body of a read that is a request", get(LIST, "Content-Length: 0") + get("/users", auth=""), read(), "200 401"
    ),
    # Lines and names of headers
    golden("bare line feeds", get().replace(CRLF, "\n")),
    refused("a folded header", get(LIST, "X-A: b\r\n c")),
    refused("a folded credential", get(auth="Authorization: Token\r\n token=KEY")),
    refused("NUL in a header", get(LIST, "X-A: b\0c")),
    refused("CR in a header", get(LIST, "X-A: b\rFrom: c")),
    refused("a blank in a header's name", get(LIST, "X A: b")),
    refused("NUL in a header's name", get(LIST, "X\0A: b")),
    refused("a header without a name", get(LIST, ": b")),
    refused("a header without a colon", get(LIST, "X-A")),
    refused("a blank before the first header", get().replace("Host", " Host")),
    golden("bytes over 127 in a header", get(LIST, "X-A: \xe9\xff")),
    golden(
        "an underscore for a dash",
        post(NOTE, "Content_Length: 5", "Transfer_Encoding: chunked", "X_Forwarded_For: 1.2.3.4"),
    ),
    refused("a megabyte of headers", get(LIST, *(f"X-{number}: {'x' * 1000}" for number in range(1000)))),
    # The request line
    golden("another host in an absolute URI", get().replace("GET /", f"GET http://{EVIL}/")),
    golden("another port and a user in an absolute URI", get().replace("GET /", f"GET http://a:b@{EVIL}:1/")),
    golden("a fragment", get(f"{LIST}#/users")),
    golden("a slash at the end", get("/incidents/?limit=25"), read()),
    refused("two slashes at the end", get("/incidents//?limit=25")),
    refused("two slashes at the start", get("//incidents")),
    refused("a host for a path", get(f"//{EVIL}/incidents")),
    refused("dot segments", get("/services/../incidents")),
    refused("a single dot", get("/./incidents")),
    refused("dot segments, encoded", get("/services/%2e%2e/incidents")),
    refused("dot segments out of the door and in again", get("/../pagerduty/incidents")),
    refused("an encoded slash", get("/incidents%2FPT4KHLK")),
    refused("a slash encoded twice", get("/incidents%252FPT4KHLK")),
    refused("a backslash", get("/incidents\\PT4KHLK")),
    refused("an encoded backslash", get("/incidents%5cPT4KHLK")),
    refused("an encoded letter", get("/%69ncidents")),
    refused("an encoded letter of the door", get().replace("/pagerduty", "/%70agerduty")),
    refused("an encoded slash of the door", get().replace("/pagerduty/", "/pagerduty%2f")),
    refused("the door twice", get("/pagerduty/incidents")),
    refused("a path parameter", get("/incidents;a=b")),
    refused("a path parameter of an id", get("/incidents/PT4KHLK;x")),
    refused("%00", get("/incidents/PT4KHLK%00")),
    refused("an encoded line end", get("/incidents%0d%0aX:%20y")),
    refused("an encoded blank", get("/incidents/PT4KHLK%20")),
    refused("overlong UTF-8", get("/incidents%c0%afPT4KHLK")),
    refused("bytes over 127", get("/incidents/PT4\xc0\xaf")),
    refused("full-width letters", get("/incidents/%EF%BC%B0%EF%BC%B4")),
    refused("other digits", get("/incidents/PT%D9%A4KHLK")),
    refused("an invisible letter", get("/incidents/PT4KHLK%E2%80%8B")),
    refused("capitals", get("/Incidents")),
    refused("a question mark, encoded", get("/incidents%3flimit=25")),
    refused("a blank in the target", get("/incidents ?limit=25")),
    refused("two blanks", get().replace("GET ", "GET  ")),
    refused("a tab", get().replace("GET ", "GET\t")),
    refused("a blank at the end of the line", get(version="HTTP/1.1 ")),
    golden("HTTP/1.0", get(version="HTTP/1.0")),
    refused("HTTP/0.9", "GET /pagerduty/incidents\r\n\r\n"),
    refused("HTTP/1.2", get(version="HTTP/1.2")),
    refused("HTTP/2.0", get(version="HTTP/2.0")),
    refused("HTTP/2 without TLS", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + "\0\0\0\4\0\0\0\0\0"),
    # Methods
    refused("HEAD of a read", get(method="HEAD")),
    refused(
        "OPTIONS, as a browser asks",
        get(LIST, f"Origin: https://{EVIL}", "Access-Control-Request-Method: GET", method="OPTIONS"),
    ),
    golden("a page of another site", get(LIST, f"Origin: https://{EVIL}")),
    refused("TRACE", get(method="TRACE")),
    refused("CONNECT", f"CONNECT {EVIL}:443 HTTP/1.1\r\nHost: {EVIL}\r\n{AUTH}\r\n\r\n"),
    refused("a method in small letters", get(method="get")),
    refused("a method of two", get(method="GET,DELETE")),
    refused("a method that is none", get(method="G@T")),
    refused("PATCH of a list", get(method="PATCH")),
    # Credentials
    golden("Bearer", get(auth="Authorization: Bearer KEY")),
    golden("quoted, in small letters", get(auth='authorization: token token="KEY"')),
    refused("a credential twice", get(LIST, AUTH)),
    refused("a credential and another", get(LIST, "Authorization: Bearer x")),
    refused("two credentials in one", get(auth=f"{AUTH}, Token token=x")),
    refused("a credential with more after it", get(auth=f"{AUTH} x")),
    refused("Basic", get(auth="Authorization: Basic KEY")),
    refused(
        "a credential under other names", get(LIST, "X-Authorization: Token token=KEY", "Cookie: token=KEY", auth="")
    ),
    refused("a credential in the query alone", get(f"{LIST}&token=KEY", auth="")),
    refused("a credential in the query, too", get(f"{LIST}&token=KEY")),
    refused("an access token in the query", get(f"{LIST}&access_token=x")),
    refused("an API key in the query", get(f"{LIST}&api_key=x")),
    # Headers that mean something elsewhere
    golden("no Host", get().replace("Host: portal.example\r\n", "")),
    golden("Host of another site", get().replace("portal.example", EVIL)),
    refused("Host twice", get(LIST, f"Host: {EVIL}")),
    golden(
        "X-HTTP-Method-Override",
        get(LIST, "X-HTTP-Method-Override: DELETE", "X-Method-Override: PUT", "X-HTTP-Method: PUT"),
    ),
    golden("X-HTTP-Method-Override of a write", post(NOTE, "X-HTTP-Method-Override: DELETE")),
    golden(
        "X-Original-URL and X-Rewrite-URL",
        get(LIST, "X-Original-URL: /users", "X-Rewrite-URL: /users", "X-Original-Method: DELETE"),
    ),
    golden(
        "X-Forwarded-*",
        get(
            LIST,
            f"X-Forwarded-Host: {EVIL}",
            "X-Forwarded-Proto: ftp",
            "X-Forwarded-For: 1.2.3.4",
            "X-Forwarded-Prefix: /x",
            "X-Real-IP: 1.2.3.4",
        ),
    ),
    golden("Forwarded", get(LIST, f"Forwarded: for=1.2.3.4;host={EVIL};proto=ftp", "Via: 1.1 x", "Max-Forwards: 0")),
    golden("From", post(NOTE, f"From: boss@{EVIL}")),
    golden("From, twice", post(NOTE, f"From: boss@{EVIL}", "from: x")),
    golden("cookies", get(LIST, "Cookie: sessionid=x; csrftoken=y", "Cookie2: z")),
    golden("Connection: authorization", get(LIST, "Connection: authorization, close, x-a", "X-A: b")),
    golden(
        "hop-by-hop",
        get(LIST, "Keep-Alive: 5", "Proxy-Authorization: Basic x", "Proxy-Connection: keep-alive", "TE: trailers"),
    ),
    golden(
        "Upgrade: h2c", get(LIST, "Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABk")
    ),
    golden(
        "Upgrade: websocket",
        get(
            LIST,
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Version: 13",
        ),
    ),
    golden("Expect: 100-continue", post(NOTE, "Expect: 100-continue"), None, "100 201"),
    golden("Expect: nobody", post(NOTE, "Expect: nobody")),
    golden(
        "what a cache would ask",
        get(LIST, "If-None-Match: x", "Range: bytes=0-1", "Accept: text/html", "Accept-Encoding: gzip"),
    ),
    golden("early access", get(LIST, "X-EARLY-ACCESS: ip-allow-lists", "X-PagerDuty-Token: x")),
    # The query
    golden("escapes that are not needed", get("/incidents?%6cimit=%32%35"), read()),
    golden("empty parameters", get("/incidents?&limit=25&&"), read()),
    golden("a plus", get("/services?query=a+b"), read("/services?query=a+b")),
    golden("%20", get("/services?query=a%20b"), read("/services?query=a+b")),
    golden("a plus, encoded", get("/services?query=a%2Bb"), read("/services?query=a%2Bb")),
    golden(
        "an ampersand, encoded",
        get("/services?query=a%26include%5B%5D=integrations"),
        read("/services?query=a%26include%5B%5D%3Dintegrations"),
    ),
    golden("a line end, encoded", get("/services?query=a%0d%0aFrom:%20b"), read("/services?query=a%0D%0AFrom%3A+b")),
    golden("escapes that are none", get("/services?query=%u0032%zz"), read("/services?query=%25u0032%25zz")),
    golden("escaped twice", get("/services?query=%2527"), read("/services?query=%2527")),
    refused("a scalar twice", get("/incidents?limit=25&limit=26")),
    refused("a scalar twice, once encoded", get("/incidents?limit=25&%6cimit=26")),
    refused("a scalar as a list", get("/incidents?limit[]=25")),
    refused("a list as a scalar", get("/incidents?team_ids=PQ9K7I8")),
    refused("a list by its places", get("/incidents?team_ids[0]=PQ9K7I8")),
    refused("a scalar as an object", get("/incidents?limit[a]=25")),
    refused("semicolons", get("/incidents?limit=25;include[]=users")),
    refused("semicolons in front", get("/incidents?;include[]=first_trigger_log_entries")),
    refused("_method", get(f"{LIST}&_method=DELETE")),
    refused("a parameter that is none", get(f"{LIST}&expand=everything")),
    refused("another operation's parameter", get(f"{LIST}&include_next_oncall_for_user=PDEF456")),
    refused("a name in capitals", get("/incidents?LIMIT=25")),
    refused("no name", get("/incidents?=25")),
    refused("no UTF-8", get("/services?query=%ff")),
    refused("overlong UTF-8 in the query", get("/services?query=%c0%af")),
    refused("half a surrogate pair", get("/services?query=%ed%a0%80")),
    refused("NUL", get("/services?query=a%00b")),
    refused("a long query", get("/services?query=" + "a" * 17_000)),
    # include[], in every spelling (and every value: test_includes.py)
    golden("include[]", get("/incidents?include[]=users"), INCLUDED),
    golden("include%5B%5D", get("/incidents?include%5B%5D=users"), INCLUDED),
    golden("include%5b%5d", get("/incidents?include%5b%5d=users"), INCLUDED),
    golden("%69nclude[]", get("/incidents?%69nclude[]=%75sers"), INCLUDED),
    refused("include", get("/incidents?include=users")),
    refused("include[0]", get("/incidents?include[0]=users")),
    refused("include[0], encoded", get("/incidents?include%5B0%5D=users")),
    refused("include[][]", get("/incidents?include[][]=users")),
    refused("include[users]", get("/incidents?include[users]=1")),
    refused("INCLUDE[]", get("/incidents?INCLUDE[]=users")),
    refused("include[] encoded twice", get("/incidents?include%255B%255D=users")),
    refused("include[ ]", get("/incidents?include[+]=users")),
    refused("+include[]", get("/incidents?+include[]=users")),
    refused("include[]%00", get("/incidents?include[]%00=users")),
    refused("include[].", get("/incidents?include.=users&include[].=x")),
    refused("an include that is not allowed", get("/incidents?include[]=first_trigger_log_entries")),
    refused("one that is, and one that is not", get("/incidents?include[]=users&include[]=first_trigger_log_entries")),
    refused(
        "one that is not, with another spelling", get("/incidents?include[]=users&include=first_trigger_log_entries")
    ),
    refused("a list of them in one", get("/incidents?include[]=users,first_trigger_log_entries")),
    refused("one with a blank", get("/incidents?include[]=users%20")),
    refused("one in capitals", get("/incidents?include[]=USERS")),
    refused("an empty one", get("/incidents?include[]=")),
    refused("one of a write", post(target=f"{NOTES}?include[]=users")),
    refused("a body's key in the query", post(target=f"{NOTES}?note[content]=x")),
    refused("a query of a write", post(target=f"{NOTES}?note=x")),
    # The body
    golden("blanks and escapes", post('\r\n { "note" :\t{ "\\u0063ontent":"\\u0066ull" } }\n'), write()),
    golden("UTF-8", post('{"note":{"content":"\xc3\xa9"}}'), write('{"note":{"content":"\\u00e9"}}')),
    golden(
        "a line end in a text",
        post('{"note":{"content":"a\\r\\nFrom: b"}}'),
        write('{"note":{"content":"a\\r\\nFrom: b"}}'),
    ),
    golden(
        "numbers", post('{"note":{"content":1.10,"n":-0,"e":1E2}}'), write('{"note":{"content":1.1,"n":0,"e":100.0}}')
    ),
    golden("application/json; charset=utf-8", post(kind='Application/JSON; charset="UTF-8"')),
    golden("PagerDuty's own type", post(kind="application/vnd.pagerduty+json;version=2")),
    golden("no type", post(kind=None)),
    refused("a key twice", post('{"note":{"content":"full"},"note":{"content":"x"}}')),
    refused("a key twice, inside", post('{"note":{"content":"full","content":"x"}}')),
    refused("a key twice, once escaped", post('{"note":{"content":"full","c\\u006fntent":"x"}}')),
    refused("a key twice in a list", post('{"note":{"content":[{"id":1,"\\u0069d":2}]}}')),
    refused("a byte order mark", post("\xef\xbb\xbf" + NOTE)),
    refused("UTF-16", post(NOTE.encode("utf-16").decode("latin-1"))),
    refused("UTF-16 without a mark", post(NOTE.encode("utf-16-le").decode("latin-1"))),
    refused("UTF-32", post(NOTE.encode("utf-32-be").decode("latin-1"))),
    refused("Latin-1", post('{"note":{"content":"\xe9"}}')),
    refused("overlong UTF-8 in the body", post('{"note":{"content":"\xc0\xaf"}}')),
    refused("another document after it", post(NOTE + NOTE)),
    refused("nonsense after it", post(NOTE + "x")),
    refused("NUL after it", post(NOTE + "\0")),
    refused("a comment", post('{/*x*/"note":{"content":"full"}}')),
    refused("a comma too many", post('{"note":{"content":"full",}}')),
    refused("single quotes", post("{'note':{'content':'full'}}")),
    refused("NaN", post('{"note":{"content":NaN}}')),
    refused("Infinity", post('{"note":{"content":-Infinity}}')),
    refused("a number over all numbers", post('{"note":{"content":1e999}}')),
    refused("a number of more than 64 bits", post('{"note":{"content":18446744073709551616}}')),
    refused("a number of 5,000 digits", post('{"note":{"content":' + "9" * 5_000 + "}}")),
    refused("a nought in front of a number", post('{"note":{"content":010}}')),
    refused("a deep nest", post('{"note":' * 100 + "1" + "}" * 100)),
    refused("a nest too deep to read", post("[" * 100_000)),
    refused("NUL in a text", post('{"note":{"content":"a\\u0000b"}}')),
    refused("a line end as it is in a text", post('{"note":{"content":"a\nb"}}')),
    refused("half a surrogate pair in a text", post('{"note":{"content":"\\ud800"}}')),
    refused("a list", post(f"[{NOTE}]")),
    refused("no body", post("")),
    refused("a key beside it: include", post('{"note":{"content":"full"},"include":["users"]}')),
    refused("a key beside it: include[]", post('{"note":{"content":"full"},"include[]":"users"}')),
    refused("a key beside it: _method", post('{"note":{"content":"full"},"_method":"DELETE"}')),
    refused("a key beside it: fields", post('{"note":{"content":"full"},"fields":["id"]}')),
    refused("a key beside it, in capitals", post('{"note":{"content":"full"},"Note":{"content":"x"}}')),
    refused("a body of a read", get(LIST, "Content-Type: application/json", f"Content-Length: {len(NOTE)}") + NOTE),
    refused("a body of a read, in chunks", get(LIST, "Transfer-Encoding: chunked") + chunks(NOTE)),
    # Its type
    refused("a form", post("note[content]=full", kind="application/x-www-form-urlencoded")),
    refused("JSON that calls itself a form", post(kind="application/x-www-form-urlencoded")),
    refused("a form with a method", post("_method=delete&note=x", kind="application/x-www-form-urlencoded")),
    refused(
        "several parts",
        post(
            f'--x\r\nContent-Disposition: form-data; name="note"\r\n\r\n{NOTE}\r\n--x--\r\n',
            kind="multipart/form-data; boundary=x",
        ),
    ),
    refused("text", post(kind="text/plain")),
    refused("XML", post("<note/>", kind="application/xml")),
    refused("two types", post(NOTE, "Content-Type: application/json")),
    refused("two types, one of a form", post(NOTE, "Content-Type: application/x-www-form-urlencoded")),
    refused("two types in one", post(kind="application/json, text/plain")),
    refused("charset=utf-7", post(kind="application/json; charset=utf-7")),
    refused("charset=utf-16", post(NOTE.encode("utf-16").decode("latin-1"), kind="application/json; charset=utf-16")),
    refused("charset=utf-16, and it is not", post(kind="application/json; charset=utf-16")),
    refused("gzip", post(gzip.compress(NOTE.encode()).decode("latin-1"), "Content-Encoding: gzip")),
    refused("gzip that does not say so", post(gzip.compress(NOTE.encode()).decode("latin-1"))),
    refused("JSON that calls itself gzip", post(NOTE, "Content-Encoding: gzip")),
    refused("identity, gzip", post(NOTE, "Content-Encoding: identity, gzip")),
    refused("an encoding twice", post(NOTE, "Content-Encoding: gzip", "Content-Encoding: identity")),
    golden("identity", post(NOTE, "Content-Encoding: identity")),
)


def answered(portal: Portal, case: Case) -> bytes:
    with socket.create_connection(("127.0.0.1", portal.port), timeout=5) as caller:
        got = b""
        try:
            caller.sendall(case.sent.replace("KEY", portal.seeded["key"]).encode("latin-1"))
            if case.ends:
                caller.shutdown(socket.SHUT_WR)
            while received := caller.recv(65_536):
                got += received
                caller.settimeout(0.15)
        except (TimeoutError, ConnectionError):
            pass
        return got


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_arrives_is_what_was_judged_or_nothing(portal: Portal, recorder: Recorder, case: Case) -> None:
    recorder.taken()
    answer = answered(portal, case)
    host = recorder.url.removeprefix("http://")
    assert recorder.taken().decode("latin-1") == case.arrives.replace("UPSTREAM", host)
    statuses = re.findall(r"HTTP/1\.[01] (\d{3}) ", answer.decode("latin-1"))
    if case.statuses:
        assert statuses == case.statuses.split()
    elif case.arrives:
        assert statuses in (["200"], ["201"])
    else:
        assert all(status.startswith("4") for status in statuses)
    # Nothing that was sent along, and nothing that came along from upstream, shows.
    shown = answer.decode("latin-1").lower()
    assert EVIL not in shown
    assert "access-control" not in shown
    assert not any(f"\n{name.lower()}: {EVIL}" in shown for name in LEAKS)


def test_the_names_of_cases_are_their_own() -> None:
    assert len({case.name for case in CASES}) == len(CASES)


def test_the_client_gets_the_headers_that_are_listed_and_no_other(portal: Portal) -> None:
    answer = portal.call("GET", LIST)
    ours = {"server": "granian", "connection": "close", "content-length": "2", "content-type": "application/json"}
    theirs = {"x-request-id": "theirs"}
    varying = {name: answer.headers[name] for name in ("x-pagewarden-decision", "date")}
    assert answer.headers == ours | theirs | varying


def test_afterwards_every_request_with_a_key_is_on_record_and_nothing_broke(portal: Portal) -> None:
    assert portal.call("GET", LIST).status == 200
    assert "Traceback" not in portal.log()
    entries = portal.entries(kind="result")
    assert {entry["outcome"] for entry in entries} == {"done", "denied", "invalid"}
    assert EVIL not in json.dumps(entries)
    assert portal.manage("verify_audit").stdout.startswith("Intact")
