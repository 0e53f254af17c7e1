"""The simulated PagerDuty, asked directly."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from integrations.pagerduty import tools
from integrations.pagerduty.sandbox.app import Sandbox
from integrations.pagerduty.sandbox.world import demo_from_email, demo_tokens
from integrations.pagerduty.tools.arguments import given

NOW = dt.datetime(2026, 11, 23, 12, tzinfo=dt.UTC)
TOKENS = demo_tokens(7)
Ask = Callable[..., httpx.Response]


@pytest.fixture
def sandbox() -> Sandbox:
    return Sandbox(7, NOW)


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    # One loop and one client for all calls of a test: some tests make thousands.
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture
def ask(sandbox: Sandbox, runner: asyncio.Runner) -> Ask:
    client = httpx.AsyncClient(transport=httpx.ASGITransport(sandbox), base_url="http://sandbox")

    def call(
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str = TOKENS["account"].value,
        sender: str = demo_from_email(7),
        auth: str = "Token token=",
        raw: bytes | None = None,
    ) -> httpx.Response:
        headers = {"Authorization": auth + token, **({"From": sender} if sender else {})}
        content = raw if raw is not None else None if body is None else json.dumps(body).encode()
        return runner.run(client.request(method, path, content=content, headers=headers))

    return call


@dataclass
class Used:
    """Tools used on the simulated PagerDuty, with nobody to decide or record in between."""

    call: Callable[..., Awaitable[httpx.Response]]
    runner: asyncio.Runner
    asked: list[tools.Ask] = field(default_factory=list)
    """Every operation that was asked for, in order."""
    failing: dict[str, tools.Told] = field(default_factory=dict)
    """Beginning of a path → what comes of asking for it."""

    def __call__(self, name: str, /, **arguments: Any) -> Any:
        """What a tool answers. Raises ``Wrong`` and ``Failed`` as it does."""
        tool, arguments = tools.told_apart(name, arguments)  # type: ignore[assignment]  # a name that is none fails here
        assert tool is not None
        return self.runner.run(tools.serve(tool, given(tool, arguments, NOW), self.run))

    async def run(self, ask: tools.Ask) -> tools.Told:
        self.asked.append(ask)
        for start, told in self.failing.items():
            if ask.path.startswith(start):
                return told
        query = f"?{urlencode(ask.query)}" if ask.query else ""
        found = await self.call(ask.method, f"{ask.path}{query}", ask.body)
        document = found.json() if found.content else None
        if found.status_code >= 400:
            return tools.Told(kind="refused", error={"problem": str(document), "status": found.status_code})
        return tools.Told(document)


@pytest.fixture
def use(sandbox: Sandbox, runner: asyncio.Runner) -> Used:
    client = httpx.AsyncClient(transport=httpx.ASGITransport(sandbox), base_url="http://sandbox")
    headers = {"Authorization": f"Token token={TOKENS['account'].value}", "From": demo_from_email(7)}

    async def call(method: str, path: str, body: Any = None) -> httpx.Response:
        content = None if body is None else json.dumps(body).encode()
        return await client.request(method, path, content=content, headers=headers)

    return Used(call, runner)
