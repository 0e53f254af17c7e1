"""``truth.json``: what was planted into an account, with ids and times. It is for judging analyses: none of them may import it.

``planted`` is empty where nothing was. Else: ``policy_defects`` (``rule``, and the ids of what it is about; ``implies``: findings
of other rules that follow from the same defect; what PagerDuty's schema cannot say, as a service without an escalation policy or
a level of more than ten targets, is not planted), ``coverage_gaps`` (``effective``: nobody at all is on call), ``dependencies``,
``flapping``, ``cascade``, ``deploy_spike``, ``deploy_decoy``, ``near_twins``, ``sleep_pages``, ``slow_level``, ``volume_step``.
``volume_step``'s ratio is of the means of a day, of all incidents; ``sleep_pages`` counts by the log entries of all of them.
Times are ISO 8601 in UTC; a gap's are of the past 365 days and the next 400.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from integrations.pagerduty.sandbox.world import World, iso


def truth(world: World) -> dict[str, Any]:
    return {
        "seed": world.seed,
        "now": iso(world.now),
        "kind": world.kind,
        "size": world.size,
        "planted": world.planted,
    }


def write_truth(world: World, path: Path) -> None:
    path.write_text(json.dumps(truth(world), indent=1) + "\n")
