"""Findings that a team knows of and does not want to be told: who may mute one, what is kept of it, and what is told then."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone

from integrations import mirror, mutes, review
from integrations.actions import do_register_token
from integrations.intended import do_mark_intended
from integrations.models import Connection, MutedFinding
from integrations.mutes import do_mute_finding, do_unmute_finding, mutes_of
from integrations.pagerduty.analysis import escalation
from integrations.pagerduty.analysis.escalation import RULES, Finding
from integrations.pagerduty.analysis.incidents import Incident, log_of
from integrations.pagerduty.analysis.model import Account, Span
from integrations.review import Reviewed, open_by_policy, reviewed
from integrations.sweep import swept
from policies.actions import Refused
from policies.models import ConfigChange, Entry
from tests.conftest import Cast
from tests.kept import keep, policy, schedule, service

DAY = dt.timedelta(days=1)
ONCE = Finding(
    RULES["no_repeat"], "PEPOL00", 0, ("policy", "PEPOL00"), "Books is gone through once.", (), "It ends.", ()
)


@pytest.fixture
def connection(cast: Cast) -> Connection:
    return do_register_token(
        cast.payments,
        name="Main",
        token="y_NbAkKc66ryYTWUXYEu",
        kind="account",
        region="us",
        by=cast.ada,
        whole_account=True,
    )


def given_of(**more: Any) -> dict[str, Any]:
    return {"policy_name": "Books", "until": timezone.now() + 30 * DAY, "reason": "it is being rebuilt"} | more


def test_a_manager_mutes_a_finding_and_has_it_told_again_on_record(cast: Cast, connection: Connection) -> None:
    mute = do_mute_finding(connection, ONCE, by=cast.mina, **given_of())
    assert mutes_of([connection.pk], timezone.now()) == {connection.pk: {("PEPOL00", ONCE.key): mute}}
    assert mutes_of([connection.pk], mute.until) == {connection.pk: {}}
    do_unmute_finding(mute, by=cast.mina, reason="it is rebuilt")
    assert mutes_of([connection.pk], timezone.now()) == {connection.pk: {}}
    made, taken = ConfigChange.objects.filter(action__endswith="mute_finding").order_by("pk")
    assert (made.actor, made.action, made.target, made.before, made.reason) == (
        cast.mina.email,
        "mute_finding",
        "no_repeat of Books (PEPOL00)",
        None,
        "it is being rebuilt",
    )
    assert made.after is not None
    assert made.after["words"] == "Books is gone through once."
    assert (taken.action, taken.before, taken.after, taken.reason) == (
        "unmute_finding",
        made.after,
        None,
        "it is rebuilt",
    )
    assert Entry.objects.filter(kind="config", record__contains="mute_finding").count() == 2
    with pytest.raises(ValidationError, match="told again already"):
        do_unmute_finding(mute, by=cast.mina)


@pytest.mark.parametrize("who", ["vic", "omar", "rhea", "zed"])
def test_nobody_else_mutes_a_finding_or_has_it_told_again(cast: Cast, connection: Connection, who: str) -> None:
    with pytest.raises(Refused, match="Only a manager of Payments"):
        do_mute_finding(connection, ONCE, by=getattr(cast, who), **given_of())
    mute = do_mute_finding(connection, ONCE, by=cast.ada, **given_of())
    with pytest.raises(Refused, match="Only a manager of Payments"):
        do_unmute_finding(mute, by=getattr(cast, who))
    assert MutedFinding.objects.get() == mute
    assert MutedFinding.objects.editable_by(getattr(cast, who)).count() == 0


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"reason": " "}, "Say why"),
        ({"until": timezone.now() - DAY}, "never hold"),
        ({"until": timezone.now() + 400 * DAY}, "a year at most"),
    ],
)
def test_a_mute_without_a_reason_or_an_end_within_a_year_is_refused(
    cast: Cast, connection: Connection, more: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValidationError, match=words):
        do_mute_finding(connection, ONCE, by=cast.mina, **given_of(**more))
    assert not MutedFinding.objects.exists()


def test_a_finding_is_muted_once_and_anew_when_that_is_over(cast: Cast, connection: Connection) -> None:
    first = do_mute_finding(connection, ONCE, by=cast.mina, **given_of())
    with pytest.raises(ValidationError, match="muted already"):
        do_mute_finding(connection, ONCE, by=cast.mina, **given_of())
    MutedFinding.objects.filter(pk=first.pk).update(until=timezone.now() - DAY)
    do_mute_finding(connection, ONCE, by=cast.mina, **given_of())


def test_a_connection_has_no_more_muted_findings_than_anybody_reads(
    cast: Cast, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mutes, "MOST", 1)
    do_mute_finding(connection, ONCE, by=cast.mina, **given_of())
    other = Finding(RULES["team_count"], "PEPOL00", 0, ("policy", "PEPOL00"), "No team.", (), "", ())
    with pytest.raises(ValidationError, match="1 muted findings already"):
        do_mute_finding(connection, other, by=cast.mina, **given_of())


# The review of what is mirrored


def asked(connection: Connection, now: dt.datetime | None = None, **more: Any) -> Reviewed:
    now = now or timezone.now()
    return reviewed(connection, swept(connection, mirror.kept(connection).account, now), now, **more)


def names(found: Reviewed, policy_id: str) -> set[str]:
    return {one.rule.name for one in found.of(policy_id).findings}


def test_what_is_muted_is_told_apart_until_its_end_and_on_its_own_policy_alone(
    cast: Cast, connection: Connection
) -> None:
    keep(
        connection,
        schedule("PSCHALL", users=["PUSRA", "PUSRB"]),
        *(policy(id, f"Policy {id}", "PSCHALL") for id in ("PONE", "PTWO")),
        *(service(f"PSVC{id}", id) for id in ("PONE", "PTWO")),
    )
    before = asked(connection)
    assert {"single_level", "no_repeat"} <= names(before, "PONE") == names(before, "PTWO")
    finding = next(one for one in before.of("PONE").findings if one.rule.name == "no_repeat")
    mute = do_mute_finding(connection, finding, by=cast.mina, **given_of())
    after = asked(connection)
    assert names(after, "PONE") == names(before, "PONE") - {"no_repeat"}
    assert names(after, "PTWO") == names(before, "PTWO")
    assert [(each.finding, each.row) for each in after.of("PONE").muted] == [(finding, mute)]
    assert after.of("PTWO").muted == ()
    assert asked(connection, mute.until).findings == before.findings
    do_unmute_finding(mute, by=cast.mina)
    assert asked(connection).findings == before.findings


def test_a_gap_that_is_intended_is_no_finding_and_is_told_as_meant(cast: Cast, connection: Connection) -> None:
    now = timezone.now().replace(microsecond=0)
    keep(
        connection,
        schedule("PSCHGAP", users=["PUSRA", "PUSRB"], days=6),
        policy("PGAP", "Not on Sundays", "PSCHGAP", "PSCHGAP", loops=1),
        service("PSVCGAP", "PGAP"),
    )
    found = asked(connection)
    assert {"nobody_on_call", "level_gap"} <= names(found, "PGAP")
    sunday = (now + (6 - now.astimezone(dt.UTC).weekday()) * DAY).astimezone(dt.UTC).replace(hour=0, minute=0, second=0)
    do_mark_intended(
        connection,
        policy_id="PGAP",
        policy_name="Not on Sundays",
        starts_at=sunday,
        ends_at=sunday + DAY,
        until=now + 365 * DAY,
        weekly=True,
        by=cast.mina,
        reason="the books are closed",
    )
    after = asked(connection)
    assert not {"nobody_on_call", "level_gap"} & names(after, "PGAP")
    assert 12 <= len(after.of("PGAP").meant["PGAP"]) <= 13
    assert {span.seconds for span in after.meant["PGAP"][1:-1]} == {86_400}
    # What was found besides stays.
    assert names(found, "PGAP") - names(after, "PGAP") == {"nobody_on_call", "level_gap"}


def test_rules_are_gone_through_once_an_hour_and_when_something_changed(
    cast: Cast, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[Span] = []
    real = escalation.review

    def counted(account: Account, rendered: Any, window: Span, **more: Any) -> escalation.Review:
        runs.append(window)
        return real(account, rendered, window, **more)

    monkeypatch.setattr(escalation, "review", counted)
    now = timezone.now().replace(hour=10, minute=5)
    keep(connection, schedule("PSCHALL"), policy("PONE", "One", "PSCHALL"))
    first = asked(connection, now)
    assert asked(connection, now + dt.timedelta(minutes=50)) == first
    assert len(runs) == 1
    asked(connection, now + dt.timedelta(minutes=60))
    assert len(runs) == 2
    keep(connection, policy("PTWO", "Two", "PSCHALL"))
    assert names(asked(connection, now), "PTWO")
    assert len(runs) == 3


def test_two_look_ups_are_all_that_a_review_costs_once_it_is_made(
    connection: Connection, django_assert_num_queries: Any
) -> None:
    keep(connection, schedule("PSCHALL"), policy("PONE", "One", "PSCHALL"))
    now = timezone.now()
    sweep = swept(connection, mirror.kept(connection).account, now)
    with django_assert_num_queries(2):
        reviewed(connection, sweep, now)


def test_open_incidents_are_told_with_changes_of_the_policy_that_do_nothing_for_them(connection: Connection) -> None:
    keep(connection, schedule("PSCHALL"), policy("PONE", "One", "PSCHALL"), policy("PTWO", "Two", "PSCHALL"))
    log = log_of(
        [
            Incident("PI1", 100, policy_id="PONE"),
            Incident("PI2", 200, policy_id="PONE", status="acknowledged"),
            Incident("PI3", 300, policy_id="PONE", status="resolved", resolved=400),
            Incident("PI4", 300, policy_id="PTWO", status="resolved", resolved=400),
            Incident("PI5", 300),
        ]
    )
    assert open_by_policy(log) == {"PONE": 2}
    found = asked(connection, open_incidents=open_by_policy(log))
    for one in found.findings:
        assert ("2 incidents that are open keep the policy as it was" in one.consequence) == (
            one.policy_id == "PONE" and any(change.document == ("", "") for change in one.changes)
        )
    assert any("2 incidents" in one.consequence for one in found.findings)
    assert not any("keep the policy as it was" in one.consequence for one in asked(connection).findings)


def test_reviews_of_connections_do_not_mix(cast: Cast, connection: Connection) -> None:
    other = do_register_token(
        cast.search,
        name="Other",
        token="y_NbAkKc66ryYTWUXYEv",
        kind="account",
        region="us",
        by=cast.ada,
        whole_account=True,
    )
    keep(connection, schedule("PSCHALL"), policy("PONE", "One", "PSCHALL"))
    keep(other, schedule("PSCHALL"), policy("PTWO", "Two", "PSCHALL"))
    assert names(asked(connection), "PONE")
    assert not names(asked(other), "PONE")
    assert names(asked(other), "PTWO")
    assert review.KEPT > 2
