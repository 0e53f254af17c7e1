"""Django's admin for how people sign in. What django-allauth would offer of it shows secrets and lets them be typed: none of
that stays."""

from __future__ import annotations

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount, SocialApp, SocialToken
from django.contrib import admin
from django.db import transaction
from django.db.models import QuerySet

from policies.admin import ReadOnlyAdmin, confirmed
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

    @confirmed(
        "Take all second factors of these people away (a lost device)",
        "They are signed out everywhere, and a password alone signs them in until they set up another.",
        changes=False,
    )
    def take_away(self, factors: QuerySet[Authenticator], by: User, reason: str) -> str:
        people = list(User.objects.get_queryset().filter(pk__in=factors.values("user")))
        with transaction.atomic():
            for person in people:
                do_remove_second_factors(person, by=by)
        return f"{', '.join(map(str, people))}: no second factor is left."


@admin.register(SocialAccount)
class SocialAccountAdmin(ReadOnlyAdmin):
    """Which account of a provider signs whom in: by issuer and subject."""

    list_display = ("user", "provider", "uid", "last_login")
    search_fields = ("user__email", "uid")
    actions = ("unlink",)

    @confirmed("Unlink", "These accounts of a provider no longer sign them in.", changes=False)
    def unlink(self, accounts: QuerySet[SocialAccount], by: User, reason: str) -> str:
        chosen = list(accounts.select_related("user"))
        with transaction.atomic():
            for account in chosen:
                do_unlink(account, by=by)
        return f"{len(chosen)} account{'s are' if len(chosen) != 1 else ' is'} unlinked."
