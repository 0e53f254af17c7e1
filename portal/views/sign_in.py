"""``/sign-in/`` and what follows it: a password, a second factor, a passkey, a provider; and saying again who one is, where
a session alone is not enough. The steps are django-allauth's, on pages of the portal's own."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from allauth.account.forms import ReauthenticateForm
from allauth.account.internal.flows.login import perform_password_login
from allauth.account.internal.flows.reauthentication import raise_if_reauthentication_required
from allauth.account.models import Login
from allauth.account.utils import get_next_redirect_url
from allauth.account.views import ReauthenticateView
from allauth.core.exceptions import ImmediateHttpResponse
from allauth.mfa.base.views import AuthenticateView
from allauth.mfa.base.views import ReauthenticateView as CodeView
from allauth.mfa.webauthn.internal.auth import begin_authentication
from allauth.mfa.webauthn.views import LoginWebAuthnView, ReauthenticateWebAuthnView
from allauth.socialaccount.models import SocialAccount
from allauth.socialaccount.providers.base import AuthProcess
from allauth.socialaccount.providers.oauth2.client import OAuth2Error
from allauth.socialaccount.providers.oauth2.views import OAuth2CallbackView
from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.views import LoginView
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import redirect, render
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from policies.actions import record_sign_in
from policies.models import User
from portal.forms import SignInForm, styled
from portal.http import Request
from portal.oidc import INVITATION, OidcAdapter, OidcProvider, SocialAdapter, providers
from portal.sign_in import UNDER_WAY_SECONDS, begin, ip_of


class SignIn(LoginView):
    """A password, or the way to a provider."""

    template_name = "sign_in/index.html"
    authentication_form = SignInForm
    redirect_authenticated_user = True

    def form_valid(self, form: Any) -> HttpResponse:
        user = form.get_user()
        self.request.session.set_expiry(UNDER_WAY_SECONDS)
        answer: HttpResponse = perform_password_login(
            self.request, {"email": user.email}, Login(user=user, redirect_url=self.get_success_url())
        )
        return answer

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        nobody = self.request.method == "GET" and not User.objects.get_queryset().exists()
        return {**super().get_context_data(**kwargs), "providers": providers(), "nobody": nobody}


class Asks:
    """Names a passkey's options as the page's script reads them."""

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        context: dict[str, Any] = super().get_context_data(**kwargs)  # type: ignore[misc]  # the view's
        if "js_data" in context:
            context["options"] = json.dumps(context["js_data"])
        for name in ("form", "webauthn_form"):
            if isinstance(context.get(name), forms.Form):
                styled(context[name])
        return context


class SecondFactor(Asks, AuthenticateView):
    template_name = "sign_in/second.html"

    def form_invalid(self, form: Any) -> HttpResponse:
        if form is self.webauthn_form:
            user = self.stage.login.user
            record_sign_in(user=user, email=user.email, ip=ip_of(self.request), what="refused", how="passkey")
        answer: HttpResponse = super().form_invalid(form)
        return answer


@method_decorator(login_not_required, name="dispatch")
class PasskeyAlone(LoginWebAuthnView):
    """A passkey without a password. What there is to ask the browser is fetched when its button is pressed."""

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return redirect("sign-in")

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if "credential" in request.POST and not request.POST["credential"]:
            begin(request)
            return JsonResponse({"request_options": begin_authentication()})
        answer: HttpResponse = super().post(request, *args, **kwargs)
        return answer

    def form_invalid(self, form: Any) -> HttpResponse:
        record_sign_in(user=None, email="", ip=ip_of(self.request), what="refused", how="passkey")
        messages.error(
            self.request, "This passkey is not known here. Sign in as before, then add it under your account."
        )
        return redirect("sign-in")


class PasswordAgainForm(ReauthenticateForm):
    password = forms.CharField(
        strip=False, widget=forms.PasswordInput(attrs={"autocomplete": "current-password", "autofocus": True})
    )


class PasswordAgain(Asks, ReauthenticateView):
    form_class = PasswordAgainForm
    template_name = "sign_in/again.html"
    extra_context = {"way": "password"}


class CodeAgain(Asks, CodeView):
    template_name = "sign_in/again.html"
    extra_context = {"way": "code"}


class PasskeyAgain(Asks, ReauthenticateWebAuthnView):
    template_name = "sign_in/again.html"
    extra_context = {"way": "passkey"}

    def form_invalid(self, form: Any) -> HttpResponse:
        messages.error(self.request, "This passkey did not answer as it should: try again.")
        return redirect(self.request.get_full_path())


@login_not_required
@never_cache
@require_POST
def with_provider(request: HttpRequest, provider_id: str) -> HttpResponseBase:
    """To the provider, by a page that leads there: a form that is sent on elsewhere is what the page's policy forbids.
    ``link``: to link its account to one's own; ``again``: the provider is to ask anew who it is."""
    links = "link" in request.POST
    if links and not request.user.is_authenticated:
        return redirect("sign-in")
    if links:
        raise_if_reauthentication_required(request, app="allauth.mfa")
    begin(request)
    if invitation := request.POST.get("invitation", ""):
        request.session[INVITATION] = invitation

    def lead(provider: OidcProvider) -> HttpResponseBase:
        answer = provider.redirect(
            request,
            process=AuthProcess.CONNECT if links else AuthProcess.LOGIN,
            next_url=get_next_redirect_url(request),
            auth_params={"prompt": "login"} if "again" in request.POST else {},
        )
        return render(request, "sign_in/leaving.html", {"to": answer["Location"], "provider": provider.app.name})

    return _asking(request, provider_id, lead)


@login_not_required
@never_cache
@require_safe
def from_provider(request: HttpRequest, provider_id: str) -> HttpResponseBase:
    """Where a provider sends people back to."""

    def receive(provider: OidcProvider) -> HttpResponseBase:
        view = OAuth2CallbackView.adapter_view(OidcAdapter(request, provider.app.provider_id))
        answer: HttpResponseBase = view(request)
        return answer

    return _asking(request, provider_id, receive)


def _asking(
    request: HttpRequest, provider_id: str, ask: Callable[[OidcProvider], HttpResponseBase]
) -> HttpResponseBase:
    """What ``ask`` gets from a provider, or the sign-in page where the provider does not answer as it should."""
    if all(each.id != provider_id for each in providers()):
        raise Http404
    provider = SocialAdapter(request).get_provider(request, provider_id)
    try:
        try:
            return ask(provider)
        except (OAuth2Error, OSError) as error:  # every error of the HTTP client is an OSError
            SocialAdapter(request).on_authentication_error(request, provider, exception=error)
            raise
    except ImmediateHttpResponse as error:
        answer: HttpResponseBase = error.response
        return answer


@never_cache
@require_safe
def provider_again(request: Request) -> HttpResponse:
    """Says again who one is by way of a provider: for whoever has no password and no second factor here."""
    linked = SocialAccount.objects.filter(user=request.user).values_list("provider", flat=True)
    context = {
        "providers": [each for each in providers() if each.issuer in linked],
        "next": get_next_redirect_url(request),
    }
    return render(request, "sign_in/provider_again.html", context)


@login_not_required
@never_cache
def inactive(request: HttpRequest) -> HttpResponseBase:
    return redirect("sign-in")
