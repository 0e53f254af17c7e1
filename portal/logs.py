"""How a line of the log is written: nothing that came from outside can add one, hide in one, or leave a secret in one."""

from __future__ import annotations

import logging
from typing import Any, Final

from django.core.exceptions import PermissionDenied

from policies.core.text import redacted, shown

LONGEST: Final = 100_000
"""Characters of one message, its traceback included."""
LINE: Final = 4_000


class Line(logging.Formatter):
    """One line a message, and what follows of a traceback indented: a line that begins with a time is one that the portal
    wrote."""

    def formatException(self, ei: Any) -> str:
        """Django logs whoever may not do something with a traceback, as if it were a fault: the line alone says it."""
        return "" if isinstance(ei[1], PermissionDenied) else super().formatException(ei)

    def format(self, record: logging.LogRecord) -> str:
        first, *rest = redacted(super().format(record)[:LONGEST]).split("\n")
        return "\n".join([shown(first, LINE), *(f"    {shown(line, LINE)}" for line in rest)])
