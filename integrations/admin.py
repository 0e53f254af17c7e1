"""Django's admin for connections, and for what the policy says of the catalogue's tools."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.contrib import admin
from django.contrib.admin.widgets import AdminDateWidget
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import method_decorator
from django.views.decorators.debug import sensitive_post_parameters

from integrations.actions import (
    CannotTest,
    do_delete_connection,
    do_register_token,
    do_replace_token,
    do_set_enabled,
    end_of_day,
    test_connection,
)
from integrations.feeds import do_revoke_feed
from integrations.intended import do_unmark_intended
from integrations.models import (
    Attempt,
    CheckRun,
    Connection,
    ConnectionKey,
    ConnectionTest,
    Delivery,
    Feed,
    IntendedGap,
    Mirror,
    MirroredDocument,
    MirroredIncident,
    MirrorPart,
    MutedFinding,
    NoticedGap,
    NoticeSettings,
    PastKnown,
    PastShift,
    RunningTest,
    StandingCheck,
    Watch,
    Webhook,
)
from integrations.mutes import do_unmute_finding
from integrations.pagerduty.catalog import TOOLS
from integrations.tasks import verify_journal
from policies import actions
from policies.admin import ActionAdmin, ModelForm, ReadOnlyAdmin, RecordAdmin, asking, choice, confirmed, told
from policies.core.call import Outcome, Risk, State
from policies.models import Checkpoint, LastVerification, Membership, Team, ToolRule, ToolSetting, User

if TYPE_CHECKING:
    TabularInline = admin.TabularInline[Membership, Team]
    BaseInlineFormSet = forms.BaseInlineFormSet[Any, Any, Any]
else:
    TabularInline = admin.TabularInline
    BaseInlineFormSet = forms.BaseInlineFormSet


class LabelledRows(BaseInlineFormSet):
    def add_fields(self, form: Any, index: int | None) -> None:
        super().add_fields(form, index)
        if "DELETE" in form.fields:
            form.fields["DELETE"].widget.attrs["aria-label"] = "Remove"


class MembershipInline(TabularInline):
    model = Membership
    formset = LabelledRows
    extra = 0
    fields = ("user", "role")
    raw_id_fields = ("user",)

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if field is not None:
            # Django names the columns alone.
            inner: Any = getattr(field.widget, "widget", field.widget)
            inner.attrs["aria-label"] = db_field.verbose_name.capitalize()
        return field

    def get_queryset(self, request: HttpRequest) -> QuerySet[Membership]:
        return super().get_queryset(request).select_related("user", "team")


@admin.register(Team)
class TeamAdmin(ActionAdmin):
    list_display = ("name", "slug", "kind", "owner", "created_at")
    list_filter = ("kind", "created_at")
    list_select_related = ("owner",)
    search_fields = ("name", "slug", "owner__email")
    fields = ("name", "slug")
    prepopulated_fields: ClassVar = {"slug": ("name",)}
    inlines: ClassVar = [MembershipInline]
    actions = ("switch_all_writes_off", "stop")

    def get_fields(self, request: HttpRequest, obj: Team | None = None) -> Any:
        return ("name", "slug", "kind", "owner", "created_at") if obj else self.fields

    def get_readonly_fields(self, request: HttpRequest, obj: Team | None = None) -> tuple[str, ...]:
        return ("name", "slug", "kind", "owner", "created_at") if obj else ()

    def get_prepopulated_fields(self, request: HttpRequest, obj: Team | None = None) -> Any:
        return {} if obj else self.prepopulated_fields

    def get_inlines(self, request: HttpRequest, obj: Team | None) -> Any:
        # A team is there before it has members.
        return self.inlines if obj else []

    def save_model(self, request: HttpRequest, obj: Team, form: Any, change: bool) -> None:
        def save() -> str:
            obj.pk = actions.do_create_team(obj.name, slug=obj.slug, by=asking(request)).pk
            return f"{obj.name} is made. Name its members."

        if not change:
            told(self, request, save)

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        by, team = asking(request), form.instance
        # It says what would be saved, which Django's own history asks for, and saves nothing.
        formset.save(commit=False)
        for row in formset.forms:
            values = row.cleaned_data
            if not values or not (row.has_changed() or values.get("DELETE")):
                continue

            def save(values: dict[str, Any] = values, row: Any = row) -> str:
                # Whose membership it was, whoever was typed into its row.
                was = User.objects.get(pk=row.initial["user"]) if row.instance.pk else None
                with transaction.atomic():
                    if was is not None and (values.get("DELETE") or values["user"] != was):
                        actions.do_remove_member(team, user=was, by=by)
                    if values.get("DELETE"):
                        return f"{was} is removed."
                    made = actions.do_set_membership(team, user=values["user"], role=values["role"], by=by)
                    return f"{made.user} is {made.get_role_display()}."

            told(self, request, save)

    @confirmed("Switch all writes off", "Every tool that writes is switched off in these teams, at once.")
    def switch_all_writes_off(self, teams: QuerySet[Team], by: User, reason: str) -> str:
        changed = actions.do_switch_all_writes_off(teams, tools=TOOLS, by=by, reason=reason)
        return f"All writes are off for {teams.count()} teams: {changed} tools changed."

    @confirmed(
        "Stop: nothing goes out until it is lifted",
        "Nothing of these teams goes out any more until the stop is lifted. Say why.",
    )
    def stop(self, teams: QuerySet[Team], by: User, reason: str) -> str:
        chosen = list(teams)
        for team in chosen:
            actions.do_stop(by=by, reason=reason, team=team)
        return f"{len(chosen)} team{'s are' if len(chosen) != 1 else ' is'} stopped."


class ToolChoice(ModelForm):
    """A tool of the catalogue; which one it is stays as it was."""

    tool = forms.ChoiceField()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["tool"] = forms.ChoiceField(choices=[(name, tool.title) for name, tool in TOOLS.items()])
        if self.instance.pk:
            self.fields["tool"].disabled = True


class ToolSettingForm(ToolChoice):
    reason = forms.CharField(max_length=500, required=False, label="Why", help_text="Kept in the record.")

    class Meta:
        model = ToolSetting
        fields = ("team", "tool", "state")


@admin.register(ToolSetting)
class ToolSettingAdmin(ActionAdmin):
    """What teams said of tools; of the others the catalogue's default holds."""

    form = ToolSettingForm
    list_display = ("team", "tool", "state", "updated_at")
    list_filter = ("state", "updated_at")
    list_select_related = ("team",)
    search_fields = ("team__name", "tool")
    raw_id_fields = ("team",)

    def get_readonly_fields(self, request: HttpRequest, obj: ToolSetting | None = None) -> tuple[str, ...]:
        return ("team",) if obj else ()

    def save_model(self, request: HttpRequest, obj: ToolSetting, form: Any, change: bool) -> None:
        values = form.cleaned_data
        state = State(values["state"])
        # Whoever set it meanwhile is not overwritten.
        seen = {obj.tool: State(form.initial["state"])} if change else None

        def save() -> str:
            actions.do_set_tools(
                obj.team, states={obj.tool: state}, tools=TOOLS, by=asking(request), reason=values["reason"], seen=seen
            )
            row = ToolSetting.objects.filter(team=obj.team, tool=obj.tool).first()
            obj.pk = row.pk if row else None
            return f"{TOOLS[obj.tool].title} is {state.value.replace('_', ' ')} for {obj.team}."

        told(self, request, save)


class ToolRuleForm(ToolChoice):
    class Meta:
        model = ToolRule
        fields = ("tool", "locked", "risk", "reason")


@admin.register(ToolRule)
class ToolRuleAdmin(ActionAdmin):
    """A rule is lifted by saving it without lock and risk."""

    form = ToolRuleForm
    list_display = ("tool", "locked", "risk", "reason", "actor", "updated_at")
    list_filter = ("locked", choice("risk", "risk", [(risk.value, risk.value) for risk in Risk]), "updated_at")
    search_fields = ("tool", "reason", "actor")

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


TESTED_AT_ONCE = 10


def _ids(typed: str) -> list[str]:
    return typed.replace(",", " ").split()


@admin.register(Connection)
class ConnectionAdmin(ActionAdmin):
    """The token goes in and never comes out; what else there is to set is set on the connection's page."""

    form = ConnectionForm
    list_display = ("name", "team", "region", "kind", "last4", "health", "health_at", "token_expires_at", "is_enabled")
    list_filter = ("region", "kind", "whole_account", "is_enabled", "token_expires_at")
    list_select_related = ("team",)
    search_fields = ("name", "team__name", "last4", "from_email")
    raw_id_fields = ("team",)
    actions = ("test", "switch_off", "remove")
    removable = True

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

    @confirmed("Test", "Each is tried out at PagerDuty now, one after the other: choose a few.", changes=False)
    def test(self, connections: QuerySet[Connection], by: User, reason: str) -> str:
        found: list[str] = []
        failed: list[str] = []
        for row in list(connections.select_related("team")[:TESTED_AT_ONCE]):
            try:
                test = test_connection(row, by=by)
            except (CannotTest, actions.Refused) as error:
                failed.append(f"{row.name} of {row.team}: {error}")
            else:
                (found if test.passed else failed).append(f"{row.name} of {row.team}: {test.message}")
        if failed:
            raise ValidationError([*failed, *found])
        return " ".join(found)

    @confirmed("Switch off", "Every call through these connections is denied until they are switched on.")
    def switch_off(self, connections: QuerySet[Connection], by: User, reason: str) -> str:
        chosen = list(connections.select_related("team"))
        for row in chosen:
            do_set_enabled(row, False, by=by, reason=reason)
        return f"{len(chosen)} connection{'s are' if len(chosen) != 1 else ' is'} switched off."

    @confirmed(
        "Delete", "Their sealed tokens and tests are deleted, and the agent keys that use them are revoked, for good."
    )
    def remove(self, connections: QuerySet[Connection], by: User, reason: str) -> str:
        chosen = list(connections.select_related("team"))
        for row in chosen:
            do_delete_connection(row, by=by, reason=reason)
        return f"{', '.join(row.name for row in chosen)} {'are' if len(chosen) != 1 else 'is'} deleted."


@admin.register(Attempt)
class AttemptAdmin(RecordAdmin):
    """Writes that a second try is answered from. The answers stay sealed."""

    list_display = ("at", "operation", "actor", "is_keyed", "outcome", "decision_id", "expires_at")
    list_filter = ("is_keyed", choice("outcome", "outcome", [(one.value, one.value) for one in Outcome if one.value]))
    search_fields = ("=decision_id", "=actor")
    exclude = ("answer",)
    heavy = ("answer",)


@admin.register(ConnectionKey)
class ConnectionKeyAdmin(ReadOnlyAdmin):
    list_display = ("key", "connection")
    list_select_related = ("key", "connection")
    search_fields = ("key__name", "key__prefix", "connection__name")


@admin.register(ConnectionTest)
class ConnectionTestAdmin(RecordAdmin):
    list_display = ("at", "connection", "passed", "of_candidate", "problem", "message", "asked_by")
    list_filter = ("passed", "of_candidate", "at")
    list_select_related = ("connection",)
    search_fields = ("connection__name", "connection__team__name", "problem")
    heavy = ("findings",)


class VerifyingAdmin(RecordAdmin):
    actions = ("verify",)

    @confirmed(
        "Verify the journal",
        "The worker reads all of the journal and holds it against the newest checkpoint.",
        changes=False,
    )
    def verify(self, rows: QuerySet[Any], by: User, reason: str) -> str:
        verify_journal.enqueue()
        return (
            "The worker verifies the journal now (manage.py run_worker). What it finds stands under Last verifications and on "
            "the home page."
        )


@admin.register(Checkpoint)
class CheckpointAdmin(VerifyingAdmin):
    list_display = ("at", "public_key")
    list_filter = ("at",)
    heavy = ("document", "signature")


@admin.register(LastVerification)
class LastVerificationAdmin(VerifyingAdmin):
    list_display = ("at", "status", "entries", "told")


@admin.register(RunningTest)
class RunningTestAdmin(RecordAdmin):
    list_display = ("connection", "begun_at", "ended_at", "passed", "of_candidate", "asked_by")
    list_filter = ("passed", "of_candidate", "begun_at")
    list_select_related = ("connection",)
    search_fields = ("connection__name", "connection__team__name")


@admin.register(IntendedGap)
class IntendedGapAdmin(ReadOnlyAdmin):
    """Marked on the policy's page under Coverage, where the gap is seen; taken back there or here."""

    list_display = ("policy_name", "policy_id", "connection", "starts_at", "ends_at", "weekly", "until", "made_by")
    list_filter = ("weekly", "until")
    list_select_related = ("connection",)
    search_fields = ("policy_name", "policy_id", "reason", "made_by", "connection__name", "connection__team__name")
    actions = ("remove",)
    removable = True

    @confirmed("Take back", "Their gaps are gaps like any other again, for everybody who sees them.")
    def remove(self, marks: QuerySet[IntendedGap], by: User, reason: str) -> str:
        chosen = list(marks.select_related("connection__team"))
        for mark in chosen:
            do_unmark_intended(mark, by=by, reason=reason)
        return f"{len(chosen)} mark{'s are' if len(chosen) != 1 else ' is'} taken back."


@admin.register(MutedFinding)
class MutedFindingAdmin(ReadOnlyAdmin):
    """Muted on the policy's page under Escalations, where the finding is seen; told again there or here."""

    list_display = ("key", "policy_name", "policy_id", "connection", "until", "made_by")
    list_filter = ("until",)
    list_select_related = ("connection",)
    search_fields = ("key", "policy_name", "policy_id", "words", "reason", "made_by", "connection__name")
    actions = ("remove",)
    removable = True

    @confirmed("Tell again", "They are findings like any other again, for everybody who sees them.")
    def remove(self, mutes: QuerySet[MutedFinding], by: User, reason: str) -> str:
        chosen = list(mutes.select_related("connection__team"))
        for mute in chosen:
            do_unmute_finding(mute, by=by, reason=reason)
        return f"{len(chosen)} finding{'s are' if len(chosen) != 1 else ' is'} told again."


@admin.register(Mirror)
class MirrorAdmin(ReadOnlyAdmin):
    """What is kept of each connection's account is read anew on its page."""

    list_display = ("connection", "version", "begun_at", "ended_at", "calls", "wait_until", "told")
    list_filter = (("wait_until", admin.EmptyFieldListFilter), "ended_at")
    list_select_related = ("connection",)
    search_fields = ("connection__name", "connection__team__name")
    exclude = ("holder",)


@admin.register(MirrorPart)
class MirrorPartAdmin(ReadOnlyAdmin):
    list_display = ("connection", "kind", "as_of", "count", "calls", "problem")
    list_filter = ("kind", "as_of", ("problem_at", admin.EmptyFieldListFilter))
    list_select_related = ("connection",)
    search_fields = ("connection__name", "connection__team__name")
    heavy = ("state",)


@admin.register(MirroredDocument)
class MirroredDocumentAdmin(RecordAdmin):
    """PagerDuty's own documents are shown on the pages that are made of them, to those who may see them there."""

    list_display = ("connection", "kind", "remote_id", "read_at", "gone_at")
    list_filter = ("kind", ("gone_at", admin.EmptyFieldListFilter), "read_at")
    list_select_related = ("connection",)
    search_fields = ("=remote_id",)
    exclude = ("body",)
    heavy = ("body",)


@admin.register(MirroredIncident)
class MirroredIncidentAdmin(RecordAdmin):
    """What happened to incidents is shown on the pages that count it, to those who may see them there."""

    list_display = ("connection", "remote_id", "created", "is_open", "is_stale", "read_at")
    list_filter = ("is_open", "is_stale")
    list_select_related = ("connection",)
    search_fields = ("=remote_id",)
    exclude = ("body", "entries")
    heavy = ("body", "entries")


@admin.register(PastShift)
class PastShiftAdmin(RecordAdmin):
    list_display = ("connection", "schedule_id", "user_id", "start", "end")
    list_select_related = ("connection",)
    search_fields = ("=schedule_id", "=user_id")


@admin.register(PastKnown)
class PastKnownAdmin(RecordAdmin):
    list_display = ("connection", "schedule_id", "since", "until")
    list_select_related = ("connection",)
    search_fields = ("=schedule_id",)


@admin.register(Feed)
class FeedAdmin(RecordAdmin):
    """Calendar feeds of people's own. Of their addresses nothing is kept that would open one."""

    list_display = ("name", "user", "connection", "created_at")
    list_filter = ("created_at",)
    list_select_related = ("user", "connection")
    search_fields = ("name", "user__email", "connection__name", "=schedule_id")
    exclude = ("digest",)
    actions = ("revoke",)

    @confirmed("Revoke", "Their addresses answer nobody any more, for good.")
    def revoke(self, feeds: QuerySet[Feed], by: User, reason: str) -> str:
        chosen = list(feeds.select_related("user", "connection__team"))
        for feed in chosen:
            do_revoke_feed(feed, by=by, reason=reason)
        return f"{len(chosen)} feed{'s are' if len(chosen) != 1 else ' is'} revoked."


@admin.register(NoticeSettings)
class NoticeSettingsAdmin(ReadOnlyAdmin):
    """Chosen on the team's page Notices."""

    list_display = ("team", "horizon_days", "by_email")
    list_filter = ("by_email",)
    list_select_related = ("team",)
    search_fields = ("team__name", "team__slug")


@admin.register(Webhook)
class WebhookAdmin(ReadOnlyAdmin):
    """Set on the team's page Notices. Addresses and secrets stay sealed."""

    list_display = ("team", "hint", "generation", "replaced_until", "set_by", "set_at")
    list_filter = ("set_at",)
    list_select_related = ("team",)
    search_fields = ("team__name", "hint", "set_by")
    exclude = ("address", "secret", "replaced")


@admin.register(Delivery)
class DeliveryAdmin(RecordAdmin):
    list_display = ("created_at", "team", "event", "channel", "state", "attempts", "status", "told")
    list_filter = ("event", "channel", "state", "created_at")
    list_select_related = ("team",)
    search_fields = ("team__name", "subject")
    heavy = ("text", "document")


@admin.register(Watch)
class WatchAdmin(ReadOnlyAdmin):
    list_display = ("connection", "at", "as_of", "told")
    list_filter = ("at",)
    list_select_related = ("connection",)
    search_fields = ("connection__name", "connection__team__name")


@admin.register(NoticedGap)
class NoticedGapAdmin(RecordAdmin):
    list_display = ("policy_name", "team", "starts_at", "ends_at", "noticed_at", "ended", "ended_at")
    list_filter = ("ended", "starts_at")
    list_select_related = ("team",)
    search_fields = ("policy_name", "=policy_id", "team__name")


@admin.register(StandingCheck)
class StandingCheckAdmin(ReadOnlyAdmin):
    """Made, changed and removed on the team's page Checks."""

    list_display = ("about_name", "team", "clock", "time_zone", "within_minutes", "state", "run_at", "made_by")
    list_filter = ("state", "kind", "whom")
    list_select_related = ("team",)
    search_fields = ("about_name", "=about_id", "team__name", "made_by")


@admin.register(CheckRun)
class CheckRunAdmin(RecordAdmin):
    list_display = ("at", "standing", "state", "told", "asked_by")
    list_filter = ("state", "at")
    list_select_related = ("standing",)
    search_fields = ("standing__about_name", "standing__team__name")
    heavy = ("occurrences",)
