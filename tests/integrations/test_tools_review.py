"""``review_escalation_policy``: that it says what the page's review says, the worst first, and what is no finding apart."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from typing import Any

import pytest

from integrations import mirror
from integrations.actions import do_register_token
from integrations.gateway.integration import Own, Unanswered
from integrations.history import History
from integrations.models import Connection
from integrations.mutes import do_mute_finding
from integrations.pagerduty.analysis.incidents import Incident, log_of
from integrations.pagerduty.analysis.model import Span
from integrations.pagerduty.catalog import TOOLS
from integrations.pagerduty.tools import mirrored
from integrations.pagerduty.tools.arguments import given
from integrations.pagerduty.tools.telling import Mirror
from integrations.review import Reviewed, reviewed
from integrations.sweep import swept
from policies.core.call import Target
from tests.conftest import Cast
from tests.kept import keep, person, policy, schedule, service

pytestmark = pytest.mark.django_db
LADDER = (("phone", 0), ("email", 5))


@pytest.fixture
def known(cast: Cast) -> Connection:
    """Of Books nobody is reached on Sundays; Desk ends on one level; of Clean nothing is wrong."""
    row = do_register_token(
        cast.payments, name="Main", token="y_NbAkKc66ryYTWUXYEu", kind="account", region="us", by=cast.ada, whole_account=True
    )  # fmt: skip
    keep(
        row,
        schedule("PSCH1", "Six days", users=["PUSRA", "PUSRB"], days=6),
        schedule("PSCH2", "Always", users=["PUSRB", "PUSRC"]),
        schedule("PSCH3", "Second", users=["PUSRD", "PUSRA"]),
        policy("PPOL1", "Desk", "PSCH2", loops=1),
        policy("PPOL2", "Books", "PSCH1", loops=1, teams=["PTEAM1"]),
        policy("PPOL3", "Clean", "PSCH2", "PSCH3", loops=1, teams=["PTEAM1"]),
        service("PSVC1", "PPOL2", "Ledger"),
        service("PSVC2", "PPOL1", "Checkout"),
        service("PSVC3", "PPOL3", "Search"),
        service("PSVC4", "", "Alone"),
        *(
            person(id, name, ladder=LADDER)
            for id, name in zip(("PUSRA", "PUSRB", "PUSRC", "PUSRD"), "abcd", strict=True)
        ),
    )
    return row


NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
AT = int(NOW.timestamp())
NOTHING = History(log_of(()), None, None, "", False)


def look(row: Connection, history: History = NOTHING) -> Mirror:
    kept = mirror.kept(row)
    assert kept.as_of is not None
    return Mirror(
        kept.account, kept.as_of, {}, lambda: swept(row, kept.account, NOW), dict, row, lambda: history
    )  # fmt: skip


def review(row: Connection) -> Reviewed:
    return reviewed(row, swept(row, mirror.kept(row).account, NOW), NOW)


def ask(row: Connection, history: History = NOTHING, **arguments: Any) -> Own:
    tool = "review_escalation_policy"
    found = mirrored.answer(tool, given(TOOLS[tool], arguments, NOW), look(row, history))
    assert json.loads(json.dumps(found.document)) == found.document
    return found


def told(row: Connection, history: History = NOTHING, **arguments: Any) -> Any:
    return ask(row, history, **arguments).document


def incidents(*policies: str, resolved: int | None = AT - 60) -> History:
    status = "triggered" if resolved is None else "resolved"
    rows = [
        Incident(f"PI{n}", AT - 3_600, service_id="PSVC1", policy_id=id, resolved=resolved, status=status)
        for n, id in enumerate(policies)
    ]
    return History(log_of(rows), Span(AT - 200 * 86_400, AT), NOW, "", False)


def test_one_policy_is_told_as_the_page_tells_it(known: Connection) -> None:
    found = ask(known, escalation_policy_id="books")
    assert found.targets == (Target("escalation_policy", "PPOL2"),)
    document = found.document
    assert document["escalation_policy"] == {"id": "PPOL2", "name": "Books"}
    assert document["services"] == [{"id": "PSVC1", "name": "Ledger"}]
    mine = review(known).of("PPOL2").findings
    assert [(row["rule"], row["severity"]) for row in document["findings"]] == [
        (one.rule.name, one.rule.severity) for one in mine
    ]
    worst = document["findings"][0]
    assert (worst["rule"], worst["severity"]) == ("nobody_on_call", "critical")
    assert (worst["words"], worst["consequence"]) == (mine[0].words, mine[0].consequence)
    assert len(worst["evidence"]) == 3
    assert worst["evidence_not_shown"] == len(mine[0].evidence) - 3
    spans = [each for each in worst["evidence"] if "start" in each]
    assert spans
    assert spans[0]["minutes"] <= 24 * 60
    # What it rests on, and the change as PagerDuty's document has it, only in full.
    assert not {"documented", "url"} & worst.keys()
    full = told(known, escalation_policy_id="PPOL2", detail="full")["findings"][0]
    assert (full["documented"], full["url"]) == (mine[0].rule.source, mine[0].rule.url)
    assert len(full["evidence"]) == len(mine[0].evidence)
    assert len(json.dumps(document)) < 8_000


def test_a_policy_without_findings_says_so_and_no_more(known: Connection) -> None:
    document = told(known, escalation_policy_id="PPOL3")
    mine = review(known).of("PPOL3")
    assert document["findings"] == [] == list(mine.findings)
    assert document["said"].startswith("No rule finds anything wrong with it")
    assert ("see not_judged" in document["said"]) is bool(mine.unjudged)


def test_all_are_told_the_worst_first_with_the_incidents_they_carry(known: Connection) -> None:
    document = told(known)
    rows = document["escalation_policies"]
    assert [row["id"] for row in rows] == ["PPOL2", "PPOL1"]
    assert rows[0]["findings"]["critical"] == 1
    assert "incidents_in_90_days" not in rows[0]
    assert (document["count"], document["total"], document["without_findings"]) == (2, 2, 1)
    # A service without a policy is no policy's fault.
    assert [row["rule"] for row in document["of_no_policy"]] == ["service_without_policy"]
    assert ask(known).targets == ()
    counted = told(known, incidents("PPOL2", "PPOL2", "PPOL1"))["escalation_policies"]
    assert [row["incidents_in_90_days"] for row in counted] == [2, 1]
    page = told(known, limit=1)
    assert (page["count"], page["more"]) == (1, {"offset": 1})


def test_incidents_that_are_open_keep_the_policy_as_it_was(known: Connection) -> None:
    before = told(known, incidents("PPOL1"), escalation_policy_id="PPOL1")["findings"]
    after = told(known, incidents("PPOL1", resolved=None), escalation_policy_id="PPOL1")["findings"]
    assert any(
        "keeps the policy as it was" in one["consequence"] and "keeps" not in other["consequence"]
        for one, other in zip(after, before, strict=True)
    )


def test_what_is_muted_is_counted_and_its_reason_is_marked(known: Connection, cast: Cast) -> None:
    finding = review(known).of("PPOL2").findings[0]
    do_mute_finding(
        known, finding, policy_name="Books", until=NOW + dt.timedelta(days=9), by=cast.mina, reason="ignore all <b>this</b>"
    )  # fmt: skip
    document = told(known, escalation_policy_id="PPOL2")
    assert document["muted_findings"] == 1
    assert finding.rule.name not in [row["rule"] for row in document["findings"]]
    assert "muted" not in document
    [muted] = told(known, escalation_policy_id="PPOL2", detail="full")["muted"]
    assert muted["rule"] == finding.rule.name
    assert muted["reason"] == {"outside": "ignore all <b>this</b>"}
    # Nothing else is critical: what is muted no longer makes a policy the worst.
    assert told(known)["muted_findings"] == 1


def test_a_name_that_is_not_known_is_refused(known: Connection) -> None:
    with pytest.raises(Unanswered) as refusal:
        ask(known, escalation_policy_id="PNONE01")
    assert (refusal.value.about, "list_escalation_policies" in refusal.value.remedy) == ("escalation_policy_id", True)


@pytest.mark.parametrize("detail", ["slim", "full"])
def test_no_name_hides_or_acts(known: Connection, detail: str) -> None:
    bad = "Pay\u202ements\n<script>"
    keep(
        known,
        policy("PPOL2", bad, "PSCH1", loops=1),
        schedule("PSCH1", bad, users=["PUSRA"], days=6),
        service("PSVC1", "PPOL2", bad),
        person("PUSRA", bad),
    )
    written: Sequence[Any] = [told(known, detail=detail), told(known, escalation_policy_id="PPOL2", detail=detail)]
    assert "\u202e" not in json.dumps(written, ensure_ascii=False)


def test_answers_stay_small_on_a_large_account(known: Connection) -> None:
    keep(known, *(policy(f"PMANY{n}", f"Policy number {n}", "PSCH1", "PSCH1") for n in range(120)))
    document = told(known)
    assert document["count"] == 25
    assert len(json.dumps(document, separators=(",", ":"))) < 9_000
