"""Webhooks v3: what happens in the account is sent to whoever subscribed to it, signed as PagerDuty signs.

An operation says what happened (``Ask.tell``); once it is done, :class:`Deliveries` sends one request for each subscription that
asks for it, without keeping the operation's own answer waiting. Events of one incident reach a subscription in their order.

Only loopback addresses are sent to: an account that is made up must not bother anybody. ``anywhere`` lifts that.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import json
import uuid
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from integrations.pagerduty.sandbox.documents import Document, escalation_policy_of, resolve_reason
from integrations.pagerduty.sandbox.world import (
    DAY,
    Incident,
    World,
    document,
    iso,
    number_id,
    reference,
)

EVENT_TYPES: Final = (
    "incident.acknowledged",
    "incident.annotated",
    "incident.conference_bridge.updated",
    "incident.custom_field_values.updated",
    "incident.delegated",
    "incident.escalated",
    "incident.incident_type.changed",
    "incident.priority_updated",
    "incident.reassigned",
    "incident.reopened",
    "incident.resolved",
    "incident.responder.added",
    "incident.responder.replied",
    "incident.service_updated",
    "incident.status_update_published",
    "incident.triggered",
    "incident.unacknowledged",
    "incident.workflow.completed",
    "incident.workflow.started",
    "service.created",
    "service.deleted",
    "service.updated",
)
TIME_LIMIT: Final = 5.0
"""Seconds, for one attempt."""
PAUSES: Final = (1.0, 2.0, 4.0, 8.0)
"""Seconds before the second attempt, the third, and so on: there is one attempt more than there are pauses."""
DROPS_UNTIL_DISABLED: Final = 3
"""So many deliveries dropped one after another, and the subscription is disabled for a day."""
KEPT: Final = 1_000


def signature(secret: str, body: bytes) -> str:
    return "v1=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def is_loopback(url: str) -> bool:
    """By the address itself: a name could lead anywhere, so ``localhost`` is the only one."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(slots=True)
class Delivery:
    """One event on its way to one subscription."""

    webhook: Document
    event_type: str
    body: bytes
    headers: dict[str, str]
    at: float
    attempts: int = 0
    outcome: str = "waiting"
    """Then ``delivered``, ``dropped``, or ``refused``: not sent, because the address is no loopback address."""

    def shown(self) -> Document:
        return {
            "subscription": self.webhook["id"],
            "webhook_id": self.headers["x-webhook-id"],
            "event_type": self.event_type,
            "url": self.webhook["url"],
            "attempts": self.attempts,
            "outcome": self.outcome,
        }


@dataclass(slots=True)
class Deliveries:
    anywhere: bool = False
    kept: deque[Delivery] = field(default_factory=lambda: deque(maxlen=KEPT))
    """The latest, for whoever looks."""
    queues: dict[tuple[str, str], deque[Delivery]] = field(default_factory=dict)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def send(self, world: World) -> None:
        """Send what the outbox holds, and empty it. Needs a running loop."""
        events, world.outbox = world.outbox, []
        if not world.webhooks:
            return
        for event_type, subject, sender, at, detail in events:
            wanted = [row for row in world.webhooks if _wants(world, row, event_type, subject, at)]
            if not wanted:
                continue
            event = _event(world, event_type, subject, sender, at, detail)
            body = json.dumps({"event": event}, separators=(",", ":")).encode()
            resource = subject.id if isinstance(subject, Incident) else subject["id"]
            for webhook in wanted:
                self._enqueue(_delivery(webhook, event, body, at), resource)

    def _enqueue(self, delivery: Delivery, resource: str) -> None:
        self.kept.append(delivery)
        if not self.anywhere and not is_loopback(delivery.webhook["url"]):
            delivery.outcome = "refused"
            return
        key = (delivery.webhook["id"], resource)
        if key in self.queues:
            self.queues[key].append(delivery)
            return
        self.queues[key] = deque([delivery])
        task = asyncio.get_running_loop().create_task(self._work(key))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _work(self, key: tuple[str, str]) -> None:
        """Empty one queue, in order."""
        queue = self.queues[key]
        # No proxies of the environment, no redirects: the address that was subscribed, or none.
        async with httpx.AsyncClient(trust_env=False, follow_redirects=False) as client:
            while queue:
                await _deliver(client, queue[0])
                queue.popleft()
        del self.queues[key]

    def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        self.queues.clear()


async def _deliver(client: httpx.AsyncClient, delivery: Delivery) -> None:
    webhook = delivery.webhook
    for pause in (*PAUSES, None):
        delivery.attempts += 1
        try:
            async with asyncio.timeout(TIME_LIMIT):
                answer = await client.post(webhook["url"], content=delivery.body, headers=delivery.headers)
            status = answer.status_code
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError):
            status = 0
        if 200 <= status < 300:
            delivery.outcome, webhook["dropped"] = "delivered", 0
            return
        if pause is None or not (status == 0 or status == 429 or status >= 500):
            break
        await asyncio.sleep(pause)
    delivery.outcome = "dropped"
    webhook["dropped"] += 1
    if webhook["dropped"] >= DROPS_UNTIL_DISABLED:
        webhook |= {"dropped": 0, "disabled_until": delivery.at + DAY}


def _service_of(world: World, subject: Incident | Document) -> Document:
    return world.services[subject.service] if isinstance(subject, Incident) else subject


def _wants(world: World, webhook: Document, event_type: str, subject: Incident | Document, at: float) -> bool:
    if not webhook["active"] or webhook["disabled_until"] > at or event_type not in webhook["events"]:
        return False
    service, filter_ = _service_of(world, subject), webhook["filter"]
    match filter_["type"]:
        case "service_reference":
            return bool(filter_["id"] == service["id"])
        case "team_reference":
            return any(team["id"] == filter_["id"] for team in service["teams"])
    return True


def _delivery(webhook: Document, event: Document, body: bytes, at: float) -> Delivery:
    identifier = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{webhook['id']}/{event['id']}"))
    headers = {row["name"].lower(): row["value"] for row in webhook["custom_headers"]}
    headers |= {
        "accept": "application/json",
        "content-type": "application/json",
        "user-agent": "PagerDuty-Webhook/V3.0",
        "x-pagerduty-signature": signature(webhook["secret"], body),
        "x-webhook-id": identifier,
        "x-webhook-subscription": webhook["id"],
    }
    return Delivery(webhook, event["event_type"], body, headers, at)


def _event(
    world: World, event_type: str, subject: Incident | Document, sender: int | None, at: float, detail: Document | None
) -> Document:
    """``detail``: what is told instead of the incident, which it then names."""
    world.counter += 1
    data: Document = _service_data(subject) if not isinstance(subject, Incident) else _incident_data(world, subject)
    if detail is not None and isinstance(subject, Incident):
        data = {"incident": _incident_reference(subject), **detail}
    return {
        "id": number_id("01E", world.counter, 23),
        "event_type": event_type,
        "resource_type": event_type.partition(".")[0],
        "occurred_at": iso(at).replace("Z", f".{int(at * 1000) % 1000:03d}Z"),
        "agent": None if sender is None else reference(world.users[sender]),
        "client": {"name": "PagerDuty"},
        "data": data,
    }


def _incident_reference(incident: Incident) -> Document:
    return reference(document("incident", "incidents", incident.id, incident.title))


def _incident_data(world: World, incident: Incident) -> Document:
    service = world.services[incident.service]
    is_open = incident.status != "resolved"
    link = document("incident", "incidents", incident.id, incident.title)
    priority: Any = None if incident.priority is None else world.priorities[incident.priority]
    return {
        **{name: link[name] for name in ("id", "type", "self", "html_url")},
        "number": incident.place + 1,
        "status": incident.status,
        "incident_key": incident.key,
        "created_at": iso(incident.created),
        "title": incident.title,
        "service": reference(service),
        "assignees": ([reference(world.users[incident.assignee])] if is_open and incident.assignee is not None else []),
        "escalation_policy": reference(escalation_policy_of(world, incident)),
        "teams": service["teams"],
        "priority": priority and reference(priority),
        "urgency": incident.urgency,
        "conference_bridge": incident.extra.bridge if incident.extra is not None else None,
        "resolve_reason": resolve_reason(world, incident),
    }


def _service_data(service: Document) -> Document:
    shown = ("html_url", "id", "self", "summary", "alert_creation", "teams", "type")
    return {name: service[name] for name in shown}
