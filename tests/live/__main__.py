"""``make test-live``: every read of the catalogue once against a true account, and where its answers differ in shape from the
sandbox's. Exit status 0: no differences; 1: differences; 2: it could not run."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from tests.live.examine import Account, CouldNotRun, examine, readable


def main() -> int:
    parser = argparse.ArgumentParser(prog="test-live", description=__doc__)
    parser.add_argument(
        "--report", type=Path, default=Path("data/live-report.json"), help="where the report goes as JSON"
    )
    options = parser.parse_args()
    # Taken out of the environment at once: what this starts must find neither the token nor a database of its surroundings.
    token = os.environ.pop("PAGERDUTY_LIVE_TOKEN", "").strip()
    os.environ.pop("DATABASE_URL", None)
    region = os.environ.get("PAGERDUTY_LIVE_REGION") or "us"
    sandbox_url = os.environ.get("PAGERDUTY_SANDBOX_URL", "")
    schema = os.environ.get("PAGERDUTY_SCHEMA_DIR")
    try:
        if os.environ.get("CI"):
            raise CouldNotRun("CI is set: the contract test never runs there, for it needs a true account's token.")
        if not token:
            raise CouldNotRun(
                "Set PAGERDUTY_LIVE_TOKEN to a PagerDuty API token, best a read-only one, and start again."
            )
        if region not in ("us", "eu", *(("sandbox",) if sandbox_url else ())):
            raise CouldNotRun("PAGERDUTY_LIVE_REGION is us or eu.")
        account = Account(token, region, os.environ.get("PAGERDUTY_LIVE_FROM", ""), sandbox_url)
        report = examine(account, schema=Path(schema) if schema else None)
    except CouldNotRun as why:
        sys.stderr.write(f"test-live: {why}\n")
        return 2
    options.report.parent.mkdir(parents=True, exist_ok=True)
    options.report.write_text(json.dumps(report, indent=1))
    validated = "" if schema else " PAGERDUTY_SCHEMA_DIR is not set: nothing was held against the published schema."
    sys.stdout.write(f"{readable(report)}{validated}\nAs JSON: {options.report}\n")
    return 1 if report["differences"] else 0


if __name__ == "__main__":
    sys.exit(main())
