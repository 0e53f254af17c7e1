"""How assistants are connected to the MCP door: a ready configuration for each client, and what tools cost a conversation."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings

from integrations.pagerduty.tools.definitions import tokens
from policies.core.call import Tool
from policies.models import AgentKey

REVISIONS = ("2026-07-28", "2025-11-25", "2025-06-18")
"""Revisions of MCP that the door speaks, the newest first."""
NAME = "pagewarden"
"""What a client calls the portal among its servers."""
VARIABLE = "PAGEWARDEN_KEY"
"""The environment variable that holds the key, where a client can read one."""


def mcp_url() -> str:
    return f"{settings.PUBLIC_URL}/mcp"


KEPT = "It holds the key: keep it out of version control."


@dataclass(frozen=True)
class Configuration:
    """What one client needs to reach the MCP door."""

    title: str
    where: str
    """What is done with the text: a command to run, or the file it goes into."""
    text: str = field(repr=False)
    """As it is pasted: a command, JSON, or lines to copy from."""
    key: str
    """How the key gets there, and what to do then. Here and in ``where``, what is typed stands between backticks."""


def configurations(secret: str | None = None) -> dict[str, Configuration]:
    """Client → its configuration, with this key in it. Without a key: with a place for it, and how it is filled."""
    url = mcp_url()

    def bearer(place: str) -> str:
        return f"Bearer {secret or place}"

    def key(without: str, given: str = KEPT) -> str:
        return without if secret is None else given

    bridge = "A client that only starts programs takes what Claude Desktop takes."
    # mcp-remote takes plain http from this machine alone, unless it is told.
    plain = ["--allow-http"] if url.startswith("http://") else []
    return {
        "claude-code": Configuration(
            "Claude Code",
            "Run this in a terminal. It holds for the project you are in; with `--scope user` for all of yours:",
            f'claude mcp add --transport http {NAME} {url} --header "Authorization: {bearer(f"${{{VARIABLE}}}")}"',
            key(
                f"First set the variable (bash, zsh): run `read -rs {VARIABLE}` in the same terminal, paste the key, Enter. "
                "Claude Code keeps the key in its own settings. Then `claude mcp list` shows whether it is connected.",
                "Your shell may keep this, with the key in it, in its history. Claude Code keeps the key in its own settings. "
                "Then `claude mcp list` shows whether it is connected.",
            ),
        ),
        "claude-desktop": Configuration(
            "Claude Desktop",
            "Goes into `claude_desktop_config.json` (Settings, Developer, Edit Config). Its own connectors take no key: the "
            "bridge `mcp-remote` does, with Node.js 18 or newer.",
            _json(
                {
                    "mcpServers": {
                        NAME: {
                            "command": "npx",
                            # No blank in an argument: on Windows it would be torn apart.
                            "args": [
                                "-y",
                                "mcp-remote",
                                url,
                                "--transport",
                                "http-only",
                                *plain,
                                "--header",
                                "Authorization:${PAGEWARDEN_AUTHORIZATION}",
                            ],
                            "env": {"PAGEWARDEN_AUTHORIZATION": bearer("PASTE_THE_KEY_HERE")},
                        }
                    }
                }
            ),
            key(
                "Claude Desktop passes no variable of yours on: put the key itself where it says `PASTE_THE_KEY_HERE`. Then quit "
                "Claude Desktop and start it again.",
                f"{KEPT} Then quit Claude Desktop and start it again.",
            ),
        ),
        "cursor": Configuration(
            "Cursor",
            "Goes into `~/.cursor/mcp.json`, or for one project into its `.cursor/mcp.json`:",
            _json(
                {
                    "mcpServers": {
                        NAME: {"url": url, "headers": {"Authorization": bearer(f"${{env:{VARIABLE}}}")}},
                    }
                }
            ),
            key(
                f"Set `{VARIABLE}` to the key in the environment that Cursor starts from; from a menu it may not see "
                "what only your shell sets. Then start Cursor again."
            ),
        ),
        "vscode": Configuration(
            "VS Code",
            "Goes into `.vscode/mcp.json` of a project; for all of yours, into what `MCP: Open User Configuration` opens:",
            _json(
                {
                    "inputs": [
                        {
                            "type": "promptString",
                            "id": f"{NAME}-key",
                            "description": "Pagewarden agent key",
                            "password": True,
                        }
                    ],
                    "servers": {
                        NAME: {
                            "type": "http",
                            "url": url,
                            "headers": {"Authorization": f"Bearer ${{input:{NAME}-key}}"},
                        }
                    },
                }
            ),
            "VS Code asks for the key when it first connects, and keeps it encrypted: it never stands in the file.",
        ),
        "generic": Configuration(
            "Any other client",
            "What a client needs that reaches an MCP server by its URL:",
            f"Transport: streamable HTTP\nURL: {url}\nHeader: Authorization: {bearer(f'${{{VARIABLE}}}')}\n"
            f"Protocol revisions: {', '.join(REVISIONS)}",
            key(
                f"Set `{VARIABLE}` to the key where the client reads variables; else put the key itself there. {bridge}",
                f"{KEPT} {bridge}",
            ),
        ),
    }


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2)


def about(tools: Iterable[Tool]) -> str:
    """What definitions of tools take from an assistant, such as "about 3,700 tokens"."""
    return f"about {round(tokens(tools), -2):,} tokens"


def unusable(key: AgentKey) -> str:
    """Why a key is of no use any more, in a sentence; empty: it can be used."""
    if key.revoked_at is not None:
        return f"The key {key.name} of {key.team.name} was revoked on {_day(key.revoked_at)}: its calls are refused."
    if key.expires_at is not None and not key.is_usable:
        return f"The key {key.name} of {key.team.name} expired on {_day(key.expires_at)}: its calls are refused."
    return ""


def _day(moment: dt.datetime) -> str:
    return f"{moment:%d %B %Y}".lstrip("0")
