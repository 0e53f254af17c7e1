"""``/account/``: who one is here, one's own password, where one is signed in, and which providers sign one in."""

from __future__ import annotations

import re
from typing import Any

from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount
from django.contrib import messages
from django.contrib.auth import authenticate, logout, update_session_auth_hash
from django.contrib.sessions.models import Session
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from policies.actions import (
    do_end_sessions,
    do_set_digest,
    do_set_password,
    do_set_time_zone,
    forgive_guesses,
    open_session,
)
from policies.models import BrowserSession, Membership
from portal.forms import DigestForm, PasswordForm, ZoneForm
from portal.http import Request, one_of, refusals_in, told
from portal.oidc import do_unlink, providers
from portal.sign_in import WAYS, how, ip_of, must_have_second_factor


@sensitive_post_parameters("old", "new", "again")
@require_http_methods(["GET", "HEAD", "POST"])
def index(request: Request) -> HttpResponse:
    user = request.user
    action = request.POST.get("action", "password")
    form = PasswordForm(request.POST if request.method == "POST" and action == "password" else None)
    if form.is_bound and form.is_valid():
        values = form.cleaned_data
        # By the same way as a sign-in: a session that somebody left open is no place to guess the password at.
        if authenticate(request, username=user.email, password=values["old"]) is None:
            form.add_error("old", "This is not your password.")
        else:
            forgive_guesses(email=user.email, ip=ip_of(request))
        with refusals_in(form):
            if not form.errors:
                do_set_password(user, by=user, password=values["new"])
                # Every other session of theirs ends; this one stays, under another name.
                update_session_auth_hash(request, user)
                _stays(request)
                messages.success(request, "Your password is changed. You are signed out everywhere else.")
                return redirect("account")
    elif request.method == "POST" and not form.is_bound:
        return _change(request, action)
    factors = Authenticator.objects.filter(user=user).exclude(type=Authenticator.Type.RECOVERY_CODES)
    linked = {row.provider: row for row in SocialAccount.objects.filter(user=user)}
    context = {
        "form": form,
        "memberships": Membership.objects.filter(user=user).select_related("team").order_by("team__name"),
        "sessions": _sessions(request),
        "factors": sorted({WAYS[kind] for kind in factors.values_list("type", flat=True)}),
        "needed": must_have_second_factor(user),
        "providers": [(each, linked.get(each.issuer)) for each in providers()],
        "zone": ZoneForm(initial={"time_zone": user.time_zone}),
        "digest_form": DigestForm(initial={"weekly_digest": user.weekly_digest}),
    }
    return render(request, "account/index.html", context, status=422 if form.errors else 200)


def _stays(request: Request) -> None:
    said = how(request, request.user)
    key, device = request.session.session_key or "", request.META.get("HTTP_USER_AGENT", "")
    open_session(request.user, session_key=key, ip=ip_of(request), device=device, how=said)


def _change(request: Request, action: str) -> HttpResponse:
    own = BrowserSession.objects.filter(user=request.user)
    if action == "end":
        row = one_of(own, request.POST.get("session"))
        do_end_sessions(own.filter(pk=row.pk), by=request.user)
        messages.success(request, f"Signed out of {device_of(row.device)}.")
    elif action == "end_all":
        do_end_sessions(own.exclude(session_key=request.session.session_key), by=request.user)
        logout(request)
        messages.success(request, "You are signed out everywhere.")
        return redirect("sign-in")
    elif action == "unlink":
        account = one_of(SocialAccount.objects.filter(user=request.user), request.POST.get("account"))

        def change() -> str:
            do_unlink(account, by=request.user)
            return "That account no longer signs you in."

        told(request, change)
    return redirect("account")


def _sessions(request: Request) -> list[dict[str, Any]]:
    rows = list(BrowserSession.objects.filter(user=request.user))
    alive = Session.objects.filter(session_key__in=[row.session_key for row in rows], expire_date__gt=timezone.now())
    keys = set(alive.values_list("session_key", flat=True))
    here = request.session.session_key
    return [
        {"row": row, "device": device_of(row.device), "here": row.session_key == here}
        for row in rows
        if row.session_key in keys
    ]


_BROWSERS = (("Edg", "Edge"), ("OPR", "Opera"), ("Firefox", "Firefox"), ("Chrome", "Chrome"), ("Safari", "Safari"))
_SYSTEMS = (
    ("iPhone|iPad", "iOS"),
    ("Android", "Android"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("CrOS", "ChromeOS"),
    ("Linux", "Linux"),
)


def device_of(agent: str) -> str:
    """A browser and its system, as far as it says so: it may say anything."""
    browser = next((name for mark, name in _BROWSERS if f"{mark}/" in agent), "")
    system = next((name for marks, name in _SYSTEMS if re.search(marks, agent)), "")
    return " on ".join(part for part in (browser, system) if part) or "another device"


@require_POST
def time_zone(request: Request) -> HttpResponse:
    """In which zone pages tell one times."""

    def save() -> str:
        do_set_time_zone(request.user, by=request.user, time_zone=request.POST.get("time_zone", ""))
        return "Your time zone is saved."

    told(request, save)
    return redirect("account")


@require_POST
def digest(request: Request) -> HttpResponse:
    """Whether one gets the weekly digest."""
    form = DigestForm(request.POST)
    if form.is_valid():
        wanted = form.cleaned_data["weekly_digest"]
        do_set_digest(by=request.user, wanted=wanted)
        messages.success(request, f"You get {'the weekly digest' if wanted else 'no weekly digest any more'}.")
    return redirect("account")
