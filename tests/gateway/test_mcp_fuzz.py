"""Hostile input at the MCP door: each request gets the error that the specification has for it, each attempted call its entries,
and no other request any."""

from __future__ import annotations

import base64
import http.client
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from integrations.pagerduty.catalog import TOOLS
from integrations.pagerduty.sandbox.world import demo_from_email, demo_tokens
from tests.gateway.mcp import LEGACY, META, MODERN, Mcp
from tests.gateway.processes import Portal, free_port, running

BOTH = pytest.mark.parametrize("version", [MODERN, LEGACY])
INTERNAL = re.compile(
    r"Traceback|File \"|pydantic|validation error|Exception|integrations\.|mcp\.server|site-packages|sqlite|<class",
    re.I,
)
"""What no answer and no line of the log may say."""
ENVELOPE = {f"{META}protocolVersion": MODERN, f"{META}clientCapabilities": {}}
CALL = {"name": "list_incidents", "arguments": {"limit": 1}}


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Portal]:
    """In front of the simulated account, with every tool on."""
    port = free_port()
    with running("-m", "integrations.pagerduty.sandbox", "--port", str(port), "--seed", "7", port=port):
        made = Portal(tmp_path_factory.mktemp("portal"), f"http://127.0.0.1:{port}", {"REQUEST_BODY_LIMIT": "300000"})
        try:
            states = dict.fromkeys(TOOLS, "on") | {"resolve_incident": "off", "delete_schedule_override": "off"}
            made.seed(token=demo_tokens(7)["account"].value, states=states, from_email=demo_from_email(7))
            made.start()
            yield made
        finally:
            made.close()


def post(
    portal: Portal,
    body: bytes,
    version: str = MODERN,
    headers: dict[str, str | None] | None = None,
    method: str = "POST",
    names: tuple[str, str] = ("tools/call", "list_incidents"),
) -> tuple[int, bytes, dict[str, str]]:
    """Status, body and headers. ``headers`` replace those of a good request, None leaves one out."""
    good: dict[str, str | None] = {
        "Host": f"127.0.0.1:{portal.port}",
        "Authorization": f"Bearer {portal.seeded['key']}",
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": version,
        **({"Mcp-Method": names[0], "Mcp-Name": names[1] or None} if version == MODERN else {}),
    }
    sent = {name: value for name, value in (good | (headers or {})).items() if value is not None}
    connection = http.client.HTTPConnection("127.0.0.1", portal.port, timeout=30)
    try:
        connection.request(method, "/mcp", body=body or None, headers=sent)
        answer = connection.getresponse()
        raw = answer.read()
    finally:
        connection.close()
    assert not INTERNAL.search(raw.decode()), raw
    return answer.status, raw, {name.lower(): value for name, value in answer.getheaders()}


def request(params: Any = CALL, method: Any = "tools/call", **more: Any) -> dict[str, Any]:
    """A request with the envelope of the newest revision, which the other takes for what it does not know."""
    if isinstance(params, dict):
        params = {"_meta": ENVELOPE, **params}
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params, **more}


def written(params: Any = CALL, **more: Any) -> bytes:
    return json.dumps(request(params, **more)).encode("utf-8", "surrogatepass")


def with_arguments(text: str) -> bytes:
    """A call whose arguments are this text."""
    return written({"name": "list_incidents", "arguments": "HERE"}).replace(
        b'"HERE"', text.encode("utf-8", "surrogatepass")
    )


def code_of(raw: bytes) -> int:
    """The code of an error of JSON-RPC's, which says something."""
    document = json.loads(raw)
    assert document["jsonrpc"] == "2.0"
    assert document["error"]["message"]
    assert "result" not in document
    code: int = document["error"]["code"]
    return code


def uses(portal: Portal) -> dict[str, set[str]]:
    """Each use of a tool on record → the decisions of its entries."""
    found: dict[str, set[str]] = {}
    for entry in portal.entries(record__contains='"use"'):
        found.setdefault(entry["record"]["details"]["use"]["id"], set()).add(entry["decision_id"])
    return found


def number_of_entries(portal: Portal) -> int:
    """All that a caller's doing put on record. Strangers' refusals are counted by the minute, in rows without a decision."""
    return len(portal.entries(kind__in=["intent", "result"]))


UNREADABLE = {
    "nothing": b"",
    "no JSON": b"jsonrpc=2.0",
    "no UTF-8": b"\xff\xfe\x00",
    "a byte order mark": b"\xef\xbb\xbf" + written(),
    "another encoding": written().decode().encode("utf-16"),
    "cut off": written()[:-3],
    "more than one": written() + written(),
    "nested too deep": with_arguments("[" * 20_000 + "]" * 20_000),
    "never closed": b'{"jsonrpc":' + b"[" * 100_000,
    "a key twice": with_arguments('{"limit":1,"limit":2}'),
    "the tool twice": written().replace(b'"name":', b'"name":"resolve_incident","name":'),
    "the method twice": written()[:-1] + b',"method":"tools/list"}',
    "half a surrogate pair": with_arguments('{"statuses":["\\ud800"]}'),
    "half a pair in a name": written({"name": "\ud800", "arguments": {}}),
    "a surrogate in bytes": with_arguments('{"statuses":["\ud800"]}'),
    "half a pair in the id": written(id="\udfff"),
    "no number of JSON's": with_arguments('{"limit":NaN}'),
    "infinity": with_arguments('{"limit":-Infinity}'),
    "a number too large": with_arguments('{"limit":1e400}'),
    "too many digits": with_arguments('{"limit":1%s}' % ("0" * 5_000)),
}
NO_REQUEST: dict[str, Any] = {
    "a batch": [request()],
    "an empty batch": [],
    "a batch of batches": [[request()], [request()]],
    "null": None,
    "a number": 7,
    "a text": "tools/call",
    "no version": {key: value for key, value in request().items() if key != "jsonrpc"},
    "another version": request(jsonrpc="1.0"),
    "a version that is a number": request(jsonrpc=2.0),
    "no method": {"jsonrpc": "2.0", "id": 1},
    "a method that is a number": request(method=5),
    "a method that is null": request(method=None),
    "an id of null": request(id=None),
    "an id that is no whole number": request(id=1.5),
    "an id of true": request(id=True),
    "an id that is an object": request(id={}),
    "an id that is a list": request(id=[1]),
    "params in a list": request([1, 2]),
    "params that are a text": request("limit=1"),
    "params of null": request(None),
    "an answer": {"jsonrpc": "2.0", "id": 1, "result": {}},
    "an error": {"jsonrpc": "2.0", "id": 1, "error": {"code": 1, "message": "x"}},
    "an answer that is none": {"jsonrpc": "2.0", "id": 1, "result": 5},
}


@BOTH
def test_what_is_no_request_gets_a_400_with_its_code_and_no_entry(portal: Portal, version: str) -> None:
    before = number_of_entries(portal)
    for what, body in UNREADABLE.items():
        status, raw, _ = post(portal, body, version)
        assert (status, code_of(raw)) == (400, -32700), what
    for what, document in NO_REQUEST.items():
        status, raw, _ = post(portal, json.dumps(document).encode(), version)
        assert (status, code_of(raw)) == (400, -32600), what
    status, raw, _ = post(portal, with_arguments('{"statuses":["%s"]}' % ("x" * 400_000)), version)
    assert (status, code_of(raw)) == (413, -32600)
    assert number_of_entries(portal) == before


WRONG_PARAMS: dict[str, Any] = {
    "no tool": {"arguments": {}},
    "arguments in a list": {**CALL, "arguments": [1]},
    "arguments that are a text": {**CALL, "arguments": "limit=1"},
    "arguments of true": {**CALL, "arguments": True},
}


@BOTH
def test_params_that_are_no_tool_call_are_invalid_and_leave_no_entry(portal: Portal, version: str) -> None:
    before = number_of_entries(portal)
    for what, params in WRONG_PARAMS.items():
        names = ("tools/call", params.get("name", ""))
        status, raw, _ = post(portal, written(params), version, names=names)
        assert (status, code_of(raw)) == (400 if version == MODERN else 200, -32602), what
    nameless: tuple[Any, ...] = (5, None, ["list_incidents"], {})
    for name in nameless:
        status, raw, _ = post(portal, written({"name": name, "arguments": {}}), version)
        # By the newest revision the header is compared first.
        expected = {(400, -32020), (400, -32602)} if version == MODERN else {(200, -32602)}
        assert (status, code_of(raw)) in expected, name
    assert number_of_entries(portal) == before


@BOTH
def test_a_list_is_judged_though_its_answer_is_made_already(portal: Portal, version: str) -> None:
    before = number_of_entries(portal)
    names = ("tools/list", "")
    first, again = (post(portal, written({}, method="tools/list"), version, names=names) for _ in range(2))
    assert (first[0], first[1]) == (200, again[1])
    wrong: tuple[Any, ...] = ({"cursor": 5}, {"cursor": []}, {"_meta": {**ENVELOPE, "progressToken": {}}})
    for params in wrong:
        status, raw, _ = post(portal, written(params, method="tools/list"), version, names=names)
        assert (status, code_of(raw)) == (400 if version == MODERN else 200, -32602), params
    assert number_of_entries(portal) == before


UNSERVED = (
    *("resources/list", "resources/templates/list", "prompts/list", "sampling/createMessage", "elicitation/create"),
    *(
        "roots/list",
        "tasks/get",
        "tasks/list",
        "rpc.discover",
        "tools/callx",
        "TOOLS/CALL",
        "",
        "x" * 5_000,
        "../tools/call",
    ),
)
WITH_PARAMS = ("resources/read", "prompts/get", "completion/complete", "logging/setLevel", "resources/subscribe")
"""Not served either; of their params the SDK is the judge before it looks whether anybody serves them."""


@BOTH
def test_methods_that_are_not_served_are_said_to_be_not_there(portal: Portal, version: str) -> None:
    before = number_of_entries(portal)
    for method in UNSERVED:
        if method == "x" * 5_000 and version == MODERN:
            continue  # Its header would be as long.
        status, raw, _ = post(portal, written({}, method=method), version, names=(method, ""))
        assert (status, code_of(raw)) == (404 if version == MODERN else 200, -32601), method
    for method in WITH_PARAMS:
        status, raw, _ = post(portal, written({}, method=method), version, names=(method, ""))
        assert code_of(raw) in (-32601, -32602), method
        assert status in ((400, 404) if version == MODERN else (200,)), method
    # What one era alone has is not there in the other.
    for method, era in (("server/discover", MODERN), ("ping", LEGACY)):
        status, raw, _ = post(portal, written({}, method=method), version, names=(method, ""))
        assert (status == 200 and "result" in json.loads(raw)) is (version == era), method
    # A notification is taken and acts on nothing, were it one of a call.
    for method in ("notifications/cancelled", "notifications/initialized", "notifications/x", "tools/call"):
        body = json.dumps({"jsonrpc": "2.0", "method": method, "params": {**CALL, "requestId": 1}}).encode()
        assert post(portal, body, version)[:2] == (202, b""), method
    assert number_of_entries(portal) == before


def test_headers_that_are_missing_or_disagree_with_the_body_end_the_request(portal: Portal) -> None:
    before = number_of_entries(portal)
    headers: dict[str, tuple[dict[str, str | None], int, int]] = {
        "no method": ({"Mcp-Method": None}, 400, -32020),
        "another method": ({"Mcp-Method": "tools/list"}, 400, -32020),
        "no name": ({"Mcp-Name": None}, 400, -32020),
        "another name": ({"Mcp-Name": "resolve_incident"}, 400, -32020),
        "a name that cannot be read": ({"Mcp-Name": "=?base64?%%%?="}, 400, -32020),
        "another revision": ({"MCP-Protocol-Version": "2099-01-01"}, 400, -32020),
        "no revision at all": ({"MCP-Protocol-Version": "latest"}, 400, -32020),
    }
    for what, (replaced, status, code) in headers.items():
        answer = post(portal, written(), MODERN, replaced)
        assert (answer[0], code_of(answer[1])) == (status, code), what
    partly: tuple[Any, ...] = ({}, {f"{META}protocolVersion": MODERN}, {f"{META}clientCapabilities": {}}, [], "x", None)
    for meta in partly:
        body = json.dumps({**request(), "params": {**CALL, "_meta": meta}}).encode()
        status, raw, _ = post(portal, body)
        assert (status, code_of(raw)) == (400, -32602), meta
    body = json.dumps({**request(), "params": CALL}).encode()
    assert (post(portal, body)[0], code_of(post(portal, body)[1])) == (400, -32602)
    for unknown in ("2099-01-01", "", "2026-07-28 "):
        envelope = {**ENVELOPE, f"{META}protocolVersion": unknown}
        body = json.dumps({**request(), "params": {**CALL, "_meta": envelope}}).encode()
        status, raw, _ = post(portal, body, headers={"MCP-Protocol-Version": unknown.strip() or "x"})
        assert (status, code_of(raw) in (-32020, -32022)) == (400, True), unknown
    assert number_of_entries(portal) == before


@BOTH
def test_bodies_and_answers_of_another_kind_are_refused(portal: Portal, version: str) -> None:
    before = number_of_entries(portal)
    for kind in (
        None,
        "text/plain",
        "text/html; application/json",
        "application/jsonp",
        "multipart/form-data",
        "x" * 300,
    ):
        assert post(portal, written(), version, {"Content-Type": kind})[0] == 415, kind
    for encoding in ("gzip", "br", "identity, gzip", "x"):
        assert post(portal, written(), version, {"Content-Encoding": encoding})[0] == 415, encoding
    for accept in (None, "text/event-stream", "text/html", "x"):
        assert post(portal, written(), version, {"Accept": accept})[0] == 406, accept
    for method in ("GET", "DELETE", "PUT", "HEAD", "OPTIONS", "PATCH", "TRACE"):
        status, _, headers = post(portal, b"", version, method=method)
        assert (status, headers["allow"]) == (405, "POST"), method
        assert post(portal, b"", version, {"Authorization": None}, method=method)[0] == 401, method
    for authorization in (None, "", "Bearer", "Bearer x", "Basic YTpi", f"Bearer {portal.seeded['key']}x"):
        status, raw, headers = post(portal, written(), version, {"Authorization": authorization})
        assert (status, code_of(raw), "www-authenticate" in headers) == (401, -32001, True), authorization
    assert number_of_entries(portal) == before
    for kind in ("application/json", "application/json; charset=utf-8", "application/json;"):
        assert post(portal, written(), version, {"Content-Type": kind, "Accept": "*/*"})[0] == 200, kind


OWN_HOSTS = ("localhost", "127.0.0.1", "[::1]", "LocalHost:80", "127.0.0.1:1", "[::1]:65535")
FOREIGN_HOSTS = (
    *("evil.example", "evil.example:8000", "127.0.0.1.nip.io", "localhost.evil.example", "evil.example.localhost"),
    *(
        "[::::]",
        "[1]",
        "[abc]:80",
        "127.0.0.2",
        "127.1",
        "2130706433",
        "0x7f000001",
        "[::]",
        "[::ffff:127.0.0.1]",
        "::1",
        "localhost.",
    ),
    *(
        "localhost:",
        "localhost:port",
        "user@localhost",
        "localhost, evil.example",
        "[::1",
        "localhost/",
        "-",
        "xn--loclhost-4ya",
    ),
)
FOREIGN_ORIGINS = (
    *(
        "null",
        "",
        "file://",
        "http://",
        "ftp://localhost",
        "chrome-extension://localhost",
        "http://localhost@evil.example",
    ),
    *("http://localhost/path", "http://localhost http://evil.example", "localhost", "//localhost"),
)


def test_pages_and_names_of_others_are_kept_out_before_the_key_is_looked_at(portal: Portal) -> None:
    before = number_of_entries(portal)
    for name in FOREIGN_HOSTS:
        for key in (f"Bearer {portal.seeded['key']}", "Bearer x"):
            assert post(portal, written(), headers={"Host": name, "Authorization": key})[0] == 421, name
        assert post(portal, written(), headers={"Origin": f"http://{name}"})[0] == 403, name
    for origin in FOREIGN_ORIGINS:
        assert post(portal, written(), headers={"Origin": origin})[0] == 403, origin
    assert number_of_entries(portal) == before
    for name in OWN_HOSTS:
        for scheme in ("http", "https"):
            assert post(portal, written(), headers={"Host": name, "Origin": f"{scheme}://{name}"})[0] == 200, name


NASTY = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([10**400, -(10**400), 2**63, 2**64, 0, -1, 1.5, -0.0, 1e308]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    st.sampled_from(
        [
            *(
                "",
                " ",
                "\0",
                "a\0b",
                "\u202eabc",
                "\ufeff",
                "'PSVC00A'",
                "../../users/me",
                "PSVC00A/../x",
                "%2e%2e%2f",
                "*",
                "?x=1",
            ),
            *(
                "PSVC00A",
                "PTEAM00",
                "PSCHED0",
                "2026-11-01",
                "9999-12-31T23:59:59Z",
                "0001-01-01T00:00:00+14:00",
                "x" * 5_000,
            ),
            *(
                "Europe/London",
                "../../etc/passwd",
                "full",
                "slim",
                "{{7*7}}",
                "<script>",
                "incident; DROP TABLE",
                "\r\nX: y",
            ),
        ]
    ),
    st.recursive(
        st.one_of(st.none(), st.integers(), st.text(st.characters(exclude_categories=["Cs"]), max_size=5)),
        lambda inner: st.one_of(
            st.lists(inner, max_size=4), st.dictionaries(st.text("abc_", max_size=4), inner, max_size=4)
        ),
        max_leaves=6,
    ),
)


def arguments_of(name: str) -> st.SearchStrategy[dict[str, Any]]:
    """Arguments of a tool, some of them as it says that it takes them, some of them anything."""
    properties = TOOLS[name].input_schema["properties"]
    required = set(TOOLS[name].input_schema["required"])
    like = {
        "integer": st.integers(1, 30),
        "boolean": st.booleans(),
        "string": st.sampled_from(["PSVC00A", "PT4KHLK", "2026-11-20T00:00:00Z", "checkout"]),
        "array": st.lists(st.sampled_from(["PSVC00A", "triggered", "x"]), max_size=3),
    }
    right = {
        key: st.sampled_from(schema["enum"])
        if "enum" in schema and schema["type"] == "string"
        else like[schema["type"]]
        for key, schema in properties.items()
    }
    valid = st.fixed_dictionaries(
        {key: value for key, value in right.items() if key in required},
        optional={key: value for key, value in right.items() if key not in required},
    )
    anything = st.dictionaries(
        st.sampled_from([*properties, "detail", "time_zone", "x", "__class__", "a.b", "limit[]"]), NASTY, max_size=4
    )
    return st.builds(lambda first, second: {**first, **second}, valid, st.one_of(st.just({}), anything))


@pytest.mark.parametrize("name", TOOLS)
def test_whatever_a_tool_is_given_it_answers_and_each_use_is_on_record(portal: Portal, name: str) -> None:
    answered: list[list[str]] = []
    [(last,)] = portal.query("SELECT MAX(id) FROM policies_entry")

    @settings(max_examples=4, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(arguments_of(name), st.sampled_from([MODERN, LEGACY]))
    def use(arguments: dict[str, Any], version: str) -> None:
        body = written({"name": name, "arguments": arguments})
        status, raw, _ = post(portal, body, version, names=("tools/call", name))
        assert status == 200, raw
        result = json.loads(raw)["result"]
        [content] = result["content"]
        said = json.loads(content["text"])
        assert result["isError"] is ("error" in said and "problem" in said["error"]), said
        if result["isError"]:
            assert said["error"]["remedy"], said
            assert said["error"]["kind"] in ("denied", "invalid", "refused", "failed", "unknown"), said
        answered.append(result["_meta"]["pagewarden/decisions"])

    use()
    found: dict[str, set[str]] = {}
    for (record,) in portal.query("SELECT record FROM policies_entry WHERE id > ?", (last,)):
        entry = json.loads(record)
        if "use" in entry.get("details", {}):
            found.setdefault(entry["details"]["use"]["id"], set()).add(entry["decision_id"])
    assert all(answered)
    assert sorted(map(sorted, found.values())) == sorted(sorted(set(decisions)) for decisions in answered)


@BOTH
def test_a_call_of_no_tool_is_on_record_once(portal: Portal, version: str) -> None:
    before = uses(portal)
    names = (
        "launch_rocket",
        "",
        " ",
        "x" * 3_000,
        "LIST_INCIDENTS",
        "list_incidents\x00",
        "../list_incidents",
        "résumé",
    )
    for name in names:
        # A header holds no such name as it is: those are sent as the specification says.
        plain = name.isascii() and name.isprintable() and name == name.strip()
        header = name if plain else f"=?base64?{base64.b64encode(name.encode()).decode()}?="
        status, raw, _ = post(portal, written({"name": name, "arguments": {}}), version, {"Mcp-Name": header})
        assert (status, json.loads(raw)["result"]["isError"]) == (200, True), name
    after = uses(portal)
    assert len(after) - len(before) == len(names)
    assert all(len(decisions) == 1 for use, decisions in after.items() if use not in before)


def test_the_server_lives_and_its_log_and_journal_are_clean(portal: Portal) -> None:
    assert Mcp(portal.url, portal.seeded["key"]).use("list_incidents", limit=1).content["count"] == 1
    log = portal.log()
    assert not INTERNAL.search(log), INTERNAL.search(log)
    for secret in (portal.seeded["key"], demo_tokens(7)["account"].value):
        assert secret not in log
    assert portal.manage("verify_audit").stdout.startswith("Intact")
