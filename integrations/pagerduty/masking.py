"""Masks what an answer gives away of people and secrets: by field, wherever it appears; and of an error by form, too.

What is masked is of four kinds. Three of them can be shown to a caller for whom somebody chose so (``reveal``), and what is
shown is counted, for the record. The rest of a document is content: what PagerDuty's users and their monitoring wrote.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from integrations.gateway.integration import Request
from integrations.pagerduty.catalog import MASKED
from policies.core.text import redacted

REVEALABLE: Final[Mapping[str, str]] = {
    "addresses": "phone numbers and e-mail addresses of contact methods, and numbers and links of conferences",
    "calendars": "addresses of calendar feeds, which show a schedule to whoever knows them",
    "keys": "keys and e-mail addresses of integrations, with which anybody can raise incidents",
}
"""The kinds that can be shown, in words. Secrets cannot: no assistant needs a password, a token or what a header says."""
FIELDS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("address", "phone_number", "conference_number", "conferenceAddress"), "addresses"),
    **dict.fromkeys(
        ("http_cal_url", "web_cal_url", "personal_http_cal_url", "personal_web_cal_url", "private_url"), "calendars"
    ),
    **dict.fromkeys(("routing_key", "integration_key", "integration_email", "service_key"), "keys"),
    **dict.fromkeys(("raw_url", "secret", "token", "access_token", "client_secret", "api_key", "password"), "secrets"),
    # Typed for a job to run with, as the inputs of a workflow's step are.
    **dict.fromkeys(("process_automation_job_arguments", "invocation_command", "script"), "secrets"),
}
"""Field → the kind of what it holds. Of addresses the end is shown, of the others nothing."""
VALUES: Final = ("value", "before_value")
"""Where an audit record's changed field, which says its ``name``, holds what it was and is; and an input its value."""
HEADERS: Final = frozenset({"custom_headers", "headers"})
"""What a webhook or an orchestration's action sends along, often a credential of whom it calls."""
INPUTS: Final = HEADERS | {"inputs", "parameters"}
"""Lists of names with values that somebody typed: of headers, of a workflow's steps, of an orchestration's actions."""
ENDPOINTS: Final = frozenset({"delivery_method", "automation_actions"})
"""Objects whose ``url`` may be a secret: who knows the address of a chat's hook can post there."""
CONFERENCED: Final = frozenset({"listIncidents", "getIncident"})
"""Reads that say an incident's conference only where ``include[]`` asks for it, as PagerDuty documents them; its own example
says it without."""
SHOWN: Final = 2
"""Characters at the end of an address that stay, to tell two apart."""
MASKED_WHOLE: Final = "[masked]"
_IN_PLACE: Final = frozenset({*VALUES, *HEADERS, "conference_url", "url", "summary", "label", "from", "to"})
"""Fields that are masked or not by where they stand."""
_NAMES: Final[Mapping[str, str]] = {**FIELDS, "email": "addresses"}
_HOST: Final = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#@\s]+", re.IGNORECASE)
_FEED: Final = re.compile(
    r"webcals?://[^\s\"'<>]+|https?://[^\s\"'<>/]{1,256}/(?:[^\s\"'<>]{0,512}/)?(?:private|feed|ical)\b[^\s\"'<>]*",
    re.IGNORECASE,
)
_EMAIL: Final = re.compile(r"[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}")
_PHONE: Final = re.compile(
    # After a plus any grouping; without one a run of digits, or groups as in North America. No date is one: 2026-11-24.
    r"(?<![\w.+-])(?:\+\d(?:[ ().-]{0,2}\d){6,14}|\d{7,15}|\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4})(?![\w-])"
)


def masks(operation_id: str, request: Request, body: bytes = b"") -> bool:
    """Whether an answer is looked through: of operations that may show addresses or secrets, of every write (its answer is
    small), of whatever ``include[]`` can put whole people into, and of an incident with a conference. The rest passes as
    bytes."""
    return (
        operation_id in MASKED
        or not request.reads
        or "include" in request.query
        or (operation_id in CONFERENCED and b'"conference_' in body)
    )


def mask(body: bytes, reveal: frozenset[str] = frozenset()) -> tuple[bytes, Mapping[str, int]]:
    """``body`` with addresses and secrets masked but for the kinds in ``reveal``, and of each of these how many values it
    shows.

    Raises:
        ValueError: it is not JSON; then it must not be shown.
    """
    if not body:
        return body, {}
    document = _decoded(body)
    revealed: Counter[str] = Counter()
    if not _mask(document, reveal & REVEALABLE.keys(), revealed):
        return body, revealed
    return msgspec.json.encode(document), revealed


def mask_error(body: bytes) -> bytes:
    """The body of a refusal, which may repeat what was sent: masked by field, and in every text by form. Nothing is revealed
    in one.

    Raises:
        ValueError: it is not JSON; then it must not be shown.
    """
    if not body:
        return body
    document = [_decoded(body)]
    changed = _mask(document, frozenset(), Counter())
    if not _each_text(document, _without_addresses) and not changed:
        return body
    return msgspec.json.encode(document[0])


def _decoded(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ValueError("not JSON") from error


def _mask(root: Any, reveal: frozenset[str], revealed: Counter[str]) -> bool:
    """Mask in place, and count what is not masked for ``reveal``; whether anything was masked."""
    changed = False
    stack: list[tuple[str, Any]] = [("", root)]
    while stack:
        under, node = stack.pop()
        if isinstance(node, list):
            stack.extend((under, item) for item in node if isinstance(item, dict | list))
        elif isinstance(node, dict):
            for key, value in node.items():
                if (key in FIELDS or key in _IN_PLACE) and value:
                    kind, shown = _shown(under, node, key, value)
                    if shown is not value:
                        if kind not in reveal:
                            node[key] = value = shown
                            changed = True
                        else:
                            revealed[kind] += len(value) if isinstance(value, list) else 1
                if isinstance(value, dict | list):
                    stack.append((key, value))
    return changed


def _shown(under: str, node: dict[str, Any], key: str, value: Any) -> tuple[str, Any]:
    """The kind of ``node[key]``, where ``node`` stands under ``under``, and what is shown of it: ``value`` itself where
    nothing is to be masked."""
    if kind := FIELDS.get(key):
        return kind, _ending(value) if kind == "addresses" else MASKED_WHOLE
    if key in VALUES:
        if under in INPUTS and isinstance(value, str):
            return "secrets", MASKED_WHOLE
        if kind := _named(node.get("name")):
            return kind, MASKED_WHOLE
    if key in HEADERS and isinstance(value, dict):
        return "secrets", dict.fromkeys(value, MASKED_WHOLE)
    if not isinstance(value, str):
        return "", value
    if key == "conference_url" or (key == "url" and under in ENDPOINTS):
        host = _HOST.match(value)
        return (
            "addresses" if key == "conference_url" else "secrets",
            f"{host[0]}/{MASKED_WHOLE}" if host else MASKED_WHOLE,
        )
    type_ = node.get("type")
    if key in ("summary", "label"):
        # A contact method's own summary is a label that people type, often the number itself.
        contact = isinstance(type_, str) and type_.removesuffix("_reference").endswith("contact_method")
        return "addresses", _ending(value) if contact and _looks_like_address(value) else value
    # Who wrote to an e-mail integration, and to which of its addresses.
    return "addresses", _ending(value) if key in ("from", "to") and type_ == "email" else value


def _named(name: Any) -> str:
    """The kind of what an audit record's field of this name holds; empty: nothing that is masked."""
    return _NAMES.get(name.lower().replace(" ", "_"), "") if isinstance(name, str) else ""


def _ending(value: Any) -> Any:
    """The last characters of an address, or of each of several."""
    if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
        return f"•••{str(value)[-SHOWN:]}"
    if isinstance(value, list) and any(isinstance(item, str | int) for item in value):
        return [_ending(item) for item in value]
    return value


def _looks_like_address(text: str) -> bool:
    return "@" in text or sum(char.isdigit() for char in text) >= 5


def _each_text(node: Any, change: Callable[[str], str]) -> bool:
    """Change every text of a document, names of fields aside, in place; whether any is another now."""
    changed = False
    stack = [node]
    while stack:
        found = stack.pop()
        for key, value in list(found.items() if isinstance(found, dict) else enumerate(found)):
            if isinstance(value, dict | list):
                stack.append(value)
            elif isinstance(value, str) and (text := change(value)) != value:
                found[key] = text
                changed = True
    return changed


def _without_addresses(text: str) -> str:
    text = redacted(_FEED.sub(MASKED_WHOLE, text), MASKED_WHOLE)
    return _PHONE.sub(lambda match: _ending(match[0]), _EMAIL.sub(lambda match: _ending(match[0]), text))
