"""Django's admin for how people sign in. What django-allauth would offer of it shows secrets and lets them be typed: none of
that stays."""

from __future__ import annotations

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount, SocialApp, SocialToken
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from policies.admin import ReadOnlyAdmin, asking, told
from policies.models import User
from portal.oidc import do_unlink
from portal.sign_in import do_remove_second_factors

# Providers are of the settings, their tokens are not kept, and an address is the person's own alone.
for unused in (Authenticator, EmailAddress, SocialAccount, SocialApp, SocialToken):
    admin.site.unregister(unused)


@admin.register(Authenticator)
class AuthenticatorAdmin(ReadOnlyAdmin):
    """Second factors. Whoever lost theirs, and the recovery codes besides, is helped here."""

    list_display = ("user", "type", "created_at", "last_used_at")
    list_filter = ("type",)
    search_fields = ("user__email",)
    exclude = ("data",)
    actions = ("take_away",)

    @admin.action(description="Take all second factors of these people away (a lost device)", permissions=["view"])
    def take_away(self, request: HttpRequest, queryset: QuerySet[Authenticator]) -> None:
        def take() -> str:
            people = list(User.objects.get_queryset().filter(pk__in=queryset.values("user")))
            for person in people:
                do_remove_second_factors(person, by=asking(request))
            return f"{', '.join(map(str, people))}: no second factor is left."

        told(self, request, take)


@admin.register(SocialAccount)
class SocialAccountAdmin(ReadOnlyAdmin):
    """Which account of a provider signs whom in: by issuer and subject."""

    list_display = ("user", "provider", "uid", "last_login")
    search_fields = ("user__email", "uid")
    actions = ("unlink",)

    @admin.action(description="Unlink: it no longer signs them in", permissions=["view"])
    def unlink(self, request: HttpRequest, queryset: QuerySet[SocialAccount]) -> None:
        def unlink_all() -> str:
            accounts = list(queryset.select_related("user"))
            for account in accounts:
                do_unlink(account, by=asking(request))
            return f"{len(accounts)} accounts are unlinked."

        told(self, request, unlink_all)
