"""The cast, and where the published schema, the recorded answers and the stub upstream are found."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from django.db import connection
from hypothesis import HealthCheck, settings
from pytest_django import DjangoDbBlocker

from policies.models import Membership, Team, User
from tests.gateway.postgres import binaries

# A machine that is busy with other tests takes its time: that is no fault of what is tested.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")

PASSWORD = "correct horse battery staple"
OUTSIDE = {
    "PAGERDUTY_SCHEMA_DIR": "openapi.json",
    "PAGERDUTY_FIXTURES_DIR": "incidents_02_docs_list.json",
    "PAGERDUTY_BENCH_DIR": "stub/stub.py",
}
"""Environment variables that name folders outside the project, with a file that each must hold."""


@pytest.hookimpl(trylast=True)
@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """PostgreSQL drops no database that somebody still uses: threads that end with the last test get a while to be gone, and
    what holds it then is told, with what it asked last, and ended."""
    yield
    with django_db_blocker.unblock():
        if connection.vendor != "postgresql":
            return
        others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        with connection.cursor() as cursor:
            until = time.monotonic() + 10
            while True:
                cursor.execute(f"SELECT state, query {others}")
                if not (held := cursor.fetchall()):
                    break
                if time.monotonic() > until:
                    print(f"The tests' database is still held: {held}", file=sys.__stderr__)
                    cursor.execute(f"SELECT pg_terminate_backend(pid) {others}")
                    break
                time.sleep(0.2)
        connection.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for name in OUTSIDE:
        if not os.environ.get(name):
            terminalreporter.write_line(f"NOT RUN: tests that need {name}, which is not set.", red=True, bold=True)
    if binaries() is None:
        told = "NOT RUN: tests that kill and freeze a database, for PostgreSQL's server is not installed."
        terminalreporter.write_line(told, red=True, bold=True)
    if shutil.which("chromium") is None:
        terminalreporter.write_line("NOT RUN: browser tests, for chromium is not installed.", red=True, bold=True)
    if shutil.which("npm") is None:
        told = "NOT RUN: MCP's conformance tests, and those with an OIDC provider, for node and npm are not installed."
        terminalreporter.write_line(told, red=True, bold=True)


SLOWEST = (
    "test_retries.py",
    "test_power_cut.py",
    "test_database_away.py",
    "test_canaries.py",
    "test_every_page.py",
    "test_browser.py",
    "test_sandbox.py",
    "test_stress.py",
    "test_worlds.py",
)
"""Files that take a minute or half of one."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slowest first: at the end of a run on several processes one of them would work alone."""
    items.sort(key=lambda item: SLOWEST.index(item.path.name) if item.path.name in SLOWEST else len(SLOWEST))


def _outside(name: str) -> Path:
    if not (value := os.environ.get(name)):
        pytest.skip(f"{name} is not set")
    folder = Path(value)
    if not os.access(folder / OUTSIDE[name], os.R_OK):
        pytest.fail(f"{name} is {value}, where {OUTSIDE[name]} cannot be read.")
    return folder


@pytest.fixture(scope="session")
def schema_dir() -> Path:
    """Where PagerDuty's published schema is (``openapi.json``)."""
    return _outside("PAGERDUTY_SCHEMA_DIR")


@pytest.fixture(scope="session")
def fixtures_dir() -> Path:
    """Where PagerDuty's recorded answers are."""
    return _outside("PAGERDUTY_FIXTURES_DIR")


@pytest.fixture(scope="session")
def bench_dir() -> Path:
    """Where the stub upstream with faults is (``stub/stub.py``)."""
    return _outside("PAGERDUTY_BENCH_DIR")


@dataclass(frozen=True)
class Cast:
    """Ada administers, Mina manages Payments, Omar manages Search, Vic only views, Rhea audits, Zed belongs nowhere."""

    ada: User
    mina: User
    omar: User
    vic: User
    rhea: User
    zed: User
    payments: Team
    search: Team


def make_cast() -> Cast:
    def person(name: str, role: str = "") -> User:
        return User.objects.create_user(f"{name.lower()}@example.com", PASSWORD, name=name, role=role)

    cast = Cast(
        ada=person("Ada", "administrator"),
        mina=person("Mina"),
        omar=person("Omar"),
        vic=person("Vic"),
        rhea=person("Rhea", "auditor"),
        zed=person("Zed"),
        payments=Team.objects.create(name="Payments", slug="payments"),
        search=Team.objects.create(name="Search", slug="search"),
    )
    for user, team, role in (
        (cast.mina, cast.payments, "manager"),
        (cast.vic, cast.payments, "member"),
        (cast.omar, cast.search, "manager"),
    ):
        Membership.objects.create(user=user, team=team, role=role)
    return cast


@pytest.fixture
def cast(db: None) -> Cast:
    return make_cast()
