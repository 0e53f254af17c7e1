"""On-call at size: schedules read, rendered and swept with their escalation policies, on one core.

``python -m tests.benchmarks.oncall``: the stress world's 200 schedules over 90 days with its 250 policies (under 2 s of the
processor), a review of these over 84 days, once rendered (under 0.3 s), and 1,000 schedules over 365 days with five times the
policies (under 60 s and 500 MB). Ends with 1 where a bound is not held. The documents are the sandbox's answers, made in a
process of their own: the memory told is that of the analysis.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from integrations.pagerduty.analysis import reading
from integrations.pagerduty.analysis.coverage import holes, quality, render_all, service_holes
from integrations.pagerduty.analysis.escalation import review
from integrations.pagerduty.analysis.model import Account, Level, Policy, Span
from integrations.pagerduty.sandbox.world import iso

DAY: Final = 86_400
SECONDS, LONG_SECONDS, REVIEW_SECONDS, MEGABYTES = 2, 60, 0.3, 500
Done = TypeVar("Done")
Row = dict[str, Any]


def make(path: Path) -> None:
    """The stress world's documents, as ``GET`` answers them."""
    from tests.integrations.test_worlds import NOW
    from tests.integrations.test_worlds import Account as World

    world = World("demo", size="stress")
    since = int(NOW.timestamp())
    window = f"since={iso(since)}&until={iso(since + 365 * DAY)}"
    schedules = []
    for row in world.all("/schedules", "schedules"):
        document = world.get(f"/schedules/{row['id']}?time_zone={row['time_zone']}")["schedule"]
        schedules.append([document, world.get(f"/schedules/{row['id']}/overrides?{window}")["overrides"]])
    for row in world.all("/v3/schedules", "schedules"):
        whole = f"/v3/schedules/{row['id']}"
        parts = {name: world.all(f"{whole}/{name}?{window}", name) for name in ("custom_shifts", "overrides")}
        schedules.append([{**world.get(whole)["schedule"], **parts}, None])
    found = {
        "since": since,
        "schedules": schedules,
        "policies": world.all("/escalation_policies", "escalation_policies"),
        "services": world.all("/services", "services"),
        "users": world.all("/users?include[]=contact_methods&include[]=notification_rules", "users"),
    }
    path.write_text(json.dumps(found))


def timed(what: str, do: Callable[[], Done], spent: dict[str, float]) -> Done:
    start = time.process_time()
    done = do()
    spent[what] = time.process_time() - start
    return done


def read(documents: Row) -> Account:
    schedules = [reading.schedule(document, overrides) for document, overrides in documents["schedules"]]
    policies = [reading.policy(row) for row in documents["policies"]]
    services = [reading.service(row) for row in documents["services"]]
    people = [reading.person(row) for row in documents["users"]]
    return Account(
        {each.id: each for each in schedules},
        {each.id: each for each in policies},
        {each.id: each for each in services},
        {each.id: each for each in people},
    )


def multiplied(known: Account, times: int, most: int) -> Account:
    """The account as many times, of which no two parts have anything in common."""
    names = [(id, f"{id}-{number}") for number in range(times) for id in known.schedules][:most]
    schedules = {name: dataclasses.replace(known.schedules[id], id=name) for id, name in names}
    policies = {
        f"{id}-{number}": copied(policy, number) for number in range(times) for id, policy in known.policies.items()
    }
    return Account(schedules, policies)


def copied(policy: Policy, number: int) -> Policy:
    def own(level: Level) -> Level:
        targets = (
            target._replace(id=f"{target.id}-{number}") if target.kind == "schedule" else target
            for target in level.targets
        )
        return dataclasses.replace(level, targets=tuple(targets))

    return dataclasses.replace(policy, id=f"{policy.id}-{number}", levels=tuple(own(each) for each in policy.levels))


def swept(known: Account, window: Span, spent: dict[str, float]) -> Mapping[str, Any]:
    rendered = timed("render", lambda: render_all(known, window), spent)
    found = timed("sweep", lambda: {id: holes(each, rendered, window) for id, each in known.policies.items()}, spent)
    slices = sum(map(len, rendered.values()))
    print(
        f"{len(rendered)} schedules over {window.seconds // DAY} days: {slices} slices, {len(found)} policies with "
        f"{sum(map(len, found.values()))} holes"
    )
    if known.services:
        timed("services", lambda: service_holes(known, rendered, window), spent)
        timed("quality", lambda: [quality(each, window) for each in rendered.values()], spent)
    return rendered


def reviewed(known: Account, rendered: Mapping[str, Any], window: Span, spent: dict[str, float]) -> None:
    found = timed("review", lambda: review(known, rendered, window), spent)
    print(f"{len(found.findings)} findings on {len(known.services)} services and {len(known.people)} people")


def main() -> None:
    told = argparse.ArgumentParser(description=__doc__)
    told.add_argument("--make", type=Path, help="only write the documents to this file")
    told.add_argument("--rounds", type=int, default=3, help="the slowest of as many counts")
    arguments = told.parse_args()
    if arguments.make:
        make(arguments.make)
        return
    with tempfile.TemporaryDirectory(prefix="pagewarden-oncall-") as folder:
        path = Path(folder) / "documents.json"
        subprocess.run([sys.executable, "-m", "tests.benchmarks.oncall", "--make", str(path)], check=True)
        documents = json.loads(path.read_bytes())
    since = documents["since"]
    short: dict[str, float] = {}
    known = timed("read", lambda: read(documents), short)
    rounds = []
    for _ in range(arguments.rounds):
        spent: dict[str, float] = {}
        rendered = swept(known, Span(since, since + 90 * DAY), spent)
        reviewed(known, rendered, Span(since, since + 84 * DAY), spent)
        rounds.append(spent)
    short |= max(rounds, key=lambda each: each["render"] + each["sweep"])
    long: dict[str, float] = {}
    rendered = swept(multiplied(known, 5, 1_000), Span(since, since + 365 * DAY), long)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    bounds = [
        ("90 days, rendered and swept", short["render"] + short["sweep"], SECONDS, "s"),
        ("84 days, reviewed", max(each["review"] for each in rounds), REVIEW_SECONDS, "s"),
        (f"365 days of {len(rendered)}", long["render"] + long["sweep"], LONG_SECONDS, "s"),
        ("memory at its most", memory, MEGABYTES, "MB"),
    ]
    for name, spent in (("90 days", short), ("365 days", long)):
        print(f"{name}: " + ", ".join(f"{what} {seconds:.2f} s" for what, seconds in spent.items()))
    for what, found, most, unit in bounds:
        print(f"{'ok  ' if found < most else 'OVER'} {what}: {found:.2f} {unit} of {most}")
    sys.exit(any(found >= most for _, found, most, _ in bounds))


if __name__ == "__main__":
    main()
