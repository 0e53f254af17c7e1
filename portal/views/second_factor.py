"""``/account/second-factor/``: an authenticator app, passkeys and recovery codes: one's own. Changing them asks first who one
is. What was changed is an entry of the journal in the same transaction."""

from __future__ import annotations

import json
from typing import Any

from allauth.account.decorators import reauthentication_required
from allauth.account.internal.flows.login import clear_authentication_records, record_authentication
from allauth.mfa.base.views import IndexView
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.views import GenerateRecoveryCodesView, ViewRecoveryCodesView
from allauth.mfa.totp.views import ActivateTOTPView, DeactivateTOTPView
from allauth.mfa.webauthn.internal.auth import begin_registration
from allauth.mfa.webauthn.views import AddWebAuthnView, RemoveWebAuthnView
from django.contrib import messages
from django.db import transaction
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils.decorators import method_decorator

from policies.actions import record_account_change
from portal.http import Request
from portal.sign_in import has_second_factor, must_have_second_factor
from portal.views.sign_in import Asks


class _Recorded(Asks):
    """One change, one entry, one transaction; and what is said of it."""

    request: Request
    action = ""
    said = ""

    def what(self, form: Any) -> str:
        """Names the second factor, for the record."""
        return "authenticator app"

    def form_valid(self, form: Any) -> HttpResponse:
        user = self.request.user
        what = self.what(form)
        with transaction.atomic():
            answer: HttpResponse = super().form_valid(form)  # type: ignore[misc]  # the view's
            record_account_change(user, by=user, action=self.action, what=what)
        if self.action == "add_second_factor" and not has_second_factor(self.request):
            # Whoever just proved to hold it need not sign in again to have used it.
            record_authentication(self.request, user, "mfa", type="totp" if what == "authenticator app" else "webauthn")
        if not Authenticator.objects.filter(user=user).exists():
            clear_authentication_records(self.request)
        messages.success(self.request, self.said)
        return answer


class Index(IndexView):
    template_name = "second_factor/index.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        needed = must_have_second_factor(self.request.user)
        return {**super().get_context_data(**kwargs), "needed": needed, "has": has_second_factor(self.request)}


class AddApp(_Recorded, ActivateTOTPView):
    template_name = "second_factor/app.html"
    action, said = "add_second_factor", "Your authenticator app is set up."


class RemoveApp(_Recorded, DeactivateTOTPView):
    template_name = "second_factor/remove.html"
    extra_context = {"what": "your authenticator app"}
    action, said = "remove_second_factor", "Your authenticator app is no longer asked for."


class AddPasskey(_Recorded, AddWebAuthnView):
    template_name = "second_factor/passkey.html"
    action, said = "add_second_factor", "Your passkey is added."

    def what(self, form: Any) -> str:
        return f"passkey {form.cleaned_data['name']}"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        context = super().get_context_data(**kwargs)
        # Always one that signs in by itself: it is kept on the device, which asks for a finger, a face or a PIN.
        context["options"] = json.dumps({"creation_options": begin_registration(self.request.user, True)})
        return context


class RemovePasskey(_Recorded, RemoveWebAuthnView):
    template_name = "second_factor/remove.html"
    extra_context = {"what": "this passkey"}
    action, said = "remove_second_factor", "The passkey is removed."

    def what(self, form: Any) -> str:
        return f"passkey {self.get_object().wrap().name}"


class NewCodes(_Recorded, GenerateRecoveryCodesView):
    template_name = "second_factor/new_codes.html"
    action, said = "renew_recovery_codes", "These are your new recovery codes. The old ones are void."

    def what(self, form: Any) -> str:
        return "recovery codes"


@method_decorator(reauthentication_required(app="allauth.mfa"), name="dispatch")
class Codes(ViewRecoveryCodesView):
    """They are shown once, and by a button: a look at a page changes nothing, and that they were shown is kept."""

    template_name = "second_factor/codes.html"

    def get(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        codes = get_object_or_404(Authenticator, user=request.user, type=Authenticator.Type.RECOVERY_CODES)
        return render(request, self.template_name, {"wait": not codes.wrap().did_view})

    def post(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        answer: HttpResponse = super().get(request, *args, **kwargs)
        return answer
