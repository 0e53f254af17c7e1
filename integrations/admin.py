"""Django's admin for connections, and for what the policy says of the catalogue's tools."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.contrib import admin
from django.contrib.admin.widgets import AdminDateWidget
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import method_decorator
from django.views.decorators.debug import sensitive_post_parameters

from integrations.actions import do_register_token, do_replace_token, do_set_enabled, end_of_day
from integrations.models import Attempt, Connection, ConnectionKey, ConnectionTest, RunningTest
from integrations.pagerduty.catalog import TOOLS
from policies import actions
from policies.admin import ActionAdmin, ModelForm, ReadOnlyAdmin, ReasonForm, asking, told
from policies.models import Membership, Team, ToolRule

if TYPE_CHECKING:
    TabularInline = admin.TabularInline[Membership, Team]
else:
    TabularInline = admin.TabularInline


class MembershipInline(TabularInline):
    model = Membership
    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Team)
class TeamAdmin(ReadOnlyAdmin):
    list_display = ("name", "slug", "kind", "owner")
    search_fields = ("name", "slug")
    inlines: ClassVar = [MembershipInline]
    actions = ("switch_all_writes_off",)
    action_form = ReasonForm

    @admin.action(description="Switch all writes off", permissions=["view"])
    def switch_all_writes_off(self, request: HttpRequest, queryset: QuerySet[Team]) -> None:
        def switch() -> str:
            changed = actions.do_switch_all_writes_off(
                queryset, tools=TOOLS, by=asking(request), reason=request.POST.get("reason", "")
            )
            return f"All writes are off for {queryset.count()} teams: {changed} tools changed."

        told(self, request, switch)


class ToolRuleForm(ModelForm):
    tool = forms.ChoiceField()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["tool"] = forms.ChoiceField(choices=[(name, tool.title) for name, tool in TOOLS.items()])
        if self.instance.pk:
            self.fields["tool"].disabled = True

    class Meta:
        model = ToolRule
        fields = ("tool", "locked", "risk", "reason")


@admin.register(ToolRule)
class ToolRuleAdmin(ActionAdmin):
    """A rule is lifted by saving it without lock and risk."""

    form = ToolRuleForm
    list_display = ("tool", "locked", "risk", "reason", "actor", "updated_at")

    def save_model(self, request: HttpRequest, obj: ToolRule, form: Any, change: bool) -> None:
        values = form.cleaned_data

        def save() -> str:
            row = actions.do_set_tool_rule(
                values["tool"],
                tools=TOOLS,
                by=asking(request),
                locked=values["locked"],
                risk=values["risk"],
                reason=values["reason"],
            )
            obj.pk = row.pk
            return f"The rule of {row.tool} is set."

        told(self, request, save)


class ConnectionForm(ModelForm):
    new_token = forms.CharField(
        label="Token",
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
        required=False,
        help_text="Write only. For a registered connection: a replacement, which serves once it has passed its test.",
    )

    team_ids = forms.CharField(
        required=False,
        label="PagerDuty teams",
        help_text="Ids such as PQ9K7I8, separated by commas; or the whole account.",
    )
    service_ids = forms.CharField(required=False, label="PagerDuty services", help_text="Ids, separated by commas.")
    expires_on = forms.DateField(
        required=False,
        widget=AdminDateWidget,
        label="Expires on",
        help_text="If PagerDuty said when: the token serves to the end of that day, UTC. Of a replacement, too.",
    )

    class Meta:
        model = Connection
        fields = ("team", "name", "region", "kind", "from_email", "whole_account")


def _ids(typed: str) -> list[str]:
    return typed.replace(",", " ").split()


@admin.register(Connection)
class ConnectionAdmin(ActionAdmin):
    """The token goes in and never comes out; all else, deleting too, is done on the connection's page."""

    form = ConnectionForm
    list_display = ("name", "team", "region", "kind", "last4", "health", "is_enabled")
    list_filter = ("team", "health")
    actions = ("switch_off",)
    action_form = ReasonForm

    @method_decorator(sensitive_post_parameters("new_token"))
    def changeform_view(self, *args: Any, **kwargs: Any) -> HttpResponse:
        return super().changeform_view(*args, **kwargs)

    def get_fields(self, request: HttpRequest, obj: Connection | None = None) -> Any:
        fields = list(super().get_fields(request, obj))
        # Of a registered connection these are shown as they are kept.
        return [name for name in fields if name not in ("team_ids", "service_ids")] if obj else fields

    def get_readonly_fields(self, request: HttpRequest, obj: Connection | None = None) -> tuple[str, ...]:
        shown = ("last4", "fingerprint", "token_since", "registered_by", "health", "health_message", "is_enabled")
        if obj is None:
            return ()
        given = ("team", "name", "region", "kind", "from_email", "whole_account", "bound_team_ids", "bound_service_ids")
        return (*shown, *given, "token_expires_at")

    def save_model(self, request: HttpRequest, obj: Connection, form: Any, change: bool) -> None:
        values = form.cleaned_data

        def save() -> str:
            if change:
                if values["new_token"]:
                    do_replace_token(
                        Connection.objects.get(pk=obj.pk),
                        token=values["new_token"],
                        token_expires_at=end_of_day(values["expires_on"]),
                        by=asking(request),
                    )
                    return "The replacement is sealed: test it on the connection's page."
                return "Nothing was changed."
            made = do_register_token(
                values["team"],
                token=values["new_token"],
                token_expires_at=end_of_day(values["expires_on"]),
                team_ids=_ids(values["team_ids"]),
                service_ids=_ids(values["service_ids"]),
                by=asking(request),
                **{name: values[name] for name in ("name", "region", "kind", "from_email", "whole_account")},
            )
            obj.pk = made.pk
            return f"The token of {made.name} is sealed."

        told(self, request, save)

    @admin.action(description="Switch off", permissions=["view"])
    def switch_off(self, request: HttpRequest, queryset: QuerySet[Connection]) -> None:
        def switch() -> str:
            for row in queryset.select_related("team"):
                do_set_enabled(row, False, by=asking(request), reason=request.POST.get("reason", ""))
            return f"{queryset.count()} connections are switched off."

        told(self, request, switch)


@admin.register(Attempt)
class AttemptAdmin(ReadOnlyAdmin):
    """Writes that a second try is answered from. The answers stay sealed."""

    list_display = ("at", "operation", "actor", "is_keyed", "outcome", "decision_id", "expires_at")
    search_fields = ("decision_id", "actor")
    exclude = ("answer",)


@admin.register(ConnectionKey, ConnectionTest, RunningTest)
class ConnectionRecordAdmin(ReadOnlyAdmin):
    """Which connection a key uses, and what tests found."""
