"""Overrides that share the nights better, at size: how long it takes to find them, and what they gain.

``python -m tests.benchmarks.optimise``: rotas of people in five zones of whom some have more turns than others, as they are, by
turns in order (round-robin), as proposed, and up to six people by brute force as well. Ends with 1 where brute force finds
anything better, or where 36 people over twelve weeks take 10 s of the processor or more.
"""

from __future__ import annotations

import random
import sys
import time
from typing import Final

from integrations.pagerduty.analysis.coverage import HOUR
from integrations.pagerduty.analysis.model import Slice, Span
from integrations.pagerduty.analysis.optimise import LEAST, Constraints, swaps
from tests.integrations.test_optimise import DAY, LAYER, MONDAY, NAMES, ZONES, account, brute

SECONDS: Final = 10
WEEK: Final = 7 * DAY
CASES: Final = (
    # People, weeks, hours of a turn, and whether brute force can be waited for.
    (3, 8, 168, True),
    (4, 7, 168, True),
    (5, 6, 168, True),
    (6, 6, 168, True),
    (6, 1, 24, True),
    (6, 12, 168, False),
    (6, 4, 24, False),
    (6, 12, 24, False),
    (36, 12, 168, False),
    (36, 12, 24, False),
    (36, 12, 12, False),
    (36, 12, 8, False),
    (36, 12, 4, False),
)


def main() -> None:
    held = True
    print(
        "people  weeks  turn  turns  seconds    as it is  in order (short rests)    proposed  changes  exact  brute force"
    )
    for people, weeks, hours, small in CASES:
        chance = random.Random(people * weeks * hours)
        names = NAMES[:people]
        known = account({id: chance.choice(ZONES) for id in names})
        count = weeks * 168 // hours
        starts = [MONDAY + 9 * HOUR + at * hours * HOUR for at in range(count)]
        # Nobody has a turn right after their own; of each pair one person comes twice as often.
        users: list[str] = []
        for _ in starts:
            users.append(
                chance.choice([id for at, id in enumerate(names) for _ in range(1 + at % 2) if id not in users[-1:]])
            )
        slices = [Slice(start, start + hours * HOUR, user, LAYER) for start, user in zip(starts, users, strict=True)]
        in_order = [one._replace(user=names[at % people]) for at, one in enumerate(slices)]
        rates = [chance.random() * (0.3 if hour % 24 < 6 else 0.1) for hour in range(168)]
        window = Span(slices[0].start, slices[-1].end)
        began = time.process_time()
        found = swaps(known, "S1", slices, window, busy={}, rates=rates)
        spent = time.process_time() - began
        other = swaps(known, "S1", in_order, window, busy={}, rates=rates, constraints=Constraints(most_changes=0))
        rests = sum(one.short_rests for one in other.before)
        told = ""
        if small:
            value = found.cost_after + LEAST * found.cost_before * len(found.swaps)
            least = brute(known, slices, {}, rates, Constraints())
            same = found.exact and abs(value - least) <= 1e-6 * max(1.0, least)
            told = "equal" if same else f"{least:.2f} with changes, not {value:.2f}"
            held &= same
        if people == 36:
            held &= spent < SECONDS
        print(
            f"{people:6}  {weeks:5}  {hours:3}h  {count:5}  {spent:7.2f}  {found.cost_before:10.2f}  "
            f"{other.cost_before:10.2f} {f'({rests})':>13}  {found.cost_after:10.2f}  {len(found.swaps):7}  "
            f"{'yes' if found.exact else 'no':>5}  {told}",
            flush=True,
        )
    print("held" if held else "NOT HELD")
    sys.exit(not held)


if __name__ == "__main__":
    main()
