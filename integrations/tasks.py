"""The portal's own tasks, which ``manage.py run_worker`` runs. huey is untyped and knows nothing of Django's database
connections: use ``task`` and ``periodic`` of this module, never huey's own."""

from __future__ import annotations

import datetime as dt
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Generic, ParamSpec

from django.conf import settings
from django.db import close_old_connections
from django.db import connection as database
from django.db.models import F, Q
from django.utils import timezone
from huey import Huey, RedisHuey, SqliteHuey

from integrations import actions, alarms, mirror, notices, requests, standing
from integrations.models import Connection, NoticedGap, StandingCheck
from integrations.webhooks import deliveries
from policies.actions import Refused, forget_expired_sessions
from policies.counts import count_calls, forget_old_counts
from policies.journal import close_orphans, write_checkpoint
from policies.models import Team
from policies.spool import bring_in_orphans, waiting
from policies.verification import run_check, sentence, verify_whole

log = logging.getLogger(__name__)
P = ParamSpec("P")


def make_huey(file: str, redis_url: str) -> Huey:
    """The queue: in Redis where there is one, else in an SQLite file of its own, away from the journal's writers.

    ``immediate`` is said, for huey would otherwise take it from DEBUG in some set-ups; results are nobody's to read.
    """
    if redis_url:
        return RedisHuey("pagewarden", url=redis_url, results=False, immediate=False)
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    return SqliteHuey("pagewarden", filename=file, results=False, immediate=False)


huey = make_huey(settings.HUEY_FILE, settings.REDIS_URL)


class Task(Generic[P]):
    """A function that can also be left to the worker. Its arguments are pickled into the queue: ids, never rows or
    secrets."""

    def __init__(self, function: Callable[P, None]) -> None:
        self.function = function
        self.name = function.__name__
        self._queued = huey.task(name=self.name)(self._in_worker)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> None:
        self.function(*args, **kwargs)

    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Leave it to the worker."""
        self._queued(*args, **kwargs)

    def _in_worker(self, *args: P.args, **kwargs: P.kwargs) -> None:
        # A thread of the worker's lives on between tasks; its database connection may not.
        close_old_connections()
        try:
            self.function(*args, **kwargs)
        finally:
            close_old_connections()


def task(function: Callable[P, None]) -> Task[P]:
    return Task(function)


def periodic(minutes: int) -> Callable[[Callable[[], None]], Task[[]]]:
    """Run every so many minutes of the clock. The worker looks once a minute."""

    def is_due(now: dt.datetime) -> bool:
        # huey passes naive times of UTC.
        return int(now.replace(tzinfo=dt.UTC).timestamp() // 60) % max(minutes, 1) == 0

    def decorate(function: Callable[[], None]) -> Task[[]]:
        made = Task(function)
        huey.periodic_task(is_due, name=f"every_{minutes}_minutes_{made.name}")(made._in_worker)
        return made

    return decorate


# PostgreSQL would put those that were never tested last.
OLDEST_FIRST = (F("health_at").asc(nulls_first=True), F("created_at").asc())


def due_connections(now: dt.datetime) -> list[Connection]:
    """The connections whose newest test is older than the schedule allows, the oldest first: no more at once than it
    takes to come round in time, so that a restart does not test them all in one minute."""
    minutes = max(settings.CONNECTION_TEST_MINUTES, 1)
    enabled = Connection.objects.filter(is_enabled=True)
    share = 2 * (enabled.count() // minutes + 1)
    before = now - dt.timedelta(minutes=minutes)
    due = enabled.filter(Q(health_at__isnull=True) | Q(health_at__lte=before))
    return list(due.order_by(*OLDEST_FIRST)[:share])


@task
def test_one_connection(connection_id: str) -> None:
    """Test a connection, unless it was tested while this waited."""
    due_before = timezone.now() - dt.timedelta(minutes=max(settings.CONNECTION_TEST_MINUTES, 1))
    connection = Connection.objects.filter(pk=connection_id, is_enabled=True).first()
    if connection is None or (connection.health_at is not None and connection.health_at > due_before):
        return
    try:
        found = actions.test_connection(connection, by="scheduled test")
    except (actions.CannotTest, Refused) as error:
        log.warning("The connection %s was not tested: %s", connection_id, error)
    else:
        if not found.passed:
            log.warning("The connection %s fails its test: %s", connection_id, found.message)


@periodic(minutes=1)
def test_connections() -> None:
    for connection in due_connections(timezone.now()):
        test_one_connection.enqueue(str(connection.pk))


# pytest collects functions by these names wherever they are imported.
test_one_connection.__test__ = test_connections.__test__ = False  # type: ignore[attr-defined]  # objects take attributes


# Mirrors that one process reads at the same time: calls have their entries to write, too, and other tasks want their turn.
_reading = threading.BoundedSemaphore(1 if database.vendor == "sqlite" else 2)


@task
def sync_connection(connection_id: str) -> None:
    """Read what is due of a connection's mirror, in a short run; then whatever waits longest is next."""
    connection = Connection.objects.filter(pk=connection_id, is_enabled=True).first()
    if connection is None or not _reading.acquire(blocking=False):
        return
    try:
        run = mirror.sync(connection, by="scheduled mirror")
    finally:
        _reading.release()
    if run.told and run.told != mirror.BUSY:
        log.warning("The mirror of the connection %s was not read to its end: %s", connection_id, run.told)
    if run.calls:
        sync_mirrors()


@periodic(minutes=1)
def sync_mirrors() -> None:
    for connection in mirror.due(timezone.now())[:2]:
        sync_connection.enqueue(str(connection.pk))


@periodic(minutes=1)
def close_open_intents() -> None:
    """Close the intents that a killed process left open."""
    # What an intent's write came to may wait in the spool: it is no orphan before that is brought in.
    if not waiting(settings.SPOOL_DIR):
        close_orphans(dt.timedelta(seconds=settings.CALL_TIME_LIMIT + 5))


@periodic(minutes=1)
def bring_in_spooled() -> None:
    """Bring in what a killed process of this machine left in the spool."""
    bring_in_orphans(settings.SPOOL_DIR)


@periodic(minutes=1)
def count_new_calls() -> None:
    """For the pages that say how often each tool was called."""
    count_calls()


@periodic(minutes=60)
def forget_counts() -> None:
    forget_old_counts()


@periodic(minutes=60)
def forget_sessions() -> None:
    forget_expired_sessions()


@periodic(minutes=settings.CHECKPOINT_MINUTES)
def sign_checkpoint() -> None:
    write_checkpoint()


@periodic(minutes=24 * 60)
def verify_journal() -> None:
    """Daily, for it reads all of it: people see when it was verified last, and what was found."""
    found = verify_whole()
    if found.fault is not None:
        log.error("The journal is broken: %s", sentence(found))


@task
def check_journal(check_id: int) -> None:
    """The same when somebody asks for it on a page."""
    run_check(check_id)


@periodic(minutes=60)
def remind_managers() -> None:
    """Hourly, for a worker that was down at one hour must not miss a day; each reminder is sent once."""
    if sent := actions.remind(timezone.now()):
        log.info("%s reminders of tokens that come to their end were sent", sent)


@task
def mail_alarms() -> None:
    """A web process asks for it as soon as there is something to mail."""
    if sent := alarms.mail_due(timezone.now()):
        log.warning("%s mails were sent of agent keys that may be in the wrong hands", sent)


@periodic(minutes=1)
def mail_alarms_left() -> None:
    """What could not be mailed at once, or had to wait."""
    mail_alarms()


@task
def mail_requests() -> None:
    """A page asks for it as soon as somebody has asked for a tool, or was answered."""
    requests.mail_due(timezone.now())


@periodic(minutes=1)
def mail_requests_left() -> None:
    """What could not be mailed at once."""
    mail_requests()


@task
def send_notices() -> None:
    """What teams are told of their on-call: asked for as soon as there is something to send."""
    deliveries.send_due(timezone.now())


@periodic(minutes=1)
def send_notices_left() -> None:
    """What could not be sent at once."""
    send_notices()


@task
def look_for_gaps(team_id: int) -> None:
    """Notice what gaps a team has got, and which are closed."""
    team = Team.objects.filter(pk=team_id).first()
    if team is None:
        return
    noticed = notices.look(team, timezone.now())
    if noticed.opened or noticed.closed:
        send_notices.enqueue()


@periodic(minutes=5)
def notice_gaps() -> None:
    """Once a day, and when something was read since: for a worker that was down at one hour must not miss a day."""
    now = timezone.now()
    watched = Q(connections__is_enabled=True) | Q(pk__in=NoticedGap.objects.open().values("team"))
    for team in Team.objects.filter(watched).distinct():
        if notices.is_due(team, now):
            look_for_gaps.enqueue(team.pk)


@task
def run_standing_check(check_id: int) -> None:
    """Run a standing check, unless it was run while this waited."""
    row = StandingCheck.objects.select_related("team", "connection__team").filter(pk=check_id).first()
    now = timezone.now()
    if row is not None and notices.daily_due(row.run_at, now):
        standing.run(row, now)
        send_notices.enqueue()


@periodic(minutes=60)
def run_standing_checks() -> None:
    """Hourly, likewise; each is run once a day."""
    now = timezone.now()
    for row in StandingCheck.objects.only("pk", "run_at"):
        if notices.daily_due(row.run_at, now):
            run_standing_check.enqueue(row.pk)


@periodic(minutes=24 * 60)
def forget_notices() -> None:
    now = timezone.now()
    deliveries.forget_old(now)
    notices.forget_old(now)
