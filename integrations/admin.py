"""Django's admin for connections, and for what the policy says of the catalogue's tools."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from integrations.actions import do_register_token, do_replace_token, do_set_enabled
from integrations.models import Connection, ConnectionKey, ConnectionTest
from integrations.pagerduty.catalog import TOOLS
from policies import actions
from policies.admin import ActionAdmin, ModelForm, ReadOnlyAdmin, asking, told
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

    @admin.action(description="Switch all writes off", permissions=["view"])
    def switch_all_writes_off(self, request: HttpRequest, queryset: QuerySet[Team]) -> None:
        def switch() -> str:
            changed = actions.do_switch_all_writes_off(queryset, tools=TOOLS, by=asking(request))
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
    list_display = ("tool", "locked", "risk", "reason", "updated_at")

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

    class Meta:
        model = Connection
        fields = ("team", "name", "region", "kind", "from_email", "whole_account")


@admin.register(Connection)
class ConnectionAdmin(ActionAdmin):
    """The token goes in and never comes out; all else, deleting too, is done on the connection's page."""

    form = ConnectionForm
    list_display = ("name", "team", "region", "kind", "last4", "health", "is_enabled")
    list_filter = ("team", "health")
    actions = ("switch_off",)

    def get_readonly_fields(self, request: HttpRequest, obj: Connection | None = None) -> tuple[str, ...]:
        shown = ("last4", "fingerprint", "token_since", "registered_by", "health", "health_message", "is_enabled")
        return (*shown, "team", "name", "region", "kind", "from_email", "whole_account") if obj else ()

    def save_model(self, request: HttpRequest, obj: Connection, form: Any, change: bool) -> None:
        values = form.cleaned_data

        def save() -> str:
            if change:
                if values["new_token"]:
                    do_replace_token(Connection.objects.get(pk=obj.pk), token=values["new_token"], by=asking(request))
                    return "The replacement is sealed: test it on the connection's page."
                return "Nothing was changed."
            made = do_register_token(
                values["team"],
                token=values["new_token"],
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
                do_set_enabled(row, False, by=asking(request))
            return f"{queryset.count()} connections are switched off."

        told(self, request, switch)


@admin.register(ConnectionKey, ConnectionTest)
class ConnectionRecordAdmin(ReadOnlyAdmin):
    """Which connection a key uses, and what tests found."""
