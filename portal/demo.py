"""``make demo``: the main job on one machine, from nothing: portal, worker and a simulated PagerDuty, on SQLite.

Everything lives in one data folder and ends with Ctrl-C. A few hundred calls of a scripted agent fill the journal.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import fcntl
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
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MARKER = ".pagewarden-demo"
READY_SECONDS = 60


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, default=8000, help="the portal's port")
    parser.add_argument("--sandbox-port", type=int, default=8001, help="the simulated PagerDuty's port")
    parser.add_argument("--data-dir", type=Path, default=ROOT / "data" / "demo", help="made anew by every demo")
    parser.add_argument("--info", type=Path, help="write addresses, people and keys here, as JSON")
    parser.add_argument("--seed", type=int, default=7, help="of the generated account")
    return parser.parse_args(argv)


def fresh(folder: Path) -> Path:
    """An empty data folder, which is this demo's until it ends. What an earlier demo left is removed; anybody else's files,
    and those of a demo that runs, are not."""
    if folder.exists() and any(folder.iterdir()) and not (folder / MARKER).exists():
        sys.exit(f"{folder} is not empty and was not made by a demo: choose another --data-dir.")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(folder / MARKER, os.O_RDWR | os.O_CREAT, 0o600)  # open, and so locked, until the process ends
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(f"A demo runs in {folder} already: end it, or choose another --data-dir.")
    for each in folder.iterdir():
        if each.is_dir() and not each.is_symlink():
            shutil.rmtree(each)
        elif each.name != MARKER:
            each.unlink()
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
        "ADMIN_REQUIRES_MFA": "false",
        "DATABASE_URL": f"sqlite:///{folder}/pagewarden.sqlite3",
        "REDIS_URL": "",
        "STATIC_ROOT": str(folder / "static"),
    }
    write_whole(folder / "environment", "".join(f"{name}={value}\n" for name, value in values.items()))
    return {"PAGEWARDEN_ENV_FILE": str(folder / "environment"), "DJANGO_SETTINGS_MODULE": "portal.settings"}


def portal_command(port: int, static_root: Path | None = None, *more: str) -> list[str]:
    """The portal's server, with its static files where they were collected."""
    files = ("--static-path-route", "/static", "--static-path-mount", str(static_root)) if static_root else ()
    return [
        *(str(Path(sys.executable).with_name("granian")), "--interface", "asgi", "--loop", "uvloop"),
        *("--host", "127.0.0.1", "--port", str(port), "--workers", "1", "--log-level", "warning"),
        # What nothing here speaks is not listened to: WebSockets and HTTP/2.
        *("--http", "1", "--no-ws"),
        *(*files, *more, "portal.asgi:application"),
    ]


class Children:
    """The demo's processes: they end with it, and it ends with any of them."""

    def __init__(self) -> None:
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: list[str], log: Path | None = None) -> None:
        """``log``: where its output goes instead of the terminal."""
        with contextlib.ExitStack() as stack:
            output = stack.enter_context(log.open("wb")) if log else None
            # Sessions of their own: Ctrl-C reaches the demo alone, which ends them in order.
            self._running[name] = subprocess.Popen(
                command, cwd=ROOT, start_new_session=True, stdout=output, stderr=output
            )

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
    while True:
        # Asked first: where the port was taken, it is somebody else who answers.
        if name := children.ended():
            sys.exit(
                f"The demo's {name} ended before it was ready: is its port taken? Its log is in the data folder, or above."
            )
        if answers(url):
            return
        if time.monotonic() > until:
            sys.exit(f"{url} did not answer within {READY_SECONDS} seconds.")
        time.sleep(0.05)


def people_and_policy(seed: int) -> dict[str, Any]:
    """Teams, people, connections, policies and keys, by the same actions as the pages use. Returns their part of the info."""
    from integrations.actions import do_issue_agent_key, do_register_token
    from integrations.pagerduty.catalog import PRESETS, TOOLS
    from integrations.pagerduty.sandbox.world import demo_from_email, demo_tokens
    from policies.actions import (
        do_apply_preset,
        do_create_personal_workspace,
        do_create_team,
        do_create_user,
        do_set_membership,
    )
    from policies.models import Team, User

    by = "demo"
    people: dict[str, dict[str, str]] = {}

    def person(name: str, role: str = "") -> User:
        password = secrets.token_urlsafe(9)
        email = f"{name.lower()}@pagewarden.example"
        people[name] = {"email": email, "password": password}
        return do_create_user(email, by=by, password=password, name=name, role=role)

    ada, mina, omar, petra = person("Ada", "administrator"), person("Mina"), person("Omar"), person("Petra")
    vic = person("Vic")
    person("Rhea", "auditor")
    do_create_personal_workspace(vic, by=vic)
    tokens = demo_tokens(seed)
    agents: dict[str, dict[str, Any]] = {}
    # Each team shows one policy: the defaults, the responder preset (without overrides: its agent writes to incidents alone),
    # the manager preset.
    for name, manager, token, preset, agent in (
        ("Payments", mina, "account", "", "reader"),
        ("Search", omar, "account_2", "responder", "responder"),
        ("Platform", petra, "account_3", "manager", "admin"),
    ):
        team = do_create_team(name, by=ada)
        do_set_membership(team, user=manager, role="manager", by=ada)
        if manager is mina:
            do_set_membership(team, user=vic, role="member", by=mina)
        people[manager.name]["team"] = team.slug
        connection = do_register_token(
            team,
            name="Sandbox",
            token=tokens[token].value,
            kind="account",
            region="sandbox",
            from_email=demo_from_email(seed),
            by=ada,
            whole_account=True,
        )
        if preset:
            wanted = PRESETS[preset] - ({"create_schedule_override"} if preset == "responder" else set())
            do_apply_preset(team, name=preset, preset=wanted, tools=TOOLS, by=manager)
        _, secret = do_issue_agent_key(connection, name=agent, by=ada, tools=TOOLS, calls_per_minute=0)
        agents[agent] = {"key": secret, "team": team.slug}
    # Two more of the same account, each bounded to its own part of it: by a PagerDuty team, and by a team and a service besides.
    bounds: dict[str, tuple[str, str, list[str], list[str]]] = {
        "bounded_a": ("payments", "account_4", ["PTEAM00"], []),
        "bounded_b": ("search", "account_5", ["PTEAM01"], ["PSVC00E"]),
    }
    for agent, (slug, token, team_ids, service_ids) in bounds.items():
        connection = do_register_token(
            Team.objects.get(slug=slug),
            name="Sandbox, bounded",
            token=tokens[token].value,
            kind="account",
            region="sandbox",
            from_email=demo_from_email(seed),
            by=ada,
            team_ids=team_ids,
            service_ids=service_ids,
        )
        _, secret = do_issue_agent_key(connection, name=agent, by=ada, tools=TOOLS, calls_per_minute=0)
        agents[agent] = {"key": secret, "team": slug, "bounds": {"team_ids": team_ids, "service_ids": service_ids}}
    return {
        "admin": people["Ada"],
        "managers": [people[manager.name] for manager in (mina, omar, petra)],
        "auditor": people["Rhea"],
        "member": people["Vic"] | {"team": "payments"},
        "agents": agents,
    }


def that_was_us() -> None:
    """The scripted calls were the demo's own: what was noticed of them is known. What comes from here on is news."""
    from policies.actions import do_close_alarm
    from policies.models import Alarm

    for alarm in Alarm.objects.open().select_related("key__team"):
        do_close_alarm(alarm, by="demo", reason="the demo's own scripted calls")


def spare_tokens(seed: int) -> dict[str, str]:
    from integrations.pagerduty.sandbox.world import demo_tokens

    tokens = demo_tokens(seed)
    names = {
        "account_read_only": "account, reads only",
        "user_manager": "user key",
        "user_reader": "user key, reads only",
    }
    return {said: tokens[name].value for name, said in names.items()}


def told(info: dict[str, Any], member: dict[str, str], tokens: dict[str, str]) -> str:
    """The info for people, with ``member``, whom programs do not need. ``tokens``: of the
    simulated PagerDuty, that nobody has registered yet."""
    needed = " ".join(f"{name}={value}" for name, value in info["env"].items())
    lines = [
        "",
        f"Pagewarden runs:     {info['url']}",
        f"MCP door:            {info['mcp_url']}   (for assistants)",
        f"REST door:           {info['rest_url']}   (in place of https://api.pagerduty.com)",
        f"Simulated PagerDuty: {info['sandbox_url']}",
        "",
        "Sign in as:",
        f"  administrator  {info['admin']['email']}  {info['admin']['password']}",
        *(f"  manager        {m['email']}  {m['password']}  (team {m['team']})" for m in info["managers"]),
        "  member         {email}  {password}  (team {team})".format_map(member),
        f"  auditor        {info['auditor']['email']}  {info['auditor']['password']}",
        "",
        "Agent keys:",
        *(f"  {name:<10} {agent['key']}  (team {agent['team']})" for name, agent in info["agents"].items()),
        "",
        "Try it:",
        f"  curl -H 'Authorization: Token token={info['agents']['reader']['key']}' '{info['rest_url']}/incidents?limit=1'",
        "",
        "Connect an assistant:",
        f"  env {needed} {sys.executable} {ROOT}/manage.py agent_config reader --client claude-code",
        "",
        "Tokens of the simulated PagerDuty that you can register yourself:",
        *(f"  {name:<20} {token}" for name, token in tokens.items()),
        "",
        "Prove the journal intact:",
        f"  env {needed} {sys.executable} {ROOT}/manage.py verify_audit",
        "",
        "Ctrl-C ends everything.",
    ]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    from integrations.pagerduty.sandbox.agent import check_free

    options = arguments(argv)
    started = time.monotonic()
    folder = fresh(options.data_dir.resolve())
    if options.info:
        # Whoever waits for it must not read the keys of an earlier demo.
        options.info.unlink(missing_ok=True)
    check_free("127.0.0.1", options.port, "--port")
    check_free("127.0.0.1", options.sandbox_port, "--sandbox-port")
    values = environment(options, folder)
    os.environ |= values
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    children = Children()
    try:
        url, sandbox_url = f"http://127.0.0.1:{options.port}", f"http://127.0.0.1:{options.sandbox_port}"
        seed, port = str(options.seed), str(options.sandbox_port)
        sandbox = [sys.executable, "-m", "integrations.pagerduty.sandbox", "--port", port, "--seed", seed]
        children.start("simulated PagerDuty", sandbox, folder / "sandbox.log")
        import django

        django.setup()
        from django.core.management import call_command
        from django.db import connections

        from integrations.pagerduty.sandbox.agent import work
        from policies.journal import write_checkpoint

        call_command("migrate", verbosity=0)
        call_command("collectstatic", verbosity=0, interactive=False)
        info = people_and_policy(options.seed)
        member = info.pop("member")
        connections.close_all()
        children.start("portal", portal_command(options.port, folder / "static"))
        children.start("worker", [sys.executable, "manage.py", "run_worker"], folder / "worker.log")
        wait_for(f"{url}/readyz", children)
        wait_for(f"{sandbox_url}/_sandbox/stats", children)
        keys = {name: agent["key"] for name, agent in info["agents"].items()}
        made = work(f"{url}/pagerduty", keys, options.seed)
        that_was_us()
        write_checkpoint()
        connections.close_all()
        info = {
            "url": url,
            "rest_url": f"{url}/pagerduty",
            "mcp_url": f"{url}/mcp",
            "sandbox_url": sandbox_url,
            "data_dir": str(folder),
            "env": values,
            **info,
        }
        if options.info:
            write_whole(options.info, json.dumps(info, indent=2) + "\n")
        print(told(info, member, spare_tokens(options.seed)))
        print(f"Ready after {time.monotonic() - started:.1f} s; {made} calls are in the journal.", flush=True)
        while not stop.wait(0.5):
            if name := children.ended():
                sys.exit(f"The demo's {name} has ended, and so does the demo.")
    finally:
        children.stop()


if __name__ == "__main__":
    main()
