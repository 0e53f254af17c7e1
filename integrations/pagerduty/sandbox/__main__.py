"""``python -m integrations.pagerduty.sandbox``: the simulated PagerDuty on a port."""

from __future__ import annotations

import argparse
import datetime as dt
import os
import sys
from pathlib import Path

from integrations.pagerduty.sandbox.world import demo_from_email, demo_tokens


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="sandbox", description="A simulated PagerDuty with a generated account.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8001)
    parser.add_argument("--seed", type=int, default=7, help="of the generated account")
    parser.add_argument(
        "--now", type=dt.datetime.fromisoformat, help="the account's moment (ISO 8601); default: the hour it starts in"
    )
    parser.add_argument("--tls-cert", type=Path, help="serve https with this certificate")
    parser.add_argument("--tls-key", type=Path)
    return parser.parse_args()


def main() -> None:
    options = arguments()
    for name, token in demo_tokens(options.seed).items():
        print(f"{name}: {token.value}")
    print(f"From: {demo_from_email(options.seed)}", flush=True)
    command = [str(Path(sys.executable).with_name("granian")), "--interface", "asgi", "--host", options.host]
    command += ["--port", str(options.port), "--workers", "1", "--log-level", "error", "--factory"]
    if options.tls_cert:
        command += ["--ssl-certificate", str(options.tls_cert), "--ssl-keyfile", str(options.tls_key)]
    os.environ["SANDBOX_SEED"] = str(options.seed)
    os.environ["SANDBOX_NOW"] = options.now.isoformat() if options.now else ""
    # One process instead of two: whoever started this ends the server itself.
    os.execv(command[0], [*command, "integrations.pagerduty.sandbox.__main__:make"])  # noqa: S606


def make() -> object:
    """The app for the server's own process, from the environment that ``main`` sets."""
    from integrations.pagerduty.sandbox.app import Sandbox

    moment = os.environ.get("SANDBOX_NOW", "")
    now = dt.datetime.fromisoformat(moment) if moment else None
    if now is not None and now.tzinfo is None:
        now = now.replace(tzinfo=dt.UTC)
    return Sandbox(int(os.environ.get("SANDBOX_SEED", "7")), now)


if __name__ == "__main__":
    main()
