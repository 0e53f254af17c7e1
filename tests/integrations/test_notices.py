"""What a team is told of gaps: once each, and once more when it is closed, whoever is killed or works beside whom."""

from __future__ import annotations

import dataclasses
import datetime as dt
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core import mail
from django.db import connection as database
from django.utils import timezone

from integrations import mirror, notices, sweep, tasks
from integrations.actions import do_register_token
from integrations.intended import do_mark_intended
from integrations.models import Connection, Delivery, NoticedGap, NoticeSettings, Watch
from integrations.notices import do_set_notices, look
from integrations.pagerduty.analysis.model import (
    Account,
    CustomShift,
    Level,
    Policy,
    Problem,
    Schedule,
    Service,
    Target,
)
from integrations.webhooks.deliveries import send_due
from policies.actions import Refused
from policies.models import ConfigChange
from tests.conftest import Cast

pytestmark = pytest.mark.django_db
DAY = 86_400
HOUR = 3_600
FAR = 40 * DAY
End = NoticedGap.End


def account(now: dt.datetime, *gaps: tuple[int, int], ids: tuple[str, ...] = ("P1",)) -> Account:
    """An account in which each policy has one schedule, covered but for ``gaps``: seconds from ``now``, by start."""
    at = int(now.timestamp())
    edges = [-DAY, *(edge for gap in gaps for edge in gap), 100 * DAY]
    shifts = tuple(
        CustomShift(f"S{place}", at + start, at + end, ("U1",))
        for place, (start, end) in enumerate(zip(edges[::2], edges[1::2], strict=True))
        if end > start
    )
    schedules, policies, services = {}, {}, {}
    for policy in ids:
        schedules[f"S{policy}"] = Schedule(f"S{policy}", f"Rota of {policy}", "v3", "UTC", custom_shifts=shifts)
        policies[policy] = Policy(policy, f"Policy {policy}", (Level(30, (Target("schedule", f"S{policy}"),)),), 0)
        services[f"V{policy}"] = Service(f"V{policy}", f"Service {policy}", "active", policy)
    return Account(schedules=schedules, policies=policies, services=services)


class Mirrors:
    """Stands for the mirror: what was read of each connection."""

    def __init__(self) -> None:
        self.of: dict[Any, mirror.Kept] = {}

    def set(self, connection: Connection, account_: Account, as_of: dt.datetime, **parts: Any) -> None:
        read = {
            kind: mirror.Part(kind, kind, parts.get(kind, as_of), 1, "It was refused." if kind in parts else "", False)
            for kind in ("schedules", "policies", "services", "users")
        }
        before = self.of.get(connection.pk)
        version = before.version + 1 if before else 1
        self.of[connection.pk] = mirror.Kept(connection, account_, as_of, read, version=version)

    def kept(self, connection: Connection) -> mirror.Kept:
        return self.of.get(connection.pk) or mirror.Kept(connection, Account(), None, {})


@pytest.fixture
def mirrors(monkeypatch: pytest.MonkeyPatch) -> Mirrors:
    made = Mirrors()
    monkeypatch.setattr(mirror, "kept", made.kept)
    monkeypatch.setattr(mirror, "rates", lambda connection: {})
    return made


@pytest.fixture
def now() -> dt.datetime:
    return timezone.now().replace(microsecond=0)


@pytest.fixture
def main(cast: Cast) -> Connection:
    return connection_of(cast)


def connection_of(cast: Cast, name: str = "Main", last: str = "A") -> Connection:
    return do_register_token(
        cast.payments,
        name=name,
        token=f"y_NbAkKc66ryYTWUXYE{last}",
        kind="user",
        region="us",
        from_email="mina@example.com",
        by=cast.ada,
        team_ids=["PTEAM01"],
    )


def told() -> list[str]:
    return [f"{row.event} {row.channel}" for row in Delivery.objects.order_by("created_at", "event", "channel")]


def test_a_gap_is_told_once_and_its_closing_once(
    cast: Cast, main: Connection, mirrors: Mirrors, now: dt.datetime
) -> None:
    mirrors.set(main, account(now, (DAY, DAY + HOUR)), now)
    for minutes in range(3):
        look(cast.payments, now + dt.timedelta(minutes=minutes))
    assert told() == ["gap_opened email"]
    [gap] = NoticedGap.objects.all()
    assert (gap.policy_id, gap.ended, gap.ends_at - gap.starts_at) == ("P1", "", dt.timedelta(hours=1))
    assert send_due(now) == 1
    assert send_due(now + dt.timedelta(hours=1)) == 0
    [message] = mail.outbox
    assert message.to == ["mina@example.com"]
    assert message.subject.startswith("Payments: nobody would be paged by Policy P1 from ")
    assert f"{gap.starts_at:%Y-%m-%d %H:%M} UTC" in message.body
    assert "Service P1" in message.body
    assert "/teams/payments/notices/" in message.body

    later = now + dt.timedelta(hours=2)
    mirrors.set(main, account(now), later)
    for minutes in range(3):
        look(cast.payments, later + dt.timedelta(minutes=minutes))
    assert told() == ["gap_opened email", "gap_closed email"]
    gap.refresh_from_db()
    assert (gap.ended, gap.ended_at) == (End.CLOSED, later)
    send_due(later)
    assert mail.outbox[1].subject.endswith("is closed")
    assert len(mail.outbox) == 2


def test_a_gap_that_opens_again_is_told_again(cast: Cast, main: Connection, mirrors: Mirrors, now: dt.datetime) -> None:
    for hours, gaps in ((0, [(DAY, DAY + HOUR)]), (1, []), (2, [(DAY, DAY + HOUR)])):
        at = now + dt.timedelta(hours=hours)
        mirrors.set(main, account(now, *gaps), at)
        look(cast.payments, at)
    assert told() == ["gap_opened email", "gap_closed email", "gap_opened email"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([(DAY, DAY + HOUR)], [(DAY + 600, DAY + 2 * HOUR)]),  # moved, and overlaps
        ([(DAY, DAY + HOUR)], [(DAY - 5 * HOUR, DAY + 9 * HOUR)]),  # grown
        ([(DAY, DAY + 9 * HOUR)], [(DAY + HOUR, DAY + 2 * HOUR)]),  # shrunk
        ([(DAY, DAY + 9 * HOUR)], [(DAY, DAY + HOUR), (DAY + 8 * HOUR, DAY + 9 * HOUR)]),  # in two
        ([(DAY, DAY + 1800)], [(DAY + 2400, DAY + HOUR)]),  # its start within the tolerance
    ],
)
def test_what_overlaps_a_gap_or_begins_when_it_did_is_the_same(
    before: list[tuple[int, int]],
    after: list[tuple[int, int]],
    cast: Cast,
    main: Connection,
    mirrors: Mirrors,
    now: dt.datetime,
) -> None:
    mirrors.set(main, account(now, *before), now)
    look(cast.payments, now)
    later = now + dt.timedelta(hours=1)
    mirrors.set(main, account(now, *after), later)
    look(cast.payments, later)
    assert told() == ["gap_opened email"]
    [gap] = NoticedGap.objects.open()
    assert gap.starts_at.timestamp() - now.timestamp() == after[0][0]
    assert gap.ends_at.timestamp() - now.timestamp() == after[-1][1]


def test_two_gaps_far_apart_are_two_in_one_mail(
    cast: Cast, main: Connection, mirrors: Mirrors, now: dt.datetime
) -> None:
    mirrors.set(main, account(now, (DAY, DAY + HOUR), (3 * DAY, 3 * DAY + HOUR), ids=("P1", "P2")), now)
    look(cast.payments, now)
    assert NoticedGap.objects.open().count() == 4
    [row] = Delivery.objects.all()
    assert "4 gaps" in row.subject
    assert row.text.count("\n- ") == 4


def test_the_horizon_is_the_teams_to_choose(cast: Cast, main: Connection, mirrors: Mirrors, now: dt.datetime) -> None:
    mirrors.set(main, account(now, (20 * DAY, 21 * DAY)), now)
    look(cast.payments, now)
    assert told() == []
    do_set_notices(cast.payments, horizon_days=30, by_email=True, by=cast.mina)
    look(cast.payments, now)
    assert told() == ["gap_opened email"]
    # Nearer again: it is there all the same, and not closed.
    do_set_notices(cast.payments, horizon_days=7, by_email=True, by=cast.mina)
    look(cast.payments, now)
    assert told() == ["gap_opened email"]
    assert NoticedGap.objects.open().count() == 1


def test_where_a_gap_ends_is_told_beyond_the_horizon(
    cast: Cast, main: Connection, mirrors: Mirrors, now: dt.datetime
) -> None:
    mirrors.set(main, account(now, (13 * DAY, 20 * DAY)), now)
    look(cast.payments, now)
    [gap] = NoticedGap.objects.all()
    assert (gap.ends_at - now, gap.is_endless) == (dt.timedelta(days=20), False)


def test_a_policy_that_never_reaches_anybody_is_told_once_and_not_every_day(
    cast: Cast, main: Connection, mirrors: Mirrors, now: dt.datetime
) -> None:
    for day in range(0, 60, 3):
        at = now + dt.timedelta(days=day)
        mirrors.set(main, account(at, (-DAY, 100 * DAY)), at)
        look(cast.payments, at)
    assert told() == ["gap_opened email"]
    [gap] = NoticedGap.objects.all()
    assert gap.is_endless
    assert "no end in sight" in Delivery.objects.get().text
    assert gap.starts_at == now  # as it was noticed


def test_a_gap_that_came_and_went_is_not_told_as_closed(
    cast: Cast, main: Connection, mirrors: Mirrors, now: dt.datetime
) -> None:
    mirrors.set(main, account(now, (HOUR, 2 * HOUR)), now)
    look(cast.payments, now)
    later = now + dt.timedelta(hours=3)
    mirrors.set(main, account(now, (HOUR, 2 * HOUR)), later)
    look(cast.payments, later)
    assert told() == ["gap_opened email"]
    assert NoticedGap.objects.get().ended == End.PASSED


def test_somebody_who_steps_in_halfway_closes_it(
    cast: Cast, main: Connection, mirrors: Mirrors, now: dt.datetime
) -> None:
    mirrors.set(main, account(now, (HOUR, 5 * HOUR)), now)
    look(cast.payments, now)
    later = now + dt.timedelta(hours=2)
    mirrors.set(main, account(now, (HOUR, 2 * HOUR)), later)
    look(cast.payments, later)
    assert told()[1:] == ["gap_closed email"]


def test_a_past_gap_is_nobodys_work(cast: Cast, main: Connection, mirrors: Mirrors, now: dt.datetime) -> None:
    mirrors.set(main, account(now, (-2 * HOUR, -HOUR)), now)
    look(cast.payments, now)
    assert told() == []


def test_what_a_lower_level_reaches_is_no_gap(cast: Cast, main: Connection, mirrors: Mirrors, now: dt.datetime) -> None:
    found = account(now, (DAY, 2 * DAY))
    levels = (*found.policies["P1"].levels, Level(30, (Target("user", "U2"),)))
    policies = {"P1": dataclasses.replace(found.policies["P1"], levels=levels)}
    mirrors.set(main, dataclasses.replace(found, policies=policies), now)
    look(cast.payments, now)
    assert told() == []


def test_an_intended_gap_is_not_told_and_what_reaches_beyond_it_is(
    cast: Cast, main: Connection, mirrors: Mirrors, now: dt.datetime
) -> None:
    def mark(hours: int) -> None:
        begins = now + dt.timedelta(days=1)
        do_mark_intended(
            main,
            policy_id="P1",
            policy_name="Policy P1",
            starts_at=begins,
            ends_at=begins + dt.timedelta(hours=hours),
            until=begins + dt.timedelta(days=30),
            by=cast.mina,
            reason="nobody works then",
        )

    mark(2)
    mirrors.set(main, account(now, (DAY, DAY + 2 * HOUR)), now)
    look(cast.payments, now)
    assert told() == []
    mirrors.set(main, account(now, (DAY, DAY + 3 * HOUR)), now)
    look(cast.payments, now)
    [gap] = NoticedGap.objects.all()
    assert gap.ends_at - gap.starts_at == dt.timedelta(hours=1)
    # Said to be meant after it was told: whoever said so knows.
    mark(3)
    look(cast.payments, now)
    assert told() == ["gap_opened email"]
    gap.refresh_from_db()
    assert gap.ended == End.INTENDED


def test_a_policy_that_is_gone_closes_its_gaps(
    cast: Cast, main: Connection, mirrors: Mirrors, now: dt.datetime
) -> None:
    mirrors.set(main, account(now, (DAY, 2 * DAY)), now)
    look(cast.payments, now)
    later = now + dt.timedelta(minutes=1)
    mirrors.set(main, account(now, ids=("P2",)), later)
    look(cast.payments, later)
    assert told()[1:] == ["gap_closed email"]
    assert NoticedGap.objects.get().ended == End.GONE
    assert "there no more" in Delivery.objects.get(event="gap_closed").text


@pytest.mark.parametrize("part", ["schedules", "policies"])
@pytest.mark.parametrize("days", [None, 2])
def test_a_mirror_that_is_too_old_or_was_not_read_neither_opens_nor_closes(
    part: str, days: int | None, cast: Cast, main: Connection, mirrors: Mirrors, now: dt.datetime
) -> None:
    old = None if days is None else now - dt.timedelta(days=days)
    mirrors.set(main, account(now, (DAY, 2 * DAY)), now)
    look(cast.payments, now)
    for found in (account(now), account(now, (5 * DAY, 6 * DAY)), Account()):
        mirrors.set(main, found, now, **{part: old})
        look(cast.payments, now)
    assert told() == ["gap_opened email"]
    assert NoticedGap.objects.open().count() == 1
    said = Watch.objects.get().told
    assert part in said
    assert "It was refused." in said


def test_a_schedule_that_was_not_read_is_not_taken_for_an_empty_one(
    cast: Cast, main: Connection, mirrors: Mirrors, now: dt.datetime
) -> None:
    mirrors.set(main, dataclasses.replace(account(now), schedules={}), now)
    look(cast.payments, now)
    assert told() == []
    mirrors.set(main, account(now, (DAY, 2 * DAY)), now)
    look(cast.payments, now)
    mirrors.set(main, dataclasses.replace(account(now, ids=("P1", "P2")), schedules={}), now)
    look(cast.payments, now)
    assert told() == ["gap_opened email"]
    assert NoticedGap.objects.open().count() == 1


def test_a_schedule_that_cannot_be_rendered_is_not_taken_for_an_empty_one(
    cast: Cast, main: Connection, mirrors: Mirrors, now: dt.datetime
) -> None:
    known = account(now)
    bare = Schedule("SP1", "Rota of P1", "v2", "UTC", problems=(Problem("no_definition", "It holds no layers."),))
    mirrors.set(main, dataclasses.replace(known, schedules={"SP1": bare}), now)
    assert sweep.swept(main, mirrors.kept(main).account, now).rendered == {}
    look(cast.payments, now)
    assert told() == []
    assert not NoticedGap.objects.exists()


def test_shifts_that_were_read_long_ago_are_nothing_to_go_by(
    cast: Cast, main: Connection, mirrors: Mirrors, now: dt.datetime
) -> None:
    mirrors.set(main, account(now, (DAY, 2 * DAY)), now)
    kept = mirrors.kept(main)
    old = mirror.Part("schedules_v3", "shift-based schedules", now - dt.timedelta(days=2), 1, "It was refused.", False)
    mirrors.of[main.pk] = dataclasses.replace(kept, parts={**kept.parts, old.kind: old})
    look(cast.payments, now)
    assert told() == []
    assert "shift-based schedules were read last" in Watch.objects.get().told
    # Where there never were any to be read, they keep nothing back.
    mirrors.of[main.pk] = dataclasses.replace(
        kept, parts={**kept.parts, old.kind: dataclasses.replace(old, as_of=None)}
    )
    look(cast.payments, now)
    assert told() == ["gap_opened email"]


def test_one_connection_that_cannot_be_looked_through_does_not_break_the_others(
    cast: Cast, main: Connection, mirrors: Mirrors, now: dt.datetime, caplog: pytest.LogCaptureFixture
) -> None:
    other = connection_of(cast, "Other", "B")
    mirrors.set(main, Account(policies={"P1": None}), now)  # type: ignore[dict-item]  # that is the point
    mirrors.set(other, account(now, (DAY, 2 * DAY)), now)
    look(cast.payments, now)
    assert told() == ["gap_opened email"]
    assert "could not be looked through" in Watch.objects.get(connection=main).told


def test_a_policy_that_two_connections_mirror_is_told_once(
    cast: Cast, main: Connection, mirrors: Mirrors, now: dt.datetime
) -> None:
    other = connection_of(cast, "Other", "B")
    for connection in (main, other):
        mirrors.set(connection, account(now, (DAY, 2 * DAY)), now)
    look(cast.payments, now)
    assert NoticedGap.objects.count() == 1
    # And when the first is switched off it is still the same.
    Connection.objects.filter(pk=main.pk).update(is_enabled=False)
    look(cast.payments, now)
    assert told() == ["gap_opened email"]
    assert NoticedGap.objects.get().connection == other


def test_each_team_is_told_of_its_own(cast: Cast, main: Connection, mirrors: Mirrors, now: dt.datetime) -> None:
    mirrors.set(main, account(now, (DAY, 2 * DAY)), now)
    look(cast.search, now)
    assert told() == []
    look(cast.payments, now)
    send_due(now)
    assert [message.to for message in mail.outbox] == [["mina@example.com"]]


def test_a_team_that_wants_no_mail_gets_none_and_its_gaps_are_noticed(
    cast: Cast, main: Connection, mirrors: Mirrors, now: dt.datetime
) -> None:
    do_set_notices(cast.payments, horizon_days=14, by_email=False, by=cast.mina)
    mirrors.set(main, account(now, (DAY, 2 * DAY)), now)
    look(cast.payments, now)
    assert told() == []
    assert NoticedGap.objects.open().count() == 1


def test_whoever_saw_an_older_mirror_does_not_open_again_what_was_closed(
    cast: Cast, main: Connection, mirrors: Mirrors, now: dt.datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirrors.set(main, account(now, (DAY, 2 * DAY)), now)
    look(cast.payments, now)
    seen = notices.see
    old = seen(main, now)
    mirrors.set(main, account(now), now + dt.timedelta(minutes=5))
    look(cast.payments, now + dt.timedelta(minutes=6))
    monkeypatch.setattr(notices, "see", lambda connection, now: old)
    look(cast.payments, now + dt.timedelta(minutes=7))
    assert told() == ["gap_opened email", "gap_closed email"]
    assert NoticedGap.objects.open().count() == 0


def test_killed_between_noticing_and_mailing_nothing_is_lost_and_one_mail_is_sent(
    cast: Cast, main: Connection, mirrors: Mirrors, now: dt.datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        """As a process ends: nothing catches it."""

    def kill(*_: Any, **__: Any) -> None:
        raise Killed

    mirrors.set(main, account(now, (DAY, 2 * DAY)), now)
    # While it is put down: neither the gap nor its notice is there, and the next look finds both.
    with monkeypatch.context() as patch:
        patch.setattr(Delivery.objects, "create", kill)
        with pytest.raises(Killed):
            look(cast.payments, now)
    assert (NoticedGap.objects.count(), Delivery.objects.count()) == (0, 0)
    # After it was put down and before the mail left.
    look(cast.payments, now)
    with monkeypatch.context() as patch:
        patch.setattr("integrations.webhooks.deliveries.send_mail", kill)
        with pytest.raises(Killed):
            send_due(now)
    look(cast.payments, now)
    assert send_due(now + dt.timedelta(minutes=1)) == 0  # somebody may still be at it
    assert send_due(now + dt.timedelta(minutes=6)) == 1
    assert send_due(now + dt.timedelta(minutes=30)) == 0
    assert len(mail.outbox) == 1


def test_a_mail_that_cannot_be_sent_is_tried_again_and_given_up_at_last(
    cast: Cast, main: Connection, mirrors: Mirrors, now: dt.datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ConnectionRefusedError

    mirrors.set(main, account(now, (DAY, 2 * DAY)), now)
    look(cast.payments, now)
    monkeypatch.setattr("integrations.webhooks.deliveries.send_mail", fail)
    at = now
    for _ in range(6):
        assert send_due(at) == 0
        at += dt.timedelta(hours=9)
    row = Delivery.objects.get()
    assert (row.state, row.attempts, row.due_at) == ("given_up", 6, None)
    assert row.told == "The mail could not be sent: ConnectionRefusedError."


@pytest.mark.django_db(transaction=True)
def test_two_workers_at_once_notice_once_and_send_once(
    cast: Cast, main: Connection, mirrors: Mirrors, now: dt.datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_down = notices._note

    def slowly(*given: Any) -> NoticedGap:
        made = put_down(*given)
        time.sleep(0.2)  # long enough for the others to be there, too
        return made

    monkeypatch.setattr(notices, "_note", slowly)
    NoticeSettings.objects.create(team=cast.payments)
    mirrors.set(main, account(now, (DAY, 2 * DAY)), now)
    together(lambda: look(cast.payments, now))
    assert told() == ["gap_opened email"]
    sent: list[int] = []
    together(lambda: sent.append(send_due(now)))
    assert sum(sent) == 1
    assert len(mail.outbox) == 1


def together(work: Callable[[], object], count: int = 4) -> None:
    barrier = threading.Barrier(count)
    failed: list[BaseException] = []

    def run() -> None:
        try:
            barrier.wait()
            work()
        except BaseException as error:
            failed.append(error)
        finally:
            database.close()

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


# When it is looked


def test_gaps_are_looked_for_daily_and_after_what_was_read(
    cast: Cast, main: Connection, mirrors: Mirrors, now: dt.datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    from integrations.models import Mirror

    morning = now.replace(hour=8, minute=0, second=0)
    mirrors.set(main, account(morning), morning)
    Mirror.objects.create(connection=main, version=1)
    assert notices.is_due(cast.payments, morning)
    look(cast.payments, morning)
    assert not notices.is_due(cast.payments, morning + dt.timedelta(hours=22))
    assert notices.is_due(cast.payments, morning + dt.timedelta(hours=23))
    Mirror.objects.update(version=2)
    assert notices.is_due(cast.payments, morning)
    assert not notices.is_due(cast.search, morning)


def test_the_worker_looks_for_the_gaps_of_every_team_that_has_a_connection(
    cast: Cast, main: Connection, mirrors: Mirrors, now: dt.datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    mirrors.set(main, account(now, (DAY, 2 * DAY)), now)
    monkeypatch.setattr(tasks.look_for_gaps, "enqueue", asked.append)
    monkeypatch.setattr(tasks.send_notices, "enqueue", lambda: asked.append(0))
    tasks.notice_gaps()
    assert asked == [cast.payments.pk]
    tasks.look_for_gaps(cast.payments.pk)
    assert asked == [cast.payments.pk, 0]
    tasks.look_for_gaps(0)  # a team that was removed meanwhile
    tasks.send_notices()
    assert len(mail.outbox) == 1


def test_old_gaps_and_notices_are_forgotten_and_open_ones_are_not(
    cast: Cast, main: Connection, mirrors: Mirrors, now: dt.datetime
) -> None:
    mirrors.set(main, account(now, (DAY, 2 * DAY), (5 * DAY, 6 * DAY)), now)
    look(cast.payments, now)
    send_due(now)
    NoticedGap.objects.filter(pk=NoticedGap.objects.earliest("pk").pk).update(ended="closed", ended_at=now)
    Delivery.objects.update(created_at=now - dt.timedelta(days=91))
    NoticedGap.objects.exclude(ended="").update(ended_at=now - dt.timedelta(days=181))
    tasks.forget_notices()
    assert (NoticedGap.objects.count(), Delivery.objects.count()) == (1, 0)


# What managers choose


def test_only_managers_choose_and_it_is_on_record(cast: Cast) -> None:
    with pytest.raises(Refused):
        do_set_notices(cast.payments, horizon_days=7, by_email=True, by=cast.vic)
    with pytest.raises(Refused):
        do_set_notices(cast.payments, horizon_days=7, by_email=True, by=cast.omar)
    do_set_notices(cast.payments, horizon_days=7, by_email=False, by=cast.mina, reason="quieter")
    change = ConfigChange.objects.get(action="set_notices")
    assert change.before == {"horizon_days": 14, "by_email": True}
    assert change.after == {"horizon_days": 7, "by_email": False}
    do_set_notices(cast.payments, horizon_days=7, by_email=False, by=cast.mina)
    assert ConfigChange.objects.filter(action="set_notices").count() == 1
    assert NoticeSettings.objects.get().horizon_days == 7


def test_hostile_names_do_nothing_in_a_mail(cast: Cast, main: Connection, mirrors: Mirrors, now: dt.datetime) -> None:
    found = account(now, (DAY, 2 * DAY))
    bad = "Evil\r\nBcc: all@example.com\u202e<!channel>" + "W" * 5_000
    policies = {"P1": dataclasses.replace(found.policies["P1"], name=bad)}
    services = {"V": Service("V", bad, "active", "P1")}
    mirrors.set(main, dataclasses.replace(found, policies=policies, services=services), now)
    look(cast.payments, now)
    assert send_due(now) == 1
    [message] = mail.outbox
    assert "\n" not in message.subject
    assert len(message.subject) <= 300
    assert "\u202e" not in message.body
    assert message.recipients() == ["mina@example.com"]


@pytest.fixture(autouse=True)
def swept_anew() -> Iterator[None]:
    from integrations import sweep

    sweep._swept.clear()
    yield
    sweep._swept.clear()
