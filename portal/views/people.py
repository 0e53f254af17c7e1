"""``/people/``: everybody who may sign in, for administrators (auditors read): roles, teams, and what is left when they go."""

from __future__ import annotations

from typing import Any, Final

from django.apps import apps
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Page, Paginator
from django.db.models import Prefetch, Q
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_safe

from integrations.leaving import do_let_go, held_by, holds_anything
from policies.actions import do_update_user
from policies.models import Membership, User
from portal.forms import LeaveForm, PeopleForm, ReasonForm, RoleForm
from portal.http import Request, refusals_in

PAGE: Final = 50


def _for_readers(request: Request) -> None:
    if not (request.user.is_administrator or request.user.is_auditor):
        raise PermissionDenied("The list of people is for administrators and auditors.")


@require_safe
def index(request: Request) -> HttpResponse:
    _for_readers(request)
    form = PeopleForm(request.GET if request.GET.keys() & PeopleForm.base_fields.keys() else None)
    values = form.cleaned_data if form.is_valid() else dict.fromkeys(form.fields, "")
    memberships = Membership.objects.select_related("team").order_by("team__name")
    people = User.objects.visible_to(request.user).prefetch_related(Prefetch("memberships", memberships))
    total = people.count()
    if form.errors:
        people = people.none()
    if text := values["text"].strip():
        people = people.filter(Q(email__icontains=text) | Q(name__icontains=text))
    if values["role"]:
        people = people.filter(role="" if values["role"] == "none" else values["role"])
    if values["state"]:
        states = {"active": Q(is_active=True), "off": Q(is_active=False), "never": Q(last_login=None)}
        people = people.filter(states[values["state"]])
    page: Page[User] = Paginator(people, PAGE).get_page(request.GET.get("page"))
    shown = list(page)
    # Whoever is switched off and holds something still: it waits for somebody to deal with it.
    left = holds_anything([person for person in shown if not person.is_active], timezone.now())
    factors = _second_factors(shown)
    query = request.GET.copy()
    query.pop("page", None)
    context = {
        "form": form,
        "page": page,
        "query": query.urlencode(),
        "rows": [
            (
                person,
                list(person.memberships.all()),
                person.pk in left,
                None if factors is None else person.pk in factors,
            )
            for person in shown
        ],
        "knows_factors": factors is not None,
        "total": total,
        "filtered": any(values.values()) or bool(form.errors),
    }
    return render(request, "people/index.html", context)


def _second_factors(people: list[User]) -> set[int] | None:
    """Those who sign in with a second factor, too; None: this portal knows none."""
    if not apps.is_installed("allauth.mfa"):
        return None
    rows: Any = apps.get_app_config("mfa").get_model("Authenticator")._default_manager
    return set(rows.filter(user__in=people).exclude(type="recovery_codes").values_list("user_id", flat=True))


@require_http_methods(["GET", "HEAD", "POST"])
def person(request: Request, pk: int) -> HttpResponse:
    """One person: their role, and switching them off or on. What they hold is dealt with in the same step."""
    _for_readers(request)
    who = get_object_or_404(User.objects.visible_to(request.user), pk=pk)
    action = request.POST.get("action", "")
    if request.method == "POST":
        if not request.user.is_administrator:
            raise PermissionDenied("Only an administrator may change people.")
        if action not in ("role", "leave", "return"):
            raise Http404
    held = held_by(who, None, timezone.now())
    role = RoleForm(request.POST if action == "role" else None, initial={"role": who.role}, auto_id="role_%s")
    leave = LeaveForm(held, request.POST if action == "leave" else None, auto_id="leave_%s")
    back = ReasonForm(request.POST if action == "return" else None, auto_id="return_%s")
    filled = {"role": role, "leave": leave, "return": back}.get(action)
    if filled is not None and filled.is_valid():
        reason = filled.cleaned_data["reason"]
        with refusals_in(filled):
            if action == "leave":
                seen = leave.cleaned_data["seen"]
                said = do_let_go(who, by=request.user, team=None, choices=leave.choices(), seen=seen, reason=reason)
            elif action == "role":
                do_update_user(who, by=request.user, role=role.cleaned_data["role"], reason=reason)
                said = f"{who}: {who.get_role_display()}."
            else:
                do_update_user(who, by=request.user, is_active=True, reason=reason)
                said = f"{who} may sign in again."
            messages.success(request, said)
            return redirect("person", who.pk)
        # What was refused has changed nothing, on the page neither.
        who.refresh_from_db()
    factors = _second_factors([who])
    context = {
        "person": who,
        "memberships": who.memberships.select_related("team").order_by("team__name"),
        "has_factor": None if factors is None else who.pk in factors,
        "held": held,
        "role_form": role,
        "leave_form": leave,
        "return_form": back,
        "may_change": request.user.is_administrator,
        "is_self": who.pk == request.user.pk,
    }
    return render(request, "people/person.html", context, status=422 if filled is not None and filled.errors else 200)
