"""The simulated PagerDuty's webhooks: what is sent to whom, signed how, and what happens where nobody answers."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from integrations.pagerduty.sandbox import deliveries
from integrations.pagerduty.sandbox.app import Sandbox
from integrations.pagerduty.sandbox.deliveries import EVENT_TYPES, is_loopback
from tests.integrations.conftest import NOW, Ask

ALL = {"type": "account_reference"}


@dataclass
class Receiver:
    """A real server. ``answers``: a status for each request to come, then 202; 0 is an answer that comes too late."""

    url: str = ""
    answers: list[int] = field(default_factory=list)
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(body)["event"] for _, body in self.requests]

    def types(self) -> list[str]:
        return [event["event_type"] for event in self.events()]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            found.requests.append(({name.lower(): value for name, value in self.headers.items()}, body))
            found.paths.append(self.path)
            status = found.answers.pop(0) if found.answers else 202
            if status == 0:
                time.sleep(1)
            self.send_response(status or 202)
            if status == 302:
                self.send_header("location", "/elsewhere")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_port}/hook"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliveries, "PAUSES", (0.0, 0.0, 0.0, 0.0))


def subscribe(
    ask: Ask, url: str, filter_: dict[str, str] = ALL, events: tuple[str, ...] = EVENT_TYPES, **more: Any
) -> dict[str, Any]:
    method = {"type": "http_delivery_method", "url": url, **more}
    body = {"type": "webhook_subscription", "delivery_method": method, "events": list(events), "filter": filter_}
    answer = ask("POST", "/webhook_subscriptions", {"webhook_subscription": body})
    assert answer.is_success, answer.text
    made: dict[str, Any] = answer.json()["webhook_subscription"]
    return made


def settled(ask: Ask, runner: asyncio.Runner) -> list[dict[str, Any]]:
    """The deliveries, once none is on its way; without those of the two subscriptions that the account begins with."""
    for _ in range(400):
        found: list[dict[str, Any]] = ask("GET", "/_sandbox/deliveries").json()["deliveries"]
        if all(row["outcome"] != "waiting" for row in found):
            return [row for row in found if not row["url"].startswith("https://hooks.sandbox.example/")]
        runner.run(asyncio.sleep(0.02))
    raise AssertionError("deliveries never end")


def change(ask: Ask, incident: str, **fields: Any) -> None:
    answer = ask("PUT", f"/incidents/{incident}", {"incident": {"type": "incident_reference", **fields}})
    assert answer.is_success, answer.text


def opened(ask: Ask, sandbox: Sandbox, service: int = 0) -> str:
    identifier = sandbox.world.services[service]["id"]
    asked = {"type": "incident", "title": "Disk is full", "service": {"id": identifier, "type": "service_reference"}}
    found: str = ask("POST", "/incidents", {"incident": asked}).json()["incident"]["id"]
    return found


def test_a_webhook_is_signed_over_its_raw_body_and_says_what_happened(
    ask: Ask, sandbox: Sandbox, runner: asyncio.Runner, receiver: Receiver
) -> None:
    made = subscribe(ask, receiver.url, custom_headers=[{"name": "X-Mine", "value": "of mine"}])
    incident = opened(ask, sandbox)
    assert [row["outcome"] for row in settled(ask, runner)] == ["delivered"]
    ((headers, body),) = receiver.requests
    digest = hmac.new(made["delivery_method"]["secret"].encode(), body, hashlib.sha256).hexdigest()
    assert headers["x-pagerduty-signature"] == f"v1={digest}"
    assert headers["x-webhook-subscription"] == made["id"]
    assert headers["user-agent"] == "PagerDuty-Webhook/V3.0"
    assert headers["content-type"] == "application/json"
    assert headers["x-mine"] == "of mine"
    (event,) = receiver.events()
    assert (event["event_type"], event["resource_type"]) == ("incident.triggered", "incident")
    assert set(event) == {"id", "event_type", "resource_type", "occurred_at", "agent", "client", "data"}
    assert event["occurred_at"].startswith("2026-11-23T12:00:")
    assert event["agent"]["summary"] == "Priya Sharma"
    data = event["data"]
    assert (data["id"], data["status"], data["title"], data["type"]) == (
        incident,
        "triggered",
        "Disk is full",
        "incident",
    )
    assert data["service"]["id"] == sandbox.world.services[0]["id"]
    assert data["assignees"]


def test_everything_that_happens_to_an_incident_is_told_in_its_order(
    ask: Ask, sandbox: Sandbox, runner: asyncio.Runner, receiver: Receiver
) -> None:
    subscribe(ask, receiver.url)
    world = sandbox.world
    incident = opened(ask, sandbox)
    other = {"id": world.users[7]["id"], "type": "user_reference"}
    change(ask, incident, status="acknowledged")
    change(ask, incident, status="triggered")
    change(ask, incident, priority={"id": world.priorities[0]["id"], "type": "priority_reference"})
    change(ask, incident, escalation_level=2)
    change(ask, incident, escalation_policy={"id": world.policies[3]["id"], "type": "escalation_policy_reference"})
    change(ask, incident, assignments=[{"assignee": other}])
    note = ask("POST", f"/incidents/{incident}/notes", {"note": {"content": "Looked."}}).json()["note"]
    ask("POST", f"/incidents/{incident}/status_updates", {"message": "We are on it."})
    ask(
        "POST",
        f"/incidents/{incident}/responder_requests",
        {"requester_id": world.users[0]["id"], "message": "Help", "responder_request_targets": [other]},
    )
    change(ask, incident, status="resolved")
    change(ask, incident, status="triggered")
    assert {row["outcome"] for row in settled(ask, runner)} == {"delivered"}
    assert receiver.types() == [
        "incident.triggered",
        "incident.acknowledged",
        "incident.unacknowledged",
        "incident.priority_updated",
        "incident.escalated",
        "incident.delegated",
        "incident.reassigned",
        "incident.annotated",
        "incident.status_update_published",
        "incident.responder.added",
        "incident.resolved",
        "incident.reopened",
    ]
    told = {event["event_type"]: event["data"] for event in receiver.events()}
    assert told["incident.priority_updated"]["priority"]["summary"] == "P1"
    assert told["incident.delegated"]["escalation_policy"]["id"] == world.policies[3]["id"]
    assert [row["id"] for row in told["incident.reassigned"]["assignees"]] == [other["id"]]
    assert told["incident.annotated"] == {
        "incident": told["incident.annotated"]["incident"],
        "id": note["id"],
        "content": "Looked.",
        "trimmed": False,
        "type": "incident_note",
    }
    assert told["incident.annotated"]["incident"]["id"] == incident
    assert told["incident.status_update_published"]["message"] == "We are on it."
    assert told["incident.responder.added"]["user"]["id"] == other["id"]
    assert (told["incident.resolved"]["status"], told["incident.reopened"]["status"]) == ("resolved", "triggered")
    assert len({headers["x-webhook-id"] for headers, _ in receiver.requests}) == 12
    assert len({event["id"] for event in receiver.events()}) == 12


def test_only_what_the_filter_and_the_list_of_events_name_is_sent(
    ask: Ask, sandbox: Sandbox, runner: asyncio.Runner, receiver: Receiver
) -> None:
    world = sandbox.world
    own = world.services[0]
    team = own["teams"][0]["id"]
    place, far = next(
        (place, row)
        for place, row in enumerate(world.services)
        if row["status"] != "disabled" and team not in {each["id"] for each in row["teams"]}
    )
    by_service = subscribe(ask, receiver.url, {"type": "service_reference", "id": own["id"]})
    by_team = subscribe(ask, receiver.url, {"type": "team_reference", "id": team})
    resolved = subscribe(ask, receiver.url, events=("incident.resolved",))
    sleeping = subscribe(ask, receiver.url)
    next(row for row in world.webhooks if row["id"] == sleeping["id"])["active"] = False
    opened(ask, sandbox, 0)
    change(ask, opened(ask, sandbox, place), status="resolved")
    settled(ask, runner)
    sent = sorted(
        (headers["x-webhook-subscription"], event["event_type"], event["data"]["service"]["id"])
        for (headers, _), event in zip(receiver.requests, receiver.events(), strict=True)
    )
    assert sent == sorted(
        [
            (by_service["id"], "incident.triggered", own["id"]),
            (by_team["id"], "incident.triggered", own["id"]),
            (resolved["id"], "incident.resolved", far["id"]),
        ]
    )


def test_new_and_changed_services_are_told_of(
    ask: Ask, sandbox: Sandbox, runner: asyncio.Runner, receiver: Receiver
) -> None:
    subscribe(ask, receiver.url)
    policy = {"id": sandbox.world.policies[0]["id"], "type": "escalation_policy_reference"}
    made = ask("POST", "/services", {"service": {"name": "Fresh", "escalation_policy": policy}}).json()["service"]
    ask("PUT", f"/services/{made['id']}", {"service": {"name": "Fresher"}})
    settled(ask, runner)
    assert receiver.types() == ["service.created", "service.updated"]
    assert [event["data"]["summary"] for event in receiver.events()] == ["Fresh", "Fresher"]


def test_a_workflow_tells_of_its_start_its_steps_and_its_end(
    ask: Ask, sandbox: Sandbox, runner: asyncio.Runner, receiver: Receiver
) -> None:
    subscribe(ask, receiver.url)
    workflow = sandbox.world.workflows[1]
    body = {"incident_workflow_instance": {"incident": {"id": sandbox.world.incidents[-1].id}}}
    assert ask("POST", f"/incident_workflows/{workflow['id']}/instances", body).status_code == 201
    settled(ask, runner)
    assert receiver.types() == ["incident.workflow.started", "incident.annotated", "incident.workflow.completed"]


@pytest.mark.parametrize("status", [500, 503, 429])
def test_trouble_that_may_pass_is_tried_again_with_the_same_webhook_id(
    ask: Ask, sandbox: Sandbox, runner: asyncio.Runner, receiver: Receiver, status: int
) -> None:
    receiver.answers = [status, status]
    subscribe(ask, receiver.url)
    change(ask, opened(ask, sandbox), status="acknowledged")
    found = settled(ask, runner)
    assert [(row["event_type"], row["attempts"], row["outcome"]) for row in found] == [
        ("incident.triggered", 3, "delivered"),
        ("incident.acknowledged", 1, "delivered"),
    ]
    # The second event of the incident waited for the first.
    assert receiver.types() == ["incident.triggered"] * 3 + ["incident.acknowledged"]
    assert len({headers["x-webhook-id"] for headers, _ in receiver.requests[:3]}) == 1
    assert len({body for _, body in receiver.requests[:3]}) == 1


def test_after_five_attempts_a_webhook_is_dropped(
    ask: Ask, sandbox: Sandbox, runner: asyncio.Runner, receiver: Receiver
) -> None:
    receiver.answers = [500] * 5
    subscribe(ask, receiver.url)
    opened(ask, sandbox)
    (row,) = settled(ask, runner)
    assert (row["attempts"], row["outcome"], len(receiver.requests)) == (5, "dropped", 5)


@pytest.mark.parametrize("status", [400, 404, 410, 302])
def test_a_refusal_is_not_tried_again_and_no_redirect_is_followed(
    ask: Ask, sandbox: Sandbox, runner: asyncio.Runner, receiver: Receiver, status: int
) -> None:
    receiver.answers = [status]
    subscribe(ask, receiver.url)
    opened(ask, sandbox)
    (row,) = settled(ask, runner)
    assert (row["attempts"], row["outcome"], receiver.paths) == (1, "dropped", ["/hook"])


def test_no_answer_within_the_time_limit_is_tried_again(
    ask: Ask, sandbox: Sandbox, runner: asyncio.Runner, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "TIME_LIMIT", 0.3)
    receiver.answers = [0]
    subscribe(ask, receiver.url)
    opened(ask, sandbox)
    (row,) = settled(ask, runner)
    assert (row["attempts"], row["outcome"]) == (2, "delivered")


def test_the_answer_does_not_wait_for_the_webhook(
    ask: Ask, sandbox: Sandbox, runner: asyncio.Runner, receiver: Receiver
) -> None:
    receiver.answers = [0]
    subscribe(ask, receiver.url)
    start = time.monotonic()
    opened(ask, sandbox)
    assert time.monotonic() - start < 0.9
    assert [row["outcome"] for row in settled(ask, runner)] == ["delivered"]
    assert time.monotonic() - start >= 1


def test_after_three_dropped_webhooks_a_subscription_is_disabled_for_a_day(
    ask: Ask, sandbox: Sandbox, runner: asyncio.Runner, receiver: Receiver
) -> None:
    receiver.answers = [404] * 3
    path = f"/webhook_subscriptions/{subscribe(ask, receiver.url)['id']}"
    for _ in range(3):
        assert not ask("GET", path).json()["webhook_subscription"]["delivery_method"]["temporarily_disabled"]
        opened(ask, sandbox)
        settled(ask, runner)
    assert ask("GET", path).json()["webhook_subscription"]["delivery_method"]["temporarily_disabled"]
    opened(ask, sandbox)
    settled(ask, runner)
    assert len(receiver.requests) == 3


@pytest.mark.parametrize(
    "url",
    [
        "http://192.0.2.1/hook",
        "http://hooks.sandbox.example/hook",
        "http://127.0.0.1.example.com/hook",
        "http://127.0.0.1@192.0.2.1/hook",
        "http://0.0.0.0/hook",
        "http://[::ffff:192.0.2.1]/hook",
        "http://169.254.169.254/latest",
    ],
)
def test_nothing_is_sent_to_a_stranger(ask: Ask, sandbox: Sandbox, runner: asyncio.Runner, url: str) -> None:
    subscribe(ask, url)
    opened(ask, sandbox)
    assert [(row["outcome"], row["attempts"]) for row in settled(ask, runner) if row["url"] == url] == [("refused", 0)]


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1/", "https://127.8.8.8:8443/", "http://localhost:1/", "http://[::1]/"]
)
def test_loopback_addresses_are_no_strangers(url: str) -> None:
    assert is_loopback(url)


def test_a_sandbox_that_was_started_so_sends_anywhere(runner: asyncio.Runner) -> None:
    # Nobody answers at this address of this machine: the attempts show that it was tried.
    sandbox = Sandbox(7, NOW, webhooks_anywhere=True)
    sandbox.world.webhooks = [{**sandbox.world.webhooks[0], "url": "http://0.0.0.0:9/hook"}]

    async def tell() -> None:
        sandbox.world.outbox.append(("incident.triggered", sandbox.world.incidents[-1], None, sandbox.world.now, None))
        sandbox.deliveries.send(sandbox.world)
        await asyncio.gather(*sandbox.deliveries.tasks)

    runner.run(tell())
    assert [row.outcome for row in sandbox.deliveries.kept] == ["dropped"]
    assert sandbox.deliveries.kept[0].attempts == 5


def test_a_deleted_subscription_gets_nothing(
    ask: Ask, sandbox: Sandbox, runner: asyncio.Runner, receiver: Receiver
) -> None:
    made = subscribe(ask, receiver.url)
    assert ask("DELETE", f"/webhook_subscriptions/{made['id']}").status_code == 204
    assert ask("GET", f"/webhook_subscriptions/{made['id']}").status_code == 404
    assert ask("DELETE", f"/webhook_subscriptions/{made['id']}").status_code == 404
    opened(ask, sandbox)
    settled(ask, runner)
    assert receiver.requests == []


def test_a_refused_call_tells_nobody(ask: Ask, sandbox: Sandbox, runner: asyncio.Runner, receiver: Receiver) -> None:
    subscribe(ask, receiver.url)
    incident = sandbox.world.incidents[-1].id
    assert ask("PUT", f"/incidents/{incident}", {"incident": {"status": "resolved", "urgency": "odd"}}).is_error
    assert ask("GET", "/incidents?limit=1").is_success
    settled(ask, runner)
    assert receiver.requests == []


def test_the_secret_and_the_values_of_headers_are_told_once(ask: Ask) -> None:
    headers = [{"name": "X-Key", "value": "hidden value"}]
    made = subscribe(ask, "https://example.com/x", custom_headers=headers)
    assert len(made["delivery_method"]["secret"]) == 64
    assert made["delivery_method"]["custom_headers"] == headers
    for answer in (ask("GET", f"/webhook_subscriptions/{made['id']}"), ask("GET", "/webhook_subscriptions?limit=100")):
        assert made["delivery_method"]["secret"] not in answer.text
        assert "hidden value" not in answer.text
        assert "X-Key" in answer.text
    shown = ask("GET", f"/webhook_subscriptions/{made['id']}").json()["webhook_subscription"]
    assert shown["delivery_method"]["secret"] is None
    another = subscribe(ask, "https://example.com/x")
    assert another["delivery_method"]["secret"] != made["delivery_method"]["secret"]


def test_subscriptions_are_listed_by_what_they_filter_by(ask: Ask, sandbox: Sandbox) -> None:
    service = sandbox.world.services[0]["id"]
    made = subscribe(ask, "https://example.com/x", {"type": "service_reference", "id": service})

    def listed(query: str) -> list[str]:
        found = ask("GET", f"/webhook_subscriptions?{query}").json()["webhook_subscriptions"]
        return [row["id"] for row in found]

    assert listed(f"filter_type=service&filter_id={service}") == [made["id"]]
    assert listed("filter_type=account") == [sandbox.world.webhooks[0]["id"]]
    assert made["id"] in listed("")
    assert ask("GET", "/webhook_subscriptions?filter_type=service").status_code == 400
    assert ask("GET", "/webhook_subscriptions?filter_type=planet").status_code == 400


@pytest.mark.parametrize(
    ("change_", "sentence"),
    [
        ({"events": []}, "Events cannot be empty."),
        ({"events": ["incident.exploded"]}, "Events 1 must be"),
        ({"events": ["incident.triggered"] * 2}, "Events must be unique"),
        ({"filter": {"type": "service_reference"}}, "Filter must name a service of the account"),
        ({"filter": {"type": "team_reference", "id": "PNONE"}}, "Filter must name a team of the account"),
        ({"filter": {"type": "planet_reference"}}, "Filter type must be"),
        ({"delivery_method": {"type": "http_delivery_method", "url": "ftp://x"}}, "Delivery method url must be"),
        ({"delivery_method": {"type": "http_delivery_method", "url": "http://[::1"}}, "Delivery method url must be"),
        ({"delivery_method": {"type": "pigeon", "url": "http://x"}}, "Delivery method type must be"),
        (
            {
                "delivery_method": {
                    "type": "http_delivery_method",
                    "url": "http://x",
                    "custom_headers": [{"name": "a", "value": "x\r\ny: z"}],
                }
            },
            "Delivery method custom headers 1 value must be",
        ),
        (
            {
                "delivery_method": {
                    "type": "http_delivery_method",
                    "url": "http://x",
                    "custom_headers": [{"name": "a", "value": "1"}, {"name": "A", "value": "2"}],
                }
            },
            "Names of custom headers must be unique",
        ),
    ],
)
def test_what_is_wrong_with_a_subscription_is_said(ask: Ask, change_: dict[str, Any], sentence: str) -> None:
    good = {
        "type": "webhook_subscription",
        "delivery_method": {"type": "http_delivery_method", "url": "http://localhost/x"},
        "events": ["incident.triggered"],
        "filter": ALL,
    }
    answer = ask("POST", "/webhook_subscriptions", {"webhook_subscription": good | change_})
    assert answer.status_code == 400
    assert answer.json()["error"]["errors"][0].startswith(sentence)


def test_there_are_ten_subscriptions_with_one_filter(ask: Ask, sandbox: Sandbox) -> None:
    filter_ = {"type": "service_reference", "id": sandbox.world.services[0]["id"]}
    body = {
        "delivery_method": {"type": "http_delivery_method", "url": "http://localhost/x"},
        "events": ["incident.triggered"],
        "filter": filter_,
    }
    statuses = [ask("POST", "/webhook_subscriptions", {"webhook_subscription": body}).status_code for _ in range(11)]
    assert statuses == [200] * 10 + [400]


def test_extension_schemas_are_listed_by_page_and_shown(ask: Ask) -> None:
    first = ask("GET", "/extension_schemas?limit=4").json()
    rest = ask("GET", "/extension_schemas?limit=4&offset=4").json()
    assert (first["more"], rest["more"]) == (True, False)
    keys = [row["key"] for row in first["extension_schemas"] + rest["extension_schemas"]]
    assert len(keys) == len(set(keys)) == 6
    one = rest["extension_schemas"][0]
    assert ask("GET", f"/extension_schemas/{one['id']}").json()["extension_schema"] == one
    assert ask("GET", "/extension_schemas/PNONE").status_code == 404


def test_each_event_shows_the_incident_as_it_was_then(
    ask: Ask, sandbox: Sandbox, runner: asyncio.Runner, receiver: Receiver
) -> None:
    subscribe(ask, receiver.url)
    incident = opened(ask, sandbox)
    change(ask, incident, status="acknowledged", escalation_level=2)
    change(ask, incident, status="resolved")
    change(ask, incident, status="acknowledged")
    settled(ask, runner)
    assert [(event["event_type"], event["data"]["status"]) for event in receiver.events()] == [
        ("incident.triggered", "triggered"),
        ("incident.escalated", "triggered"),
        ("incident.acknowledged", "acknowledged"),
        ("incident.resolved", "resolved"),
        ("incident.reopened", "triggered"),
        ("incident.acknowledged", "acknowledged"),
    ]


def test_another_service_type_or_bridge_is_told_and_the_same_again_is_not(
    ask: Ask, sandbox: Sandbox, runner: asyncio.Runner, receiver: Receiver
) -> None:
    subscribe(ask, receiver.url)
    incident = opened(ask, sandbox)
    kind = next(
        row["name"] for row in sandbox.world.incident_types if row["enabled"] and row["name"] != "incident_default"
    )
    changed = {
        "service": {"id": sandbox.world.services[1]["id"], "type": "service_reference"},
        "incident_type": {"name": kind},
        "conference_bridge": {"conference_number": "+1 415-555-1212", "conference_url": "https://meet.example.com/1"},
    }
    for _ in range(2):
        change(ask, incident, **changed)
    settled(ask, runner)
    assert receiver.types() == [
        "incident.triggered",
        "incident.service_updated",
        "incident.incident_type.changed",
        "incident.conference_bridge.updated",
    ]


def test_a_snooze_that_ends_is_told_without_anybody_asking(
    ask: Ask, sandbox: Sandbox, runner: asyncio.Runner, receiver: Receiver
) -> None:
    subscribe(ask, receiver.url, events=("incident.unacknowledged",))
    incident = opened(ask, sandbox)
    change(ask, incident, status="acknowledged")
    assert ask("POST", f"/incidents/{incident}/snooze", {"duration": 1}).status_code == 201
    runner.run(asyncio.sleep(1.6))
    assert receiver.types() == ["incident.unacknowledged"]


def test_a_bridge_is_told_as_numbers_and_an_address(
    ask: Ask, sandbox: Sandbox, runner: asyncio.Runner, receiver: Receiver
) -> None:
    subscribe(ask, receiver.url, events=("incident.conference_bridge.updated",))
    incident = opened(ask, sandbox)
    bridge = {"conference_number": "+1 415-555-1212", "conference_url": "https://meet.example.com/1"}
    change(ask, incident, conference_bridge=bridge)
    change(ask, incident, conference_bridge={"conference_url": bridge["conference_url"]})
    settled(ask, runner)
    assert [event["data"]["incident"]["id"] for event in receiver.events()] == [incident] * 2
    told = {"conference_url": bridge["conference_url"], "type": "incident_conference_bridge"}
    assert [{name: event["data"][name] for name in (*told, "conference_numbers")} for event in receiver.events()] == [
        {**told, "conference_numbers": [{"label": "", "number": bridge["conference_number"]}]},
        {**told, "conference_numbers": []},
    ]


def test_a_webhook_tells_the_reason_of_a_merge_as_the_incident_does(
    ask: Ask, sandbox: Sandbox, runner: asyncio.Runner, receiver: Receiver
) -> None:
    subscribe(ask, receiver.url, events=("incident.resolved",))
    target, source = opened(ask, sandbox), opened(ask, sandbox)
    ask("PUT", f"/incidents/{target}/merge", {"source_incidents": [{"id": source, "type": "incident_reference"}]})
    settled(ask, runner)
    shown = ask("GET", f"/incidents/{source}").json()["incident"]
    assert [event["data"]["resolve_reason"] for event in receiver.events()] == [shown["resolve_reason"]]


def test_the_end_of_a_snooze_is_told_as_it_was_before_the_call_that_found_it(
    ask: Ask, sandbox: Sandbox, runner: asyncio.Runner, receiver: Receiver
) -> None:
    subscribe(ask, receiver.url)
    incident = opened(ask, sandbox)
    assert ask("POST", f"/incidents/{incident}/snooze", {"duration": 600}).status_code == 201
    sandbox._offset += 700
    change(ask, incident, status="resolved")
    settled(ask, runner)
    assert [(event["event_type"], event["data"]["status"]) for event in receiver.events()][-2:] == [
        ("incident.unacknowledged", "triggered"),
        ("incident.resolved", "resolved"),
    ]


@pytest.mark.parametrize("end", ["reset", "shutdown"])
def test_nothing_wakes_once_the_account_is_gone(
    ask: Ask, sandbox: Sandbox, runner: asyncio.Runner, receiver: Receiver, end: str
) -> None:
    incident = opened(ask, sandbox)
    assert ask("POST", f"/incidents/{incident}/snooze", {"duration": 1}).status_code == 201
    world = sandbox.world
    if end == "reset":
        assert ask("POST", "/_sandbox/reset").is_success
    else:
        messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
        sent: list[str] = []

        async def receive() -> dict[str, Any]:
            return messages.pop(0)

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message["type"])

        runner.run(sandbox({"type": "lifespan"}, receive, send))
        assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert sandbox._alarm is None
    sandbox._offset += 10
    runner.run(asyncio.sleep(1.3))
    assert next(row for row in world.incidents if row.id == incident).status == "acknowledged"
