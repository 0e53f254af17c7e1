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

import anyio
import msgspec
from django.conf import settings
from django.http.request import validate_host
from mcp.server.connection import Connection
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.lowlevel.server import Server
from mcp.server.runner import serve_one
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.dispatcher import CallOptions
from mcp.shared.exceptions import MCPError, NoBackChannelError
from mcp.shared.inbound import (
    ERROR_CODE_HTTP_STATUS,
    MCP_METHOD_HEADER,
    MCP_NAME_HEADER,
    MCP_PROTOCOL_VERSION_HEADER,
    InboundLadderRejection,
    classify_inbound_request,
)
from mcp.shared.jsonrpc_dispatcher import handler_exception_to_error_data
from mcp.shared.message import ServerMessageMetadata
from mcp.shared.transport_context import TransportContext
from mcp_types import (
    DEFAULT_NEGOTIATED_VERSION,
    INTERNAL_ERROR,
    CallToolRequestParams,
    ErrorData,
    PaginatedRequestParams,
)
from mcp_types.methods import validate_client_request
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, MODERN_PROTOCOL_VERSIONS

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
_STEADY: Final = frozenset({"tools/list", "tools/call"})
_VERSION_HEADER: Final = MCP_PROTOCOL_VERSION_HEADER.encode()
_ROUTING: Final = frozenset({_VERSION_HEADER, MCP_METHOD_HEADER.encode(), MCP_NAME_HEADER.encode()})
"""Headers in which a request says again what its body says."""
_TRANSPORT: Final = TransportContext(kind="streamable-http", can_send_request=False)
Context = ServerRequestContext[Any, Any]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request, as far as its head tells."""

    call: Call
    """What all of their calls have in common."""
    receive: Receive = field(repr=False)
    known: Known


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
        request = _request(body.content)
        if isinstance(request, tuple):
            await _refuse(send, 400, request[1], code=request[0])
            return
        caller = Caller(call, receive, known)
        if (connection := _connection(head, request)) is not None:
            await self._exchange(request, connection, caller, send)
            return
        state = {**scope.get("state", {}), "caller": caller}
        await self._manager.handle_request({**scope, "state": state}, _once(body.content, receive), send)

    async def _exchange(self, request: Mapping[str, Any], connection: Connection, caller: Caller, send: Send) -> None:
        """One request to the SDK's server and its answer, without the streams and tasks of the SDK's transport: for a single
        caller those cost more than all else that the door does."""
        exchange = _Exchange(request["id"], ServerMessageMetadata(request_context=caller))
        status = 200
        answer: dict[str, Any] = {"jsonrpc": "2.0", "id": request["id"]}
        try:
            answer["result"] = await serve_one(
                self._server,
                exchange,
                request["method"],
                request.get("params"),
                connection=connection,
                lifespan_state={},
            )
        except Exception as error:
            told = handler_exception_to_error_data(error)
            if told is None:
                log.exception("A request of MCP broke")
                told = ErrorData(code=INTERNAL_ERROR, message="The portal could not make an answer.")
            answer["error"] = told.model_dump(mode="json", exclude_none=True)
            if connection.protocol_version in MODERN_PROTOCOL_VERSIONS:
                status = ERROR_CODE_HTTP_STATUS.get(told.code, 200)
        await _send(send, status, msgspec.json.encode(answer))

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
        pipeline, at = runtime.current().pipeline, time.time()
        if pipeline.holds(caller.known, at):
            return caller.known
        known = await pipeline.known(dataclasses.replace(caller.call, at=at))
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
            return await (answered(pipeline, call, caller.receive, known) if writes else pipeline.run(call, known))

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
    if isinstance(context.request, Caller):
        return context.request
    caller: Caller = context.request.scope["state"]["caller"]
    return caller


@dataclass(slots=True)
class _Exchange:
    """What the SDK's server is told of a request that is answered once: on the way nothing can be sent to whoever asked."""

    request_id: str | int
    message_metadata: ServerMessageMetadata
    transport: TransportContext = _TRANSPORT
    can_send_request: bool = False
    cancel_requested: anyio.Event = field(default_factory=anyio.Event)

    async def send_raw_request(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> dict[str, Any]:
        raise NoBackChannelError(method)

    async def notify(self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None) -> None:
        pass

    async def progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        pass


def _connection(head: Head, request: Mapping[str, Any]) -> Connection | None:
    """What a request says of who sends it, where it is of a kind that comes all the time and nothing is amiss with it. None:
    it is for the SDK's transport, which also has the words for what is amiss."""
    asked, version = request.get("id"), head.text(_VERSION_HEADER)
    if not isinstance(asked, str) and not (isinstance(asked, int) and abs(asked) < 2**53):
        return None
    if request["method"] not in _STEADY or not _ROUTING.isdisjoint(head.repeated):
        return None
    if not _accepts_json(head.text(b"accept")):
        return None
    if _VERSION_HEADER not in head.headers or version in HANDSHAKE_PROTOCOL_VERSIONS:
        return Connection.from_envelope(version or DEFAULT_NEGOTIATED_VERSION, None, None)
    routing = {name.decode(): head.text(name) for name in _ROUTING if name in head.headers}
    found = classify_inbound_request(request, headers=routing)
    if isinstance(found, InboundLadderRejection):
        return None
    return Connection.from_envelope(found.protocol_version, found.client_info, found.client_capabilities)


@functools.lru_cache(maxsize=64)
def _accepts_json(accept: str) -> bool:
    kinds = {kind.partition(";")[0].strip().lower() for kind in accept.split(",")}
    return not kinds.isdisjoint({"application/json", "application/*", "*/*"})


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


def _request(body: bytes) -> dict[str, Any] | tuple[int, str]:
    """A request or notification of JSON-RPC's; or JSON-RPC's code, and why a body is none, or no JSON that every reader reads
    alike.

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
    return document


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
