"""The simulated PagerDuty, asked directly."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from integrations.pagerduty.sandbox.app import Sandbox
from integrations.pagerduty.sandbox.world import demo_from_email, demo_tokens

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
