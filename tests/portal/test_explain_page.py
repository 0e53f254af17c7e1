"""``/explain/`` and ``/requests/``: what is said of a decision to whom, what changes it, and how a manager is asked."""

from __future__ import annotations

import datetime as dt
import json
import re
from html import unescape
from typing import Any

import pytest
from django.core import mail
from django.core.exceptions import ValidationError
from django.test import Client
from django.utils import timezone

from integrations import requests, tasks
from integrations.actions import do_issue_agent_key
from integrations.models import Connection
from integrations.pagerduty.catalog import TOOLS
from policies import actions
from policies.actions import Refused
from policies.core.call import EntryKind, Outcome, State
from policies.models import AgentKey, Entry, ToolRequest, ToolSetting
from policies.snapshot import current_version
from tests.conftest import Cast
from tests.portal.test_audit_page import note

LOW, HIGH = "update_incident", "merge_incidents"


@pytest.fixture
def key(cast: Cast, connection: Connection) -> AgentKey:
    return do_issue_agent_key(connection, name="On-call bot", by=cast.ada, tools=TOOLS)[0]


@pytest.fixture(autouse=True)
def queued(monkeypatch: pytest.MonkeyPatch, settings: Any) -> list[str]:
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    asked: list[str] = []
    monkeypatch.setattr(tasks.mail_requests, "enqueue", lambda: asked.append("mail"))
    return asked


def denied(cast: Cast, key: AgentKey, tool: str = LOW, rule: str = "tool_off", **details: Any) -> Entry:
    told = {
        "actor": {"kind": "agent", "id": f"key:{key.pk}", "name": key.name},
        "rule": rule,
        "reason": f"{tool} is switched off for Payments.",
        "remedy": "Ask a manager.",
        "policy_version": current_version(),
        **details,
    }
    return note(
        f"d-{Entry.objects.count()}", kind=EntryKind.RESULT, team_id=cast.payments.pk, actor=f"key:{key.pk}", tool=tool,
        verdict="deny", outcome=Outcome.DENIED, details=told,
    )  # fmt: skip


def shown(client: Client, cast: Cast, who: str, query: Any, status: int = 200) -> str:
    client.force_login(getattr(cast, who))
    answer = client.get("/explain/", {"decision": query} if isinstance(query, str) else query)
    assert answer.status_code == status, answer.content.decode()[-2000:]
    return unescape(answer.content.decode())


def switch(cast: Cast, name: str, state: State) -> None:
    actions.do_set_tools(cast.payments, states={name: state}, tools=TOOLS, by=cast.ada, reason="drill")


# By a decision's id


def test_an_old_decision_is_told_by_the_policy_of_then_and_of_now(client: Client, cast: Cast, key: AgentKey) -> None:
    entry = denied(cast, key)
    version = current_version()
    switch(cast, LOW, State.ON)
    actions.do_stop(by=cast.ada, reason="it loops", key=key)
    text = shown(client, cast, "mina", entry.decision_id)
    then, now = text.split("What the policy said then")[1].split("What it would be now")
    assert f"at version {version}" in then
    assert "update_incident is switched off for Payments." in then
    assert "it loops" not in then
    assert "by the rule <code>stopped</code>" in now
    assert "update_incident is switched on for Payments." not in now.split("The kill switch")[0]
    assert f"/audit/{entry.pk}/" in text
    assert "/stops/" in now
    assert f"/explain/?decision={entry.decision_id}" in client.get(f"/audit/{entry.pk}/").content.decode()


def test_what_a_call_was_about_is_told_by_its_record(client: Client, cast: Cast, key: AgentKey) -> None:
    switch(cast, LOW, State.ON)
    entry = denied(cast, key, rule="bounds", reason="PI1 is outside the bounds.")
    text = shown(client, cast, "mina", entry.decision_id)
    assert "PI1 is outside the bounds." in text
    assert "looks at what a call is about" in text
    assert "Another rule decided" not in text
    unknown = denied(cast, key, tool="", rule="not_in_catalogue")
    assert "the same for everybody" in shown(client, cast, "mina", unknown.decision_id)


@pytest.mark.parametrize(
    ("who", "status", "record"),
    [
        ("ada", 200, True),
        ("mina", 200, True),
        ("rhea", 200, True),
        ("vic", 200, False),
        ("omar", 404, False),
        ("zed", 404, False),
    ],
)
def test_people_of_the_team_are_told_why_and_readers_the_record(
    client: Client, cast: Cast, key: AgentKey, who: str, status: int, record: bool
) -> None:
    entry = denied(cast, key)
    text = shown(client, cast, who, entry.decision_id, status)
    assert ("Denied: Update incident" in text) is (status == 200)
    assert (f"/audit/{entry.pk}/" in text) is record
    assert ("What the policy said then" in text) is record


def test_what_is_no_decision_is_said_and_nothing_is_changed_by_a_look(client: Client, cast: Cast) -> None:
    for query in ("nothing", "<script>", "x" * 64):
        assert "There is no decision" in shown(client, cast, "ada", query, 404)
    assert "<script>" not in client.get("/explain/?decision=<script>").content.decode()
    assert "Explain a decision" in shown(client, cast, "zed", {})
    shown(client, cast, "ada", {"tool": LOW, "who": "key:nobody"}, 422)
    shown(client, cast, "ada", {"tool": LOW, "who": "me:payments", "arguments": "[1]"}, 422)
    assert client.post("/explain/").status_code == 405
    assert not Entry.objects.exclude(kind__in=("sign_in", "stream")).exists()


# What would be


def test_the_button_that_changes_it_is_for_those_who_may(client: Client, cast: Cast, key: AgentKey) -> None:
    query = {"who": f"key:{key.pk}", "tool": HIGH}
    text = shown(client, cast, "mina", query)
    [form] = re.findall(r'<form[^>]*action="/teams/payments/tools/">.*?</form>', text, re.DOTALL)
    assert "its risk is high, so it must be said" in form
    sent = dict(re.findall(r'name="(tool|was|state)" value="([^"]*)"', form))
    done = client.post("/teams/payments/tools/", {**sent, "reason": "an outage"}, follow=True)
    assert "is on for Payments." in done.content.decode()
    assert ToolSetting.objects.get().state == "on"
    text = shown(client, cast, "mina", query)
    assert "<strong>Allowed</strong>" in text
    assert "What would change it" not in text
    for who in ("vic", "rhea"):
        assert 'action="/teams/payments/tools/"' not in shown(client, cast, who, {**query, "tool": LOW})


def test_everything_that_stands_in_the_way_is_told(client: Client, cast: Cast, connection: Connection) -> None:
    narrow = do_issue_agent_key(connection, name="narrow", by=cast.ada, tools=TOOLS, narrowed_to=["list_users"])[0]
    actions.do_set_tool_rule(LOW, tools=TOOLS, by=cast.ada, locked=True, reason="an outage")
    actions.do_revoke_key(narrow, by=cast.ada)
    text = shown(client, cast, "ada", {"who": f"key:{narrow.pk}", "tool": LOW}).split("What would change it")[1]
    assert (
        text.index("The key was revoked") < text.index("off for all teams: an outage") < text.index("narrowed to other")
    )
    assert f"/grid/tools/{LOW}/" in text
    assert "It is for an administrator to change." in shown(
        client, cast, "mina", {"who": f"key:{narrow.pk}", "tool": LOW}
    )


def test_arguments_tell_which_calls_it_begins_with(client: Client, cast: Cast, key: AgentKey) -> None:
    query = {"who": f"key:{key.pk}", "tool": "get_incident", "arguments": '{"incident_id": "PI1234A"}'}
    text = shown(client, cast, "mina", query)
    assert "<code>GET /incidents/PI1234A</code>" in text
    wrong = shown(client, cast, "mina", {**query, "arguments": '{"incident": "PI1"}'})
    assert "cannot be sent: get_incident does not take incident." in wrong
    switch(cast, "update_incident", State.ON)
    resolve = {"incident_id": "PI1234A", "status": "resolved"}
    text = shown(client, cast, "mina", {"who": f"key:{key.pk}", "tool": LOW, "arguments": json.dumps(resolve)})
    assert "resolve_incident" in text


# Asking, and being answered


def ask(
    client: Client, cast: Cast, key: AgentKey, who: str = "vic", tool: str = LOW, why: str = "we are on call"
) -> Any:
    client.force_login(getattr(cast, who))
    return client.post("/requests/", {"who": f"key:{key.pk}", "tool": tool, "why": why}, follow=True)


def test_a_member_asks_and_a_manager_allows_with_a_word(
    client: Client, cast: Cast, key: AgentKey, queued: list[str]
) -> None:
    assert 'action="/requests/"' in shown(client, cast, "vic", denied(cast, key).decision_id)
    assert "are asked" in ask(client, cast, key).content.decode()
    row = ToolRequest.objects.get()
    assert queued == ["mail"]
    assert requests.mail_due(timezone.now()) == 1
    [sent] = mail.outbox
    assert (sent.to, sent.subject) == (["mina@example.com"], "Vic asks for Update incident in Payments")
    assert f"/requests/{row.pk}/" in sent.body
    assert "and it waits for" in shown(client, cast, "vic", {"who": f"key:{key.pk}", "tool": LOW})
    client.force_login(cast.mina)
    for page in ("/", "/teams/payments/tools/"):
        assert f"/requests/{row.pk}/" in client.get(page).content.decode()
    path = f"/requests/{row.pk}/"
    assert client.post(path, {"answer": "allow"}).status_code == 422
    assert client.post(path, {"answer": "allow", "word": "for tonight"}).status_code == 302
    assert ToolSetting.objects.get(tool=LOW).state == "on"
    assert "It was answered meanwhile" in client.post(path, {"answer": "decline", "word": "no"}).content.decode()
    assert requests.mail_due(timezone.now()) == 1
    assert (mail.outbox[1].to, "for tonight" in mail.outbox[1].body) == (["vic@example.com"], True)
    assert requests.mail_due(timezone.now()) == 0
    assert f"/requests/{row.pk}/" not in client.get("/").content.decode()
    told = [json.loads(entry.record)["details"] for entry in Entry.objects.filter(kind="config").order_by("pk")]
    assert [(one["action"], one["by"], one["reason"]) for one in told[-3:]] == [
        ("request_tool", "vic@example.com", "we are on call"),
        ("set_tool", "mina@example.com", "for tonight"),
        ("answer_request", "mina@example.com", "for tonight"),
    ]


def test_a_declined_request_changes_nothing(client: Client, cast: Cast, key: AgentKey) -> None:
    ask(client, cast, key)
    row = ToolRequest.objects.get()
    actions.do_answer_request(row, by=cast.mina, allow=False, word="not now", tools=TOOLS)
    assert not ToolSetting.objects.exists()
    text = shown(client, cast, "vic", {"who": f"key:{key.pk}", "tool": LOW})
    assert "declined" in text
    assert "not now" in text
    assert 'action="/requests/"' in text


def test_what_an_administrator_has_locked_since_is_not_allowed_by_a_manager(
    cast: Cast, client: Client, key: AgentKey
) -> None:
    ask(client, cast, key)
    actions.do_set_tool_rule(LOW, tools=TOOLS, by=cast.ada, locked=True, reason="an outage")
    client.force_login(cast.mina)
    answer = client.post(f"/requests/{ToolRequest.objects.get().pk}/", {"answer": "allow", "word": "yes"})
    assert "locked off for all teams" in answer.content.decode()
    assert ToolRequest.objects.get().closed_at is None


def test_one_open_request_and_so_many_a_day(client: Client, cast: Cast, key: AgentKey) -> None:
    ask(client, cast, key)
    assert "You have asked for this already" in ask(client, cast, key).content.decode()
    writes = [name for name, tool in TOOLS.items() if tool.writes and name != LOW]
    for name in writes[: actions.MAXIMUM_REQUESTS_A_DAY - 1]:
        ask(client, cast, key, tool=name)
    assert ToolRequest.objects.count() == actions.MAXIMUM_REQUESTS_A_DAY
    assert "10 times within a day" in ask(client, cast, key, tool=writes[-1]).content.decode()
    assert ToolRequest.objects.count() == actions.MAXIMUM_REQUESTS_A_DAY
    ToolRequest.objects.update(at=timezone.now() - dt.timedelta(days=2))
    ask(client, cast, key, tool=writes[-1])
    assert ToolRequest.objects.count() == actions.MAXIMUM_REQUESTS_A_DAY + 1


@pytest.mark.parametrize(
    ("who", "said"), [("mina", "You may change this yourself"), ("rhea", "Only people of Payments")]
)
def test_whoever_changes_it_themselves_or_nothing_does_not_ask(
    client: Client, cast: Cast, key: AgentKey, who: str, said: str
) -> None:
    assert said in ask(client, cast, key, who).content.decode()
    assert 'action="/requests/"' not in shown(client, cast, who, {"who": f"key:{key.pk}", "tool": LOW})
    assert not ToolRequest.objects.exists()


def test_outsiders_neither_ask_nor_see_nor_answer(client: Client, cast: Cast, key: AgentKey) -> None:
    for who in ("omar", "zed"):
        client.force_login(getattr(cast, who))
        assert client.post("/requests/", {"who": f"key:{key.pk}", "tool": LOW, "why": "x"}).status_code == 404
    ask(client, cast, key)
    path = f"/requests/{ToolRequest.objects.get().pk}/"
    for who, seen, answered in (("omar", 404, 404), ("zed", 404, 404), ("vic", 200, 403), ("rhea", 200, 403)):
        client.force_login(getattr(cast, who))
        assert client.get(path).status_code == seen
        assert client.post(path, {"answer": "allow", "word": "x"}).status_code == answered
    assert client.get("/requests/").status_code == 405
    with pytest.raises(Refused):
        actions.do_answer_request(ToolRequest.objects.get(), by=cast.vic, allow=True, word="x", tools=TOOLS)
    with pytest.raises(ValidationError):
        actions.do_request_tool(
            cast.payments,
            by=cast.vic,
            tool=TOOLS[LOW],
            subject=f"key:{key.pk}",
            subject_name="b",
            rule="tool_off",
            why=" ",
        )


@pytest.mark.parametrize("left", ["the team", "the portal"])
def test_whoever_has_left_is_not_told_the_answer(client: Client, cast: Cast, key: AgentKey, left: str) -> None:
    ask(client, cast, key)
    if left == "the team":
        actions.do_remove_member(cast.payments, user=cast.vic, by=cast.mina)
    else:
        actions.do_update_user(cast.vic, by=cast.ada, is_active=False)
    actions.do_answer_request(ToolRequest.objects.get(), by=cast.mina, allow=False, word="not now", tools=TOOLS)
    requests.mail_due(timezone.now())
    assert mail.outbox == []
    assert ToolRequest.objects.get().mail_due_at is None


def test_a_mail_that_fails_is_tried_again(
    client: Client, cast: Cast, key: AgentKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(client, cast, key)

    def broken(*given: Any, **more: Any) -> None:
        raise OSError("no route")

    now = timezone.now()
    with monkeypatch.context() as patched:
        patched.setattr(requests, "send_mail", broken)
        assert requests.mail_due(now) == 0
    assert requests.mail_due(now) == 0
    assert requests.mail_due(now + requests.AGAIN) == 1
