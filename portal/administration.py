"""Django's admin site: for administrators who gave a second factor, entered by the portal's own sign-in."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.admin import AdminSite
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache

from policies.models import User
from portal.sign_in import has_second_factor


class Administration(AdminSite):
    site_header = "Pagewarden administration"
    site_title = "Pagewarden"

    def has_permission(self, request: HttpRequest) -> bool:
        return super().has_permission(request) and (not settings.ADMIN_REQUIRES_MFA or has_second_factor(request))

    def password_change(  # type: ignore[override]  # Django itself answers with a redirect, too
        self, request: HttpRequest, extra_context: Any = None
    ) -> HttpResponse:
        """Where the change is put on record."""
        return redirect("account")

    @method_decorator(never_cache)
    @method_decorator(login_not_required)
    def login(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """There is one door for passwords. Whoever is signed in and may not enter is told what it takes."""
        if self.has_permission(request):
            return redirect("admin:index")
        if isinstance(request.user, User):
            if not request.user.is_administrator:
                raise PermissionDenied("The administration is for administrators.")
            raise PermissionDenied(
                "The administration asks for a second factor. Set one up on your account's page, sign out, and sign in with it."
            )
        return redirect_to_login(request.GET.get("next") or reverse("admin:index"))
