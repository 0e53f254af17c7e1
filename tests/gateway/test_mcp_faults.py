"""The MCP door in this process, with answers made up in PagerDuty's place: what cannot be timed or broken from outside."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import httpx
import pytest
from django.db.utils import OperationalError

from integrations.gateway import runtime as runtimes
from integrations.gateway.integration import Connection, Reply, Request
from integrations.gateway.mcp import McpDoor
from integrations.gateway.pipeline import IDEMPOTENCY_KEY
from integrations.gateway.runtime import Runtime
from integrations.pagerduty.catalog import TOOLS
from policies.actions import do_set_reads_go_on, do_set_tools
from policies.core.call import State
from policies.models import Entry
from tests.conftest import Cast
from tests.gateway.mcp import LEGACY, MODERN, Mcp
from tests.gateway.test_pipeline import FINE, JSON, MadeUp, Setting

pytestmark = pytest.mark.django_db(transaction=True)
BOTH = pytest.mark.parametrize("version", [MODERN, LEGACY])
OVERRIDE: dict[str, Any] = {
    "schedule_id": "PSCH000",
    "user_id": "PUSR000",
    "start": "2099-01-01T09:00Z",
    "end": "2099-01-01T11:00Z",
}


class Answering(MadeUp):
    """PagerDuty as these answers: by method, or to whatever is asked."""

    answers: ClassVar[dict[str, Reply]] = {}
    seconds = 0.0

    async def _made_up(self, connection: Connection, request: Request, deadline: float, sealed: bytes) -> Reply:
        self.sent.append(request)
        await asyncio.sleep(self.seconds)
        return self.answers.get(request.method, FINE)


@pytest.fixture
def setting(cast: Cast) -> Iterator[Setting]:
    setting = Setting(cast)
    states = dict.fromkeys(("create_schedule_override", "add_note_to_incident"), State.ON)
    do_set_tools(cast.payments, states=states, tools=TOOLS, by=cast.ada)
    setting.made_up = Answering
    yield setting
    Answering.answers, Answering.seconds = {}, 0.0


@dataclass(frozen=True)
class Line:
    """The door, with its runtime, and a client of it."""

    started: Runtime
    client: httpx.AsyncClient
    key: str
    version: str

    @property
    def sent(self) -> list[Request]:
        found: list[Request] = self.started.pipeline.integration.sent  # type: ignore[attr-defined]  # MadeUp's
        return found

    async def send(self, method: str, params: dict[str, Any] | None = None, key: str = "") -> tuple[int, Any]:
        request = Mcp("http://127.0.0.1", key or self.key, self.version).request(method, params)
        assert isinstance(request.data, bytes)
        headers = dict(request.header_items())
        found = await self.client.post(request.full_url, content=request.data, headers=headers)
        return found.status_code, found.json()

    async def use(self, name: str, meta: dict[str, Any] | None = None, **arguments: Any) -> dict[str, Any]:
        """What a tool answers, and its decisions."""
        status, body = await self.send("tools/call", {"name": name, "arguments": arguments, "_meta": meta or {}})
        assert status == 200, body
        assert "result" in body, body
        found: dict[str, Any] = json.loads(body["result"]["content"][0]["text"])
        return {**found, "decisions": body["result"]["_meta"]["pagewarden/decisions"]}


@asynccontextmanager
async def line(setting: Setting, version: str = MODERN) -> AsyncIterator[Line]:
    async with setting.running() as started:
        runtimes.install(started)
        try:
            door = McpDoor()
            async with door.lifespan(), httpx.AsyncClient(transport=httpx.ASGITransport(door)) as client:
                yield Line(started, client, setting.secret, version)
        finally:
            runtimes.install(None)


def answer(status: int, document: Any) -> Reply:
    return Reply(status, JSON, json.dumps(document).encode())


@BOTH
def test_an_answer_that_no_tool_understands_is_told_as_such_and_nothing_of_it_leaks(
    setting: Setting, version: str
) -> None:
    entries = [{"start": "secret words", "end": "", "user": {"id": "P"}}]
    Answering.answers = {"GET": answer(200, {"schedule": {"final_schedule": {"rendered_schedule_entries": entries}}})}

    async def scenario() -> dict[str, Any]:
        async with line(setting, version) as door:
            return await door.use("get_schedule", schedule_id="PSCH000")

    found = asyncio.run(scenario())
    assert found["error"]["kind"] == "failed"
    assert found["error"]["remedy"]
    assert len(found["decisions"]) == 1
    assert "secret" not in json.dumps(found)


@BOTH
def test_a_write_whose_answer_is_not_understood_is_never_told_as_not_done(setting: Setting, version: str) -> None:
    Answering.answers = {"GET": answer(200, {"schedule": {"id": "PSCH000"}}), "POST": answer(201, [{"status": 201}])}

    async def scenario() -> dict[str, Any]:
        async with line(setting, version) as door:
            return await door.use("create_schedule_override", **OVERRIDE)

    found = asyncio.run(scenario())
    assert found["error"]["kind"] == "unknown"
    assert "Look at PagerDuty" in found["error"]["remedy"]
    assert found["error"]["decision_id"] == found["decisions"][-1]


@BOTH
def test_no_further_operation_is_begun_when_the_time_of_a_use_is_up(
    setting: Setting, settings: Any, version: str
) -> None:
    settings.CALL_TIME_LIMIT, Answering.seconds = 1.0, 0.6
    Answering.answers = {"GET": answer(200, {"schedules": [{"id": "PSCH000", "name": "primary"}], "schedule": {}})}
    names = ("primary", "PSCH000")
    overriding = [{**OVERRIDE, "schedule_id": name} for name in names]

    async def scenario() -> list[tuple[dict[str, Any], list[str]]]:
        async with line(setting, version) as door:
            found = []
            for arguments in overriding:
                before = len(door.sent)
                told = await door.use("create_schedule_override", **arguments)
                found.append((told, [request.method for request in door.sent[before:]]))
            return found

    # By its name it is looked for in two lists at once, then read, and then it is too late to write.
    [(told, sent), (_, by_id)] = asyncio.run(scenario())
    assert told["error"]["kind"] == "failed"
    assert "is up" in told["error"]["problem"]
    assert sent == ["GET"] * 3
    assert by_id == ["GET", "POST"]


@BOTH
def test_a_stranger_is_a_stranger_while_the_configuration_cannot_be_confirmed(
    setting: Setting, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    do_set_reads_go_on(by=setting.cast.ada, on=True, reason="people on call need to see")

    async def scenario() -> list[tuple[int, Any]]:
        async with line(setting, version) as door:
            monkeypatch.setattr(runtimes, "current_version", gone)
            await asyncio.sleep(1.2)
            told = [await door.send(method, {}, "pwk_aaaaaaaa_" + "b" * 32) for method in ("tools/list", "ping")]
            told.append(await door.send("tools/list"))
            door.started.watch._confirmed = time.monotonic() - 10_000  # reads have gone on for as long as was chosen
            told.append(await door.send("tools/list"))
            return told

    told = asyncio.run(scenario())
    assert [status for status, _ in told] == [401, 401, 200, 503]
    assert told[3][1]["error"]["message"]


def gone(*_: object) -> Any:
    raise OperationalError("the server closed the connection")


def test_what_became_of_a_write_is_told_in_the_words_of_this_door(setting: Setting) -> None:
    Answering.answers = {"POST": answer(500, {})}
    note: dict[str, Any] = {"incident_id": "PI0003OT", "note": "Looked."}

    async def scenario() -> list[dict[str, Any]]:
        async with line(setting) as door:
            keyed = {IDEMPOTENCY_KEY: "a"}
            return [
                *[await door.use("add_note_to_incident", keyed, **note) for _ in range(2)],
                await door.use("add_note_to_incident", keyed, **{**note, "note": "Another."}),
                *[await door.use("add_note_to_incident", **{**note, "note": "Unnamed."}) for _ in range(2)],
            ]

    _, again, other, _, unnamed = asyncio.run(scenario())
    assert again["error"]["kind"] == "unknown"
    assert IDEMPOTENCY_KEY in again["error"]["remedy"]
    assert IDEMPOTENCY_KEY in other["error"]["problem"]
    assert unnamed["error"]["kind"] == "unknown"
    assert unnamed["error"]["remedy"].endswith("To have it sent again, wait 60 seconds.")


def test_of_arguments_that_are_not_sent_an_entry_keeps_no_word(setting: Setting) -> None:
    async def scenario() -> dict[str, Any]:
        async with line(setting) as door:
            return await door.use("list_services", query="Jane Doe of the bank", limit=10_000)

    found = asyncio.run(scenario())
    assert found["error"]["kind"] == "invalid"
    [entry] = Entry.objects.filter(decision_id=found["decisions"][0])
    assert "Jane" not in entry.record
    assert "bank" not in entry.record
