"""Connections through their life, tested against the simulated PagerDuty: what a token is, what it can serve, what is wrong."""

from __future__ import annotations

import datetime as dt
import json
import urllib.request
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
from django.core import mail
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import transaction
from django.utils import timezone

from integrations import actions, tasks
from integrations.fields import Sealed
from integrations.gateway import runtime
from integrations.models import Connection, ConnectionTest
from integrations.pagerduty.catalog import TOOLS
from integrations.pagerduty.sandbox.world import Token, demo_from_email, demo_tokens
from policies.actions import Refused
from policies.models import ConfigChange, Entry
from policies.snapshot import current_version
from tests.conftest import Cast
from tests.gateway.processes import free_port, running

pytestmark = pytest.mark.django_db(transaction=True)
TOKENS = demo_tokens(7)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[str]:
    port = free_port()
    with running("-m", "integrations.pagerduty.sandbox", "--port", str(port), port=port):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(autouse=True)
def region(sandbox: str, settings: Any) -> Iterator[None]:
    """The sandbox as it was at the start, and a runtime of this test alone."""
    settings.PAGERDUTY_SANDBOX_URL = sandbox
    settings.CALL_TIME_LIMIT = 3.0
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    switch(sandbox, "reset")
    yield
    runtime.current().stop_thread()


def switch(sandbox: str, what: str, **values: Any) -> None:
    request = urllib.request.Request(f"{sandbox}/_sandbox/{what}", json.dumps(values).encode(), method="POST")
    urllib.request.urlopen(request, timeout=5).read()


def register(cast: Cast, token: Token, **changes: Any) -> Connection:
    values: dict[str, Any] = {
        "name": "Main",
        "token": token.value,
        "kind": token.kind,
        "region": "sandbox",
        "from_email": demo_from_email(7),
        "by": cast.ada,
        "whole_account": True,
        **changes,
    }
    return actions.do_register_token(cast.payments, **values)


def served(test: ConnectionTest) -> dict[str, str]:
    return {row["tool"]: row["serves"] for row in test.findings["tools"]}


def test_an_account_key_is_told_and_serves_its_reads(cast: Cast) -> None:
    connection = register(cast, TOKENS["account"])
    found = actions.test_connection(connection, by=cast.mina)
    assert (found.passed, found.problem) == (True, "")
    assert found.findings["kind"] == "account"
    assert found.findings["latency_ms"] > 0
    [latency] = [row for row in found.findings["checks"] if row["name"] == "latency"]
    assert latency["message"].startswith("PagerDuty answers in ")
    assert abs(found.findings["clock_seconds"]) < 5
    assert found.findings["rate_limit"]["limit"] == 960
    assert served(found)["list_incidents"] == "yes"
    connection.refresh_from_db()
    assert (connection.health, connection.detected_kind) == ("ok", "account")
    # Each of its calls is on record, as the portal's own, and none was a write.
    calls = Entry.objects.filter(actor="job:connection_test", kind="result")
    assert calls.count() >= 5
    assert not Entry.objects.filter(kind="intent").exists()
    assert TOKENS["account"].value not in str(list(Entry.objects.values())) + str(found.findings)


def test_a_user_key_tells_its_owners_role_and_what_it_may_write(cast: Cast) -> None:
    from policies.actions import do_set_tools
    from policies.core.call import State

    do_set_tools(cast.payments, states={"resolve_incident": State.ON}, tools=TOOLS, by=cast.ada)
    manager = actions.test_connection(register(cast, TOKENS["user_manager"]), by=cast.ada)
    assert (manager.findings["kind"], manager.findings["role"]) == ("user", "owner")
    [write] = [row for row in manager.findings["tools"] if row["tool"] == "resolve_incident"]
    assert (write["serves"], write["derived"]) == ("yes", True)
    reader = actions.test_connection(register(cast, TOKENS["user_reader"], name="Reader"), by=cast.ada)
    assert reader.findings["role"] == "read_only_user"
    assert served(reader)["resolve_incident"] == "no"
    assert reader.findings["read_only"] is True


def test_an_oauth_token_serves_what_its_scopes_say(cast: Cast) -> None:
    found = actions.test_connection(register(cast, TOKENS["oauth_reads"]), by=cast.ada)
    assert set(found.findings["scopes"]) == {"incidents.read", "services.read", "users.read"}
    assert served(found)["list_services"] == "yes"
    [schedules] = [row for row in found.findings["tools"] if row["tool"] == "list_schedules"]
    assert schedules["serves"] == "no"
    assert "schedules.read" in schedules["message"]
    connection = Connection.objects.get()
    assert any("OAuth bearer tokens expire" in said for said in actions.warnings(connection, timezone.now()))


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        ("slow:5", "timeout"),
        ("402", "plan"),
        ("429", "rate_limited"),
        ("500", "unavailable"),
        ("malformed", "malformed"),
        ("reset", "disconnected"),
    ],
)
def test_each_failure_has_its_own_words_and_remedy(cast: Cast, sandbox: str, fault: str, problem: str) -> None:
    connection = register(cast, TOKENS["account"])
    switch(sandbox, "fault", fault=fault, count=100)
    found = actions.test_connection(connection, by=cast.ada)
    assert not found.passed
    assert found.problem == problem
    assert found.message.endswith(".")
    assert found.findings["remedy"]
    connection.refresh_from_db()
    assert connection.health == "failing"
    assert f"The last test failed: {found.message}" in actions.warnings(connection, timezone.now())


def test_a_revoked_token_and_an_unreachable_host_are_told_apart(cast: Cast, settings: Any) -> None:
    revoked = actions.test_connection(register(cast, TOKENS["revoked"]), by=cast.ada)
    assert revoked.problem == "unauthorized"
    assert "was revoked, or belongs to the other region" in revoked.message
    settings.PAGERDUTY_SANDBOX_URL = f"http://127.0.0.1:{free_port()}"
    runtime.current().stop_thread()
    gone = actions.test_connection(register(cast, TOKENS["account"], name="Gone"), by=cast.ada)
    assert gone.problem == "connect"
    settings.PAGERDUTY_SANDBOX_URL = "http://no-such-host.invalid"
    runtime.current().stop_thread()
    assert actions.test_connection(Connection.objects.get(name="Gone"), by=cast.ada).problem == "resolve"


def test_an_address_that_no_header_can_carry_is_refused_before_the_first_write_fails(cast: Cast) -> None:
    with pytest.raises(ValidationError, match="plain ASCII"):
        register(cast, TOKENS["account"], from_email="mina@müller.example")


def test_an_account_key_registered_as_less_is_held_back_until_it_is_registered_as_what_it_is(cast: Cast) -> None:
    connection = register(
        cast, TOKENS["account"], kind="user", by=cast.mina, from_email="", whole_account=False, team_ids=["PTEAM00"]
    )
    actions.test_connection(connection, by=cast.mina)
    connection.refresh_from_db()
    assert connection.detected_kind == "account"
    assert "is an account key but was registered as" in actions.suspension(connection, timezone.now())
    with pytest.raises(Refused):
        actions.do_set_kind(connection, kind="account", by=cast.mina)
    actions.do_set_kind(connection, kind="account", by=cast.ada)
    connection.refresh_from_db()
    assert actions.suspension(connection, timezone.now()) == ""


def test_a_replacement_goes_into_service_once_it_has_passed_and_not_before(cast: Cast) -> None:
    connection = register(cast, TOKENS["account"])
    actions.do_replace_token(connection, token=TOKENS["revoked"].value, by=cast.ada)
    failed = actions.test_connection(connection, by=cast.ada, candidate=True)
    connection.refresh_from_db()
    assert not failed.passed
    assert connection.last4 == TOKENS["account"].value[-4:]
    assert actions.test_connection(connection, by=cast.ada).passed  # the old one serves on
    actions.do_replace_token(connection, token=TOKENS["account_2"].value, by=cast.ada)
    assert actions.test_connection(connection, by=cast.ada, candidate=True).passed
    connection.refresh_from_db()
    assert (connection.last4, connection.candidate) == (TOKENS["account_2"].value[-4:], None)
    assert isinstance(connection.token, Sealed)
    with pytest.raises(ValidationError, match="no replacement"):
        actions.test_connection(connection, by=cast.ada, candidate=True)


def test_why_can_this_key_not_see_it(cast: Cast) -> None:
    connection = register(cast, TOKENS["account"])

    def ask(kind: str, what: str) -> str:
        return actions.explain_object(connection, type=kind, id_or_name=what, by=cast.mina).message

    assert "checkout" in ask("service", "checkout")
    assert "PSVC000" in ask("service", "PSVC000")
    missing = ask("service", "PNOSUCH1")
    assert "PNOSUCH1" in missing
    assert ask("schedule", "Payments primary") != missing
    connection = actions.do_set_bounds(connection, by=cast.ada, team_ids=["PTEAM01"])
    outside = actions.explain_object(connection, type="service", id_or_name="PSVC000", by=cast.mina)
    assert (outside.name, outside.ok) == ("outside_or_none", False)
    # The page does not say whether it is there, so neither may the entries that the team reads: PagerDuty's status is in them.
    looked = Entry.objects.filter(actor="job:explain_object").order_by("pk")
    assert [entry.team_id for entry in looked][-2:] == [None, None]
    assert looked[0].team_id == cast.payments.pk
    asked = Entry.objects.count()
    assert ask("incident", "Checkout is down") == "Name the incident by its id, such as PT4KHLK."
    assert Entry.objects.count() == asked  # nothing was asked of PagerDuty
    with pytest.raises(Refused):
        actions.explain_object(connection, type="service", id_or_name="PSVC000", by=cast.omar)
    with pytest.raises(Refused):
        actions.explain_object(connection, type="service", id_or_name="PSVC000", by=cast.rhea)


def test_only_an_administrator_lets_a_tool_reach_beyond_the_bounds_and_a_manager_takes_it_back(cast: Cast) -> None:
    connection = register(cast, TOKENS["account"], whole_account=False, team_ids=["PTEAM00"])
    with pytest.raises(Refused):
        actions.do_set_account_wide(connection, tools=["list_teams"], by=cast.mina)
    for wrong in ("list_incidents", "no_such_tool"):
        with pytest.raises(ValidationError, match="no tool that bounds cannot hold"):
            actions.do_set_account_wide(connection, tools=[wrong], by=cast.ada)
    version = current_version()
    row = actions.do_set_account_wide(connection, tools=["list_teams"], by=cast.ada, reason="to find ids")
    assert (row.account_wide_tools, current_version()) == (["list_teams"], version + 1)
    change = ConfigChange.objects.get(action="set_account_wide_tools")
    assert (change.actor, change.reason) == (cast.ada.email, "to find ids")
    with pytest.raises(Refused):
        actions.do_set_account_wide(connection, tools=["list_teams", "list_priorities"], by=cast.mina)
    assert actions.do_set_account_wide(connection, tools=[], by=cast.mina).account_wide_tools == []
    actions.do_set_account_wide(connection, tools=["list_teams"], by=cast.ada)
    # Opened for the whole account and bounded again it starts from nothing.
    actions.do_set_bounds(connection, by=cast.ada, whole_account=True)
    with pytest.raises(ValidationError, match="spans the whole account"):
        actions.do_set_account_wide(connection, tools=["list_teams"], by=cast.ada)
    assert actions.do_set_bounds(connection, by=cast.ada, team_ids=["PTEAM00"]).account_wide_tools == []


def test_a_test_inside_a_transaction_is_refused_before_it_deadlocks(cast: Cast) -> None:
    connection = register(cast, TOKENS["account"])
    with transaction.atomic(), pytest.raises(RuntimeError, match="inside a transaction"):
        actions.test_connection(connection, by=cast.ada)


@pytest.mark.parametrize("who", ["vic", "omar", "rhea", "zed"])
def test_only_managers_test(cast: Cast, who: str) -> None:
    connection = register(cast, TOKENS["account"])
    with pytest.raises(Refused):
        actions.test_connection(connection, by=getattr(cast, who))


def test_the_command_tells_people_and_programs(cast: Cast) -> None:
    register(cast, TOKENS["account"])
    register(cast, TOKENS["revoked"], name="Old")

    def run(*arguments: str) -> tuple[int, str]:
        out = StringIO()
        with pytest.raises(SystemExit) as ended:
            call_command("test_connection", *arguments, stdout=out, stderr=out)
        return int(ended.value.code or 0), out.getvalue()

    code, text = run("payments", "Main")
    assert (code, text.startswith("passed")) == (0, True)
    code, text = run("payments", "--json")
    document = json.loads(text)
    assert code == 1
    assert [row["passed"] for row in document["connections"]] == [True, False]
    assert run("nobody")[0] == 2
    assert "no connection" in run("search")[1]


def test_every_connection_is_tested_when_it_is_due_and_the_newest_tests_are_kept(cast: Cast) -> None:
    connection = register(cast, TOKENS["account"])
    now = timezone.now()
    assert [row.pk for row in tasks.due_connections(now)] == [connection.pk]
    tasks.test_one_connection(str(connection.pk))
    assert tasks.due_connections(timezone.now()) == []
    assert [row.pk for row in tasks.due_connections(now + dt.timedelta(hours=2))] == [connection.pk]
    ConnectionTest.objects.bulk_create(
        ConnectionTest(connection=connection, passed=True, message="m", asked_by="x", findings={"calls": 1})
        for _ in range(actions.KEPT_TESTS + 10)
    )
    actions.test_connection(connection, by=cast.ada)
    kept = list(connection.tests.all())
    assert len(kept) == actions.KEPT_TESTS
    assert kept[0].latency_ms is not None
    assert kept[0].latency_ms == kept[0].findings["latency_ms"]
    # Of older ones the sum alone.
    assert [bool(test.findings) for test in kept] == [place < actions.KEPT_FINDINGS for place in range(len(kept))]


def test_managers_are_reminded_once_at_each_threshold(cast: Cast) -> None:
    connection = register(cast, TOKENS["account"])
    since = connection.token_since
    for days in (300, 336, 337, 352, 359, 364, 366, 367):
        actions.remind(since + dt.timedelta(days=days))
    assert len(mail.outbox) == 5
    assert mail.outbox[0].to == ["mina@example.com"]
    assert TOKENS["account"].value not in str([message.message() for message in mail.outbox])
    assert "older than the 365 days" in actions.suspension(connection, since + dt.timedelta(days=366))


def test_rotating_the_keys_reseals_every_token_and_both_keys_serve_meanwhile(cast: Cast, settings: Any) -> None:
    from cryptography.fernet import Fernet

    connection = register(cast, TOKENS["account"])
    before = connection.token.ciphertext
    settings.FIELD_ENCRYPTION_KEY = [Fernet.generate_key().decode(), *settings.FIELD_ENCRYPTION_KEY]
    assert actions.test_connection(connection, by=cast.ada).passed  # the old key opens it still
    counts = actions.do_reseal_tokens(by="test")
    assert counts["resealed"] == 1
    connection.refresh_from_db()
    assert connection.token.ciphertext != before
    settings.FIELD_ENCRYPTION_KEY = settings.FIELD_ENCRYPTION_KEY[:1]
    runtime.current().stop_thread()
    assert actions.test_connection(connection, by=cast.ada).passed
    assert actions.do_reseal_tokens(by="test")["current"] == 1


def test_a_token_that_does_not_open_sends_nothing_and_is_told(cast: Cast, settings: Any, sandbox: str) -> None:
    from cryptography.fernet import Fernet

    connection = register(cast, TOKENS["account"])
    settings.FIELD_ENCRYPTION_KEY = [Fernet.generate_key().decode()]
    found = actions.test_connection(connection, by=cast.ada)
    assert not found.passed
    assert found.problem == "unsealed"
    stats = json.loads(urllib.request.urlopen(f"{sandbox}/_sandbox/stats", timeout=5).read())
    assert stats["total"] == 0
    assert actions.do_reseal_tokens(by="test")["unreadable"] == 1


def test_what_is_done_to_a_connection_is_on_record_without_the_token(cast: Cast) -> None:
    connection = register(cast, TOKENS["account"])
    actions.do_replace_token(connection, token=TOKENS["account_2"].value, by=cast.ada)
    actions.do_discard_candidate(connection, by=cast.ada)
    actions.do_set_enabled(connection, False, by=cast.mina, reason="holiday")
    actions.do_delete_connection(connection, by=cast.mina)
    made = list(ConfigChange.objects.order_by("id").values_list("action", flat=True))
    assert made[0] == "register_token"
    assert made[-2:] == ["disable_connection", "delete_connection"]
    everything = str(list(ConfigChange.objects.values())) + str(list(Entry.objects.values()))
    for token in TOKENS.values():
        assert token.value not in everything
