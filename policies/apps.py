from __future__ import annotations

from typing import Any

from django.apps import AppConfig


class PoliciesConfig(AppConfig):
    name = "policies"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed

        user_logged_in.connect(_signed_in, dispatch_uid="journal")
        user_logged_out.connect(_signed_out, dispatch_uid="journal")
        user_login_failed.connect(_refused, dispatch_uid="journal")


def _ip(request: Any) -> str:
    return request.META.get("REMOTE_ADDR", "") if request is not None else ""


def _signed_in(sender: Any, request: Any, user: Any, **_: Any) -> None:
    from policies.actions import forgive_guesses, open_session, record_sign_in, take_back_begun

    forgive_guesses(email=user.email, ip=_ip(request), code=True)
    take_back_begun(ip=_ip(request))
    how = getattr(request, "signed_in_by", "")
    record_sign_in(user=user, email=user.email, ip=_ip(request), what="signed_in", how=how)
    if not request.session.session_key:
        request.session.save()
    device = request.META.get("HTTP_USER_AGENT", "")
    open_session(user, session_key=request.session.session_key, ip=_ip(request), device=device, how=how)


def _signed_out(sender: Any, request: Any, user: Any, **_: Any) -> None:
    from policies.actions import close_session, record_sign_in

    if user is not None:
        close_session(request.session.session_key)
        record_sign_in(user=user, email=user.email, ip=_ip(request), what="signed_out")


def _refused(sender: Any, credentials: dict[str, Any], request: Any = None, **_: Any) -> None:
    from policies.actions import record_sign_in

    record_sign_in(user=None, email=str(credentials.get("username", "")), ip=_ip(request), what="refused")
