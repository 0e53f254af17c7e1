"""``python -m integrations.pagerduty.sandbox``: the simulated PagerDuty on a port."""

from __future__ import annotations

import argparse
import datetime as dt
import gc
import os
import sys
from pathlib import Path

from integrations.pagerduty.sandbox.agent import check_free
from integrations.pagerduty.sandbox.world import KINDS, SIZES, demo_from_email, demo_tokens


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="sandbox", description="A simulated PagerDuty with a generated account.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8001)
    parser.add_argument("--seed", type=int, default=7, help="of the generated account")
    parser.add_argument("--world", choices=KINDS, default="demo", help="what the account holds: docs/sandbox.md")
    parser.add_argument("--size", choices=SIZES, default="demo", help="of the account")
    parser.add_argument("--truth", type=Path, help="write what was planted here, as JSON")
    parser.add_argument(
        "--now", type=dt.datetime.fromisoformat, help="the account's moment (ISO 8601); default: the hour it starts in"
    )
    parser.add_argument(
        "--webhooks-anywhere", action="store_true", help="send webhooks to other addresses than loopback ones too"
    )
    parser.add_argument("--tls-cert", type=Path, help="serve https with this certificate")
    parser.add_argument("--tls-key", type=Path)
    return parser.parse_args()


def main() -> None:
    options = arguments()
    check_free(options.host, options.port, "--port")
    for name, token in demo_tokens(options.seed).items():
        print(f"{name}: {token.value}")
    print(f"From: {demo_from_email(options.seed)}", flush=True)
    command = [str(Path(sys.executable).with_name("granian")), "--interface", "asgi", "--host", options.host]
    command += ["--port", str(options.port), "--workers", "1", "--log-level", "error", "--factory"]
    if options.tls_cert:
        command += ["--ssl-certificate", str(options.tls_cert), "--ssl-keyfile", str(options.tls_key)]
    os.environ["SANDBOX_SEED"] = str(options.seed)
    os.environ["SANDBOX_NOW"] = options.now.isoformat() if options.now else ""
    os.environ["SANDBOX_WORLD"], os.environ["SANDBOX_SIZE"] = options.world, options.size
    os.environ["SANDBOX_TRUTH"] = str(options.truth.resolve()) if options.truth else ""
    os.environ["SANDBOX_WEBHOOKS_ANYWHERE"] = "1" if options.webhooks_anywhere else ""
    # One process instead of two: whoever started this ends the server itself.
    os.execv(command[0], [*command, "integrations.pagerduty.sandbox.__main__:make"])  # noqa: S606


def make() -> object:
    """The app for the server's own process, from the environment that ``main`` sets."""
    from integrations.pagerduty.sandbox.app import Sandbox
    from integrations.pagerduty.sandbox.truth import write_truth

    moment = os.environ.get("SANDBOX_NOW", "")
    now = dt.datetime.fromisoformat(moment) if moment else None
    if now is not None and now.tzinfo is None:
        now = now.replace(tzinfo=dt.UTC)
    anywhere = bool(os.environ.get("SANDBOX_WEBHOOKS_ANYWHERE"))
    kind, size = os.environ.get("SANDBOX_WORLD", "demo"), os.environ.get("SANDBOX_SIZE", "demo")
    sandbox = Sandbox(int(os.environ.get("SANDBOX_SEED", "7")), now, kind=kind, size=size, webhooks_anywhere=anywhere)
    if path := os.environ.get("SANDBOX_TRUTH", ""):
        write_truth(sandbox.world, Path(path))
    # A big account stays: without this, each look for cycles of garbage walks all of it.
    gc.collect()
    gc.freeze()
    return sandbox


if __name__ == "__main__":
    main()
