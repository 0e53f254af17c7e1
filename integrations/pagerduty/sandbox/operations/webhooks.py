"""Webhook subscriptions, and the kinds of extensions there are."""

from __future__ import annotations

import hashlib
import re
from typing import Any, Final
from urllib.parse import urlsplit

from integrations.pagerduty.sandbox.ask import (
    Ask,
    Result,
    find,
    invalid,
    route,
)
from integrations.pagerduty.sandbox.deliveries import EVENT_TYPES
from integrations.pagerduty.sandbox.documents import Document
from integrations.pagerduty.sandbox.shapes import (
    Fault,
    Path,
    boolean,
    list_of,
    one_of,
    record,
    string,
)

SUBSCRIPTION_LIMIT: Final = 10
"""Of one service, one team, or the account."""
REDACTED: Final = "-- redacted --"
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", re.ASCII)
_HEADER_VALUE: Final = re.compile(r"[\x20-\x7e]*", re.ASCII)


def _subscription(webhook: Document, now: float, *, created: bool = False) -> Document:
    """The secret and the values of headers are told once, to whoever makes the subscription."""
    return {
        "id": webhook["id"],
        "type": "webhook_subscription",
        "active": webhook["active"],
        "description": webhook["description"],
        "events": webhook["events"],
        "filter": webhook["filter"],
        "delivery_method": {
            "id": webhook["delivery_id"],
            "type": "http_delivery_method",
            "url": webhook["url"],
            "secret": webhook["secret"] if created else None,
            "temporarily_disabled": webhook["disabled_until"] > now,
            "custom_headers": [
                header if created else {**header, "value": REDACTED} for header in webhook["custom_headers"]
            ],
        },
    }


@route("GET", "/webhook_subscriptions", "webhook_subscriptions.read")
def list_subscriptions(ask: Ask) -> Result:
    rows = ask.world.webhooks
    kind, identifier = ask.one("filter_type"), ask.one("filter_id")
    if kind not in ("", "account", "service", "team"):
        raise invalid("Filter type must be account, service or team")
    if kind in ("service", "team") and not identifier:
        raise invalid(f"Filter id cannot be empty for filter type {kind}")
    if kind:
        rows = [row for row in rows if row["filter"]["type"] == f"{kind}_reference"]
    if identifier and kind != "account":
        rows = [row for row in rows if row["filter"].get("id") == identifier]
    return 200, ask.page("webhook_subscriptions", rows, lambda row: _subscription(row, ask.now))


@route("GET", "/webhook_subscriptions/{id}", "webhook_subscriptions.read")
def get_subscription(ask: Ask) -> Result:
    return 200, {"webhook_subscription": _subscription(find(ask.world.webhooks, ask.path["id"]), ask.now)}


def _address(value: Any, path: Path, faults: list[Fault]) -> Any:
    try:
        parts = urlsplit(value)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and value.isprintable()
    except (ValueError, AttributeError, TypeError):
        good = False
    if not good:
        faults.append((path, "must be an http or https URL"))
    return value


def _matched(pattern: re.Pattern[str], words: str) -> Any:
    def read(value: Any, path: Path, faults: list[Fault]) -> Any:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            faults.append((path, words))
        return value

    return read


@route("POST", "/webhook_subscriptions", "webhook_subscriptions.write")
def create_subscription(ask: Ask) -> Result:
    world = ask.world
    header = record(
        {
            "name": _matched(_HEADER_NAME, "must be the name of a header"),
            "value": _matched(_HEADER_VALUE, "must be the value of a header"),
        }
    )
    asked = ask.read(
        "webhook_subscription",
        record(
            {
                "delivery_method": record(
                    {"type": one_of("http_delivery_method"), "url": _address},
                    {"custom_headers": list_of(header, 0, 50)},
                ),
                "events": list_of(one_of(*EVENT_TYPES), 1),
                "filter": record(
                    {"type": one_of("account_reference", "service_reference", "team_reference")}, {"id": string()}
                ),
            },
            {"type": one_of("webhook_subscription"), "active": boolean, "description": string(blank=True)},
        ),
    )
    kind, identifier = asked["filter"]["type"], asked["filter"].get("id")
    known = {"service_reference": world.services, "team_reference": world.teams}
    if kind in known and identifier not in {row["id"] for row in known[kind]}:
        raise invalid(f"Filter must name a {kind.removesuffix('_reference')} of the account")
    filter_ = {"type": kind, "id": identifier} if kind in known else {"type": kind}
    if sum(row["filter"] == filter_ for row in world.webhooks) >= SUBSCRIPTION_LIMIT:
        raise invalid(f"There are at most {SUBSCRIPTION_LIMIT} webhook subscriptions with one filter")
    if len(set(asked["events"])) < len(asked["events"]):
        raise invalid("Events must be unique")
    headers = asked["delivery_method"].get("custom_headers", [])
    if len({row["name"].lower() for row in headers}) < len(headers):
        raise invalid("Names of custom headers must be unique")
    number = world.next_id("P")
    webhook = {
        "id": number,
        "active": asked.get("active", True),
        "description": asked.get("description", ""),
        "events": asked["events"],
        "filter": filter_,
        "delivery_id": world.next_id("P"),
        "url": asked["delivery_method"]["url"],
        "custom_headers": headers,
        "secret": hashlib.sha256(f"webhook-{world.seed}-{number}".encode()).hexdigest(),
        "dropped": 0,
        "disabled_until": 0.0,
    }
    world.webhooks.append(webhook)
    return 200, {"webhook_subscription": _subscription(webhook, ask.now, created=True)}


@route("DELETE", "/webhook_subscriptions/{id}", "webhook_subscriptions.write")
def delete_subscription(ask: Ask) -> Result:
    ask.world.webhooks.remove(find(ask.world.webhooks, ask.path["id"]))
    return 204, None


@route("GET", "/extension_schemas", "extension_schemas.read")
def list_extension_schemas(ask: Ask) -> Result:
    return 200, ask.page("extension_schemas", ask.world.extension_schemas)


@route("GET", "/extension_schemas/{id}", "extension_schemas.read")
def get_extension_schema(ask: Ask) -> Result:
    return 200, {"extension_schema": find(ask.world.extension_schemas, ask.path["id"])}
