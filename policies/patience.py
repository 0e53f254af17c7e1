"""How long a thread of the portal's own waits for the database, and when the database counts as away.

libpq waits for an answer without end: a server that is frozen, or a host that is gone, says nothing, and the server's own
``statement_timeout`` ends nothing there. Pages may wait; what answers calls may not.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Generator
from typing import Any

from django.db import InterfaceError, InternalError, OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper

_READ_ONLY = "25006"


def is_away(error: BaseException) -> bool:
    """Whether an error says that the database cannot be reached, does not answer or takes nothing, whatever it is asked: not
    that it refuses this statement."""
    if isinstance(error, OperationalError | InterfaceError):
        # SQLite calls a table that is not there an operational error, too.
        return getattr(error.__cause__, "sqlite_errorcode", None) != sqlite3.SQLITE_ERROR
    # A standby that was not promoted as yet.
    return isinstance(error, InternalError) and getattr(error.__cause__, "sqlstate", "") == _READ_ONLY


def limit_waiting(own: BaseDatabaseWrapper, seconds: Callable[[], float]) -> None:
    """Give a statement on ``own`` (a PostgreSQL connection that no pool lends) up after so many seconds without an answer.

    ``seconds`` is asked again while it waits, ten times a second. The connection is closed then: whether the statement was
    carried out is not known.
    """
    connect = own.get_new_connection

    def get_new_connection(parameters: dict[str, Any]) -> Any:
        made = connect(parameters)
        usual = made.wait

        def wait(generator: Generator[Any, Any, Any], *arguments: Any, **more: Any) -> Any:
            return usual(_limited(made, generator, seconds), *arguments, **more)

        made.wait = wait
        return made

    own.get_new_connection = get_new_connection  # type: ignore[assignment,method-assign]  # of this one


def _limited(
    connection: Any, generator: Generator[Any, Any, Any], seconds: Callable[[], float]
) -> Generator[Any, Any, Any]:
    """``generator``, one of psycopg's, which is sent 0 whenever nothing came for a while."""
    import psycopg

    began = time.monotonic()
    try:
        step = next(generator)
        while True:
            ready = yield step
            if not ready and time.monotonic() - began > seconds():
                generator.close()
                connection.close()
                raise psycopg.OperationalError(f"the database gave no answer in {seconds():g} s")
            step = generator.send(ready)
    except StopIteration as ended:
        return ended.value
