"""The simulated account with a few answers altered, as an ASGI app: ``granian --factory tests.live.altered:make``."""

from __future__ import annotations

import json
from collections.abc import MutableMapping
from typing import Any

from integrations.pagerduty.sandbox.app import Receive, Sandbox, Scope, Send

SEED = 11
REFUSED = {"/standards": 402, "/audit/records": 403, "/business_services/impacts": 404, "/extension_schemas": 418}
"""Path → status that it is answered with."""


def altered(document: dict[str, Any]) -> None:
    """Each priority has a field that the sandbox does not know, lacks one that it knows, and has one of another type."""
    for priority in document["priorities"]:
        priority["shade"] = "of grey"
        del priority["summary"]
        priority["name"] = 1


def make() -> object:
    sandbox = Sandbox(SEED)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        sent: list[MutableMapping[str, Any]] = []

        async def keep(message: MutableMapping[str, Any]) -> None:
            sent.append(message)

        path = scope.get("path", "")
        if path not in ("/priorities", *REFUSED):
            await sandbox(scope, receive, send)
            return
        await sandbox(scope, receive, keep)
        start, answer = sent
        document = json.loads(answer["body"])
        if path == "/priorities":
            altered(document)
        else:
            start["status"], document = REFUSED[path], {"error": {"message": "Refused", "code": 2000}}
        body = json.dumps(document).encode()
        start["headers"] = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send(start)
        await send({"type": "http.response.body", "body": body})

    return app
