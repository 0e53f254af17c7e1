"""``/mirror/<connection>/refresh/``: how fresh what is kept of an account is, what could not be read, and reading it anew."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_http_methods

from integrations import mirror, tasks
from integrations.models import Connection
from portal.http import Request


def mirrored(request: Request, pk: UUID) -> Connection:
    """The connection whose mirror somebody may see, or 404."""
    found = next((row for row in mirror.visible_to(request.user) if row.pk == pk), None)
    if found is None:
        raise Http404
    return found


@require_http_methods(["GET", "HEAD", "POST"])
def refresh(request: Request, connection: UUID) -> HttpResponse:
    """Asks the worker to read all of it anew; while it does, whoever watches asks here how far it is."""
    row = mirrored(request, connection)
    if request.method == "POST":
        asked = mirror.ask_for(row, by=request.user.email)
        if asked:
            tasks.sync_connection.enqueue(str(row.pk))
        if not request.htmx:
            told = f"{row.name} is being read from PagerDuty." if asked else f"{row.name} was asked for a moment ago."
            messages.success(request, f"{told} Reload the page in a minute.")
            return redirect(_back(request, row))
    kept = mirror.kept(row)
    if not request.htmx:
        return render(request, "mirror/index.html", {"kept": kept, "parts": list(kept.parts.values())})
    seen = request.GET.get("seen", "")
    if request.method != "POST" and not kept.running and seen.isdigit() and int(seen) != kept.version:
        # What the page shows has changed meanwhile.
        return HttpResponse(status=204, headers={"HX-Refresh": "true"})
    return render(request, "_as_of.html", {"kept": kept})


def _back(request: Request, row: Connection) -> str:
    """The page that it was asked from, of this portal alone."""
    back = request.POST.get("next", "")
    safe = url_has_allowed_host_and_scheme(back, allowed_hosts=None) and back.startswith("/")
    return back if safe else reverse("mirror", args=[row.pk])
