"""PagerDuty's own client, writing over a line that breaks. Run as a program: ``retry_scenario.py BASE_URL KEY SERVICE NAMED``.

It prints ``ready`` and waits for a line before each of three writes, so that whoever runs it can break something in between,
and then what the client made of the write, as JSON. ``NAMED``: each write has an Idempotency-Key. What is set beside the
address: answers of 502 are tried again, too, and waiting is shorter.
"""

from __future__ import annotations

import json
import sys
import uuid
from typing import Any

import pagerduty


def main(base_url: str, key: str, service: str, named: str) -> None:
    if base_url.startswith("https://"):
        client: Any = pagerduty.RestApiV2Client(key, base_url=base_url)
    else:
        # Before 6.2 the address is an attribute.
        client = pagerduty.RestApiV2Client(key)
        client.url = base_url
    client.retry[502] = 2
    client.sleep_timer = 0.2

    def write(method: str, path: str, document: Any) -> Any:
        headers = {"Idempotency-Key": str(uuid.uuid4())} if named else {}
        client.get("/abilities")  # so that a connection is there to be reused
        print("ready", flush=True)
        sys.stdin.readline()
        answer = client.request(method, path, json=document, headers=headers)
        shown = {name: answer.headers.get(f"x-pagewarden-{name}") for name in ("decision", "outcome", "replayed")}
        print(json.dumps({"status": answer.status_code, **shown, "errors": answer.json().get("error")}), flush=True)
        return answer.json()

    title = f"Line {uuid.uuid4()}"
    asked = {"type": "incident", "title": title, "service": {"id": service, "type": "service_reference"}}
    write("POST", "/incidents", {"incident": asked})
    incidents = client.rget("/incidents", params={"date_range": "all", "sort_by": "created_at:desc"})
    [made] = [incident for incident in incidents if incident["title"] == title]
    write("POST", f"/incidents/{made['id']}/notes", {"note": {"content": title}})
    write("PUT", f"/incidents/{made['id']}", {"incident": {"type": "incident_reference", "status": "acknowledged"}})
    notes = client.rget(f"/incidents/{made['id']}/notes")
    status = client.rget(f"/incidents/{made['id']}")["status"]
    there = {"incident": made["id"], "notes": [note["content"] == title for note in notes], "state": status}
    print(json.dumps(there), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
