"""Masks what an answer gives away of people and secrets: by field, wherever it appears."""

from __future__ import annotations

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
        "routing_key",
        "integration_key",
        "integration_email",
        "secret",
        "token",
        "access_token",
    }
)
"""Fields whose value is a secret, or a URL or an e-mail address that is one: it lets whoever knows it raise incidents."""
ADDRESSES: Final = frozenset({"address", "phone_number"})
"""Fields that hold a phone number or an e-mail address of a contact method or a notification."""
_NEVER: Final = SECRETS | ADDRESSES
NAMED: Final = ("value", "before_value")
"""Where an audit record's changed field, which says its ``name``, holds what it was and is."""
HEADERS: Final = frozenset({"custom_headers", "headers"})
"""What a webhook or an orchestration's action sends along, often a credential of whom it calls."""
SHOWN: Final = 2
"""Characters at the end of an address that stay, to tell two apart."""


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
    stack = [root]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            # A contact method's own summary is a label that people type, often the number itself.
            contact = str(node.get("type", "")).removesuffix("_reference").endswith("contact_method")
            name = node.get("name")
            named = NAMED if isinstance(name, str) and name in _NEVER else ()
            for key, value in node.items():
                if value and (key in SECRETS or key in named):
                    node[key] = "[masked]"
                    changed = True
                elif isinstance(value, str):
                    if value and (
                        key in ADDRESSES or (contact and key in ("summary", "label") and _looks_like_address(value))
                    ):
                        node[key] = f"•••{value[-SHOWN:]}"
                        changed = True
                elif key in ADDRESSES and isinstance(value, int) and not isinstance(value, bool):
                    node[key] = f"•••{str(value)[-SHOWN:]}"
                    changed = True
                elif key in HEADERS and isinstance(value, list):
                    changed = _mask_headers(value) or changed
                elif isinstance(value, dict | list):
                    stack.append(value)
        elif isinstance(node, list):
            stack.extend(item for item in node if isinstance(item, dict | list))
    return changed


def _mask_headers(headers: list[Any]) -> bool:
    shown = [header for header in headers if isinstance(header, dict) and header.get("value")]
    for header in shown:
        header["value"] = "[masked]"
    return bool(shown)


def _looks_like_address(text: str) -> bool:
    return "@" in text or sum(char.isdigit() for char in text) >= 5
