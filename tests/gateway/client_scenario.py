"""PagerDuty's own client, unmodified, doing its daily work. Run as a program: ``client_scenario.py BASE_URL KEY`` prints JSON.

It is run with the newest version of the library and with an old one, each in its own environment; through the portal, with an
agent's key, and directly against the simulated account, with its own token and, as a third argument, the address to act as.
"""

from __future__ import annotations

import datetime as dt
import json
import sys
from importlib.metadata import version
from typing import Any

import pagerduty


def client_for(base_url: str, key: str, sender: str | None) -> Any:
    if base_url.startswith("https://"):
        return pagerduty.RestApiV2Client(key, default_from=sender, base_url=base_url)
    # Before 6.2 the address is an attribute.
    client = pagerduty.RestApiV2Client(key, default_from=sender)
    client.url = base_url
    return client


def refused(call: Any) -> dict[str, Any]:
    """The client's own error, and what it holds of ours."""
    try:
        call()
    except Exception as error:
        answer = error.response  # type: ignore[attr-defined]  # every HTTP error of the library has it
        return {
            "error": type(error).__name__,
            "status": answer.status_code,
            "errors": answer.json()["error"]["errors"],
            "decision": answer.headers["x-pagewarden-decision"],
        }
    raise AssertionError("it was not refused")


def main(base_url: str, key: str, sender: str | None = None) -> dict[str, Any]:
    client = client_for(base_url, key, sender)
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    done: dict[str, Any] = {"version": version("pagerduty")}
    incidents = list(client.iter_all("incidents", params={"date_range": "all"}))
    done["listed"] = len({incident["id"] for incident in incidents})
    service = next(client.iter_all("services"))
    made = client.rpost(
        "incidents",
        json={
            "type": "incident",
            "title": "The client made this",
            "service": {"id": service["id"], "type": "service_reference"},
        },
    )
    done["created"] = made["status"]
    done["self"] = made["self"]
    # A document stands for its own URL: this works only if ``self`` leads back to the portal. The simulated account says
    # https://api.pagerduty.com, as the true one does: there, the client is told where to ask.
    there = made if sender is None else f"/incidents/{made['id']}"
    done["got"] = client.rget(there)["id"] == made["id"]
    done["updated"] = client.rput(there, json={"type": "incident_reference", "status": "acknowledged"})["status"]
    note = client.rpost(f"{made['self'] if sender is None else there}/notes", json={"content": "Noted by the client."})
    done["noted"] = note["content"]
    done["resolved"] = client.rput(there, json={"type": "incident_reference", "status": "resolved"})["status"]
    schedule = next(client.iter_all("schedules"))
    user = next(client.iter_all("users"))
    override = {
        "start": (now + dt.timedelta(hours=1)).isoformat(),
        "end": (now + dt.timedelta(hours=2)).isoformat(),
        "user": {"id": user["id"], "type": "user_reference"},
    }
    answer = client.post(f"/schedules/{schedule['id']}/overrides", json={"overrides": [override]})
    done["overridden"] = answer.json()[0]["status"]
    month = {
        "filters": {"created_at_start": (now - dt.timedelta(days=30)).isoformat(), "created_at_end": now.isoformat()}
    }
    answer = client.post("/analytics/metrics/incidents/services", json=month)
    done["analytics"] = len(answer.json()["data"])
    found = client.find("users", user["name"], attribute="name")
    done["found"] = found["id"] == user["id"]
    rule = {"escalation_delay_in_minutes": 5, "targets": [{"id": user["id"], "type": "user_reference"}]}
    policy = {"type": "escalation_policy", "name": "Watched", "escalation_rules": [rule]}
    if sender is None:
        done["denied"] = refused(lambda: client.rpost("escalation_policies", json=policy))
        done["missing"] = refused(lambda: client.rget("/vendors"))
    else:
        done["policy"] = client.rpost("escalation_policies", json=policy)["name"]
        done["webhooks"] = client.get("/webhook_subscriptions").status_code
    return done


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
