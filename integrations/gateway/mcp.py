"""The MCP door: streamable HTTP by the official SDK's low-level server, stateless, with answers in JSON, as a plain ASGI app.

Each key sees the tools that its policy allows, and every call is decided again. What is asked is read from the body alone:
headers are compared with it and authorise nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import logging
import re
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from django.conf import settings
from django.http.request import validate_host
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.lowlevel.server import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, CallToolRequestParams, PaginatedRequestParams
from mcp_types.methods import validate_client_request

from integrations.gateway import runtime
from integrations.gateway.http import Head, Headers, Receive, Requests, Scope, Send, answered
from integrations.gateway.identity import Rejected
from integrations.gateway.pipeline import IDEMPOTENCY_KEY, Answer, Known
from integrations.gateway.use import CallerGone, Use
from integrations.pagerduty import tools
from integrations.pagerduty.tools.definitions import INSTRUCTIONS, definition, is_reachable
from policies.core.call import Call, Client, Decision, Door, KeyCredential
from policies.core.decide import decide

log = logging.getLogger(__name__)

PATH: Final = "/mcp"
METADATA: Final = "/.well-known/oauth-protected-resource"
"""Where RFC 9728 has the document about a protected resource; that of ``/mcp`` is below it."""
DECISIONS: Final = "pagewarden/decisions"
"""In the ``_meta`` of a result: the decision ids of the calls that it took, in order of asking."""
VERSION: Final = "0.1.0"
_LOOPBACK: Final = re.compile(r"(?:localhost|127\.0\.0\.1|\[::1\])(?::\d{1,5})?", re.ASCII | re.IGNORECASE)
MAXIMUM_ANSWERS: Final = 32
"""Each takes 300 kB."""
LIST_SECONDS: Final = 30
"""How long a client may go by the list it has: what it calls is decided anew all the same."""
Context = ServerRequestContext[Any, Any]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request, as far as its head tells."""

    call: Call
    """What all of their calls have in common."""
    receive: Receive = field(repr=False)


class McpDoor:
    """The ASGI app. ``lifespan`` must be entered before the first request."""

    def __init__(self) -> None:
        self._requests = Requests()
        self._public = urlsplit(settings.PUBLIC_URL)
        self._server: Server[Any] = Server(
            "pagewarden",
            version=VERSION,
            title="Pagewarden",
            instructions=INSTRUCTIONS,
            website_url=settings.PUBLIC_URL,
            # No parameter is mirrored in a header, so that no tool need be looked up for it.
            get_tool_input_schema=lambda name: None,
        )
        # Added by method, for so they may answer what is made already, without a model of it for each call.
        self._server.add_request_handler("tools/list", PaginatedRequestParams, self._list)
        self._server.add_request_handler("tools/call", CallToolRequestParams, self._call)
        # In place of the SDK's own, whose spans go nowhere here, and cost.
        self._server.middleware[:] = [self._remembered]
        self._answers: OrderedDict[tuple[int, str, str], HandlerResult] = OrderedDict()
        # The same few names come with every request, and to take one apart costs more than all else that is done with headers.
        self._is_own_host = functools.lru_cache(maxsize=64)(self._is_host)

    @contextlib.asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        self._manager = StreamableHTTPSessionManager(self._server, stateless=True, json_response=True)
        async with self._manager.run():
            yield

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        head = self._requests.head(scope)
        if foreign := self._foreign(head):
            await _refuse(send, *foreign)
            return
        pipeline = runtime.current().pipeline
        at = time.time()
        client = Client(ip=head.ip, name=head.text(b"user-agent"), request_id=head.text(b"x-request-id"))
        call = Call(
            Door.MCP, KeyCredential(head.credential), "", "", content_type="application/json", client=client, at=at
        )
        known = pipeline.identify(head.credential, head.ip, at) or await pipeline.known(call)
        if known is None:
            await self._requests.body(receive, head, keep=False)
            await _refuse(send, 503, _UNCONFIRMED, code=INTERNAL_ERROR)
            return
        if isinstance(known, Rejected):
            await self._requests.body(receive, head, keep=False)
            await self._turn_away(await pipeline.refuse(head.ip, known), send)
            return
        if scope["method"] != "POST":
            await _refuse(
                send, 405, "This door answers POST alone: it keeps no session and sends nothing unasked.", _ALLOW
            )
            return
        body = await self._requests.body(receive, head)
        if problem := head.problem or body.problem:
            await _refuse(send, head.status or body.status, problem, _CLOSE)
            return
        if body.content is None:
            await _refuse(send, 400, "The request's body is not whole.", _CLOSE)
            return
        if unread := _unread(head):
            await _refuse(send, 415, unread)
            return
        if trouble := _malformed(body.content):
            await _refuse(send, 400, trouble[1], code=trouble[0])
            return
        state = {**scope.get("state", {}), "caller": Caller(call, receive)}
        await self._manager.handle_request({**scope, "state": state}, _once(body.content, receive), send)

    def _foreign(self, head: Head) -> tuple[int, str] | None:
        """Why a request may not come to this host, or from the page it comes from: a browser can be made to send it."""
        host = head.text(b"host").lower()
        if not self._is_own_host(host):
            return 421, "This portal does not answer under this host name."
        origin = head.text(b"origin")
        if b"origin" in head.headers and not self._is_own_origin(origin):
            return 403, "Pages of other sites may not call this door."
        return None

    def _is_host(self, host: str) -> bool:
        if settings.LOOPBACK:
            return _LOOPBACK.fullmatch(host) is not None
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        return host == self._public.netloc.lower() or validate_host(name, settings.ALLOWED_HOSTS)

    def _is_own_origin(self, origin: str) -> bool:
        if settings.LOOPBACK:
            scheme, _, host = origin.partition("://")
            return scheme in ("http", "https") and _LOOPBACK.fullmatch(host) is not None
        return origin.lower() == settings.PUBLIC_URL.lower()

    async def _turn_away(self, answer: Answer, send: Send) -> None:
        """What a stranger gets: the same whatever was wrong with their key, and where to look for how keys are got."""
        where = f'Bearer resource_metadata="{settings.PUBLIC_URL}{METADATA}{PATH}"'
        extra: Headers = [(b"www-authenticate", where.encode())] if answer.status == 401 else []
        if answer.retry_after is not None:
            extra.append((b"retry-after", str(int(answer.retry_after)).encode()))
        remedy = "Use a key that a manager of your team issued, as Authorization: Bearer <key>."
        await _refuse(send, answer.status, f"{answer.problem} {remedy}", extra, code=-32001)

    async def metadata(self, send: Send) -> None:
        """RFC 9728. There is no authorization server as yet: keys are handed out by managers."""
        document = {
            "resource": f"{settings.PUBLIC_URL}{PATH}",
            "resource_name": "Pagewarden",
            "bearer_methods_supported": ["header"],
            "resource_documentation": f"{settings.PUBLIC_URL}/",
        }
        await _send(send, 200, json.dumps(document).encode(), [(b"cache-control", b"max-age=3600")])

    async def _remembered(self, ctx: Context, call_next: CallNext) -> HandlerResult:
        """To a list of tools, what the SDK made of the same one for the same revision, validated and in its envelope: half
        of what a list costs. All the lists of a key are alike until the configuration moves."""
        if ctx.method != "tools/list":
            return await call_next(ctx)
        validate_client_request(ctx.method, ctx.protocol_version, ctx.params)
        known = await self._known(_caller(ctx))
        at = (known.state.policy.version, known.identified.principal.id, ctx.protocol_version)
        found = self._answers.get(at)
        if found is None:
            found = self._answers[at] = await call_next(ctx)
            if len(self._answers) > MAXIMUM_ANSWERS:
                self._answers.popitem(last=False)
        return found

    async def _list(self, context: Context, params: PaginatedRequestParams | None) -> dict[str, Any]:
        listed = self._listed(await self._known(_caller(context)))
        # Another key is shown other tools, and this one others when its policy moves.
        return {"tools": listed, "resultType": "complete", "ttlMs": LIST_SECONDS * 1000, "cacheScope": "private"}

    async def _known(self, caller: Caller) -> Known:
        known = await runtime.current().pipeline.known(dataclasses.replace(caller.call, at=time.time()))
        if not isinstance(known, Known):
            # Good a moment ago, when the head was read.
            raise MCPError(INTERNAL_ERROR, _UNCONFIRMED)
        return known

    def _listed(self, known: Known) -> list[dict[str, Any]]:
        """The tools that a key may call, in the catalogue's order."""
        policy, identified = known.state.policy, known.identified
        connection = identified.connection
        decided = ((tool, decide(policy, identified.principal, tool, "")) for tool in tools.TOOLS.values())
        return [
            definition(tool, needs_approval=verdict.decision is Decision.NEEDS_APPROVAL)
            for tool, verdict in decided
            if verdict.decision is not Decision.DENY and (connection is None or is_reachable(tool, connection.bounds))
        ]

    async def _call(self, context: Context, params: CallToolRequestParams) -> dict[str, Any]:
        caller = _caller(context)
        key = (context.meta or {}).get(IDEMPOTENCY_KEY, "")
        known = await self._known(caller)
        pipeline = runtime.current().pipeline

        async def run(call: Call, writes: bool) -> Answer | None:
            return await (answered(pipeline, call, caller.receive) if writes else pipeline.run(call))

        def listed() -> list[str]:
            return [row["name"] for row in self._listed(known)]

        use = Use(params.name, caller.call, known, run, listed, key)
        try:
            content, is_error = await use.serve(params.arguments or {})
        except CallerGone as gone:
            raise MCPError(INTERNAL_ERROR, "The caller has gone.") from gone
        return {
            "content": [{"type": "text", "text": msgspec.json.encode(content).decode()}],
            "isError": is_error,
            "resultType": "complete",
            "_meta": {DECISIONS: use.decisions},
        }


def _caller(context: Context) -> Caller:
    assert context.request is not None  # noqa: S101  (every request comes by HTTP)
    caller: Caller = context.request.scope["state"]["caller"]
    return caller


def _once(body: bytes, receive: Receive) -> Receive:
    """What the SDK reads: the body, which is whole already, and after it whatever comes."""
    left: list[Mapping[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]

    async def read() -> Any:
        return left.pop() if left else await receive()

    return read


def _unread(head: Head) -> str:
    """Why a body of this kind is not read; empty: it is."""
    if head.text(b"content-type").partition(";")[0].strip().lower() != "application/json":
        return "The body must be JSON, as Content-Type: application/json."
    if head.headers.get(b"content-encoding", b"identity").lower() != b"identity":
        return "The body must be sent as it is, in no Content-Encoding."
    return ""


def _malformed(body: bytes) -> tuple[int, str] | None:
    """JSON-RPC's code, and why a body is no JSON that every reader reads alike, or no request or notification of JSON-RPC's.

    The SDK judges both again. By the handshake it takes a request with an id that cannot be for a notification, which it says
    it has accepted, and tells of others in words of its own inside.
    """
    try:
        msgspec.json.decode(body)
        document = json.loads(body, object_pairs_hook=_unique)
    except (ValueError, RecursionError):  # msgspec's errors and those of decoding are ValueErrors.
        return -32700, "The body is not valid JSON, is nested too deeply, or has the same key twice in one object."
    if not isinstance(document, dict):
        return -32600, "The body must be one JSON-RPC request: no list of them, and nothing else."
    if document.get("jsonrpc") != "2.0":
        return -32600, 'The request is not of JSON-RPC 2.0: it must say "jsonrpc": "2.0".'
    if not isinstance(document.get("method"), str):
        return -32600, "The request names no method. Answers are not taken: this door asks nothing of its callers."
    if "id" in document and (not isinstance(document["id"], str | int) or isinstance(document["id"], bool)):
        return -32600, "The request's id must be a text or a whole number."
    if not isinstance(document.get("params", {}), dict):
        return -32600, "The request's params must be an object."
    return None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("the same key twice")
    return found


_UNCONFIRMED: Final = "The key or the configuration cannot be confirmed now: try again shortly."
_ALLOW: Final[Headers] = [(b"allow", b"POST")]
_CLOSE: Final[Headers] = [(b"connection", b"close")]


async def _refuse(
    send: Send, status: int, problem: str, extra: Sequence[tuple[bytes, bytes]] = (), code: int = -32600
) -> None:
    """An answer without a call: in JSON-RPC's form, for that is what clients show."""
    document = {"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": problem}}
    await _send(send, status, json.dumps(document).encode(), extra)


async def _send(send: Send, status: int, body: bytes, extra: Sequence[tuple[bytes, bytes]] = ()) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *extra]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
