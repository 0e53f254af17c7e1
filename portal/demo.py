"""``make demo``: the main job on one machine, from nothing: portal, worker and a simulated PagerDuty, on SQLite.

Everything lives in one data folder and ends with Ctrl-C. A few hundred calls of a scripted agent fill the journal.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MARKER = ".pagewarden-demo"
READY_SECONDS = 60


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8000, help="the portal's port")
    parser.add_argument("--sandbox-port", type=int, default=8001, help="the simulated PagerDuty's port")
    parser.add_argument("--data-dir", type=Path, default=ROOT / "data" / "demo", help="made anew by every demo")
    parser.add_argument("--info", type=Path, help="write addresses, people and keys here, as JSON")
    parser.add_argument("--seed", type=int, default=7, help="of the generated account")
    return parser.parse_args(argv)


def fresh(folder: Path) -> Path:
    """An empty data folder. What an earlier demo left is removed; anybody else's files are not."""
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARKER).exists():
            sys.exit(f"{folder} is not empty and was not made by a demo: choose another --data-dir.")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    (folder / MARKER).touch()
    return folder


def write_whole(path: Path, text: str) -> None:
    """All at once and for the owner alone: whoever waits for the file never reads half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    os.replace(temporary, path)


def environment(options: argparse.Namespace, folder: Path) -> dict[str, str]:
    """The demo's settings, with secrets of its own; also in a file for ``manage.py``."""
    values = {
        "SECRET_KEY": secrets.token_urlsafe(48),
        "FIELD_ENCRYPTION_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "JOURNAL_SIGNING_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
        "PUBLIC_URL": f"http://127.0.0.1:{options.port}",
        "PAGERDUTY_SANDBOX_URL": f"http://127.0.0.1:{options.sandbox_port}",
        "DATA_DIR": str(folder),
        "DATABASE_URL": f"sqlite:///{folder}/pagewarden.sqlite3",
        "REDIS_URL": "",
        "STATIC_ROOT": str(folder / "static"),
    }
    write_whole(folder / "environment", "".join(f"{name}={value}\n" for name, value in values.items()))
    return {"PAGEWARDEN_ENV_FILE": str(folder / "environment"), "DJANGO_SETTINGS_MODULE": "portal.settings"}


def portal_command(port: int, static_root: Path) -> list[str]:
    """The portal's server, with its static files."""
    return [
        str(Path(sys.executable).with_name("granian")), "--interface", "asgi", "--loop", "uvloop", "--host", "127.0.0.1",
        "--port", str(port), "--workers", "1", "--static-path-route", "/static", "--static-path-mount", str(static_root),
        "--log-level", "warning", "portal.asgi:application",
    ]


class Children:
    """The demo's processes: they end with it, and it ends with any of them."""

    def __init__(self) -> None:
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: list[str]) -> None:
        # Sessions of their own: Ctrl-C reaches the demo alone, which ends them in order.
        self._running[name] = subprocess.Popen(command, cwd=ROOT, start_new_session=True)

    def ended(self) -> str:
        """The name of a process that has ended; empty: all run."""
        return next((name for name, process in self._running.items() if process.poll() is not None), "")

    def stop(self) -> None:
        for process in reversed(self._running.values()):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        for process in reversed(self._running.values()):
            try:
                process.wait(timeout=8)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def wait_for(url: str, children: Children) -> None:
    from integrations.pagerduty.sandbox.agent import answers

    until = time.monotonic() + READY_SECONDS
    while not answers(url):
        if name := children.ended():
            sys.exit(f"The demo's {name} ended before it was ready: is its port taken? See above.")
        if time.monotonic() > until:
            sys.exit(f"{url} did not answer within {READY_SECONDS} seconds.")
        time.sleep(0.05)


def people_and_policy(seed: int) -> dict[str, Any]:
    """Teams, people, connections, policies and keys, made by the same actions as the pages use. Returns their part of the info."""
    from integrations.actions import do_issue_agent_key, do_register_token
    from integrations.pagerduty.catalog import PRESETS, TOOLS
    from integrations.pagerduty.sandbox.world import demo_from_email, demo_tokens
    from policies.actions import do_apply_preset, do_create_team, do_create_user, do_set_membership, do_set_tools
    from policies.core.call import State

    by = "demo"
    people: dict[str, dict[str, str]] = {}

    def person(name: str, role: str = "") -> Any:
        password = secrets.token_urlsafe(9)
        email = f"{name.lower()}@pagewarden.example"
        people[name] = {"email": email, "password": password}
        return do_create_user(email, by=by, password=password, name=name, role=role)

    ada = person("Ada", "administrator")
    mina, omar, vic = person("Mina"), person("Omar"), person("Vic")
    person("Rhea", "auditor")
    person("Zed")
    payments, search = do_create_team("Payments", by=by), do_create_team("Search", by=by)
    for team, user, role in ((payments, mina, "manager"), (payments, vic, "member"), (search, omar, "manager")):
        do_set_membership(team, user=user, role=role, by=by)
    tokens = demo_tokens(seed)
    from_email = demo_from_email(seed)
    main = do_register_token(
        payments, name="Sandbox account", token=tokens["account"].value, kind="account", region="sandbox", from_email=from_email,
        by=ada, whole_account=True,
    )
    reads = do_register_token(
        search, name="Sandbox, reads only", token=tokens["account_read_only"].value, kind="account", region="sandbox",
        from_email=from_email, by=ada, whole_account=True,
    )
    # The team's policy is wide; each key is narrowed to what its holder is for.
    do_apply_preset(payments, name="manager", preset=PRESETS["manager"], tools=TOOLS, by=by, reason="demo")
    do_set_tools(search, states={"create_incident": State.NEEDS_APPROVAL}, tools=TOOLS, by=by, reason="demo")
    read_tools = sorted(name for name, tool in TOOLS.items() if not tool.writes)
    agents = {}
    for name, connection, narrowed in (
        ("reader", main, None), ("responder", main, None), ("admin", main, None),
    ):
        key, secret = do_issue_agent_key(connection, name=name, by=ada, narrowed_to=narrowed, calls_per_minute=0)
        agents[name] = {"key": secret, "team": payments.slug}
    return {"people": people, "agents": agents, "main": main, "reads": reads, "read_tools": read_tools}


@contextlib.contextmanager
def ended_by_signals() -> Iterator[threading.Event]:
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    yield stop
