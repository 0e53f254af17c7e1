"""Masks what an answer gives away of people and secrets: by field, wherever it appears."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from integrations.gateway.integration import Request
from integrations.pagerduty.catalog import MASKED

SECRETS: Final = frozenset(
    {
        "http_cal_url",
        "web_cal_url",
        "personal_http_cal_url",
        "personal_web_cal_url",
        "private_url",
        "raw_url",
        "routing_key",
        "integration_key",
        "integration_email",
        "service_key",
        "secret",
        "token",
        "access_token",
        "api_key",
        "password",
    }
)
"""Fields whose value is a secret, or a URL or an e-mail address that is one: it lets whoever knows it raise incidents."""
ADDRESSES: Final = frozenset({"address", "phone_number", "conference_number", "conferenceAddress"})
"""Fields that hold a phone number or an e-mail address of a contact method, a notification or a conference."""
VALUES: Final = ("value", "before_value")
"""Where an audit record's changed field, which says its ``name``, holds what it was and is; and an input its value."""
HEADERS: Final = frozenset({"custom_headers", "headers"})
"""What a webhook or an orchestration's action sends along, often a credential of whom it calls."""
INPUTS: Final = HEADERS | {"inputs", "parameters"}
"""Lists of names with values that somebody typed: of headers, of a workflow's steps, of an orchestration's actions."""
ENDPOINTS: Final = frozenset({"delivery_method", "automation_actions"})
"""Objects whose ``url`` may be a secret: who knows the address of a chat's hook can post there."""
_NAMED: Final = SECRETS | ADDRESSES | {"email"}
SHOWN: Final = 2
"""Characters at the end of an address that stay, to tell two apart."""
MASKED_WHOLE: Final = "[masked]"
_HOST: Final = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#@\s]+", re.IGNORECASE)


def masks(operation_id: str, request: Request) -> bool:
    """Whether an answer is looked through: of operations that may show addresses or secrets, of every write (its answer is
    small), and of whatever ``include[]`` can put whole people into. The rest passes as bytes."""
    return operation_id in MASKED or not request.reads or "include" in request.query


def mask(body: bytes) -> bytes:
    """``body`` with addresses and secrets masked.

    Raises:
        ValueError: it is not JSON; then it must not be shown.
    """
    if not body:
        return body
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ValueError("not JSON") from error
    if not _mask(document):
        return body
    return msgspec.json.encode(document)


def _mask(root: Any) -> bool:
    """Mask in place; whether anything was."""
    changed = False
    stack: list[tuple[str, Any]] = [("", root)]
    while stack:
        under, node = stack.pop()
        if isinstance(node, list):
            stack.extend((under, item) for item in node if isinstance(item, dict | list))
        elif isinstance(node, dict):
            for key, value in node.items():
                shown = _shown(under, node, key, value) if value else value
                if shown is not value:
                    node[key] = shown
                    changed = True
                elif isinstance(value, dict | list):
                    stack.append((key, value))
    return changed


def _shown(under: str, node: dict[str, Any], key: str, value: Any) -> Any:
    """What is shown of ``node[key]``, where ``node`` stands under ``under``: ``value`` itself where nothing is to be masked."""
    if key in SECRETS:
        return MASKED_WHOLE
    if key in ADDRESSES:
        return _ending(value)
    if key in VALUES and ((under in INPUTS and isinstance(value, str)) or _names_a_secret(node.get("name"))):
        return MASKED_WHOLE
    if key in HEADERS and isinstance(value, dict):
        return dict.fromkeys(value, MASKED_WHOLE)
    if not isinstance(value, str):
        return value
    if key == "conference_url" or (key == "url" and under in ENDPOINTS):
        host = _HOST.match(value)
        return f"{host[0]}/{MASKED_WHOLE}" if host else MASKED_WHOLE
    kind = node.get("type")
    if key in ("summary", "label"):
        # A contact method's own summary is a label that people type, often the number itself.
        contact = isinstance(kind, str) and kind.removesuffix("_reference").endswith("contact_method")
        return _ending(value) if contact and _looks_like_address(value) else value
    # Who wrote to an e-mail integration, and to which of its addresses.
    return _ending(value) if key in ("from", "to") and kind == "email" else value


def _names_a_secret(name: Any) -> bool:
    return isinstance(name, str) and name.lower().replace(" ", "_") in _NAMED


def _ending(value: Any) -> Any:
    """The last characters of an address, or of each of several."""
    if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
        return f"•••{str(value)[-SHOWN:]}"
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return [_ending(item) for item in value]
    return value


def _looks_like_address(text: str) -> bool:
    return "@" in text or sum(char.isdigit() for char in text) >= 5
