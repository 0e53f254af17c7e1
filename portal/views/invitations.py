"""Coming in: ``/invitations/`` and a team's invitations, the link that invites, and ``/set-up/``, the first administrator's."""

from __future__ import annotations

import logging
from typing import Any

from allauth.account.internal.flows.login import record_authentication
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import PermissionDenied
from django.core.mail import send_mail
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_http_methods, require_POST

from policies.actions import (
    INVITATION_DAYS,
    do_accept_invitation,
    do_invite,
    do_resend_invitation,
    do_revoke_invitation,
    do_set_up,
    invitation_of,
    may_set_up,
)
from policies.core.text import shown
from policies.models import Invitation, Team, User
from portal.forms import ComeInForm, InviteForm, PortalInviteForm, SetUpForm
from portal.http import Request, managed_team, one_of, refusals_in, told
from portal.oidc import providers
from portal.sign_in import AccountAdapter

log = logging.getLogger(__name__)
SHOWN = 200


def of_team(team: Team) -> dict[str, Any]:
    """What ``members/_invitations.html`` shows: those that wait or have expired, and a form."""
    rows = Invitation.objects.filter(team=team, accepted_at=None, revoked_at=None).select_related("invited_by")
    return {"invitations": rows[:SHOWN], "invite": InviteForm(auto_id="invite_%s"), "days": INVITATION_DAYS}


@require_POST
def team(request: Request, slug: str) -> HttpResponse:
    """Invite to a team, send an invitation again, or revoke it."""
    team = managed_team(request, slug)
    if request.POST.get("action") == "invite":
        form = InviteForm(request.POST)
        if form.is_valid():
            values = form.cleaned_data
            told(request, lambda: _sent(*do_invite(**values, team=team, by=request.user)))
        else:
            messages.error(
                request, "That is no e-mail address." if "email" in form.errors else "There is no such role."
            )
    else:
        _change(request, one_of(Invitation.objects.filter(team=team), request.POST.get("invitation")))
    return redirect("team-members", team.slug)


@require_http_methods(["GET", "HEAD", "POST"])
def index(request: Request) -> HttpResponse:
    """All invitations, for administrators, and a form for one into the portal."""
    if not request.user.is_administrator:
        raise PermissionDenied("Administrators invite to the portal; a manager invites to a team, on its page Members.")
    inviting = request.POST.get("action") == "invite"
    form = PortalInviteForm(request.POST if inviting else None)
    if inviting and form.is_valid():
        with refusals_in(form):
            messages.success(request, _sent(*do_invite(**form.cleaned_data, by=request.user)))
            return redirect("invitations")
    elif request.method == "POST" and not inviting:
        _change(request, one_of(Invitation.objects.all(), request.POST.get("invitation")))
        return redirect("invitations")
    rows = Invitation.objects.select_related("team", "invited_by")[:SHOWN]
    context = {"invitations": rows, "form": form, "days": INVITATION_DAYS}
    return render(request, "invitations/index.html", context, status=422 if form.errors else 200)


def _change(request: Request, invitation: Invitation) -> None:
    def change() -> str:
        if request.POST.get("action") == "resend":
            return _sent(*do_resend_invitation(invitation, by=request.user))
        do_revoke_invitation(invitation, by=request.user)
        return f"The invitation of {invitation.email} is revoked: its link is void."

    told(request, change)


@sensitive_variables("token", "link")
def _sent(invitation: Invitation, token: str) -> str:
    """Mail the link, the only place where it is, and say so."""
    link = f"{settings.PUBLIC_URL}{reverse('invitation', args=[token])}"
    where = f"the team {shown(invitation.team.name, 100)} on Pagewarden" if invitation.team else "Pagewarden"
    by = f"{shown(str(invitation.invited_by), 150)} ({invitation.invited_by.email})"
    try:
        send_mail(
            f"You are invited to {where}",
            f"{by} invites you to {where}.\n\nCome in by this link, within {INVITATION_DAYS} days:\n{link}\n\n"
            "It works once. If you do not know what this is about, leave it: nothing happens.\n",
            None,
            [invitation.email],
        )
    except OSError:  # every error of the mail's protocol is one
        log.exception("The mail of an invitation could not be sent")
        return f"{invitation.email} is invited, but the mail could not be sent: send it again once the mail server answers."
    if settings.EMAIL_BACKEND.endswith("console.EmailBackend"):
        return (
            f"{invitation.email} is invited. No mail server is set: the mail with the link is in the server's output."
        )
    return f"{invitation.email} is invited: the link is on its way."


@login_not_required
@never_cache
@sensitive_post_parameters("new", "again")
@require_http_methods(["GET", "HEAD", "POST"])
def accept(request: HttpRequest, token: str) -> HttpResponse:
    """The link of an invitation: a new person chooses a password or signs in by a provider; one who has an account signs in
    with it first."""
    invitation = invitation_of(token)
    if invitation is None:
        return render(request, "invitations/closed.html", {"what": "invitation"}, status=410)
    person = request.user if isinstance(request.user, User) else None
    known = person is not None or User.objects.get_queryset().of_address(invitation.email).exists()
    form = ComeInForm(request.POST if request.method == "POST" and not known else None)
    if request.method == "POST" and person is not None:
        if told(request, lambda: f"Welcome to {_where(do_accept_invitation(token, person=person), invitation)}."):
            return redirect("team", invitation.team.slug) if invitation.team else redirect("home")
        return redirect("invitation", token)
    if form.is_bound and form.is_valid():
        with refusals_in(form):
            values = form.cleaned_data
            return _come_in(request, do_accept_invitation(token, name=values["name"], password=values["new"]))
    context = {
        "invitation": invitation,
        "token": token,
        "form": form,
        "known": known,
        "another": person is not None and person.email.lower() != invitation.email,
        "providers": providers(),
    }
    return render(request, "invitations/accept.html", context, status=422 if form.errors else 200)


def _where(_: User, invitation: Invitation) -> str:
    return invitation.team.name if invitation.team else "Pagewarden"


def _come_in(request: HttpRequest, user: User) -> HttpResponse:
    """Sign in whoever has just chosen a password."""
    record_authentication(request, user, "password")
    AccountAdapter(request).login(request, user)
    return redirect("home")


@login_not_required
@never_cache
@sensitive_post_parameters("new", "again")
@require_http_methods(["GET", "HEAD", "POST"])
def set_up(request: HttpRequest, token: str) -> HttpResponse:
    """The link that the server prints while nobody is here: it makes the first administrator, once."""
    if not may_set_up(token):
        return render(request, "invitations/closed.html", {"what": "set-up link"}, status=410)
    form = SetUpForm(request.POST or None)
    if form.is_bound and form.is_valid():
        values = form.cleaned_data
        with refusals_in(form):
            user = do_set_up(token, email=values["email"], name=values["name"], password=values["new"])
            return _come_in(request, user)
    return render(request, "invitations/set_up.html", {"form": form}, status=422 if form.errors else 200)
