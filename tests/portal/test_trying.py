"""``/teams/<slug>/try/``: a tool used from a page is decided, bounded, recorded and answered like a call of an assistant."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator
from html import unescape
from typing import Any

import pytest
from django.test import AsyncClient, Client

from integrations.actions import do_register_token, do_set_enabled
from integrations.gateway import runtime, web
from integrations.models import Connection
from integrations.pagerduty.catalog import TOOLS
from integrations.pagerduty.sandbox.world import demo_from_email, demo_tokens
from policies.actions import do_remove_member, do_set_tools, do_stop
from policies.core.call import State
from policies.models import Entry
from portal.forms import ToolForm
from portal.readable import readable
from tests.conftest import Cast
from tests.gateway.processes import free_port, running

TRY = "/teams/payments/try/"
TOKENS = demo_tokens(7)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[str]:
    port = free_port()
    with running("-m", "integrations.pagerduty.sandbox", "--port", str(port), port=port):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def connection(transactional_db: None, cast: Cast, sandbox: str, settings: Any) -> Iterator[Connection]:
    """Payments' connection to the simulated PagerDuty, and a runtime of this test alone."""
    settings.PAGERDUTY_SANDBOX_URL = sandbox
    urllib.request.urlopen(urllib.request.Request(f"{sandbox}/_sandbox/reset", b"{}"), timeout=5).read()
    yield register(cast)
    runtime.current().stop_thread()


def register(cast: Cast, **more: Any) -> Connection:
    values: dict[str, Any] = {"name": "Main", "token": TOKENS["account"].value, "kind": "account", "by": cast.ada}
    values |= {"region": "sandbox", "from_email": demo_from_email(7), "whole_account": True}
    return do_register_token(cast.payments, **{**values, **more})


def as_(client: Client, cast: Cast, who: str) -> Client:
    client.force_login(getattr(cast, who))
    return client


def text_of(answer: Any) -> str:
    return unescape(answer.content.decode())


def raw(answer: Any) -> Any:
    [found] = re.findall(r'<pre [^>]*id="raw"[^>]*>(.*?)</pre>', answer.content.decode(), re.DOTALL)
    return json.loads(unescape(found))


def entries(actor: str) -> list[tuple[str, str, str, str]]:
    rows = Entry.objects.filter(actor=actor, kind__in=("intent", "result")).order_by("pk")
    return list(rows.values_list("kind", "tool", "verdict", "outcome"))


def test_a_member_reads_as_themselves_and_it_is_on_record(client: Client, cast: Cast, connection: Connection) -> None:
    form = as_(client, cast, "vic").get(f"{TRY}?tool=list_incidents").content.decode()
    assert 'name="given-limit" min="1" max="100"' in form
    answer = client.post(f"{TRY}?tool=list_incidents", {"given-limit": "3", "given-statuses": ["triggered"]})
    document = raw(answer)
    assert [row["status"] for row in document["incidents"]] == ["triggered"] * 3
    assert document["incidents"][0]["id"] in text_of(answer).split('id="raw"')[0]
    [row] = Entry.objects.filter(actor=f"user:{cast.vic.pk}", kind="result")
    details = json.loads(row.record)["details"]
    assert (row.team_id, row.tool, row.verdict, row.outcome) == (cast.payments.pk, "list_incidents", "allow", "done")
    assert (details["door"], details["actor"]["name"], details["use"]["tool"]) == ("web", "Vic", "list_incidents")
    # The record is not for members.
    assert "entry " not in text_of(answer)
    assert f"/audit/{row.pk}/" in text_of(as_(client, cast, "mina").get(f"/audit/?q=use:{details['use']['id']}"))


def test_a_write_says_what_it_will_do_and_is_done_once(client: Client, cast: Cast, connection: Connection) -> None:
    do_set_tools(cast.payments, states={"add_note_to_incident": State.ON}, tools=TOOLS, by=cast.mina)
    path, given = (
        f"{TRY}?tool=add_note_to_incident",
        {"given-incident_id": "PI0003PA", "given-note": "Looked\nagain <b>"},
    )
    asked = as_(client, cast, "mina").post(path, given)
    assert "Confirm: this writes to PagerDuty" in text_of(asked)
    assert "PI0003PA" in text_of(asked)
    assert "<b>" not in asked.content.decode()
    assert entries(f"user:{cast.mina.pk}") == []
    hidden = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', asked.content.decode()))
    sent = {**{name: unescape(value) for name, value in hidden.items()}, "confirm": "yes"}
    assert sent["given-note"] == given["given-note"]
    first, second = client.post(path, sent), client.post(path, sent)
    assert "note" in raw(first)
    assert "was done before" in raw(second)["notes"][0]
    assert entries(f"user:{cast.mina.pk}") == [
        ("intent", "add_note_to_incident", "allow", "intended"),
        ("result", "add_note_to_incident", "allow", "done"),
        ("result", "add_note_to_incident", "allow", "replayed"),
    ]
    # Without its page nothing is done either.
    assert "Confirm" in text_of(client.post(path, {**given, "confirm": "yes"}))


@pytest.mark.parametrize(
    ("who", "tool", "rule"), [("mina", "resolve_incident", "tool_off"), ("vic", "update_incident", "role")]
)
def test_a_denial_is_recorded_and_leads_to_its_explanation(
    client: Client, cast: Cast, connection: Connection, who: str, tool: str, rule: str
) -> None:
    do_set_tools(cast.payments, states={"update_incident": State.ON}, tools=TOOLS, by=cast.mina)
    given = {"given-incident_id": "PI0003PA", "confirm": "yes", "once": "0" * 32}
    answer = as_(client, cast, who).post(f"{TRY}?tool={tool}", given)
    error = raw(answer)["error"]
    assert (error["kind"], error["rule"]) == ("denied", rule)
    assert f"/explain/?decision={error['decision_id']}" in text_of(answer)
    [row] = Entry.objects.filter(actor=f"user:{getattr(cast, who).pk}", kind="result")
    assert (row.decision_id, row.outcome) == (error["decision_id"], "denied")
    explained = client.get(f"/explain/?decision={error['decision_id']}")
    assert f"<code>{rule}</code>" in text_of(explained)


def test_stops_bounds_and_a_lost_role_bind_people_too(client: Client, cast: Cast, connection: Connection) -> None:
    bounded = register(cast, name="Ours", token=TOKENS["account_2"].value, whole_account=False, team_ids=["PTEAM00"])
    as_(client, cast, "vic")

    def rule(tool: str, connection: Connection = connection, **given: str) -> str:
        answer = client.post(f"{TRY}?tool={tool}&connection={connection.pk}", given)
        return (
            str(raw(answer).get("error", {}).get("rule", "")) if answer.status_code == 200 else str(answer.status_code)
        )

    assert rule("list_priorities", bounded) == "bounds"
    assert rule("get_service", bounded, **{"given-service_id": "PSVC00E"}) == "bounds"
    assert rule("list_incidents", bounded) == ""
    do_set_enabled(connection, False, by=cast.mina, reason="holiday")
    assert rule("list_incidents") == "suspended"
    do_stop(by=cast.mina, reason="it loops", team=cast.payments)
    assert rule("list_incidents", bounded) == "stopped"
    do_remove_member(cast.payments, user=cast.vic, by=cast.mina)
    assert rule("list_incidents", bounded) == "404"


def test_a_person_makes_no_more_calls_than_an_agent(
    client: Client, cast: Cast, connection: Connection, settings: Any
) -> None:
    settings.CALLS_PER_MINUTE = 1
    answers = [as_(client, cast, who).post(f"{TRY}?tool=list_incidents") for who in ("vic", "vic", "mina")]
    said = "Vic may make 1 calls a minute, and has made them."
    assert [said in text_of(each) for each in answers] == [False, True, False]
    assert [outcome for *_, outcome in entries(f"user:{cast.vic.pk}")] == ["done", "denied"]


def test_what_is_wrong_is_said_at_its_field_and_what_fails_with_what_to_do(
    client: Client, cast: Cast, connection: Connection, sandbox: str, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_(client, cast, "vic")
    assert client.post(f"{TRY}?tool=get_incident", {}).status_code == 422
    wrong = client.post(f"{TRY}?tool=list_incidents", {"given-since": "yesterday"})
    assert wrong.status_code == 422
    assert "since is no time in ISO 8601" in text_of(wrong)
    missing = client.post(f"{TRY}?tool=get_incident", {"given-incident_id": "PNONE00"})
    assert "Look the id up again" in text_of(missing)
    settings.CALL_TIME_LIMIT = 1.0
    runtime.current().stop_thread()

    def slow() -> str:
        body = json.dumps({"fault": "slow:3", "count": 2}).encode()
        urllib.request.urlopen(urllib.request.Request(f"{sandbox}/_sandbox/fault", body), timeout=5).read()
        return text_of(client.post(f"{TRY}?tool=list_incidents", {}))

    assert "PagerDuty did not answer in time." in slow()
    # Of a use that takes several calls the page itself stops waiting.
    monkeypatch.setattr(web, "GRACE", -0.5)
    assert "so this page stopped waiting. Nothing was changed." in re.sub("</?strong>", "", slow())


def test_pages_reach_the_pipeline_under_asgi_too(cast: Cast, connection: Connection) -> None:
    from asgiref.sync import async_to_sync

    client = AsyncClient()
    client.force_login(cast.mina)

    async def post() -> Any:
        return await client.post(f"{TRY}?tool=list_services", {"given-limit": "1"})

    assert len(raw(async_to_sync(post)())["services"]) == 1


# Who may, and what the form is


@pytest.mark.parametrize(
    ("who", "status"), [("ada", 200), ("mina", 200), ("vic", 200), ("rhea", 403), ("omar", 404), ("zed", 404)]
)
def test_only_people_of_the_team_try_its_tools(client: Client, cast: Cast, who: str, status: int) -> None:
    as_(client, cast, who)
    assert client.get(TRY).status_code == status
    assert client.post(f"{TRY}?tool=list_incidents").status_code == (404 if status == 200 else status)
    if status == 200:
        assert "has no connection to PagerDuty yet" in text_of(client.get(f"{TRY}?tool=list_incidents"))
        assert client.get(f"{TRY}?tool=nonsense").status_code == 404
        assert client.get(f"{TRY}?connection=nonsense").status_code == 404


def test_every_tool_has_a_form_of_its_schema() -> None:
    for tool in TOOLS.values():
        form, schema = ToolForm(tool), tool.input_schema
        shown = form.as_p()
        assert set(schema["properties"]) <= set(form.fields), tool.name
        assert {name for name, field in form.fields.items() if field.required} == set(schema["required"]), tool.name
        assert all(f'name="given-{name}"' in shown for name in form.fields), tool.name
        assert ToolForm(tool, {}).is_valid() is not bool(schema["required"]), tool.name


def test_what_is_filled_in_becomes_arguments_of_the_schemas_kinds() -> None:
    given = {"given-name": "Standard", "given-level_targets": "PUSR001\n PUSR002 \n\n", "given-level_delays": "30\n15"}
    form = ToolForm(TOOLS["create_escalation_policy"], given)
    form.is_valid()
    assert form.cleaned_data["level_delays"] == [30, 15]
    assert not ToolForm(TOOLS["create_escalation_policy"], {**given, "given-level_delays": "soon"}).is_valid()
    read = ToolForm(
        TOOLS["list_incidents"], {"given-limit": "5", "given-statuses": ["triggered"], "given-user_ids": "P1\nP2"}
    )
    assert read.is_valid()
    assert read.arguments() == {"limit": 5, "statuses": ["triggered"], "user_ids": ["P1", "P2"]}


def test_an_answer_is_readable_whatever_is_in_it() -> None:
    hostile = "<script>alert(1)</script>\u202e" + "x" * 10_000
    deep: Any = "end"
    for _ in range(50):
        deep = {"in": deep}
    found = readable({"a": {"outside": hostile}, "many": [{"n": n} for n in range(500)], "deep": deep, "none": None})
    told = dict(found.facts)
    assert told["A"].outside
    assert "\\u202e" in told["A"].text
    assert len(told["A"].text) <= 2_000
    assert (len(told["Many"].rows), told["Many"].more) == (100, 400)
    assert told["None"].text == "—"
    assert readable({"id": "P1", "name": {"outside": "Checkout"}}).text == "Checkout (P1)"
    (name, written), *_ = readable({"outside": {"summary": hostile, "lines": [{"n": 1}]}}).facts
    assert (name, written.text[:10], written.outside) == ("Summary", hostile[:10], True)
    assert readable(["a", 1, True]).text == "a, 1, yes"
    assert readable([]).text == "none"
