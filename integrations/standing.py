"""Standing checks: escalation policies tested regularly, as code is. *Checkout at 03:00 on Sunday must reach somebody of Payments
within 15 minutes* is asked of what the mirror says, for each such moment ahead; a team is told when a check fails, and when it
holds again."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final
from zoneinfo import ZoneInfo

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from integrations import mirror
from integrations.models import CheckRun, Connection, Delivery, MirrorPart, NoticeSettings, StandingCheck
from integrations.notices import PARTS, unfit
from integrations.pagerduty.analysis import paging
from integrations.pagerduty.analysis.model import Account
from integrations.webhooks.deliveries import JOB, Notice, put
from policies.actions import By, clean_reason, hold_version, name_of, record_change, require_manager, time_zones
from policies.core.text import shown
from policies.models import Team

log = logging.getLogger(__name__)

DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MOST: Final = 100
"""Standing checks of one team."""
MOST_MINUTES: Final = 24 * 60
MOST_PEOPLE: Final = 50
KEPT_RUNS: Final = 60
"""Of a check, the newest."""
LONGEST: Final = 200
NAMED: Final = 20
"""Moments that a notice names."""
SERVICES: Final = MirrorPart.Kind.SERVICES
USERS: Final = MirrorPart.Kind.USERS


# What a check says


def days_in_words(weekdays: Sequence[int]) -> str:
    days = sorted(set(weekdays))
    if days == [1, 2, 3, 4, 5, 6, 7]:
        return "every day"
    if days == [1, 2, 3, 4, 5]:
        return "on weekdays"
    if days == [6, 7]:
        return "at weekends"
    names = [f"{DAYS[day - 1]}s" for day in days if 1 <= day <= 7]
    return f"on {', '.join(names[:-1])}{' and ' if len(names) > 1 else ''}{names[-1]}" if names else "on no day"


def whom_in_words(whom: str, names: Sequence[str]) -> str:
    shown_names = [shown(str(name), 100) for name in names]
    if whom == StandingCheck.Whom.TEAM:
        return f"somebody of {shown_names[0] if shown_names else 'a team'}"
    if whom == StandingCheck.Whom.PEOPLE:
        if len(shown_names) > 3:
            shown_names = [*shown_names[:3], f"{len(shown_names) - 3} others"]
        return " or ".join(shown_names) or "somebody"
    return "anybody"


def sentence(row: StandingCheck) -> str:
    """The whole expectation, without an end."""
    zone, minutes = shown(row.time_zone, 64), _minutes(row.within_minutes)
    return (
        f"{shown(row.about_name, LONGEST)} at {row.clock:%H:%M} {days_in_words(row.weekdays)} ({zone}) must reach "
        f"{whom_in_words(row.whom, row.whom_names)} within {minutes}"
    )


def moments(row: StandingCheck, now: dt.datetime, until: dt.datetime) -> list[dt.datetime]:
    """When it is to hold, from ``now`` on: the next one in any case, be it beyond ``until``. A time that the clock skips is the
    moment it would have been by the clock before; of one that comes twice it is the first."""
    zone = ZoneInfo(row.time_zone)
    day = now.astimezone(zone).date()
    found: list[dt.datetime] = []
    for _ in range((until - now).days + 9):
        at = dt.datetime.combine(day, row.clock, zone).astimezone(dt.UTC)
        if day.isoweekday() in row.weekdays and at >= now:
            if found and at > until:
                break
            found.append(at)
        day += dt.timedelta(days=1)
    return found


# Running one


@dataclass(frozen=True, slots=True)
class Moment:
    """What would become of one incident."""

    at: dt.datetime
    holds: bool | None
    """None: it cannot be told."""
    told: str
    """A sentence."""


@dataclass(frozen=True, slots=True)
class Result:
    state: StandingCheck.State
    told: str
    moments: Sequence[Moment] = ()
    as_of: dt.datetime | None = None
    about_name: str = ""
    """What it is called now; empty: not known."""
    whom_names: Sequence[str] | None = None


def judge(row: StandingCheck, now: dt.datetime, horizon: dt.timedelta) -> Result:
    """Ask the mirror. Nothing is written."""
    kept = mirror.kept(row.connection)
    if not row.connection.is_enabled:
        return Result(StandingCheck.State.UNKNOWN, "Its connection is switched off.", as_of=kept.as_of)
    parts = [*PARTS, *([SERVICES] if row.kind == StandingCheck.Kind.SERVICE else [])]
    if problem := unfit(kept, now, [*parts, *([USERS] if row.whom == StandingCheck.Whom.TEAM else [])]):
        return Result(StandingCheck.State.UNKNOWN, problem, as_of=kept.as_of)
    account = kept.account
    known: Mapping[str, Any] = account.services if row.kind == StandingCheck.Kind.SERVICE else account.policies
    about = known.get(row.about_id)
    if about is None:
        kind = row.get_kind_display()
        told = f"There is no {kind} {shown(row.about_name, 100)} any more, or this connection does not reach it."
        return Result(StandingCheck.State.FAILS, told, as_of=kept.as_of)
    found = [_moment(row, account, at) for at in moments(row, now, now + horizon)]
    names = _names(account, row.whom, row.whom_ids)
    if bad := [each for each in found if each.holds is False]:
        state, told = StandingCheck.State.FAILS, f"{len(bad)} of the next {len(found)} fail: {bad[0].told}"
        if len(found) == 1:
            told = bad[0].told
    elif unsure := [each for each in found if each.holds is None]:
        state, told = StandingCheck.State.UNKNOWN, unsure[0].told
    else:
        state, told = StandingCheck.State.HOLDS, found[0].told if found else "There is no such moment."
    return Result(state, shown(told, 300), found, kept.as_of, shown(about.name, LONGEST), names)


def _moment(row: StandingCheck, account: Account, at: dt.datetime) -> Moment:
    begins = int(at.timestamp())
    if row.kind == StandingCheck.Kind.SERVICE:
        paged = paging.service_is_paged(account, row.about_id, begins)
    else:
        paged = paging.who_is_paged(account, row.about_id, begins)
    unsure = next(
        (problem.words for problem in paged.problems if problem.code in ("unknown_policy", "unknown_schedule")), ""
    )
    told = _told_in_time(paged, _wanted(row, account), row.within_minutes)
    if told:
        user, minute = min(told.items(), key=lambda pair: (pair[1], pair[0]))
        when = "at once" if minute == 0 else f"after {_minutes(minute)}"
        person = account.people.get(user)
        known = person is not None and person.ladder is not None and person.contacts is not None
        unread = "" if known else ", if their notification rules say so, which could not be read"
        return Moment(at, True, f"{shown(account.name_of(user), 100)} would be told {when}{unread}.")
    if unsure:
        return Moment(at, None, shown(unsure, 300))
    return Moment(at, False, shown(_why_not(row, account, paged), 300))


def _wanted(row: StandingCheck, account: Account) -> Collection[str] | None:
    """Ids of whoever counts; None: anybody does."""
    if row.whom == StandingCheck.Whom.TEAM:
        return {person.id for person in account.people.values() if set(person.team_ids) & set(row.whom_ids)}
    return set(row.whom_ids) if row.whom == StandingCheck.Whom.PEOPLE else None


def _told_in_time(paged: paging.Paged, wanted: Collection[str] | None, minutes: int) -> dict[str, int]:
    """Who of those that count is told in time, and after how many minutes. Of a round-robin level it is one of several, so all of
    them must count."""
    found: dict[str, int] = {}
    for step in paged.steps:
        told = {one.user: _first(one, step) for one in step.reached}
        good = {
            user: minute
            for user, minute in told.items()
            if minute is not None and minute <= minutes and (wanted is None or user in wanted)
        }
        if step.one_of and len(good) < len(told):
            continue
        for user, minute in good.items():
            found[user] = min(minute, found.get(user, minute))
    return found


def _first(one: paging.Reached, step: paging.Step) -> int | None:
    """After how many minutes somebody is first told; None: they are not. Where their rules are not known, it is when the incident
    is assigned to them."""
    if one.contacts is None:
        return step.minutes
    return min((notice.minute for notice in one.contacts if notice.sent), default=None)


def _why_not(row: StandingCheck, account: Account, paged: paging.Paged) -> str:
    if paged.nobody:
        return paged.nobody
    within = _minutes(row.within_minutes)
    firsts = sorted(
        (minute, account.name_of(one.user))
        for step in paged.steps
        for one in step.reached
        if (minute := _first(one, step)) is not None
    )
    if not firsts:
        return "Whoever is on call has no way to be told."
    late = _told_in_time(paged, _wanted(row, account), 1_000_000)
    if late:
        user, minute = min(late.items(), key=lambda pair: (pair[1], pair[0]))
        return f"{account.name_of(user)} would be told only after {_minutes(minute)}, not within {within}."
    names = list(dict.fromkeys(name for _, name in firsts))
    others = f" and {len(names) - 3} others" if len(names) > 3 else ""
    return f"It would tell {', '.join(names[:3])}{others}, and never {whom_in_words(row.whom, row.whom_names)}."


def _minutes(count: int) -> str:
    return f"{count} minute{'s' if count != 1 else ''}"


def _names(account: Account, whom: str, ids: Sequence[str]) -> list[str] | None:
    """What those that count are called now; None: there is nothing to know, or it is not known."""
    if whom == StandingCheck.Whom.TEAM:
        found = [account.teams.get(each) for each in ids]
    elif whom == StandingCheck.Whom.PEOPLE:
        found = [person.name if (person := account.people.get(each)) else None for each in ids]
    else:
        return None
    names = [shown(name, LONGEST) for name in found if name is not None]
    return names if len(names) == len(ids) else None


def run(row: StandingCheck, now: dt.datetime, *, asked_by: str = JOB) -> CheckRun | None:
    """Run a check, keep what it found, and put down that the team is told, if that is news. None: it was removed meanwhile."""
    team = row.team
    chosen = NoticeSettings.objects.filter(team=team).first() or NoticeSettings(team=team)
    try:
        result = judge(row, now, dt.timedelta(days=chosen.horizon_days))
    except Exception as error:
        log.exception("The standing check %s could not be run", row.pk)
        result = Result(StandingCheck.State.UNKNOWN, f"It could not be run: {type(error).__name__}.")
    with transaction.atomic():
        locked = StandingCheck.objects.select_for_update(of=("self",)).select_related("team").filter(pk=row.pk).first()
        if locked is None or _question(locked) != _question(row):
            return None  # what was asked is asked no more
        made = CheckRun.objects.create(
            standing=locked,
            at=now,
            as_of=result.as_of,
            state=result.state,
            told=result.told,
            occurrences=[
                {"at": int(each.at.timestamp()), "holds": each.holds, "told": each.told} for each in result.moments
            ],
            asked_by=asked_by,
        )
        if locked.state != result.state:
            locked.state, locked.state_since = result.state, now
        locked.run_at, locked.run_told = now, result.told
        if result.about_name:
            locked.about_name = result.about_name
        if result.whom_names is not None:
            locked.whom_names = list(result.whom_names)
        # Not to be able to tell is no news: what was told last stands until it is told otherwise.
        news = ""
        if result.state == StandingCheck.State.FAILS and not locked.told_state:
            news = locked.told_state = StandingCheck.State.FAILS
        elif result.state == StandingCheck.State.HOLDS and locked.told_state:
            locked.told_state, news = "", StandingCheck.State.HOLDS
        locked.save()
        if news:
            put(team, _notice(locked, result, news == StandingCheck.State.FAILS), chosen, now)
        old = CheckRun.objects.filter(standing=locked).order_by("-pk").values_list("pk", flat=True)[KEPT_RUNS:]
        CheckRun.objects.filter(pk__in=list(old)).delete()
    return made


def _question(row: StandingCheck) -> tuple[Any, ...]:
    return (
        row.connection_id,
        row.kind,
        row.about_id,
        row.weekdays,
        row.clock,
        row.time_zone,
        row.whom,
        row.whom_ids,
        row.within_minutes,
    )


def _notice(row: StandingCheck, result: Result, fails: bool) -> Notice:
    said = sentence(row)
    became = "fails" if fails else "holds again"
    words = {True: "holds", False: "fails", None: "not known"}
    first = result.moments[:NAMED]
    lines = [f"- {each.at:%a %Y-%m-%d %H:%M} UTC: {words[each.holds]}. {each.told}" for each in first]
    text = "\n".join((f"{said}.", "", f"It {became}. {result.told}", "", *lines, "", "Its history:"))
    document = {
        "check": {
            "id": row.pk,
            "sentence": said,
            row.kind: {"id": row.about_id, "name": row.about_name},
            "state": result.state.value,
        },
        "told": result.told,
        "moments": [{"at": each.at.isoformat(), "holds": each.holds, "told": each.told} for each in first],
    }
    event = Delivery.Event.CHECK_FAILED if fails else Delivery.Event.CHECK_HOLDS
    subject = shown(f"{row.team.name}: a standing check {became}: {said}", 300)
    return Notice(event, subject, text, document, f"/teams/{row.team.slug}/checks/{row.pk}/")


# What managers do


@dataclass(frozen=True, slots=True)
class Asked:
    """What a check is to say, as it was chosen."""

    connection: Connection
    kind: str
    about_id: str
    weekdays: Sequence[int]
    clock: dt.time
    time_zone: str
    whom: str
    whom_ids: Sequence[str]
    within_minutes: int


def _clean(team: Team, asked: Asked) -> dict[str, Any]:
    """The columns of a check.

    Raises:
        ValidationError: it could never be run. Names are taken from the mirror, so what is not there cannot be asked about.
    """
    if asked.connection.team_id != team.pk:
        raise ValidationError("This connection is another team's.")
    if asked.kind not in StandingCheck.Kind.values or asked.whom not in StandingCheck.Whom.values:
        raise ValidationError("Choose what is checked, and whom it must reach.")
    days = sorted(set(asked.weekdays))
    if not days or not set(days) <= set(range(1, 8)):
        raise ValidationError("Choose at least one day of the week.")
    if asked.time_zone not in time_zones():
        raise ValidationError("There is no such time zone.")
    if not 0 <= asked.within_minutes <= MOST_MINUTES:
        raise ValidationError(f"Somebody must be reached within 0 to {MOST_MINUTES:,} minutes.")
    account = mirror.kept(asked.connection).account
    known: Mapping[str, Any] = account.services if asked.kind == StandingCheck.Kind.SERVICE else account.policies
    about = known.get(asked.about_id)
    if about is None:
        raise ValidationError("This is not among what was read of PagerDuty: refresh, or choose another.")
    ids = list(dict.fromkeys(asked.whom_ids)) if asked.whom != StandingCheck.Whom.ANYBODY else []
    if len(ids) > (1 if asked.whom == StandingCheck.Whom.TEAM else MOST_PEOPLE):
        raise ValidationError(f"Name one team, or at most {MOST_PEOPLE} people.")
    names = _names(account, asked.whom, ids) or []
    if asked.whom != StandingCheck.Whom.ANYBODY and not names:
        raise ValidationError("Name whom it must reach: a team or people that were read of PagerDuty.")
    return {
        "connection": asked.connection,
        "kind": asked.kind,
        "about_id": asked.about_id,
        "about_name": shown(about.name, LONGEST),
        "weekdays": days,
        "clock": asked.clock.replace(second=0, microsecond=0, tzinfo=None),
        "time_zone": asked.time_zone,
        "whom": asked.whom,
        "whom_ids": ids,
        "whom_names": names,
        "within_minutes": asked.within_minutes,
    }


def _facts(row: StandingCheck) -> dict[str, Any]:
    return {"check": sentence(row), row.kind: row.about_id, "whom": row.whom_ids}


@contextmanager
def _held(row: StandingCheck) -> Iterator[StandingCheck]:
    """The row as it is now, locked; the version's lock comes first, as everywhere."""
    with transaction.atomic():
        hold_version()
        held = StandingCheck.objects.select_for_update(of=("self",)).select_related("team").filter(pk=row.pk).first()
        if held is None:
            raise ValidationError("This check was removed already.")
        yield held


def _record(row: StandingCheck, by: By, action: str, before: Any, after: Any, reason: str) -> None:
    target = f"{shown(row.about_name, 150)} (check {row.pk})"
    record_change(
        by=by, team=row.team, action=action, target=target, before=before, after=after, reason=clean_reason(reason)
    )


def do_make_check(team: Team, asked: Asked, *, by: By, reason: str = "") -> StandingCheck:
    """Raises ``Refused`` for whoever does not manage the team, ``ValidationError`` for what could never be run."""
    require_manager(by, team, "make a standing check")
    values = _clean(team, asked)
    with transaction.atomic():
        hold_version()
        if StandingCheck.objects.filter(team=team).count() >= MOST:
            raise ValidationError(f"{team.name} has {MOST} standing checks: remove one first.")
        row = StandingCheck.objects.create(team=team, made_by=name_of(by), **values)
        _record(row, by, "make_standing_check", None, _facts(row), reason)
    return row


def do_change_check(row: StandingCheck, asked: Asked, *, by: By, reason: str = "") -> StandingCheck:
    """Ask something else. What was told of the check before stands until it is run again; raises as ``do_make_check`` does."""
    require_manager(by, row.team, "change a standing check")
    values = _clean(row.team, asked)
    with _held(row) as held:
        before = _facts(held)
        for name, value in values.items():
            setattr(held, name, value)
        if _facts(held) == before and held.connection_id == row.connection_id:
            return held
        held.state, held.state_since, held.run_told = StandingCheck.State.NEW, timezone.now(), ""
        held.run_at = None
        held.save()
        _record(held, by, "change_standing_check", before, _facts(held), reason)
    return held


def do_remove_check(row: StandingCheck, *, by: By, reason: str = "") -> None:
    """With its history, but for the record."""
    require_manager(by, row.team, "remove a standing check")
    with _held(row) as held:
        _record(held, by, "remove_standing_check", _facts(held), None, reason)
        held.delete()


def do_run_check(row: StandingCheck, *, by: By) -> CheckRun:
    """Run it now. The team is told as if it were the daily run."""
    require_manager(by, row.team, "run a standing check")
    made = run(row, timezone.now(), asked_by=name_of(by))
    if made is None:
        raise ValidationError("This check was changed or removed meanwhile: look again.")
    return made
