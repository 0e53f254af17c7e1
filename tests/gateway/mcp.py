"""A bare MCP client for tests: one JSON-RPC request by HTTP, in the form of either era."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

MODERN, LEGACY = "2026-07-28", "2025-11-25"
META = "io.modelcontextprotocol/"


@dataclass(frozen=True)
class Used:
    """The result of one tool call."""

    content: Any
    is_error: bool
    decisions: list[str]
    text: str

    @property
    def error(self) -> dict[str, Any]:
        assert self.is_error, self.text
        error: dict[str, Any] = self.content["error"]
        return error


@dataclass(frozen=True)
class Mcp:
    """One agent key at one portal's MCP door."""

    url: str
    key: str
    version: str = MODERN

    def request(self, method: str, params: dict[str, Any] | None = None) -> urllib.request.Request:
        params = dict(params or {})
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": self.version,
            "Authorization": f"Bearer {self.key}",
        }
        if self.version == MODERN:
            headers["Mcp-Method"] = method
            if "name" in params:
                headers["Mcp-Name"] = params["name"]
            params["_meta"] = {
                f"{META}protocolVersion": self.version,
                f"{META}clientCapabilities": {},
                f"{META}clientInfo": {"name": "test", "version": "1"},
                **params.get("_meta", {}),
            }
        document = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        return urllib.request.Request(f"{self.url}/mcp", json.dumps(document).encode(), headers, method="POST")

    def send(self, method: str, params: dict[str, Any] | None = None) -> tuple[int, Any, dict[str, str]]:
        """Status, body as JSON, headers in lower case."""
        try:
            with urllib.request.urlopen(self.request(method, params), timeout=40) as answer:
                return answer.status, json.loads(answer.read()), {k.lower(): v for k, v in answer.headers.items()}
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read()), {k.lower(): v for k, v in error.headers.items()}

    def listed(self) -> dict[str, dict[str, Any]]:
        """Name → definition, in the order in which they come."""
        status, body, _ = self.send("tools/list")
        assert status == 200, body
        return {tool["name"]: tool for tool in body["result"]["tools"]}

    def use(self, name: str, /, meta: dict[str, Any] | None = None, **arguments: Any) -> Used:
        status, body, _ = self.send("tools/call", {"name": name, "arguments": arguments, "_meta": meta or {}})
        assert status == 200, body
        result = body["result"]
        text = result["content"][0]["text"]
        return Used(json.loads(text), result["isError"], result["_meta"]["pagewarden/decisions"], text)
