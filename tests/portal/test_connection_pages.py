"""A connection's pages: what they warn of, that stale pages turn nothing round, and that reasons and expiries are kept."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from django.utils.html import strip_tags

from integrations import actions, tasks
from integrations.fields import seal
from integrations.gateway import runtime
from integrations.models import Connection, ConnectionTest
from integrations.pagerduty.catalog import TOOLS
from integrations.pagerduty.diagnose import Diagnosis
from policies.actions import Refused
from policies.models import AgentKey, ConfigChange, Entry
from tests.conftest import Cast
from tests.gateway.processes import free_port

TOKEN = "y_NbAkKc66ryYTWUXYEu"


def register(cast: Cast, **changes: Any) -> Connection:
    values: dict[str, Any] = {"name": "Main", "token": TOKEN, "kind": "user", "region": "us", "by": cast.ada}
    values |= {"whole_account": True}
    return actions.do_register_token(cast.payments, **{**values, **changes})


@pytest.fixture
def connection(cast: Cast) -> Connection:
    return register(cast)


@pytest.fixture
def mina(client: Client, cast: Cast) -> Client:
    client.force_login(cast.mina)
    return client


def path_of(connection: Connection) -> str:
    return f"/teams/payments/connections/{connection.pk}/"


# The switch


def test_a_second_click_on_a_stale_page_does_not_turn_the_switch_round(mina: Client, connection: Connection) -> None:
    path = path_of(connection)
    off = {"action": "switch_off", "reason": "holiday"}
    assert 'value="switch_off"' in mina.get(path).content.decode()
    for _ in range(2):
        assert "is switched off" in mina.post(path, off, follow=True).content.decode()
        connection.refresh_from_db()
        assert not connection.is_enabled
    assert 'value="switch_on"' in mina.get(path).content.decode()
    change = ConfigChange.objects.get(action="disable_connection")
    assert change.reason == "holiday"
    for _ in range(2):
        assert "is switched on" in mina.post(path, {"action": "switch_on"}, follow=True).content.decode()
    assert ConfigChange.objects.filter(action="enable_connection").count() == 1
    assert mina.post(path, {"action": "enable"}).status_code == 404


# Bounds


def test_a_bounded_connection_says_what_works_inside_its_bounds(mina: Client, cast: Cast) -> None:
    values = {"name": "Ours", "region": "us", "kind": "user", "token": TOKEN, "team_ids": "PTEAM01"}
    shown = mina.post("/teams/payments/connections/", values, follow=True).content.decode()
    assert "The token of Ours is sealed" in shown
    assert "What works inside the bounds" in shown
    assert "Reaches the whole account: an administrator can allow it account-wide." in shown
    row = Connection.objects.get()
    for page in ("/teams/payments/connections/", path_of(row)):
        assert ">bounded</span>" in mina.get(page).content.decode(), page
    key = {"action": "issue", "name": "helper", "connection": str(row.pk), "calls_per_minute": "60", "reason": "trial"}
    assert "shown this once" in mina.post("/teams/payments/agents/", key).content.decode()
    assert set(
        ConfigChange.objects.filter(action__in=("issue_key", "use_connection")).values_list("reason", flat=True)
    ) == {"trial"}


def test_a_connection_to_the_whole_account_has_no_such_table(mina: Client, connection: Connection) -> None:
    assert "What works inside the bounds" not in mina.get(path_of(connection)).content.decode()
    for page in ("/teams/payments/connections/", path_of(connection)):
        assert ">bounded</span>" not in mina.get(page).content.decode(), page


def test_bounds_are_explained_before_they_are_set(mina: Client, cast: Cast) -> None:
    path = "/teams/payments/connections/bounds/"
    assert "nothing is set" in mina.get(path).content.decode()
    teams = mina.get(path, {"team_ids": "PTEAM01"}).content.decode()
    assert re.search(r"\d+ tools work, \d+ tools? (?:is|are) cut, \d+ tools are refused", teams)
    both = mina.get(path, {"team_ids": "PTEAM01", "service_ids": "PSVC001"}, headers={"hx-request": "true"})
    assert "<html" not in both.content.decode()
    assert "Shows what is the teams&#x27;, and nothing of the services." in both.content.decode()
    services = mina.get(path, {"service_ids": "PSVC001"}).content.decode()
    assert "It can be held by teams alone, and the bounds name services." in services
    assert "is not an id of PagerDuty" in mina.get(path, {"team_ids": "payments"}).content.decode()
    assert mina.post(path).status_code == 405
    assert not Connection.objects.exists()


def test_outsiders_see_nothing_of_bounds(client: Client, cast: Cast) -> None:
    for who, status in (("zed", 404), ("omar", 404), ("vic", 200), ("rhea", 200)):
        client.force_login(getattr(cast, who))
        assert client.get("/teams/payments/connections/bounds/").status_code == status, who


def test_tools_are_allowed_account_wide_by_administrators_alone(client: Client, cast: Cast) -> None:
    row = register(cast, whole_account=False, team_ids=["PTEAM01"])
    asked = {"action": "account_wide", "tools": ["list_teams"], "reason": "to find ids"}
    for who, status in (("zed", 404), ("omar", 404), ("vic", 403), ("rhea", 403), ("mina", 422)):
        client.force_login(getattr(cast, who))
        assert client.post(path_of(row), asked).status_code == status, who
    row.refresh_from_db()
    assert row.account_wide_tools == []
    client.force_login(cast.ada)
    shown = client.post(path_of(row), asked, follow=True).content.decode()
    assert "Allowed account-wide: List teams." in shown
    assert "beyond them list_teams" in shown
    row.refresh_from_db()
    assert row.account_wide_tools == ["list_teams"]


@pytest.mark.parametrize(
    ("health", "said"), [("failing", "The last test failed: 401."), ("untested", "has not been tested yet"), ("ok", "")]
)
def test_the_tools_and_the_key_form_show_a_connection_that_is_not_well(
    mina: Client, connection: Connection, health: str, said: str
) -> None:
    Connection.objects.update(health=health, health_message="401.")
    for page in ("tools", "agents"):
        shown = mina.get(f"/teams/payments/{page}/").content.decode()
        assert ("alert-warning" in shown) is bool(said)
        assert said in shown


# Reasons


def test_why_is_kept_with_every_change_of_a_connection(mina: Client, connection: Connection) -> None:
    path = path_of(connection)
    done = [
        ("replace", {"token": "u+" + TOKEN}),
        ("discard", {}),
        ("expiry", {"token_expires_on": "2099-01-01"}),
        ("from", {"email": "boss@example.com"}),
        ("discard_from", {}),
        ("bounds", {"team_ids": "PTEAM01"}),
        ("switch_off", {}),
        ("delete", {}),
    ]
    for action, values in done:
        mina.post(path, {"action": action, "reason": f"why {action}", **values})
    kept = list(ConfigChange.objects.order_by("id").values_list("reason", flat=True))
    assert [reason for reason in kept if reason] == [f"why {action}" for action, _ in done]


def test_a_registration_keeps_its_reason(mina: Client, cast: Cast) -> None:
    values = {"name": "Ours", "region": "us", "kind": "user", "token": TOKEN, "team_ids": "PT00001", "reason": "pilot"}
    mina.post("/teams/payments/connections/", values)
    assert ConfigChange.objects.get().reason == "pilot"


def test_a_secret_in_a_reason_is_refused_and_nothing_done(mina: Client, connection: Connection) -> None:
    answer = mina.post(path_of(connection), {"action": "switch_off", "reason": f"was {TOKEN}"}, follow=True)
    assert "looks as if it held a token" in answer.content.decode()
    connection.refresh_from_db()
    assert connection.is_enabled


# Expiry


def test_a_token_serves_to_the_end_of_its_last_day(mina: Client, cast: Cast) -> None:
    values = {"name": "Ours", "region": "us", "kind": "user", "token": TOKEN, "team_ids": "PTEAM01"}
    mina.post("/teams/payments/connections/", {**values, "token_expires_on": "2099-03-01"})
    row = Connection.objects.get()
    assert actions.suspension(row, dt.datetime(2099, 3, 1, 23, 59, tzinfo=dt.UTC)).find("expired") < 0
    assert "expired on 1 March 2099" in actions.suspension(row, dt.datetime(2099, 3, 2, tzinfo=dt.UTC))
    assert "at the end of 1 March 2099, UTC" in strip_tags(mina.get(path_of(row)).content.decode())


def test_a_replacement_brings_its_own_expiry(mina: Client, cast: Cast, connection: Connection) -> None:
    values = {"action": "replace", "token": "u+" + TOKEN, "token_expires_on": "2099-05-06"}
    mina.post(path_of(connection), values)
    connection.refresh_from_db()
    actions.do_promote_candidate(connection, by="test", tested=connection.candidate_fingerprint or "", kind="user")
    connection.refresh_from_db()
    assert connection.token_expires_at == dt.datetime(2099, 5, 6, 23, 59, 59, tzinfo=dt.UTC)


def test_an_expiry_is_corrected_and_taken_back(mina: Client, connection: Connection) -> None:
    path = path_of(connection)
    Connection.objects.update(reminded_days=7)
    answer = mina.post(path, {"action": "expiry", "token_expires_on": "2099-01-01"}, follow=True)
    assert "expires at the end of 2099-01-01, UTC" in answer.content.decode()
    connection.refresh_from_db()
    assert connection.reminded_days is None
    assert 'value="2099-01-01"' in mina.get(path).content.decode()
    count = ConfigChange.objects.count()
    mina.post(path, {"action": "expiry", "token_expires_on": "2099-01-01"})
    assert ConfigChange.objects.count() == count
    assert "in the past" in mina.post(path, {"action": "expiry", "token_expires_on": "2020-01-01"}).content.decode()
    assert "is not known now" in mina.post(path, {"action": "expiry"}, follow=True).content.decode()
    connection.refresh_from_db()
    assert connection.token_expires_at is None


@pytest.mark.parametrize(("who", "status"), [("vic", 403), ("rhea", 403), ("omar", 404), ("zed", 404)])
def test_only_managers_correct_an_expiry(
    client: Client, cast: Cast, connection: Connection, who: str, status: int
) -> None:
    client.force_login(getattr(cast, who))
    values = {"action": "expiry", "token_expires_on": "2099-01-01"}
    assert client.post(path_of(connection), values).status_code == status
    with pytest.raises(Refused):
        actions.do_set_token_expiry(connection, token_expires_at=None, by=getattr(cast, who))


@pytest.mark.parametrize(
    ("hours", "said"),
    [
        (36, "2 days left"),
        (5, "1 day left"),
        (-5, "ended less than a day ago"),
        (-30, "ended 1 day ago"),
        (-75, "ended 3 days ago"),
    ],
)
def test_the_time_that_is_left_is_said_in_words(mina: Client, connection: Connection, hours: int, said: str) -> None:
    Connection.objects.update(token_expires_at=timezone.now() + dt.timedelta(hours=hours))
    shown = mina.get(path_of(connection)).content.decode()
    assert said in shown
    assert re.search(r"-\d+ days", shown) is None


def test_a_replacement_of_a_kind_that_was_not_told_stays_out_of_service(cast: Cast, connection: Connection) -> None:
    actions.do_replace_token(connection, token="u+" + TOKEN, by=cast.mina)
    connection.refresh_from_db()
    print_ = connection.candidate_fingerprint or ""
    with pytest.raises(Refused, match="could not tell what kind of token the replacement is: test it again"):
        actions.do_promote_candidate(connection, by=cast.mina, tested=print_, kind="")
    with pytest.raises(Refused, match="is not an user API key"):
        actions.do_promote_candidate(connection, by=cast.mina, tested=print_, kind="account")
    connection.refresh_from_db()
    assert (connection.last4, connection.candidate_fingerprint) == (TOKEN[-4:], print_)


# Tests of a connection


def test_the_last_six_tests_are_shown_with_what_they_found(mina: Client, connection: Connection) -> None:
    found = {"remedy": "Make a new one.", "checks": [{"ok": False, "message": "The clock is off.", "remedy": ""}]}
    for number in range(8):
        ConnectionTest.objects.create(
            connection=connection,
            passed=number % 2 == 0,
            message=f"Finding {number}.",
            findings=found,
            of_candidate=number == 7,
            asked_by=f"somebody{number}",
        )
    shown = mina.get(path_of(connection)).content.decode()
    assert [int(number) for number in re.findall(r"asked by somebody(\d)", shown)] == [7, 6, 5, 4, 3, 2]
    assert "(a replacement token)" in shown
    assert "Last test: passed" in shown  # of the token in service: number 6
    assert shown.count("The clock is off.") == 7


def found(connection: Connection, monkeypatch: pytest.MonkeyPatch, **outcome: Any) -> None:
    """What the next test of the connection finds, whatever PagerDuty is like."""
    diagnosis = Diagnosis(
        **{"passed": True, "problem": "", "message": "The new one is fine.", "kind": "user", **outcome}
    )
    monkeypatch.setattr("integrations.actions.diagnose.diagnose", lambda *args, **more: diagnosis)
    monkeypatch.setattr(actions, "_runner", lambda *args: None)


def test_a_replacement_that_passed_is_what_the_page_tells_of(
    mina: Client, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = path_of(connection)
    found(connection, monkeypatch, message="The old one is fine.")
    assert "The old one is fine." in mina.post(path, {"action": "test"}, follow=True).content.decode()
    mina.post(path, {"action": "replace", "token": "u+" + TOKEN})
    found(connection, monkeypatch)
    shown = mina.post(path, {"action": "test_replacement"}, follow=True).content.decode()
    assert f"The token …{TOKEN[-4:]} is in service now; the one before it is gone." in shown
    last = shown.split('id="test"')[1].split("</section>")[0]
    assert "passed, just now" in " ".join(strip_tags(last).split())
    assert "The new one is fine." in last
    found(connection, monkeypatch, message="Still fine.")
    mina.post(path, {"action": "test"})
    assert "Still fine." in mina.get(path).content.decode().split('id="test"')[1].split("</section>")[0]


def test_a_replacement_that_failed_is_said_to_have_failed_until_another_comes(
    mina: Client, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = path_of(connection)
    mina.post(path, {"action": "replace", "token": "u+" + TOKEN})
    assert "waits: it must pass its test" in mina.get(path).content.decode()
    found(connection, monkeypatch, passed=False, problem="unauthorized", message="It is mistyped.")
    mina.post(path, {"action": "test_replacement"})
    for page in (path, "/", "/teams/payments/connections/"):
        shown = mina.get(page).content.decode()
        assert re.search(r"failed its test at \d\d:\d\d UTC: It is mistyped\.", shown), page
        assert "waits: it must pass" not in shown
    mina.post(path, {"action": "replace", "token": "v+" + TOKEN})
    assert "waits: it must pass its test" in mina.get(path).content.decode()


def test_a_key_is_offered_the_usable_connection_first(mina: Client, cast: Cast, connection: Connection) -> None:
    register(cast, name="Abounded", token="u+" + TOKEN, whole_account=False, team_ids=["PTEAM01"])
    register(cast, name="Aoff", token="v+" + TOKEN)
    Connection.objects.filter(name="Aoff").update(is_enabled=False)
    shown = mina.get("/teams/payments/agents/").content.decode()
    offered = re.findall(r"<option value=\"[^\"]+\"( selected)?>\s*([^<]+?)\s*</option>", shown)
    assert offered == [
        (" selected", "Main"),
        ("", "Aoff (switched off: calls are denied)"),
        ("", "Abounded (bounded)"),
    ]


def test_the_form_says_what_an_address_means_before_a_token_is_sealed(mina: Client, cast: Cast) -> None:
    assert "It matters for account keys" in mina.get("/teams/payments/connections/").content.decode()


def test_auditors_are_not_offered_what_they_cannot_ask(client: Client, cast: Cast, connection: Connection) -> None:
    for who, offered in (("rhea", False), ("vic", True), ("mina", True)):
        client.force_login(getattr(cast, who))
        assert ('value="explain"' in client.get(path_of(connection)).content.decode()) is offered, who


@pytest.fixture
def nowhere(settings: Any) -> Iterator[None]:
    """A sandbox that nobody serves."""
    settings.PAGERDUTY_SANDBOX_URL = f"http://127.0.0.1:{free_port()}"
    yield
    runtime.current().stop_thread()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("who", ["mina", "scheduled test"])
def test_a_tests_calls_are_recorded_with_who_asked_for_them(cast: Cast, nowhere: None, who: str) -> None:
    connection = register(cast, region="sandbox")
    assert not actions.test_connection(connection, by=getattr(cast, who, who)).passed
    rows = [json.loads(row.record) for row in Entry.objects.filter(kind="result")]
    assert rows
    expected = "mina@example.com" if who == "mina" else who
    assert {row["details"]["on_behalf_of"] for row in rows} == {expected}
    assert {row["actor"] for row in rows} == {"job:connection_test"}
    assert expected not in {str(row["details"].get("client")) for row in rows}


# Reminders


def test_a_reminder_that_cannot_be_sent_waits_and_holds_nobody_up(
    cast: Cast, connection: Connection, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    second = register(cast, name="Second", token="u+" + TOKEN)
    sent: list[str] = []
    broken = {"Main"}

    def send(subject: str, body: str, *args: Any) -> None:
        [name] = re.findall(r"connection (\w+) of", body)
        if name in broken:
            raise ConnectionRefusedError("no mail server")
        sent.append(name)

    monkeypatch.setattr(actions, "send_mail", send)
    later = timezone.now() + dt.timedelta(days=350)
    assert actions.remind(later) == 1
    assert sent == [second.name]
    assert "could be sent" in caplog.text
    broken.clear()
    assert actions.remind(later + dt.timedelta(hours=1)) == 1
    assert sent == ["Second", "Main"]
    assert actions.remind(later + dt.timedelta(hours=2)) == 0


def test_where_mail_goes_is_a_setting() -> None:
    import os
    import subprocess
    import sys

    names = ("EMAIL_BACKEND", "EMAIL_HOST", "EMAIL_PORT", "EMAIL_USE_TLS", "DEFAULT_FROM_EMAIL")
    code = f"import portal.settings as settings; print(*(getattr(settings, name) for name in {names}))"
    given = {"EMAIL_URL": "smtp+tls://u:p@mail.example:587", "DEFAULT_FROM_EMAIL": "pages@example.com"}
    environment = {**os.environ, "PAGEWARDEN_ENV_FILE": "tests/environment", **given}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    told = done.stdout.split()
    assert told == ["django.core.mail.backends.smtp.EmailBackend", "mail.example", "587", "True", "pages@example.com"]


# The rest


def test_a_connection_that_was_never_tested_comes_first(cast: Cast, connection: Connection) -> None:
    now = timezone.now()
    Connection.objects.update(health_at=now - dt.timedelta(days=2))
    fresh = register(cast, name="Fresh", token="u+" + TOKEN)
    assert [row.pk for row in tasks.due_connections(now)] == [fresh.pk, connection.pk]
    assert "NULLS FIRST" in str(Connection.objects.order_by(*tasks.OLDEST_FIRST).query).upper()


def test_whoever_administers_not_is_offered_no_account_key(client: Client, cast: Cast) -> None:
    client.force_login(cast.mina)
    shown = client.get("/teams/payments/connections/").content.decode()
    assert 'value="account"' not in shown
    assert re.search(r'value="user"\s+selected', shown)
    client.force_login(cast.ada)
    assert 'value="account"' in client.get("/teams/payments/connections/").content.decode()


def test_keys_of_a_deleted_connection_stay_listed(mina: Client, cast: Cast, connection: Connection) -> None:
    actions.do_issue_agent_key(connection, name="old helper", by=cast.mina, tools=TOOLS)
    mina.post(path_of(connection), {"action": "delete"})
    shown = mina.get("/teams/payments/agents/").content.decode()
    assert "old helper" in shown
    assert "revoked" in shown
    assert AgentKey.objects.get().revoked_at is not None


def test_a_field_of_many_boxes_says_what_is_wrong_with_it(mina: Client, connection: Connection) -> None:
    values = {"action": "issue", "name": "x", "connection": str(connection.pk), "calls_per_minute": "60"}
    answer = mina.post("/teams/payments/agents/", {**values, "tools": ["no_such_tool"]})
    assert answer.status_code == 422
    assert "no_such_tool is not one of the available choices" in answer.content.decode()


def test_an_error_page_claims_nothing_about_pagerduty(
    cast: Cast, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client(raise_request_exception=False)
    client.force_login(cast.mina)
    monkeypatch.setattr("portal.dashboard.warnings", lambda *args: 1 / 0)
    answer = client.get("/")
    assert answer.status_code == 500
    assert "Nothing was sent" not in answer.content.decode()
    assert "Whether anything was done is not certain" in answer.content.decode()


def test_a_token_that_was_sealed_for_a_row_is_still_shown_nowhere(mina: Client, connection: Connection) -> None:
    actions.do_replace_token(connection, token="u+" + TOKEN, by="test")
    connection.refresh_from_db()
    assert connection.candidate is not None
    shown = "".join(mina.get(page).content.decode() for page in ("/", path_of(connection), "/teams/payments/agents/"))
    for secret in (TOKEN, connection.candidate.ciphertext.decode(), seal(connection.pk, TOKEN).ciphertext.decode()):
        assert secret not in shown
