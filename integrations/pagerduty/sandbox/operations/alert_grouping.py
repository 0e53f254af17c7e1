"""Settings of alert grouping, paged by cursor."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping

from integrations.pagerduty.sandbox.ask import (
    Ask,
    Result,
    find,
    invalid,
    route,
)
from integrations.pagerduty.sandbox.documents import Document
from integrations.pagerduty.sandbox.world import reference


def _setting(services: Mapping[str, Document], setting: Document) -> Document:
    named = [services[identifier] for identifier in setting["services"]]
    return {**setting, "services": [{**reference(service), "name": service["name"]} for service in named]}


def _cursor(offset: int) -> str:
    return base64.urlsafe_b64encode(f"row:{offset}".encode()).decode()


def _offset(ask: Ask, name: str) -> int | None:
    text = ask.one(name)
    if not text:
        return None
    try:
        match = re.fullmatch(r"row:(\d{1,9})", base64.urlsafe_b64decode(text).decode(), re.ASCII)
    except ValueError:
        match = None
    if match is None:
        raise invalid(f"{name.capitalize()} is not a cursor")
    return int(match[1])


@route("GET", "/alert_grouping_settings", "services.read")
def list_settings(ask: Ask) -> Result:
    """``after`` is there only where another page is, ``before`` only on a later page than the first."""
    rows = ask.world.grouping
    if wanted := ask.many("service_ids"):
        rows = [row for row in rows if wanted & set(row["services"])]
    limit = ask.number("limit", 25, 100)
    before, after = _offset(ask, "before"), _offset(ask, "after")
    start = after if after is not None else max(0, (before or 0) - limit)
    services = {service["id"]: service for service in ask.world.services}
    answer: Document = {
        "alert_grouping_settings": [_setting(services, row) for row in rows[start : start + limit]],
        "limit": limit,
        "total": len(rows) if ask.flag("total") else None,
    }
    if start + limit < len(rows):
        answer["after"] = _cursor(start + limit)
    if start:
        answer["before"] = _cursor(start)
    return 200, answer


@route("GET", "/alert_grouping_settings/{id}", "services.read")
def get_setting(ask: Ask) -> Result:
    services = {service["id"]: service for service in ask.world.services}
    return 200, {"alert_grouping_setting": _setting(services, find(ask.world.grouping, ask.path["id"]))}
