"""Real processes for tests: the portal under granian on a database of its own, and what it calls."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from portal.demo import portal_command

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "upstream-TOKEN-0123456789"  # what the tests register with the portal


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, process: subprocess.Popen[bytes] | None = None, seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if process is not None and process.poll() is not None:
            raise AssertionError(f"the process on port {port} ended with {process.returncode}")
        if time.monotonic() > until:
            raise AssertionError(f"nothing listens on port {port}")
        time.sleep(0.02)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def errors(self) -> list[str]:
        errors: list[str] = self.json()["error"]["errors"]
        return errors


@dataclass
class Portal:
    """A portal on a database of its own: SQLite in ``folder``, or where DATABASE_URL names PostgreSQL a new one there."""

    folder: Path
    upstream_url: str
    extra: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    seeded: dict[str, Any] = field(default_factory=dict)
    certificates: Path | None = None
    """A folder with ca.pem, cert.pem and key.pem: then it is served over TLS."""
    server: str = field(default_factory=lambda: os.environ.get("DATABASE_URL", ""))
    """URL of a database on the PostgreSQL that makes the portal's own."""

    def __post_init__(self) -> None:
        self._postgres = ""
        url = f"sqlite:///{self.folder}/portal.sqlite3"
        if self.server.startswith("postgres"):
            self._postgres = f"pagewarden_test_{uuid.uuid4().hex[:10]}"
            url = f"{self.server.rsplit('/', 1)[0]}/{self._postgres}"
            self._sql(f"CREATE DATABASE {self._postgres}")
        self.env = {
            **os.environ,
            "PAGEWARDEN_ENV_FILE": str(ROOT / "tests" / "environment"),
            "DJANGO_SETTINGS_MODULE": "portal.settings",
            "DATA_DIR": str(self.folder),
            "DATABASE_URL": url,
            "PAGERDUTY_SANDBOX_URL": self.upstream_url,
            "PUBLIC_URL": self.url,
            "PYTHONPATH": str(ROOT),
            **self.extra,
        }

    @property
    def url(self) -> str:
        return f"{'https' if self.certificates else 'http'}://127.0.0.1:{self.port}"

    def _sql(self, statement: str) -> None:
        import psycopg

        with psycopg.connect(f"{self.server.rsplit('/', 1)[0]}/postgres", autocommit=True) as connection:
            connection.execute(statement.encode())

    def sql(self, statement: str) -> None:
        """Run SQL on the portal's own database, at once."""
        if self._postgres:
            import psycopg

            with psycopg.connect(self.env["DATABASE_URL"], autocommit=True) as connection:
                connection.execute(statement.encode())
        else:
            database = sqlite3.connect(self.folder / "portal.sqlite3", timeout=10)
            database.execute(statement)
            database.commit()
            database.close()

    def run(self, *arguments: str, check: bool = True, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a Python module or ``manage.py`` command in the portal's environment."""
        command = [sys.executable, *arguments]
        result = subprocess.run(
            command, env=self.env, cwd=ROOT, capture_output=True, text=True, timeout=120, input=stdin
        )
        if check and result.returncode != 0:
            raise AssertionError(f"{arguments} ended with {result.returncode}:\n{result.stdout}\n{result.stderr}")
        return result

    def manage(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run("manage.py", *arguments, check=check)

    def seed(self, **values: Any) -> dict[str, Any]:
        self.manage("migrate", "-v0")
        out = self.run("-m", "tests.gateway.seed", json.dumps({"token": TOKEN, "states": {}, **values})).stdout
        self.seeded = json.loads(out)
        return self.seeded

    def shell(self, code: str) -> str:
        """Run Python with Django set up; what it prints."""
        return self.run("-c", f"import django; django.setup()\n{code}").stdout

    def start(self, core: str = "", *, static: bool = False, seconds: float = 30) -> None:
        """``core``: the processor core to stay on. ``static``: serve stylesheets and scripts too. Raises ``AssertionError``
        when it is not ready after ``seconds``."""
        files = self.folder / "static" if static else None
        if files is not None:
            self.env["STATIC_ROOT"] = str(files)
            self.manage("collectstatic", "--noinput", "-v0")
        tls: tuple[str, ...] = ()
        if self.certificates is not None:
            certificate, key = self.certificates / "cert.pem", self.certificates / "key.pem"
            tls = ("--ssl-certificate", str(certificate), "--ssl-keyfile", str(key))
        pinned = ("taskset", "-c", core) if core else ()
        with (self.folder / "portal.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*pinned, *portal_command(self.port, files, *tls)],
                env=self.env,
                cwd=ROOT,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until = time.monotonic() + seconds
        trust = ssl.create_default_context(cafile=self.certificates / "ca.pem") if self.certificates else None
        while True:
            with (
                contextlib.suppress(OSError, urllib.error.HTTPError),
                urllib.request.urlopen(f"{self.url}/readyz", timeout=2, context=trust),
            ):
                return
            if self.process.poll() is not None or time.monotonic() > until:
                raise AssertionError(f"the portal did not start:\n{self.log()}")
            time.sleep(0.02)

    def log(self) -> str:
        return (self.folder / "portal.log").read_text(errors="replace")

    def signal(self, number: int) -> None:
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)
        self.process.wait(timeout=30)
        self.process = None

    def kill(self) -> None:
        """As a power cut would: no process of the portal gets another instruction."""
        self.signal(signal.SIGKILL)

    def stop(self) -> None:
        if self.process is not None:
            self.signal(signal.SIGTERM)

    def close(self) -> None:
        if self.process is not None:
            self.kill()
        if self._postgres:
            self._sql(f"DROP DATABASE IF EXISTS {self._postgres} WITH (FORCE)")

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = None,
        headers: dict[str, str] | None = None,
        raw: bytes | None = None,
    ) -> Answer:
        """One call at the REST door."""
        data = raw if raw is not None else None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/pagerduty{path}", data=data, method=method)
        secret = self.seeded["key"] if key is None else key
        if secret:
            request.add_header("Authorization", f"Token token={secret}")
        if data is not None:
            request.add_header("Content-Type", "application/json")
        for name, value in (headers or {}).items():
            request.add_header(name, value)
        try:
            with urllib.request.urlopen(request, timeout=40) as answer:
                return Answer(answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.read())
        except urllib.error.HTTPError as error:
            return Answer(error.code, {k.lower(): v for k, v in error.headers.items()}, error.read())

    def entries(self, **filters: Any) -> list[dict[str, Any]]:
        """The journal's entries, each with its record, read past Django: starting that for each look took most of the tests'
        time. ``filters``: a column, or a column with ``__in`` or ``__contains``."""
        clauses, values = ["1 = 1"], []
        for name, value in filters.items():
            column, _, how = name.partition("__")
            if how == "in":
                clauses.append(f"{column} IN ({', '.join('?' * len(value)) or 'NULL'})")
                values += value
            else:
                clauses.append(f"{column} LIKE ?" if how else f"{column} = ?")
                values.append(f"%{value}%" if how else value)
        names = ("id", "seq", "kind", "decision_id", "tool", "verdict", "outcome", "actor", "team_id", "record")
        rows = self.query(
            f"SELECT {', '.join(names)} FROM policies_entry WHERE {' AND '.join(clauses)} ORDER BY id", values
        )
        return [
            {**(entry := dict(zip(names, row, strict=True))), "record": json.loads(entry["record"])} for row in rows
        ]

    def query(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """What SQL on the portal's own database answers; ``?`` stands for a value."""
        if self._postgres:
            import psycopg

            with psycopg.connect(self.env["DATABASE_URL"]) as connection:
                return connection.execute(statement.replace("?", "%s").encode(), values).fetchall()
        with contextlib.closing(sqlite3.connect(self.folder / "portal.sqlite3", timeout=10)) as database:
            return database.execute(statement, values).fetchall()


@contextlib.contextmanager
def running(*command: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A process that listens on ``port``, ended at the end."""
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True,
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_for_port(port, process)
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextlib.contextmanager
def running_demo(folder: Path) -> Iterator[tuple[dict[str, Any], subprocess.Popen[bytes]]]:
    """What the info file of a new demo says, and its process; what it printed is in ``folder / "output"``."""
    info = folder / "info.json"
    command = [sys.executable, "manage.py", "demo", "--port", str(free_port()), "--sandbox-port", str(free_port())]
    # What the surroundings say must not reach it: it brings all of its own.
    environment = {**os.environ, "PUBLIC_URL": "https://elsewhere.example", "DATABASE_URL": "sqlite:////nowhere/at/all"}
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            [*command, "--data-dir", str(folder / "data"), "--info", str(info)],
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    until = time.monotonic() + 60
    try:
        while not info.exists():
            told = (folder / "output").read_text()
            assert process.poll() is None, told
            assert time.monotonic() < until, told
            time.sleep(0.1)
        yield json.loads(info.read_text()), process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.wait(timeout=30)


@contextlib.contextmanager
def recording_upstream(folder: Path) -> Iterator[tuple[str, Path]]:
    """Its URL, and the file that holds every call it received, one JSON object a line."""
    port, path = free_port(), folder / "upstream.jsonl"
    with running("-m", "tests.gateway.upstream", str(port), str(path), port=port):
        yield f"http://127.0.0.1:{port}", path


def received(path: Path) -> list[dict[str, Any]]:
    """What the recording upstream received; a line that a power cut left half written does not count."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
