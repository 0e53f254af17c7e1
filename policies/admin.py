"""Django's admin for whoever may do what, and for what was done: every change goes through the same actions as the pages'."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ActionForm
from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import method_decorator
from django.views.decorators.debug import sensitive_post_parameters

from policies import actions
from policies.actions import Refused
from policies.models import (
    AgentKey,
    Alarm,
    Checkpoint,
    ConfigChange,
    Counted,
    Entry,
    KeyNetwork,
    LastVerification,
    Membership,
    PolicyVersion,
    ReadsGoOn,
    Reveal,
    Review,
    SavedView,
    SignInFailures,
    Stop,
    Stream,
    ToolCalls,
    ToolRequest,
    ToolSetting,
    User,
)

# Groups give no rights here: roles and memberships do. Offering them would only mislead.
admin.site.unregister(Group)

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
    ModelForm = forms.ModelForm[Any]
else:
    # Generic for the type checker alone.
    ModelAdmin, ModelForm = admin.ModelAdmin, forms.ModelForm


class ActionAdmin(ModelAdmin):
    """Saves through the actions, which keep the record and say themselves what was done, or why it was refused."""

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        return None

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        return None

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: str | None = None) -> Any:
        return self.response_post_save_add(request, obj)

    def response_change(self, request: HttpRequest, obj: Any) -> Any:
        return self.response_post_save_change(request, obj)


class ReadOnlyAdmin(ModelAdmin):
    """Shows, and changes nothing: what has actions is changed on the pages, what is a record is not changed at all."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


def told(admin_: ModelAdmin, request: HttpRequest, action: Callable[[], str]) -> None:
    """Do ``action`` and show what it returns, or why it was refused."""
    try:
        admin_.message_user(request, action())
    except (ValidationError, Refused) as error:
        for sentence in error.messages if isinstance(error, ValidationError) else [str(error)]:
            admin_.message_user(request, sentence, messages.ERROR)


class ReasonForm(ActionForm):
    """Beside the list's actions: why. It is kept with each change."""

    reason = forms.CharField(required=False, max_length=500, label="Why (kept in the record):")


class UserForm(ModelForm):
    password = forms.CharField(
        widget=forms.PasswordInput, required=False, help_text="Empty: it stays as it is. For a new person it is needed."
    )

    class Meta:
        model = User
        fields = ("email", "name", "role", "is_active")


@admin.register(User)
class UserAdmin(ActionAdmin):
    """People are switched off, never deleted: what they did stays theirs."""

    form = UserForm
    list_display = ("email", "name", "role", "is_active", "last_login")
    search_fields = ("email", "name")

    @method_decorator(sensitive_post_parameters("password"))
    def changeform_view(self, *args: Any, **kwargs: Any) -> HttpResponse:
        return super().changeform_view(*args, **kwargs)

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> tuple[str, ...]:
        return ("email",) if obj else ()

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        by, values = asking(request), form.cleaned_data
        password: str = values.get("password", "")

        def save() -> str:
            if not change:
                if not password:
                    raise ValidationError("A new person needs a first password.")
                made = actions.do_create_user(
                    values["email"], by=by, password=password, name=values["name"], role=values["role"]
                )
                obj.pk = made.pk
                return f"{made} can sign in."
            person = User.objects.get(pk=obj.pk)
            actions.do_update_user(
                person, by=by, name=values["name"], role=values["role"], is_active=values["is_active"]
            )
            if password:
                actions.do_set_password(person, by=by, password=password)
            return f"{person} is changed."

        told(self, request, save)


@admin.register(AgentKey)
class AgentKeyAdmin(ReadOnlyAdmin):
    list_display = ("name", "team", "prefix", "created_by", "expires_at", "revoked_at", "last_used_at")
    list_filter = ("team",)
    exclude = ("digest",)
    actions = ("revoke",)
    action_form = ReasonForm

    @admin.action(description="Revoke", permissions=["view"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[AgentKey]) -> None:
        def revoke_all() -> str:
            reason = request.POST.get("reason", "")
            if not reason.strip():
                raise ValidationError("Say why: it is kept in the record.")
            for key in queryset.select_related("team"):
                actions.do_revoke_key(key, by=asking(request), reason=reason)
            return f"{queryset.count()} keys are revoked."

        told(self, request, revoke_all)


@admin.register(Membership)
class MembershipAdmin(ReadOnlyAdmin):
    list_display = ("user", "team", "role")
    list_filter = ("team",)


@admin.register(ToolSetting)
class ToolSettingAdmin(ReadOnlyAdmin):
    list_display = ("team", "tool", "state", "updated_at")
    list_filter = ("team", "state")


@admin.register(Reveal)
class RevealAdmin(ReadOnlyAdmin):
    list_display = ("team", "kind")
    list_filter = ("team", "kind")


@admin.register(Stop)
class StopAdmin(ReadOnlyAdmin):
    list_display = ("target", "reason", "actor", "by_administrator", "at")
    actions = ("lift",)
    action_form = ReasonForm

    @admin.action(description="Lift: let it go on", permissions=["view"])
    def lift(self, request: HttpRequest, queryset: QuerySet[Stop]) -> None:
        def lift_all() -> str:
            stops = list(queryset)
            for stop in stops:
                actions.do_lift_stop(stop, by=asking(request), reason=request.POST.get("reason", ""))
            return f"{len(stops)} stops are lifted."

        told(self, request, lift_all)


@admin.register(Alarm)
class AlarmAdmin(ReadOnlyAdmin):
    list_display = ("key", "kind", "at", "count", "mail_due_at", "mailed_at", "closed_at", "closed_by")
    list_filter = ("kind",)


@admin.register(ToolCalls)
class ToolCallsAdmin(ReadOnlyAdmin):
    list_display = ("begins", "team_id", "tool", "calls", "denied")
    show_full_result_count = False


@admin.register(ConfigChange)
class ConfigChangeAdmin(ReadOnlyAdmin):
    list_display = ("at", "actor", "team", "action", "target", "before", "after")
    list_filter = ("action",)


@admin.register(Entry)
class EntryAdmin(ReadOnlyAdmin):
    list_display = ("at", "kind", "actor", "tool", "verdict", "outcome", "decision_id")
    list_filter = ("kind", "verdict", "outcome")
    search_fields = ("decision_id__exact",)
    show_full_result_count = False


@admin.register(
    Stream,
    Checkpoint,
    Review,
    SavedView,
    PolicyVersion,
    ReadsGoOn,
    SignInFailures,
    KeyNetwork,
    LastVerification,
    Counted,
    ToolRequest,
)
class RecordAdmin(ReadOnlyAdmin):
    """The rest of the record."""


def asking(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # noqa: S101  (the admin lets nobody else in)
    return request.user
