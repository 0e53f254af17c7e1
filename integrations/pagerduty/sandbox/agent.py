"""The demo's scripted assistant: a few hundred varied calls through the REST door, allowed and denied. And its probes: whether a
port is free, whether an address answers.

It calls the portal as any client does, from outside: with agent keys, never with a token.
"""

from __future__ import annotations

import datetime as dt
import random
import socket
import sys
from typing import Any, Final

import httpx

CALLS: Final = 260


def answers(url: str) -> bool:
    """Whether ``url`` answers with success."""
    try:
        return httpx.get(url, timeout=2, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def check_free(host: str, port: int, option: str) -> None:
    """End with a sentence where something listens on a port: the server itself would share it in silence."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            sys.exit(f"Port {port} cannot be used ({error.strerror}): choose another with {option}.")


def work(rest_url: str, keys: dict[str, str], seed: int) -> int:
    """Make the calls; returns how many. ``keys``: ``reader``, ``responder``, ``admin``.

    Raises:
        RuntimeError: what should be allowed was refused, or the other way round: the demo would show something untrue.
    """
    statuses: list[int] = []
    rng = random.Random(f"agent-{seed}")
    with httpx.Client(
        base_url=rest_url, timeout=40, trust_env=False, headers={"User-Agent": "demo-assistant/1.0"}
    ) as client:

        def call(who: str, method: str, path: str, body: Any = None, **query: Any) -> Any:
            answer = client.request(
                method, path, params=query or None, json=body, headers={"Authorization": f"Token token={keys[who]}"}
            )
            statuses.append(answer.status_code)
            return answer.json() if answer.is_success and answer.content else {}

        listed = call("reader", "GET", "/incidents", **{"statuses[]": ["triggered", "acknowledged"], "limit": 100})
        incidents = [row["id"] for row in listed["incidents"]]
        services = [row["id"] for row in call("reader", "GET", "/services", limit=50)["services"]]
        schedules = [row["id"] for row in call("reader", "GET", "/schedules", limit=25)["schedules"]]
        users = [row["id"] for row in call("reader", "GET", "/users", limit=50)["users"]]
        now = dt.datetime.now(dt.UTC).replace(microsecond=0)

        def at(days: float) -> str:
            return (now + dt.timedelta(days=days)).isoformat().replace("+00:00", "Z")

        def somebody(rows: list[str]) -> str:
            return rng.choice(rows)

        def override() -> Any:
            user = {"id": somebody(users), "type": "user_reference"}
            return {"overrides": [{"start": at(1), "end": at(1.3), "user": user}]}

        month = {"filters": {"created_at_start": at(-30), "created_at_end": at(0)}}
        reads: list[Any] = [
            lambda: call("reader", "GET", "/incidents", limit=25, sort_by="created_at:desc"),
            lambda: call("reader", "GET", f"/incidents/{somebody(incidents)}"),
            lambda: call("reader", "GET", f"/incidents/{somebody(incidents)}/log_entries"),
            lambda: call("reader", "GET", f"/incidents/{somebody(incidents)}/notes"),
            lambda: call("reader", "GET", f"/incidents/{somebody(incidents)}/alerts"),
            lambda: call("reader", "GET", f"/services/{somebody(services)}"),
            lambda: call("reader", "GET", f"/service_dependencies/technical_services/{somebody(services)}"),
            lambda: call("reader", "GET", "/escalation_policies", limit=10),
            lambda: call("reader", "GET", f"/schedules/{somebody(schedules)}", since=at(0), until=at(7)),
            lambda: call("reader", "GET", "/oncalls", limit=50),
            lambda: call("reader", "GET", f"/users/{somebody(users)}"),
            lambda: call("reader", "GET", "/log_entries", limit=25),
            lambda: call("reader", "POST", "/analytics/metrics/incidents/services", month),
        ]
        note = {"note": {"content": "The assistant looked at this."}}
        writes: list[Any] = [
            lambda: call("responder", "POST", f"/incidents/{somebody(incidents[:5])}/notes", note),
            lambda: call("responder", "GET", f"/incidents/{somebody(incidents)}"),
            lambda: call("admin", "POST", f"/schedules/{somebody(schedules)}/overrides", override()),
        ]
        resolve = {"incident": {"type": "incident_reference", "status": "resolved"}}
        refused: list[Any] = [
            lambda: call("reader", "PUT", f"/incidents/{somebody(incidents)}", resolve),
            lambda: call("reader", "POST", f"/incidents/{somebody(incidents)}/notes", note),
            lambda: call("responder", "POST", f"/schedules/{somebody(schedules)}/overrides", override()),
            lambda: call("reader", "GET", "/webhook_subscriptions"),
            lambda: call("responder", "DELETE", f"/users/{somebody(users)}"),
            lambda: call("reader", "GET", "/incidents/..%2Fusers"),
        ]
        for _ in range(CALLS):
            kind = rng.choices((reads, writes, refused), (80, 8, 12))[0]
            number = rng.randrange(len(kind))
            kind[number]()
            if (statuses[-1] == 403) is not (kind is refused):
                raise RuntimeError(f"The scripted assistant's call {number} was answered with {statuses[-1]}.")
    return len(statuses)
