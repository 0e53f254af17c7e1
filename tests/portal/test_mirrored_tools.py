"""Tools that the portal answers from its own mirror, on every page that tells of tools or uses them."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Iterator
from html import unescape
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from integrations import mirror
from integrations.actions import do_issue_agent_key, do_set_enabled
from integrations.gateway import runtime
from integrations.intended import do_mark_intended
from integrations.models import Connection
from integrations.pagerduty.catalog import TOOLS
from policies.actions import do_set_tools, do_stop
from policies.core.call import State
from policies.models import Entry
from portal.forms import ToolForm
from tests.conftest import Cast
from tests.mirrored import mirrored
from tests.portal.test_trying import TOKENS, TRY, as_, entries, raw, register, text_of

MIRRORED = sorted(name for name, tool in TOOLS.items() if not tool.operations)
NOTHING_SENT = "Answered from the portal's own mirror: nothing is sent to PagerDuty."


@pytest.fixture(autouse=True)
def nobody_there(settings: Any) -> None:
    """Nothing answers in PagerDuty's place."""
    settings.PAGERDUTY_SANDBOX_URL = "http://127.0.0.1:9"
    mirror.forget_cached()


@pytest.fixture
def connection(transactional_db: None, cast: Cast) -> Iterator[Connection]:
    """Payments' connection with its mirror read, and a runtime of this test alone."""
    row = register(cast)
    mirrored(row)
    yield row
    runtime.current().stop_thread()


# The web door


def test_a_member_asks_who_is_paged_and_it_is_on_record(client: Client, cast: Cast, connection: Connection) -> None:
    page = as_(client, cast, "vic").get(f"{TRY}?tool=who_is_paged").content.decode()
    assert 'name="given-service_id"' in page
    answer = client.post(f"{TRY}?tool=who_is_paged", {"given-service_id": "checkout"})
    document = raw(answer)
    assert document["service"] == {"id": "PSVC000", "name": "checkout"}
    assert document["levels"][0]["pages"][0]["name"] in text_of(answer).split('id="raw"')[0]
    assert entries(f"user:{cast.vic.pk}") == [("result", "who_is_paged", "allow", "done")]
    details = json.loads(Entry.objects.get(actor=f"user:{cast.vic.pk}", kind="result").record)["details"]
    assert (details["door"], details["mirror"]["as_of"]) == ("web", document["as_of"])


def test_gaps_and_their_reasons_are_told_as_written_by_others(
    client: Client, cast: Cast, connection: Connection
) -> None:
    as_(client, cast, "vic")
    found = raw(client.post(f"{TRY}?tool=coverage_gaps", {"given-limit": "100"}))
    row = next(each for each in found["escalation_policies"] if each["unreachable_minutes"])
    start, end = (dt.datetime.fromisoformat(row["next_gap"][name]) for name in ("start", "end"))
    do_mark_intended(
        connection, policy_id=row["id"], policy_name=row["name"], starts_at=start, ends_at=end, until=end,
        by=cast.mina, reason="The shop is <b>closed</b>",
    )  # fmt: skip
    answer = client.post(f"{TRY}?tool=coverage_gaps", {"given-escalation_policy_id": row["id"]})
    [again] = raw(answer)["escalation_policies"]
    assert again["intended"][0]["reason"] == {"outside": "The shop is <b>closed</b>"}
    assert again["unreachable_minutes"] == row["unreachable_minutes"] - row["next_gap"]["minutes"]
    assert "<b>closed</b>" not in answer.content.decode()
    assert 'class="outside"' in answer.content.decode()


def test_what_is_wrong_is_said_at_its_field_with_what_it_could_mean(
    client: Client, cast: Cast, connection: Connection
) -> None:
    as_(client, cast, "vic")
    answer = client.post(f"{TRY}?tool=who_is_paged", {"given-service_id": "check"})
    assert answer.status_code == 422
    text = text_of(answer)
    assert "No service is named exactly 'check'; these come near. Pass the id of the one you mean." in text
    assert "It could mean one of these" in text
    both = client.post(f"{TRY}?tool=who_is_paged", {})
    assert "Pass either service_id or escalation_policy_id." in text_of(both)
    assert [outcome for *_, outcome in entries(f"user:{cast.vic.pk}")] == ["invalid", "invalid"]


def test_a_mirror_that_was_not_read_says_how_to_have_it_read(
    client: Client, cast: Cast, connection: Connection
) -> None:
    unread = register(cast, name="Second", token=TOKENS["account_2"].value)
    answer = as_(client, cast, "vic").post(f"{TRY}?tool=schedule_quality&connection={unread.pk}", {})
    assert "The portal has not read Second into its mirror yet" in text_of(answer)
    assert raw(answer)["error"]["kind"] == "failed"


def test_toggles_stops_and_switches_bind_people_too(client: Client, cast: Cast, connection: Connection) -> None:
    as_(client, cast, "vic")

    def rule() -> str:
        return str(raw(client.post(f"{TRY}?tool=coverage_gaps", {})).get("error", {}).get("rule", ""))

    assert rule() == ""
    do_set_tools(cast.payments, states={"coverage_gaps": State.NEEDS_APPROVAL}, tools=TOOLS, by=cast.mina)
    assert rule() == "needs_approval"
    do_set_tools(cast.payments, states={"coverage_gaps": State.OFF}, tools=TOOLS, by=cast.mina)
    assert rule() == "tool_off"
    do_set_tools(cast.payments, states={"coverage_gaps": State.ON}, tools=TOOLS, by=cast.mina)
    do_set_enabled(connection, False, by=cast.mina, reason="holiday")
    assert rule() == "suspended"
    do_set_enabled(connection, True, by=cast.mina)
    do_stop(by=cast.mina, reason="it loops", team=cast.payments)
    assert rule() == "stopped"


@pytest.mark.parametrize("name", MIRRORED)
def test_a_form_has_a_field_for_each_argument(name: str) -> None:
    assert set(ToolForm(TOOLS[name]).fields) == {*TOOLS[name].input_schema["properties"], "detail", "time_zone"}


# What pages say of them


@pytest.mark.parametrize("name", MIRRORED)
def test_lists_of_tools_say_what_they_are_answered_from(client: Client, cast: Cast, name: str) -> None:
    client.force_login(cast.mina)
    for path, row in (
        ("/teams/payments/tools/", rf'<tr [^>]*id="tool-{name}">(.*?)</tr>'),
        ("/catalogue/", rf'<tr id="{name}">(.*?)</tr>'),
    ):
        [found] = re.findall(row, client.get(path).content.decode(), re.DOTALL)
        text = unescape(found)
        assert NOTHING_SENT in text, path
        assert "0 operations" not in text
        assert f"{TOOLS[name].title}" in text
    assert "On a bounded connection: the mirror holds no more." in text


def test_the_catalogue_counts_them_apart(client: Client, cast: Cast) -> None:
    client.force_login(cast.vic)
    page = client.get("/catalogue/").content.decode()
    assert f"served by {len(TOOLS) - len(MIRRORED)} tools" in page
    assert f"{len(MIRRORED)} more tools need none: the portal answers them from its own mirror" in page
    found = client.get("/catalogue/?text=coverage_gaps").content.decode()
    assert re.findall(r'<tr id="(\w+)">', found) == ["coverage_gaps"]


def explained(client: Client, query: dict[str, str]) -> str:
    return unescape(client.get("/explain/", query).content.decode())


def test_explain_says_that_nothing_is_called_and_what_is_wrong_with_arguments(client: Client, cast: Cast) -> None:
    row = register(cast)
    key, _ = do_issue_agent_key(row, name="bot", by=cast.ada, tools=TOOLS)
    narrow, _ = do_issue_agent_key(row, name="narrow", by=cast.ada, tools=TOOLS, narrowed_to=["list_incidents"])
    client.force_login(cast.mina)
    asked = {"who": f"key:{key.pk}", "tool": "who_is_paged"}
    text = explained(client, {**asked, "arguments": '{"service_id": "checkout"}'})
    assert "<strong>Allowed</strong>" in text
    assert "It makes no call of PagerDuty: the portal answers it from its own mirror of the connection" in text
    assert "The calls that it begins with" not in text
    wrong = explained(client, {**asked, "arguments": '{"service": "checkout"}'})
    assert "these arguments cannot be sent: who_is_paged does not take service." in wrong
    denied = explained(client, {"who": f"key:{narrow.pk}", "tool": "who_is_paged"})
    assert "by the rule <code>narrowed_key</code>" in denied
    assert "It makes no call of PagerDuty" not in denied


def test_explain_says_that_the_mirror_of_a_bounded_connection_holds_no_more(client: Client, cast: Cast) -> None:
    bounded = register(cast, whole_account=False, team_ids=["PTEAM00"])
    key, _ = do_issue_agent_key(bounded, name="bot", by=cast.ada, tools=TOOLS)
    client.force_login(cast.mina)
    text = explained(client, {"who": f"key:{key.pk}", "tool": "coverage_gaps"})
    assert "Main is bounded to a part of the account, and the portal's mirror of it holds no more." in text
    assert "held inside, or refused" not in text
    page = unescape(client.get(f"/teams/payments/connections/{bounded.pk}/").content.decode())
    assert "Answered from the portal's own mirror, which holds what is inside alone." in page


def test_a_decision_of_the_past_is_explained(client: Client, cast: Cast, connection: Connection) -> None:
    do_set_tools(cast.payments, states={"schedule_quality": State.OFF}, tools=TOOLS, by=cast.mina, reason="drill")
    error = raw(as_(client, cast, "vic").post(f"{TRY}?tool=schedule_quality", {}))["error"]
    do_set_tools(cast.payments, states={"schedule_quality": State.ON}, tools=TOOLS, by=cast.mina)
    text = unescape(client.get(f"/explain/?decision={error['decision_id']}").content.decode())
    assert "schedule_quality is switched off for Payments." in text
    then = unescape(as_(client, cast, "mina").get(f"/explain/?decision={error['decision_id']}").content.decode()).split(
        "What the policy said then"
    )[1]
    assert "schedule_quality is switched off for Payments." in then.split("What it would be now")[0]
    assert "<strong>Allowed</strong>" in then.split("What it would be now")[1]


def test_an_entry_says_that_it_was_answered_from_the_mirror(client: Client, cast: Cast, connection: Connection) -> None:
    as_(client, cast, "vic").post(f"{TRY}?tool=who_is_paged", {"given-service_id": "PSVC000"})
    row = Entry.objects.get(tool="who_is_paged", kind="result")
    text = unescape(as_(client, cast, "mina").get(f"/audit/{row.pk}/").content.decode())
    assert "From the mirror" in text
    assert "the portal's own mirror of PagerDuty: nothing was sent" in text
    assert "At PagerDuty" not in text
    assert "PSVC000" in text
    found = client.get("/audit/?q=target:PSVC000").content.decode()
    assert f"/audit/{row.pk}/" in found


def test_who_could_use_one_on_a_day_is_told_as_of_any_tool(client: Client, cast: Cast) -> None:
    row = register(cast)
    do_issue_agent_key(row, name="every tool", by=cast.ada, tools=TOOLS)
    do_issue_agent_key(row, name="some", by=cast.ada, tools=TOOLS, narrowed_to=["list_incidents"])
    client.force_login(cast.rhea)
    day = timezone.localdate().isoformat()
    text = client.get("/access/", {"day": day, "what": "tool:coverage_gaps"}).content.decode()
    assert "every tool" in text
    assert ">some<" not in text


def test_a_test_of_a_connection_derives_them_from_what_the_mirror_reads() -> None:
    from integrations.pagerduty.diagnose import _probe_of

    for name in MIRRORED:
        assert _probe_of(TOOLS[name]) == "listSchedules"
