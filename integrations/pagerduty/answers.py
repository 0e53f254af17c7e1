"""What tools without operations are answered from: a connection's mirror, read in threads of its own, off the event loop."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from django.db import DEFAULT_DB_ALIAS, InterfaceError, InternalError, OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from integrations.gateway.integration import Connection, Own, Unanswered
from integrations.intended import mark_of, marks_of
from integrations.models import Connection as ConnectionRow
from integrations.pagerduty import tools
from integrations.pagerduty.analysis.intended import Mark
from integrations.pagerduty.tools import mirrored
from integrations.pagerduty.tools.telling import Mirror
from integrations.sweep import Sweep, swept
from policies.core.call import Tool
from policies.journal import AWAY_SECONDS, own_connection
from policies.patience import is_away

if TYPE_CHECKING:
    from integrations.history import History

THREADS: Final = 2
"""What is worked out in them takes the processor from the calls on the loop: few of them at once."""


class Mirrors:
    """One for each event loop."""

    def __init__(self) -> None:
        self._opened: list[BaseDatabaseWrapper] = []
        self._threads = ThreadPoolExecutor(THREADS, "mirror", self._open)

    def _open(self) -> None:
        """In each thread, before its first answer. Not the pages' connection: what answers calls gives up a database that says
        nothing. It is kept open, for to open one costs more than the answer."""
        own = own_connection(lambda: AWAY_SECONDS)
        connections[DEFAULT_DB_ALIAS] = own
        self._opened.append(own)

    async def answer(self, tool: Tool, arguments: Mapping[str, Any], connection: Connection) -> Own:
        """Raises ``Unanswered``."""
        return await asyncio.wrap_future(self._threads.submit(_answer, tool, arguments, connection.id))

    def close(self) -> None:
        """Once no call waits for an answer."""
        self._threads.shutdown(cancel_futures=True)
        for own in self._opened:
            if own.connection is not None:
                own.connection.close()  # The driver's: Django's refuses on a loop, and at exit there is no other thread.


def _answer(tool: Tool, arguments: Mapping[str, Any], connection_id: str) -> Own:
    try:
        return _read(tool, arguments, connection_id)
    except (OperationalError, InterfaceError, InternalError) as error:
        if not is_away(error):
            raise
    # It may be the connection alone, which has stood open since before the server was started anew.
    connections[DEFAULT_DB_ALIAS].close()
    try:
        return _read(tool, arguments, connection_id)
    except (OperationalError, InterfaceError, InternalError) as error:
        connections[DEFAULT_DB_ALIAS].close()
        if not is_away(error):
            raise
        problem = "The portal's database did not answer, and this is answered from what is kept there."
        raise Unanswered(problem, "Try again shortly, or use a tool that asks PagerDuty.") from error


def _read(tool: Tool, arguments: Mapping[str, Any], connection_id: str) -> Own:
    given = tools.valid(tool, arguments)
    row = ConnectionRow.objects.select_related("team").filter(pk=connection_id).first()
    if row is None:
        raise Unanswered("The connection was deleted meanwhile.", "Ask a manager for a key of another one.")
    return mirrored.answer(tool.name, given, look(row, given.now))


def look(row: ConnectionRow, now: dt.datetime) -> Mirror:
    """What is kept of a connection. Raises ``Unanswered`` where it was not read as yet."""
    # Here, because the mirror is read by calls, and calls are what this is a part of.
    from integrations import mirror

    kept = mirror.kept(row)
    if kept.as_of is None:
        problem = f"The portal has not read {row.name} into its mirror yet, and this is answered from that."
        told = dict.fromkeys((kept.told, *(part.problem for part in kept.problems)))
        remedy = (
            "It is read by itself within minutes: try again then. "
            f"People of {row.team.name} see on the Schedules page how far it is, and can have it read there."
        )
        raise Unanswered(" ".join((problem, *told)).strip(), remedy)

    @cache
    def sweep() -> Sweep:
        return swept(row, kept.account, now)

    def marks() -> Mapping[str, Sequence[tuple[Mark, str]]]:
        found = marks_of([row.pk], now)
        return {policy: [(mark_of(each), each.reason) for each in rows] for (_, policy), rows in found.items()}

    @cache
    def read() -> History:
        # Here, because it brings numpy, which most processes never need.
        from integrations.history import history

        return history(row)

    unread = {part.name: part.problem for part in kept.problems}
    if kept.told:
        unread["what changed lately"] = kept.told
    return Mirror(kept.account, kept.as_of, unread, sweep, marks, row, read)
