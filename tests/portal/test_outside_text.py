"""Names and messages from outside, at each place where people or programs read them: a finding, a page, a terminal, a mail, an
entry. ``tests/policies/test_text.py`` tells what becomes of them; ``test_hostile_pages.py`` goes through every page."""

from __future__ import annotations

import datetime as dt
import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core import mail
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from integrations import actions as connection_actions
from integrations.gateway.integration import Reply
from integrations.models import Connection, ConnectionTest
from integrations.pagerduty.catalog import TOOLS
from integrations.pagerduty.diagnose import Heard, diagnose, explain_object
from policies.core.call import Entry as NewEntry
from policies.core.call import EntryKind
from policies.core.redact import Redactor
from policies.journal import append_in_transaction
from policies.models import Entry, Stop, Stream
from tests.conftest import Cast

HOSTILE = "Ann\u202e\x1b[31m\r\nBcc: x@example.com\u200b\U000e0041"
WRITTEN = "Ann\\u202e\\x1b[31m Bcc: x@example.com\\u200b\\U000e0041"
ACTING = frozenset("\u202e\x1b\r\u200b\U000e0041")


def fit(text: str) -> bool:
    """Whether it holds the hostile name, and only as it may be shown."""
    return WRITTEN in text and not ACTING & set(text)


def heard(document: Any, status: int = 200) -> Heard:
    return Heard(Reply(status, (("content-type", "application/json"),), json.dumps(document).encode()))


def explained(asked: str, documents: dict[str, Any], **given: Any) -> str:
    def run(method: str, path: str, query: str = "") -> Heard:
        return heard(*((documents[path],) if path in documents else ({"error": {"message": "x", "code": 2100}}, 404)))

    bounds = {"whole_account": True, "team_ids": frozenset[str](), "service_ids": frozenset[str](), **given}
    return explain_object(run, type="service", id_or_name=asked, kind="user", **bounds).message


def test_a_name_of_pagerdutys_in_what_is_found_of_an_object() -> None:
    service = {"id": HOSTILE, "name": HOSTILE, "teams": []}
    assert fit(explained("PSVC001", {"/services/PSVC001": {"service": service}}))
    assert fit(explained("Ann", {"/services": {"services": [service]}}))  # a similar name
    assert fit(explained(f"x{HOSTILE}", {"/services": {"services": []}}))  # what was asked for
    assert fit(explained(HOSTILE, {"/services": {"services": [{**service, "id": "P1"}]}}, whole_account=False))


def test_a_role_and_scopes_that_pagerduty_names_in_what_a_test_finds() -> None:
    tools = [TOOLS["list_incidents"]]

    def user(method: str, path: str, query: str = "") -> Heard:
        return heard({"user": {"id": "P1", "role": HOSTILE}} if path == "/users/me" else {"incidents": []})

    def scopes(method: str, path: str, query: str = "") -> Heard:
        error = {"message": "x", "code": 2010, "required_scopes": f"a {HOSTILE}", "token_scopes": [HOSTILE] * 1_000}
        return heard({"error": error}, 403)

    found = str(diagnose(user, kind="user", region="us", tools=tools).checks)
    assert "Ann\\\\u202e" in found  # cut to what a role may be long
    assert not ACTING & set(found)
    told = diagnose(scopes, kind="oauth", region="us", tools=tools)
    assert fit(" ".join(check.message for check in told.checks))
    assert len(told.scopes) == 200


@pytest.mark.django_db
def test_the_terminal_that_a_connection_is_tested_in(
    cast: Cast, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an earlier release stored, say."""
    Connection.objects.update(name=HOSTILE)
    check = {"ok": True, "message": HOSTILE, "derived": False}
    tool = {"serves": "yes", "tool": "x", "message": HOSTILE, "derived": False}
    findings = {"remedy": HOSTILE, "checks": [check], "tools": [tool]}
    test = ConnectionTest(connection=connection, passed=True, message=HOSTILE, findings=findings)
    monkeypatch.setattr("portal.management.commands.test_connection.run_test", lambda *_, **__: test)
    out = StringIO()
    with pytest.raises(SystemExit):
        call_command("test_connection", "payments", stdout=out)
    lines = out.getvalue().splitlines()
    assert len(lines) == 4
    assert [fit(line) for line in lines] == [True] * 4
    with pytest.raises(SystemExit):
        call_command("test_connection", HOSTILE, stderr=(out := StringIO()))
    assert fit(out.getvalue())


@pytest.mark.django_db
def test_the_terminal_that_tells_what_is_stopped(cast: Cast) -> None:
    Stop.objects.create(subject="key:x", target=HOSTILE, reason=HOSTILE, actor=HOSTILE, by_administrator=True)
    call_command("kill_switch", "status", stdout=(out := StringIO()))
    assert fit(out.getvalue())
    assert out.getvalue().count("\n") == 1


@pytest.mark.django_db(transaction=True)  # Verifying is a transaction of its own kind.
def test_the_terminal_that_names_the_first_bad_entry(cast: Cast) -> None:
    Stream.objects.create(name=HOSTILE, created_at=timezone.now())
    with pytest.raises(SystemExit):
        call_command("verify_audit", stdout=(out := StringIO()))
    assert fit(out.getvalue())
    assert out.getvalue().startswith("Broken")


def test_the_terminal_that_compares_a_schema(tmp_path: Path) -> None:
    """A schema comes from elsewhere, and its operations are named by whoever wrote it."""
    schema = tmp_path / "openapi.json"
    answer = {"200": {"description": "x"}}
    operation = {"operationId": HOSTILE, "summary": HOSTILE, "description": HOSTILE, "responses": answer}
    schema.write_text(json.dumps({"openapi": "3.0.2", "paths": {f"/{HOSTILE}": {"get": operation}}}))
    with pytest.raises(SystemExit):
        call_command("catalogue_diff", str(schema), stdout=(out := StringIO()), stderr=out)
    assert "Ann\\u202e\\x1b[31m Bcc" in out.getvalue()
    assert not ACTING & set(out.getvalue())


@pytest.mark.django_db
def test_the_subject_of_a_mail(cast: Cast, connection: Connection, settings: Any) -> None:
    """Django refuses a subject of two lines, and the reminder would never go out."""
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    type(cast.payments).objects.update(name=HOSTILE)
    now = timezone.now()
    Connection.objects.update(token_expires_at=now + dt.timedelta(days=1), name=HOSTILE)
    assert connection_actions.remind(now) == 1
    assert fit(str(mail.outbox[0].subject))
    assert str(mail.outbox[0].body).count(WRITTEN) == 2
    assert not ACTING & set(str(mail.outbox[0].body))


@pytest.mark.parametrize("name", [HOSTILE, "y_NbAkKc66ryYTWUXYEu/1.0", f"curl/8.1 {HOSTILE}", "x" * 10_000, "\ud800"])
def test_what_a_client_calls_itself_is_a_product_or_a_digest(name: str) -> None:
    kept = Redactor(b"k" * 32).client_name(name)
    assert kept == "curl/8.1" or set(kept) == {"length", "digest"}


@pytest.mark.django_db
def test_findings_and_entries_on_pages(client: Client, cast: Cast, connection: Connection) -> None:
    found = diagnose(
        lambda *_: heard({"error": {"message": "x", "code": 2010, "token_scopes": [HOSTILE]}}, 403),
        kind="oauth",
        region="us",
        tools=[TOOLS["list_incidents"]],
    )
    ConnectionTest.objects.create(
        connection=connection, passed=False, message=found.message, findings=found.as_json(), asked_by="x"
    )
    details = {"what": "refused", "who": HOSTILE, "ip": HOSTILE}
    append_in_transaction(NewEntry(EntryKind.SIGN_IN, timezone.now(), "signed", cast.payments.pk, details=details))
    client.force_login(cast.mina)
    assert fit(client.get(f"/teams/payments/connections/{connection.pk}/").content.decode())
    assert fit(client.get("/audit/").content.decode())
    assert not ACTING & set(client.get(f"/audit/{Entry.objects.get(decision_id='signed').pk}/").content.decode())
