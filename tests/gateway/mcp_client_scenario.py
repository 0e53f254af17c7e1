"""The official MCP client, unmodified, doing an assistant's work. Run as a program: ``mcp_client_scenario.py URL KEY MODE``
prints JSON.

It is run with the newest version of the library and with the last of the first generation, each in its own environment. ``MODE``
is ``legacy`` (the handshake; the old library knows no other), ``auto`` (what the library does unasked) or a revision.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from importlib.metadata import version
from typing import Any

OLD = version("mcp").startswith("1.")


@contextlib.asynccontextmanager
async def connected(url: str, key: str, mode: str) -> AsyncIterator[tuple[Any, str]]:
    """A connected client, and the revision that it speaks with the server."""
    headers = {"Authorization": f"Bearer {key}"}
    http: Any  # One library for each generation.
    if OLD:
        import httpx
        from mcp import ClientSession
        from mcp.client.streamable_http import streamable_http_client

        http = httpx.AsyncClient(headers=headers, timeout=60)
        async with (
            http,
            streamable_http_client(url, http_client=http) as streams,
            ClientSession(*streams[:2]) as session,
        ):
            begun: Any = await session.initialize()
            yield session, begun.protocolVersion
    else:
        import httpx2
        from mcp.client.client import Client
        from mcp.client.streamable_http import streamable_http_client

        http = httpx2.AsyncClient(headers=headers, timeout=60)
        async with http, Client(streamable_http_client(url, http_client=http), mode=mode) as client:
            yield client, client.protocol_version


def told(result: Any) -> tuple[bool, Any]:
    """Whether a result is an error, and its one text, which is JSON."""
    document = result.model_dump(by_alias=True, mode="json")
    [content] = document["content"]
    assert content["type"] == "text"
    return document["isError"], json.loads(content["text"])


def causes(error: BaseException) -> list[str]:
    """What went wrong, however deep the library's task groups have wrapped it."""
    if isinstance(error, BaseExceptionGroup):
        return [text for inner in error.exceptions for text in causes(inner)]
    return [f"{type(error).__name__}: {error}"]


async def stranger(url: str, mode: str) -> list[str]:
    """What the library makes of a key that nobody issued."""
    try:
        async with asyncio.timeout(30), connected(url, "pwk_aaaaaaaa_nobody", mode) as (client, _):
            await client.list_tools()
    except Exception as error:
        return causes(error)
    raise AssertionError("it was let in")


async def main(url: str, key: str, mode: str) -> dict[str, Any]:
    done: dict[str, Any] = {"version": version("mcp")}
    async with connected(url, key, mode) as (client, revision):
        done["revision"] = revision
        listed = (await client.list_tools()).model_dump(by_alias=True, mode="json")
        done["tools"] = [tool["name"] for tool in listed["tools"]]
        seen: list[str] = []
        asked: dict[str, Any] = {"limit": 100, "sort_by": ["created_at:desc"]}
        pages = 0
        while True:
            error, page = told(await client.call_tool("list_incidents", asked))
            assert not error, page
            seen += [row["id"] for row in page["incidents"]]
            pages += 1
            if "more" not in page or pages == 3:
                break
            asked |= page["more"]
        done["pages"], done["seen"], done["unique"] = pages, len(seen), len(set(seen))
        got = await client.call_tool("get_incident", {"incident_id": seen[0]})
        done["got"] = seen[0] in json.dumps(told(got))
        done["decisions"] = (got.model_dump(by_alias=True, mode="json").get("_meta") or {})["pagewarden/decisions"]
        done["denied"] = told(await client.call_tool("resolve_incident", {"incident_id": seen[0]}))
        update = {"incident_id": seen[0], "title": "Another"}
        done["unapproved"] = told(await client.call_tool("update_incident", update))
        done["wrong"] = told(await client.call_tool("get_incident", {"incident_id": "'P1'"}))
        done["unknown"] = told(await client.call_tool("launch_rocket", {}))
    done["stranger"] = await stranger(url, mode)
    return done


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(*sys.argv[1:]))))
