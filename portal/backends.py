"""How a password is checked."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.http import HttpRequest
from django.views.decorators.debug import sensitive_variables

from policies.actions import TooManyGuesses, count_guess, record_sign_in, take_back_guess
from policies.models import User


class LimitedBackend(ModelBackend):
    """Django's own, behind a limit on guesses. It is here and not in a form, so that no way to sign in goes past it."""

    @sensitive_variables("password")
    def authenticate(
        self, request: HttpRequest | None, username: str | None = None, password: str | None = None, **kwargs: Any
    ) -> User | None:
        email = username or ""
        ip = request.META.get("REMOTE_ADDR", "") if request is not None else ""
        try:
            count_guess(email=email, ip=ip)
        except TooManyGuesses:
            record_sign_in(user=None, email=email, ip=ip, what="refused")
            raise
        user = super().authenticate(request, username, password, **kwargs)
        if user is not None:
            # The account starts anew once the sign-in is complete: a second factor may be asked for yet.
            take_back_guess(ip=ip)
        return user
