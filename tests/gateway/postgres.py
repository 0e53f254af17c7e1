"""A PostgreSQL of a test's own, to be killed and frozen."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from tests.gateway.processes import free_port


def binaries() -> Path | None:
    """Where ``initdb`` and ``postgres`` are; None: PostgreSQL's server is not installed."""
    # Debian's, the newest; else where the path leads.
    found = [path.parent for path in sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))]
    if not found and (known := shutil.which("initdb")) is not None:
        found.append(Path(known).resolve().parent)
    return found[-1] if found else None


@dataclass
class Cluster:
    folder: Path
    programs: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"postgres://postgres@127.0.0.1:{self.port}/postgres"

    def _command(self, name: str, *arguments: str) -> list[str]:
        # It refuses to run as root. setpriv becomes the program: no process stands between.
        user = ("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups") if os.geteuid() == 0 else ()
        return [*user, str(self.programs / name), "-D", str(self.folder / "data"), *arguments]

    def create(self) -> None:
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres", "postgres")
        command = self._command("initdb", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-sync")
        subprocess.run(command, check=True, capture_output=True, cwd="/")

    def start(self) -> None:
        """Raises ``AssertionError`` when it does not answer within 30 s."""
        options = ("-p", str(self.port), "-h", "127.0.0.1", "-k", str(self.folder))
        until = time.monotonic() + 30
        while time.monotonic() < until:
            with (self.folder / "server.log").open("ab") as log:
                command = self._command("postgres", *options)
                self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/", start_new_session=True)
            while self.process.poll() is None and time.monotonic() < until:
                with contextlib.suppress(psycopg.OperationalError), psycopg.connect(self.url):
                    return
                time.sleep(0.05)
            time.sleep(0.1)  # The dead one's memory may not be free as yet.
        raise AssertionError((self.folder / "server.log").read_text())

    def _signal(self, number: int) -> None:
        """To the server and each of its processes: they are in sessions of their own."""
        assert self.process is not None
        pids = [self.process.pid]
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                if int(stat.read_text().rpartition(")")[2].split()[1]) == self.process.pid:
                    pids.append(int(stat.parent.name))
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self) -> None:
        if self.process is not None:
            self._signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def freeze(self) -> None:
        """It keeps its connections, takes new ones, and says nothing any more."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)


@contextlib.contextmanager
def cluster(programs: Path) -> Iterator[Cluster]:
    # Not in pytest's folder: no other user may look into that.
    with tempfile.TemporaryDirectory(prefix="pagewarden-postgres-") as folder:
        own = Cluster(Path(folder), programs)
        own.create()
        try:
            own.start()
            yield own
        finally:
            own.kill()
