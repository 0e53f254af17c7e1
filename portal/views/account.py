"""``/account/``: who one is here, and one's own password."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth import authenticate, update_session_auth_hash
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from policies.actions import do_set_password, do_set_time_zone
from policies.models import Membership
from portal.forms import PasswordForm, ZoneForm
from portal.http import Request, refusals_in, told


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
        "zone": ZoneForm(initial={"time_zone": request.user.time_zone}),
        "memberships": Membership.objects.filter(user=request.user).select_related("team").order_by("team__name"),
    }
    return render(request, "account/index.html", context, status=422 if form.errors else 200)


@require_POST
def time_zone(request: Request) -> HttpResponse:
    """In which zone pages tell one times."""

    def save() -> str:
        do_set_time_zone(request.user, by=request.user, time_zone=request.POST.get("time_zone", ""))
        return "Your time zone is saved."

    told(request, save)
    return redirect("account")
