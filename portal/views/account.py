"""``/account/``: who one is here, and one's own password."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth import authenticate, update_session_auth_hash
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from policies.actions import do_set_digest, do_set_password
from policies.models import Membership
from portal.forms import DigestForm, PasswordForm
from portal.http import Request, refusals_in


@sensitive_post_parameters("old", "new", "again")
@require_http_methods(["GET", "HEAD", "POST"])
def index(request: Request) -> HttpResponse:
    form = PasswordForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        values = form.cleaned_data
        # By the same way as a sign-in: a session that somebody left open is no place to guess the password at.
        if authenticate(request, username=request.user.email, password=values["old"]) is None:
            form.add_error("old", "This is not your password.")
        with refusals_in(form):
            if not form.errors:
                do_set_password(request.user, by=request.user, password=values["new"])
                # Every other session of theirs ends; this one stays.
                update_session_auth_hash(request, request.user)
                messages.success(request, "Your password is changed. You are signed out everywhere else.")
                return redirect("account")
    context = {
        "form": form,
        "digest_form": DigestForm(initial={"weekly_digest": request.user.weekly_digest}),
        "memberships": Membership.objects.filter(user=request.user).select_related("team").order_by("team__name"),
    }
    return render(request, "account/index.html", context, status=422 if form.errors else 200)


@require_POST
def digest(request: Request) -> HttpResponse:
    """Whether one gets the weekly digest."""
    form = DigestForm(request.POST)
    if form.is_valid():
        wanted = form.cleaned_data["weekly_digest"]
        do_set_digest(by=request.user, wanted=wanted)
        messages.success(request, f"You get {'the weekly digest' if wanted else 'no weekly digest any more'}.")
    return redirect("account")
