"""A phone number, an address, a calendar's URL and a key in every field that PagerDuty's schema gives to an answer of an
operation that a tool needs: through the REST door, every tool on. Nowhere unmasked; and where a team is shown them, on record.

A field is maskable by its name, or by where it stands (``planted`` says which). All other fields hold what people and their
monitoring wrote, or what PagerDuty says of itself: they are content, and pass. ``CONTENT`` names every one of them: a field
that PagerDuty adds is in neither, and fails here until somebody has decided which it is.
"""

from __future__ import annotations

import json
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from integrations.pagerduty.catalog import OPERATIONS, TOOLS
from integrations.pagerduty.sandbox.world import generate
from tests.calls import calls as all_calls
from tests.gateway.processes import Answer, Portal, free_port
from tests.gateway.test_every_tool import NEEDED, NOW, SEED, as_a_tool_may
from tests.published_schema import as_published, published

CANARIES = {
    "addresses": "+14155550123",
    "calendars": "https://acme.pagerduty.com/private/canaryfeed/schedule",
    "keys": "canary0key0canary0key0canary0key0",
    "secrets": "canary!secret!canary",
}
EMAIL = "canary@secret.example"
"""The other address: of the methods and entries that are about e-mail."""
ALL = (*CANARIES.values(), EMAIL)
BY_NAME = {
    **dict.fromkeys(("address", "phone_number", "conference_number", "conferenceAddress"), "addresses"),
    **dict.fromkeys(("http_cal_url", "web_cal_url", "personal_http_cal_url", "personal_web_cal_url"), "calendars"),
    **dict.fromkeys(("routing_key", "integration_key", "integration_email", "service_key"), "keys"),
    **dict.fromkeys(("raw_url", "secret"), "secrets"),
    **dict.fromkeys(("process_automation_job_arguments", "invocation_command", "script"), "secrets"),
    "conference_url": "addresses",
}
"""Written down here, not taken from the portal's own table."""
TYPED = ("custom_headers", "headers", "inputs", "parameters")
"""What a webhook, an orchestration's action or a workflow's step has as names with values."""
HOOKS = ("delivery_method", "automation_actions")
ASKED_FOR = {"listIncidents", "getIncident", "listIncidentAlerts", "getIncidentAlert"}
"""They hold references, and whole people only where ``include[]`` asks for them; the schema does not tell the two apart."""

CONTENT = {
    "what people and their monitoring wrote for whoever handles an incident": """
        title summary description details body note content message messages html_message subject mined_text reason text
        alt annotate changeset old_value value name label display_name job_title result feature errors""",
    "who somebody is: it is their name in PagerDuty, and what writes are made as": """
        email acknowledged_user_names assigned_user_names joined_user_names resolved_by_user_name responder_name""",
    "what things are called": """
        incident_description incident_priority_name incident_type_name escalation_policy_name priority_name priority_names
        service service_name service_team_name team_name point_of_contact reference_name value_name namespace""",
    "ids and what they are joined by": """
        id acknowledged_user_ids action_id assigned_user_ids cluster_id custom_shift_id escalation_policy
        escalation_policy_id escalation_policy_ids escalation_policy_requests file incident_id incident_key incident_priority_id
        incident_type_id incident_type_ids joined_user_ids next_cursor override_id priority priority_id priority_ids
        process_automation_job_id request_id resolved_by_user_id resource_id responder_id responder_ids response_play
        rotation_id rule_id runner_id service_id service_ids service_team_id shift_id team_id team_ids user_id version
        alert_key key first last fields iag_fields send_types""",
    "pages of PagerDuty's, pictures and documents": """
        self html_url href src avatar_url icon_url logo_url guide_url url""",
    "words of PagerDuty's": """
        abilities action action_type aggregate aggregate_unit alert_creation alert_grouping assigned_via body_content_type
        color data_type default_role device_type email_filter_mode email_incident_creation email_parsing_fallback
        escalation_rule_assignment_strategy event_action events feature_type field_type from_email_mode body_mode
        subject_mode grouping_classification grouping_type incident_urgency lookup_by migrated_status migrated_via
        on_call_handoff_notifications order order_by parameter_type part post_type range_start resource_type responder_type
        response_status reviewed_status role route_to severity state status status_page_type to_urgency
        total_incidents_auto_resolved total_off_hour_interruptions trigger_types urgency warning_type""",
    "times that the schema gives as plain texts": """
        created_at created_at_end created_at_start date_range_end date_range_start end incident_created_at recurrence
        requested_at resolved_at responded_at since start start_time_of_day time_zone until updated_at""",
    "how events are matched and changed: patterns, paths, templates": """
        body_regex ends_with from_email_regex matcher path process_automation_node_filter regex source starts_after
        subject_regex target template""",
    "where somebody or something called from, which the trail of changes is for": """
        host remote_address truncated_token""",
    "of entries about what is no e-mail: from which state to which": "from to",
    "a field that the schema forgot to name": "-",
}
"""Why fields pass → their names. Some of them hold an address or a secret in certain places: ``maskable``."""
PASSES = {name.strip("-") for names in CONTENT.values() for name in names.split()}


# Schema


def resolved(folder: Path, node: Any) -> Any:
    while isinstance(node, dict) and "$ref" in node:
        target: Any = as_published(folder)
        for part in node["$ref"].removeprefix("#/").split("/"):
            part = part.replace("~1", "/").replace("~0", "~")
            target = target[int(part)] if isinstance(target, list) else target[part]
        node = target
    return node


@dataclass
class Shape:
    """Makes documents as the schema has them, with every field: where it lets one of several stand, the ``variant``-th."""

    folder: Path
    variant: int
    most: int = 1
    """The most that it lets stand anywhere."""

    def __post_init__(self) -> None:
        self._made: Counter[tuple[str, str]] = Counter()

    def of(self, schema: Any, name: str = "") -> Any:
        reference = schema.get("$ref", "") if isinstance(schema, dict) else ""
        if reference:
            # Once under each name: the schema is a net of all in all.
            self._made[reference, name] += 1
            if self._made[reference, name] > 1:
                return None
        node = resolved(self.folder, schema)
        several = node.get("oneOf") or node.get("anyOf")
        if node.get("type") == "array" or "items" in node:
            items = resolved(self.folder, node.get("items", {}))
            each = items.get("oneOf") or items.get("anyOf")
            parts = [{**items, "oneOf": [one], "anyOf": None} for one in each] if each else [node.get("items", {})]
            return [made for part in parts if (made := self.of(part, name)) is not None]
        fields: dict[str, Any] = {}
        for part in node.get("allOf", ()):
            made = self.of(part, name)
            fields |= made if isinstance(made, dict) else {}
        if several:
            self.most = max(self.most, len(several))
            made = self.of(several[self.variant % len(several)], name)
            if not isinstance(made, dict):
                return fields or made
            fields |= made
        for field, inner in node.get("properties", {}).items():
            made = self.of(inner, field)
            if made is not None or field not in fields:
                fields[field] = made
        if fields or node.get("type") == "object":
            return fields
        if "enum" in node:
            return next((word for word in node["enum"] if word), None)
        if node.get("type") in ("integer", "number", "boolean"):
            return 3 if node["type"] != "boolean" else True
        return Time() if node.get("format") in ("date-time", "date", "time") else "x"


class Time(str):
    """A field that holds a time: nothing is planted in it."""

    __slots__ = ()

    def __new__(cls) -> Time:
        return super().__new__(cls, "2026-11-23T12:00:00Z")


def good(folder: Path, operation: str) -> Any:
    """The schema of a good answer; None: it has no body."""
    found = OPERATIONS[operation]
    answers = published(folder, found.method, found.path)["responses"]
    answer = resolved(folder, answers[min(status for status in answers if status.startswith("2"))])
    return next(iter(answer["content"].values()))["schema"] if answer.get("content") else None


def documents(folder: Path, operation: str) -> Iterator[Any]:
    """As many as it takes for every field to be in one."""
    schema, variant, most = good(folder, operation), 0, 1
    while schema is not None and variant < most:
        shape = Shape(folder, variant)
        yield shape.of(schema)
        most, variant = max(most, shape.most), variant + 1


# Planting


def maskable(under: str, node: dict[str, Any], key: str) -> str:
    """The kind of what the field holds; empty: it is content."""
    kind = str(node.get("type") or "")
    if key in BY_NAME:
        return BY_NAME[key]
    if key == "value" and under in TYPED:
        return "secrets"
    if key == "url" and under in HOOKS:
        return "secrets"
    if key in ("value", "before_value") and under == "fields" and "before_value" in node:
        return "addresses"  # of an audit record; ``planted`` says in its name that it is one
    if key in ("summary", "label") and kind.removesuffix("_reference").endswith("contact_method"):
        return "addresses"
    if key in ("from", "to") and kind == "email":
        return "addresses"
    return ""


def planted(root: Any, fill: Callable[[str, str], Any]) -> Any:
    """The document with ``fill(field, kind)`` in each of its texts."""

    def each(under: str, node: Any) -> Any:
        if isinstance(node, list):
            return [fill(under, "") if isinstance(item, str) else each(under, item) for item in node]
        if not isinstance(node, dict):
            return node
        made = {}
        for key, value in node.items():
            kind = maskable(under, node, key)
            text = isinstance(value, str) and not isinstance(value, Time) and key != "type"
            made[key] = fill(key, kind) if text or (kind and type(value) is int) else each(key, value)
        if under == "fields" and "before_value" in node:
            made["name"] = "phone_number"
        return made

    return each("", root)


def only_maskable(field: str, kind: str) -> str:
    if kind == "addresses" and field in ("address", "from", "to"):
        return EMAIL
    return CANARIES[kind] if kind else "x"


def everywhere(field: str, kind: str) -> str:
    return " ".join(ALL)


def texts(node: Any, under: str = "") -> Iterator[tuple[str, str]]:
    """Every text with the name of its field."""
    if isinstance(node, str):
        yield under, node
    elif isinstance(node, list):
        for item in node:
            yield from texts(item, under)
    elif isinstance(node, dict):
        for key, value in node.items():
            yield from texts(value, key)


# The round


class Upstream:
    """Answers each operation with what is set for its path."""

    def __init__(self) -> None:
        answers: dict[tuple[str, str], tuple[int, bytes]] = {}
        self.answers = answers

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # Head and body in one piece, or the kernel waits between them.

            def _answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status, body = answers[self.command, self.path.partition("?")[0]]
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                for place, canary in enumerate(ALL):
                    self.send_header(f"X-Canary-{place}", canary)
                self.send_header("Set-Cookie", f"k={CANARIES['keys']}")
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _answer

            def log_message(self, format: str, *args: Any) -> None:
                return None

        self.server = ThreadingHTTPServer(("127.0.0.1", free_port()), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"


@dataclass(frozen=True)
class Visit:
    operation: str
    sent: Any
    """What the account answered."""
    answer: Answer


@dataclass(frozen=True)
class Round:
    portal: Portal
    masked: list[Visit]
    revealed: list[Visit]
    full: list[Visit]
    refused: list[Visit]
    entries: dict[str, dict[str, Any]]
    """Decision id → the details of its result."""


def bodies(visits: list[Visit]) -> str:
    return "\n".join(visit.answer.body.decode() + json.dumps(visit.answer.headers) for visit in visits)


def plainly(visits: list[Visit]) -> str:
    """What the answers say and whatever they say it as: escapes resolved."""
    return bodies(visits) + "\n".join(
        json.dumps(visit.answer.json(), ensure_ascii=False) for visit in visits if visit.answer.body
    )


@pytest.fixture(scope="module")
def made(schema_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Round]:
    upstream = Upstream()
    portal = Portal(tmp_path_factory.mktemp("portal"), upstream.url)
    try:
        portal.seed(states=dict.fromkeys(TOOLS, "on"))
        # Search is shown all that can be.
        other = portal.shell(
            "from integrations.actions import do_issue_agent_key, do_register_token\n"
            "from integrations.pagerduty.catalog import TOOLS\n"
            "from integrations.pagerduty.masking import REVEALABLE\n"
            "from policies.actions import do_set_reveals, do_set_tools\n"
            "from policies.core.call import State\n"
            "from policies.models import Team, User\n"
            "ada, search = User.objects.get(name='Ada'), Team.objects.get(name='Search')\n"
            "do_set_tools(search, states=dict.fromkeys(TOOLS, State.ON), tools=TOOLS, by=ada, reason='the test')\n"
            "do_set_reveals(search, kinds=list(REVEALABLE), known=REVEALABLE, by=ada, reason='the test')\n"
            "connection = do_register_token(search, name='Other', token='another-TOKEN-0123456789', kind='account',\n"
            "    region='sandbox', by=ada, whole_account=True)\n"
            "print(do_issue_agent_key(connection, name='other', by=ada, tools=TOOLS, calls_per_minute=0)[1])"
        ).strip()
        portal.start(static=True)
        calls = as_a_tool_may(all_calls(generate(SEED, NOW)))
        calls["listIncidents 3"] = ("GET", "/incidents?include%5B%5D=assignees&include%5B%5D=services", None)
        rounds: dict[str, list[Visit]] = defaultdict(list)

        def visit(what: str, name: str, sent: Any, status: int = 200, key: str | None = None) -> None:
            method, path, body = calls[name]
            content = b"" if sent is None else json.dumps(sent).encode()
            upstream.answers[method, path.partition("?")[0]] = (status if content else 204, content)
            answer = portal.call(method, path, body, key=key)
            rounds[what].append(Visit(name.partition(" ")[0], sent, answer))

        for name, (method, path, _) in calls.items():
            operation = name.partition(" ")[0]
            if operation in ASKED_FOR and method == "GET" and "include" not in path:
                continue
            made = 0
            for document in documents(schema_dir, operation):
                visit("masked", name, planted(document, only_maskable))
                visit("revealed", name, planted(document, only_maskable), key=other)
                visit("full", name, planted(document, everywhere))
                made += 1
            if not made:
                visit("masked", name, None)
            sentence = f"The address {EMAIL} or {CANARIES['addresses']} of {CANARIES['calendars']} is taken"
            for error in (
                {"error": {"message": f"Invalid: {CANARIES['addresses']}", "code": 2001, "errors": [sentence]}},
                {"error": {"message": "Invalid", "errors": {"phone_number": [CANARIES["addresses"], 14155550123]}}},
                {"error": f"{EMAIL} exists", "user": {"address": EMAIL, "http_cal_url": CANARIES["calendars"]}},
            ):
                visit("refused", name, error, status=400, key=other)
        entries = {entry["decision_id"]: entry["record"]["details"] for entry in portal.entries(kind="result")}
        yield Round(portal, rounds["masked"], rounds["revealed"], rounds["full"], rounds["refused"], entries)
    finally:
        portal.close()
        upstream.server.shutdown()


def test_every_operation_is_met_and_every_kind_is_planted(made: Round) -> None:
    skipped = {"getIncidentAlert"}  # No tool may ask it for whole people.
    assert {visit.operation for visit in made.masked} == NEEDED - skipped
    for visit in made.masked + made.revealed + made.full:
        assert visit.answer.status in (200, 204), (visit.operation, visit.answer.body[:300])
    sent = json.dumps([visit.sent for visit in made.masked])
    assert {canary: sent.count(canary) > 20 for canary in ALL} == dict.fromkeys(ALL, True)


def test_what_is_planted_in_maskable_fields_is_in_no_answer(made: Round) -> None:
    wrong = {
        visit.operation: [canary for canary in ALL if canary in plainly([visit])]
        for visit in made.masked
        if any(canary in plainly([visit]) for canary in ALL)
    }
    assert wrong == {}


def test_nor_in_a_refusal_by_whatever_words(made: Round) -> None:
    assert len(made.refused) > len(NEEDED)
    assert {visit.answer.status for visit in made.refused} == {400}
    said = plainly(made.refused)
    assert [canary for canary in ALL if canary in said] == []
    assert "14155550123" not in said
    assert "is taken" in said  # The rest of the sentence is what helps.


def test_a_team_that_is_shown_them_sees_each_and_each_is_counted_on_record(made: Round) -> None:
    wrong: dict[str, Any] = {}
    shown: Counter[str] = Counter()
    for visit in made.revealed:
        said, sent = json.dumps(list(texts(visit.answer.json()))), list(texts(visit.sent))
        expected: Counter[str] = Counter()
        for kind in ("addresses", "calendars", "keys"):
            canaries = [CANARIES[kind]] + [EMAIL] * (kind == "addresses")
            expected[kind] = sum(text == canary for _, text in sent for canary in canaries)
            if sum(said.count(json.dumps(canary)) for canary in canaries) != expected[kind]:
                wrong[visit.operation] = ("not shown", kind)
        details = made.entries[visit.answer.headers["x-pagewarden-decision"]]
        if Counter(details.get("revealed", {})) != +expected:
            wrong[visit.operation] = (details.get("revealed"), expected)
        if CANARIES["secrets"] in plainly([visit]):
            wrong[visit.operation] = "a secret is shown"
        shown += expected
    assert wrong == {}
    assert min(shown.values()) > 20
    assert not [
        visit.operation
        for visit in made.masked
        if "revealed" in made.entries[visit.answer.headers["x-pagewarden-decision"]]
    ]


def test_what_passes_is_content_field_by_field(made: Round) -> None:
    passed = {
        field
        for visit in made.full
        if visit.answer.body
        for field, text in texts(visit.answer.json())
        if any(canary in text for canary in ALL)
    }
    assert passed == PASSES, (sorted(passed - PASSES), sorted(PASSES - passed))
    assert not passed & BY_NAME.keys()


def test_none_of_it_is_in_a_row_a_log_or_a_page_of_the_record(made: Round) -> None:
    rows = made.portal.shell(
        "from policies.models import Entry\nprint([list(e.values()) for e in Entry.objects.values()])"
    )
    pages = made.portal.shell(
        "from django.test import Client\n"
        "from policies.models import Entry, User\n"
        "client = Client(headers={'host': '127.0.0.1'})\n"
        "client.force_login(User.objects.get(name='Rhea'))\n"
        "def page(path):\n"
        "    answer = client.get(path)\n"
        "    assert answer.status_code == 200, (path, answer.status_code)\n"
        "    return answer.content.decode()\n"
        "print(page('/audit/?revealed=on'), page('/audit/'))\n"
        "for pk in Entry.objects.order_by('-id').values_list('pk', flat=True)[:80]:\n"
        "    print(page(f'/audit/{pk}/'))\n"
    )
    assert "shown unmasked:" in pages
    everything = rows + pages + made.portal.log()
    assert [canary for canary in ALL if canary in everything] == []
    assert "Traceback" not in made.portal.log()
