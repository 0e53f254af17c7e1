"""What happens around every page: whose address a request comes from, and what is said where there is no page to show."""

from __future__ import annotations

import ipaddress
import math
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.deprecation import MiddlewareMixin

from integrations.gateway.http import client_ip
from policies.actions import TooManyGuesses, note_seen, time_zones
from policies.core.text import written_out
from policies.models import User
from portal.sign_in import has_second_factor, must_have_second_factor


class ClientAddress(MiddlewareMixin):
    """``REMOTE_ADDR`` is the person's address, not the trusted proxy's: sign-ins are recorded and limited by it."""

    def process_request(self, request: HttpRequest) -> None:
        proxies = tuple(ipaddress.ip_network(block) for block in settings.TRUSTED_PROXIES)
        forwarded = request.META.get("HTTP_X_FORWARDED_FOR", "").encode("latin-1", "replace")
        peer = request.META.get("REMOTE_ADDR", "")
        request.META["REMOTE_ADDR"] = client_ip({"client": (peer, 0)}, forwarded, proxies)


class SignInRequired(LoginRequiredMiddleware):
    """Whoever is not signed in is sent to the sign-in page: the whole page of theirs, not the row that htmx asked for."""

    def process_view(self, request: HttpRequest, view_func: Any, *view: Any) -> HttpResponseBase | None:
        refused = super().process_view(request, view_func, *view)
        if refused is None:
            return self._further(request, view_func)
        if request.headers.get("HX-Request") != "true":
            return refused
        try:
            at = urlsplit(request.headers.get("HX-Current-URL", ""))
            page = (at.path or "/") + (f"?{at.query}" if at.query else "")
        except ValueError:
            page = "/"
        to = redirect_to_login(page, self.get_login_url(view_func), self.get_redirect_field_name(view_func))
        # htmx follows a 302 by itself and would swap the sign-in page into a table.
        return HttpResponse(status=204, headers={"HX-Redirect": to["Location"]})

    def _further(self, request: HttpRequest, view_func: Any) -> HttpResponseBase | None:
        """Of a session that may go on: it was seen, and must have a second factor where one is required."""
        user = request.user
        if not isinstance(user, User) or not getattr(view_func, "login_required", True):
            return None
        key, device = request.session.session_key or "", request.META.get("HTTP_USER_AGENT", "")
        note_seen(user, session_key=key, ip=request.META.get("REMOTE_ADDR", ""), device=device)
        if not settings.REQUIRE_MFA or has_second_factor(request) or not must_have_second_factor(user):
            return None
        at = request.resolver_match
        if at is None or at.url_name in SECOND_FACTOR_PAGES:
            return None
        to = reverse("second-factor")
        if request.headers.get("HX-Request") == "true":
            return HttpResponse(status=204, headers={"HX-Redirect": to})
        return redirect(to)


SECOND_FACTOR_PAGES = {
    "second-factor",
    "mfa_index",
    "mfa_list_webauthn",
    "mfa_activate_totp",
    "mfa_add_webauthn",
    "mfa_view_recovery_codes",
    "mfa_generate_recovery_codes",
    "account_reauthenticate",
    "mfa_reauthenticate",
    "mfa_reauthenticate_webauthn",
    "provider-again",
    "sign-out",
}
"""What is open to whoever must have a second factor and has none: to set it up, to confirm it, to leave."""


ZONE_COOKIE = "time_zone"
"""What portal.js says of the browser's zone."""


class ReadersZone(MiddlewareMixin):
    """Pages tell times in the reader's zone: what they chose, else their browser's, else UTC."""

    def process_request(self, request: HttpRequest) -> None:
        chosen = request.user.time_zone if isinstance(request.user, User) else ""
        # A cookie holds whatever somebody put there: only a name that is known is ever looked up.
        named = (name for name in (chosen, request.COOKIES.get(ZONE_COOKIE, "")) if name in time_zones())
        timezone.activate(next(named, "UTC"))

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        timezone.deactivate()
        return response


class NothingActs(MiddlewareMixin):
    """Whatever text a page shows, and whoever stored it: nothing in it turns the direction of writing, hides or acts."""

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        if isinstance(response, HttpResponse) and response.get("Content-Type", "").startswith("text/html"):
            text = response.content.decode()
            if (fit := written_out(text)) != text:
                response.content = fit.encode()
        return response


class GuessesAnswered(MiddlewareMixin):
    """``TooManyGuesses``, wherever a password was tried: the sign-in, the admin's, the account's own page."""

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if not isinstance(exception, TooManyGuesses):
            return None
        seconds = max((exception.again_at - timezone.now()).total_seconds(), 1)
        context = {"again_at": exception.again_at, "minutes": math.ceil(seconds / 60)}
        answer = render(request, "429.html", context, status=429)
        answer["Retry-After"] = str(math.ceil(seconds))
        return answer
