"""What the pages of who is on call, and of what it costs them, take with a large account: 200 schedules, 250 escalation policies,
1,000 services, a year of 80,000 incidents with 1,000,000 log entries.

``python -m tests.benchmarks.pages [--requests 40]``, on SQLite, or on a new database beside the one that DATABASE_URL names on
PostgreSQL. The account is the simulated PagerDuty's stress world, read by the mirror itself in this process, which takes ten
minutes. Ends with 1 where a page's 95th percentile is over its bound. Figures of one machine and minute: compare within a run.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import time

from tests.benchmarks.audit import database, heading, timed

BOUND = 200
"""Milliseconds."""
COUNTED = 300
"""Of pages that count incidents."""


def main() -> None:
    told = argparse.ArgumentParser(description=__doc__)
    told.add_argument("--requests", type=int, default=40)
    arguments = told.parse_args()
    with database():
        in_time = measure(arguments.requests)
    sys.exit(not in_time)


def measure(requests: int) -> bool:
    """Print the table. Whether every page was in time."""
    from django.test import Client

    from integrations.actions import do_register_token
    from integrations.pagerduty.sandbox.app import Sandbox
    from policies.models import Membership, Team, User
    from tests.mirrored import mirrored

    ada = User.objects.create_user("ada@example.com", None, name="Ada", role="administrator")
    team = Team.objects.create(name="Payments", slug="payments")
    mina = User.objects.create_user("mina@example.com", None, name="Mina")
    Membership.objects.create(user=mina, team=team, role="manager")
    connection = do_register_token(
        team, name="Main", token="u+abcdefghij1234567890", kind="account", region="us", by=ada, whole_account=True
    )
    began = time.monotonic()
    account = mirrored(connection, sandbox=Sandbox(7, None, size="stress"), history=True).account
    print(
        f"{len(account.schedules)} schedules, {len(account.policies)} escalation policies, {len(account.services)} services, "
        f"{len(account.people)} people, mirrored in {time.monotonic() - began:.0f} s; {os.cpu_count()} cores, "
        f"load {os.getloadavg()[0]:.1f}"
    )
    schedule, policy, person = (sorted(rows)[7] for rows in (account.schedules, account.policies, account.people))
    what_if = f"/escalations/{connection.pk}/{policy}/?if=yes&loops=1&was-1=1&delay-1=7&target-1=schedule.{schedule}"
    counted = {
        "escalations": "/escalations/",
        "escalations, by a rule": "/escalations/?rule=level_gap",
        "one escalation": f"/escalations/{connection.pk}/{policy}/",
        "one escalation, what if": what_if,
        "response times": "/escalations/response/",
        "response times, a year by hour": "/escalations/response/?days=365&by=hour",
        "load": "/load/",
        "load, a year": "/load/?days=365",
        "load, one person": f"/load/?days=365&person={person}",
        "swaps": f"/load/{connection.pk}/{schedule}/?found=yes",
    }
    pages = {
        "schedules": "/schedules/",
        "schedules, by a word": "/schedules/?text=primary",
        "one schedule": f"/schedules/{connection.pk}/{schedule}/",
        "one schedule, a month": f"/schedules/{connection.pk}/{schedule}/?view=month",
        "coverage, 4 weeks": "/coverage/",
        "coverage, 12 weeks": "/coverage/?weeks=12",
        "one policy": f"/coverage/{connection.pk}/{policy}/",
        "who would be paged": f"/paged/?of=policy.{policy}.{connection.pk}",
        "my on-call": "/my-on-call/",
        "home": "/",
    }
    client = Client(headers={"host": "127.0.0.1"})
    client.force_login(mina)
    began = time.monotonic()
    client.get("/coverage/")
    print(f"the first page of a process, which reads and renders all of it: {time.monotonic() - began:.1f} s")
    heading()
    slow = [name for name, path in pages.items() if not timed(client, name, path, [path] * requests, BOUND)]
    for path in counted.values():
        # What an hour's first request works out is told apart: it is kept.
        began = time.monotonic()
        client.get(path)
        print(f"    the first {path}: {time.monotonic() - began:.1f} s")
    slow += [name for name, path in counted.items() if not timed(client, name, path, [path] * requests, COUNTED)]
    several = {
        "each time another escalation": [f"/escalations/{connection.pk}/{id}/" for id in sorted(account.policies)],
        "each time another's response": [f"/escalations/response/?service={id}" for id in sorted(account.services)],
        "each time another person's load": [f"/load/?person={id}" for id in sorted(account.people)],
    }
    slow += [
        name for name, paths in several.items() if not timed(client, name, paths[0], paths[1 : requests + 1], COUNTED)
    ]
    print(
        f"memory at its most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_024:.0f} MB, the simulated PagerDuty's too"
    )
    return not slow


if __name__ == "__main__":
    main()
