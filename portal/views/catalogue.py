"""``/catalogue/``: every tool, and every operation of PagerDuty's that is refused, with why and what to use instead."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from django.http import HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.utils.cache import patch_vary_headers
from django.utils.safestring import SafeString
from django.views.decorators.http import require_safe

from integrations.pagerduty.catalog import OPERATIONS, REASONS, REFUSALS, TOOLS
from integrations.pagerduty.listing import BOUNDS_TOLD, Refused, Served, anchor, refused, served, title
from policies.core.call import Operation
from portal.forms import CatalogueForm
from portal.http import Request

SERVED_KINDS = {"", "served", "reads", "writes"}


@require_safe
def index(request: Request) -> HttpResponse:
    form = CatalogueForm(request.GET or None)
    values = form.cleaned_data if form.is_valid() else {"text": "", "what": "", "risk": ""}
    # What is wrong in the form fits nothing.
    found = _found(tuple(values["text"].lower().split()), values["what"], values["risk"], fits=not form.errors)
    # What goes back in the history of htmx's wants the whole page.
    if request.htmx and not request.htmx.history_restore_request:
        answer = HttpResponse(found)
    else:
        serving = sum(bool(tool.operations) for tool in TOOLS.values())
        counts = (len(OPERATIONS), len(OPERATIONS) - len(REFUSALS), serving, len(REFUSALS), len(TOOLS) - serving)
        answer = render(request, "catalogue/index.html", {"form": form, "found": found, "counts": counts})
    # Both have the same address.
    patch_vary_headers(answer, ["HX-Request"])
    return answer


@functools.lru_cache(maxsize=16)
def _found(words: tuple[str, ...], what: str, risk: str, *, fits: bool) -> SafeString:
    """The list: the same for everybody, and a third of a second's work when it is whole."""
    tools = {
        category: [row for row in rows if _is_kind(row, what, risk) and holds(tool_text(row, category), words)]
        for category, rows in served().items()
        if fits and what in SERVED_KINDS
    }
    refusals = {
        reason: [row for row in rows if holds(_refused_text(row), words)]
        for reason, rows in refused().items()
        if fits and not risk and what in ("", "refused")
    }
    # Whoever types a whole name wants that, and not what has it in its middle.
    name = " ".join(words)
    exact = (
        {category: [row for row in rows if name in _names(row)] for category, rows in tools.items()},
        {reason: [row for row in rows if name in _names(row)] for reason, rows in refusals.items()},
    )
    if any(exact[0].values()) or any(exact[1].values()):
        tools, refusals = exact
    context = {
        "tools": [(category, anchor(category), rows) for category, rows in tools.items() if rows],
        "refusals": [(title(reason), reason, REASONS[reason], rows) for reason, rows in refusals.items() if rows],
        "filtered": bool(words or what or risk or not fits),
        "found": (sum(map(len, tools.values())), sum(map(len, refusals.values()))),
        "bounds": BOUNDS_TOLD.values(),
    }
    return render_to_string("catalogue/_found.html", context)


def _is_kind(row: Served, what: str, risk: str) -> bool:
    does = "writes" if row.tool.writes else "reads"
    return what in ("", "served", does) and risk in ("", row.tool.risk.value)


def holds(text: str, words: Sequence[str]) -> bool:
    return all(word in text for word in words)


def _names(row: Served | Refused) -> set[str]:
    if isinstance(row, Refused):
        return {row.operation.id.lower()}
    return {row.tool.name, row.tool.title.lower(), *(operation.id.lower() for operation in row.operations)}


def tool_text(row: Served, category: str) -> str:
    """What is searched of a tool."""
    tool = row.tool
    told = (category, tool.name, tool.title, tool.description, *tool.scopes, *row.aliases)
    return "\n".join((*told, *map(_operation_text, row.operations))).lower()


def _refused_text(row: Refused) -> str:
    told = (title(row.reason), REASONS[row.reason], row.instead, _operation_text(row.operation))
    return "\n".join(told).lower()


def _operation_text(operation: Operation) -> str:
    return f"{operation.id}\n{operation.method} {operation.path}"
