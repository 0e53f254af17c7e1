"""A line that breaks when it is told to: TCP between a caller and a server, bytes as they come, TLS or not."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from types import TracebackType

from tests.gateway.processes import free_port


class Line:
    """Listens on ``port`` and leads to ``target``."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = free_port()
        self._left = 0
        self._leaves = False
        self._listener = socket.create_server(("127.0.0.1", self.port))

    def __enter__(self) -> Line:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits on it
        self._listener.close()

    def break_next(self, times: int = 1, *, leaves: bool = False) -> None:
        """The next exchanges that a caller begins reach the server whole, and their answers nobody: then both connections are
        cut. ``leaves``: cut before the server has answered."""
        self._left, self._leaves = times, leaves

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                caller, _ = self._listener.accept()
                _Connection(self, caller)

    def is_broken(self) -> bool:
        """Whether the exchange that begins is to break: told once."""
        self._left, broken = max(self._left - 1, 0), self._left > 0
        return broken

    @property
    def leaves(self) -> bool:
        return self._leaves


class _Connection:
    def __init__(self, line: Line, caller: socket.socket) -> None:
        self._line = line
        self._caller = caller
        self._server = socket.create_connection(("127.0.0.1", line.target))
        self._deaf = False
        self._answered = threading.Event()
        for work in (self._out, self._back):
            threading.Thread(target=work, daemon=True).start()

    def _out(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._caller.recv(65_536):
                if not self._deaf and self._line.is_broken():
                    self._deaf = True
                    threading.Thread(target=self._break, args=(self._line.leaves,), daemon=True).start()
                self._server.sendall(data)
        self._cut()

    def _back(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._server.recv(65_536):
                if self._deaf:
                    self._answered.set()
                else:
                    self._caller.sendall(data)
        self._cut()

    def _break(self, leaves: bool) -> None:
        if leaves:
            time.sleep(0.4)
        else:
            self._answered.wait(20)
        self._cut()

    def _cut(self) -> None:
        for end in (self._caller, self._server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
