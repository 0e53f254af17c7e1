"""Django's admin for whoever may do what, and for what was done: every change goes through the same actions as the pages'."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.contrib.auth.models import Group
from django.core.exceptions import PermissionDenied, ValidationError
from django.core.paginator import Paginator
from django.db import transaction
from django.db.models import Model, QuerySet
from django.db.models.constants import LOOKUP_SEP
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.utils.decorators import method_decorator
from django.utils.functional import cached_property
from django.views.decorators.debug import sensitive_post_parameters

from policies import actions
from policies.actions import Refused
from policies.core.call import Decision, EntryKind, Outcome
from policies.models import (
    AgentCalls,
    AgentKey,
    Alarm,
    BrowserSession,
    ConfigChange,
    Counted,
    Digest,
    Entry,
    Invitation,
    JournalCheck,
    KeyNetwork,
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
    User,
)

# Groups give no rights here: roles and memberships do. Offering them would only mislead.
admin.site.unregister(Group)
# Rows are removed by actions of ours, or not at all.
admin.site.disable_action("delete_selected")

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
    ModelForm = forms.ModelForm[Any]
    Pages = Paginator[Any]
else:
    # Generic for the type checker alone.
    ModelAdmin, ModelForm, Pages = admin.ModelAdmin, forms.ModelForm, Paginator


class Uncounted(Pages):
    """Looks one row beyond the page instead of counting: to say how many rows a long table has, Django would read all of it."""

    is_uncounted = True

    def __init__(self, rows: QuerySet[Any], size: int, number: int) -> None:
        super().__init__(rows, size)
        self._ids = rows.values_list("pk", flat=True)
        self._begins = (number - 1) * size

    @cached_property
    def count(self) -> int:
        """At least so many: those up to the page's end, and one more if there is any."""
        return self._begins + len(self._ids[self._begins : self._begins + self.per_page + 1])


def choice(column: str, title_: str, choices: Iterable[tuple[str, str]]) -> type[admin.SimpleListFilter]:
    """A filter by one of a few values. Django would ask the whole table which there are."""
    offered = list(choices)

    class Choice(admin.SimpleListFilter):
        title = title_
        parameter_name = column

        def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
            return offered

        def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
            return queryset.filter(**{column: self.value()}) if self.value() else queryset

    return Choice


def told(admin_: ModelAdmin, request: HttpRequest, action: Callable[[], str]) -> None:
    """Do ``action`` and show what it returns, or why it was refused."""
    try:
        admin_.message_user(request, action())
    except (ValidationError, Refused) as error:
        for sentence in error.messages if isinstance(error, ValidationError) else [str(error)]:
            admin_.message_user(request, sentence, messages.ERROR)


Act = Callable[[Any, QuerySet[Any], User, str], str]
Action = Callable[[Any, HttpRequest, QuerySet[Any]], HttpResponse | None]
MOST_AT_ONCE = 1_000


def confirmed(description: str, explained: str, *, changes: bool = True) -> Callable[[Act], Action]:
    """An action of a list: shows what it would be done to, asks why, and is done once that is confirmed.

    ``act`` gets the rows, who asks and why, and returns what was done as a sentence. ``changes``: then
    it is done to all of them or to none, and why is kept; else nobody is asked why.
    """

    def decorate(act: Act) -> Action:
        @admin.action(description=description, permissions=["view"])
        @functools.wraps(act)
        def action(admin_: ModelAdmin, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
            rows = list(queryset[: MOST_AT_ONCE + 1])
            if len(rows) > MOST_AT_ONCE:
                admin_.message_user(request, f"Choose {MOST_AT_ONCE} at most.", messages.ERROR)
                return None
            if request.POST.get("confirmed") != act.__name__:
                context = {
                    **admin_.admin_site.each_context(request),
                    "title": description,
                    "explained": explained,
                    "rows": rows,
                    "changes": changes,
                    "action": act.__name__,
                    "opts": admin_.opts,
                    "media": admin_.media,
                }
                return TemplateResponse(request, "admin/confirm.html", context)
            by, reason = asking(request), request.POST.get("reason", "")
            chosen = admin_.model._default_manager.filter(pk__in=[row.pk for row in rows])

            def do() -> str:
                with transaction.atomic() if changes else contextlib.nullcontext():
                    return act(admin_, chosen, by, reason)

            told(admin_, request, do)
            return None

        return action

    return decorate


class PortalAdmin(ModelAdmin):
    """What all have in common: nothing is deleted but by an action of ours, and Django's own history, which would keep what
    was typed, is not kept: the record is."""

    list_per_page = 50
    # To say how many rows each filter would find, Django would count them all.
    show_facets = admin.ShowFacets.NEVER
    heavy: tuple[str, ...] = ()
    """Columns that a list does not read."""
    removable = False

    def remove(self, request: HttpRequest, queryset: QuerySet[Any], /) -> HttpResponse | None:
        """The action that removes rows, where they are ``removable``."""
        raise PermissionDenied

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self.removable and super().has_delete_permission(request, obj)

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """What a list neither shows nor offers to filter by is not filtered by: letter by letter the answers would tell the key
        of somebody's session, and whoever has it is that person."""
        offered = (each[0] if isinstance(each, tuple) else each for each in self.get_list_filter(request))
        names = {*self.get_list_display(request), *(getattr(each, "parameter_name", each) for each in offered), "id"}
        asked = {str(name).partition(LOOKUP_SEP)[0] for name in names}
        return lookup.partition(LOOKUP_SEP)[0] in asked and super().lookup_allowed(lookup, value, request)

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        if not self.has_delete_permission(request):
            raise PermissionDenied
        if (row := self.get_object(request, object_id)) is None:
            raise Http404
        answer = self.remove(request, self.get_queryset(request).filter(pk=row.pk))
        return answer or redirect(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows = super().get_queryset(request)
        return rows.defer(*self.heavy) if self.heavy and is_list(request) else rows

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        return None

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        return None

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:
        return None


def is_list(request: HttpRequest) -> bool:
    match = request.resolver_match
    return match is not None and (match.url_name or "").endswith("_changelist")


class ActionAdmin(PortalAdmin):
    """Saves through the actions, which keep the record and say themselves what was done, or why it was refused."""

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: str | None = None) -> Any:
        return self.response_post_save_add(request, obj)

    def response_change(self, request: HttpRequest, obj: Any) -> Any:
        return self.response_post_save_change(request, obj)


class ReadOnlyAdmin(PortalAdmin):
    """Shows, and changes nothing: what has actions is changed on the pages, what is a record is not changed at all."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class RecordList(ChangeList):
    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        # What was not counted is not told.
        self.full_result_count = self.result_count


class RecordAdmin(ReadOnlyAdmin):
    """What grows without end: its rows are not counted."""

    show_full_result_count = False
    # Showing all of it at once is not offered.
    list_max_show_all = 0

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return RecordList

    def get_paginator(self, request: HttpRequest, queryset: Any, per_page: int, *args: Any, **kwargs: Any) -> Any:
        number = request.GET.get("p", "1")
        return Uncounted(queryset, per_page, int(number) if re.fullmatch("[1-9][0-9]{0,3}", number) else 1)


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
    list_display = ("email", "name", "role", "is_active", "last_login", "date_joined")
    list_filter = ("role", "is_active", "last_login")
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
    """Keys are issued on their team's page, where each is shown once."""

    list_display = ("name", "team", "prefix", "created_by", "created_at", "expires_at", "revoked_at", "last_used_at")
    list_filter = (
        ("revoked_at", admin.EmptyFieldListFilter),
        ("last_used_at", admin.EmptyFieldListFilter),
        "expires_at",
        "created_at",
    )
    list_select_related = ("team",)
    search_fields = ("name", "prefix", "team__name", "created_by")
    exclude = ("digest",)
    actions = ("revoke", "stop")

    @confirmed("Revoke", "Their next call is refused, for good. Say why.")
    def revoke(self, keys: QuerySet[AgentKey], by: User, reason: str) -> str:
        if not reason.strip():
            raise ValidationError("Say why: it is kept in the record.")
        chosen = list(keys.select_related("team"))
        for key in chosen:
            actions.do_revoke_key(key, by=by, reason=reason)
        return f"{len(chosen)} key{'s are' if len(chosen) != 1 else ' is'} revoked."

    @confirmed(
        "Stop: nothing goes out until it is lifted",
        "Nothing of these agents goes out any more until the stop is lifted. Say why.",
    )
    def stop(self, keys: QuerySet[AgentKey], by: User, reason: str) -> str:
        chosen = list(keys.select_related("team"))
        for key in chosen:
            actions.do_stop(by=by, reason=reason, key=key)
        return f"{len(chosen)} agent{'s are' if len(chosen) != 1 else ' is'} stopped."


@admin.register(Membership)
class MembershipAdmin(ActionAdmin):
    list_display = ("user", "team", "role", "created_at")
    list_filter = ("role", "team__kind")
    list_select_related = ("user", "team")
    search_fields = ("user__email", "user__name", "team__name")
    raw_id_fields = ("user", "team")
    actions = ("remove",)
    removable = True

    def get_readonly_fields(self, request: HttpRequest, obj: Membership | None = None) -> tuple[str, ...]:
        return ("team", "user") if obj else ()

    def save_model(self, request: HttpRequest, obj: Membership, form: Any, change: bool) -> None:
        def save() -> str:
            made = actions.do_set_membership(obj.team, user=obj.user, role=obj.role, by=asking(request))
            obj.pk = made.pk
            return f"{obj.user} is {made.get_role_display()} of {obj.team}."

        told(self, request, save)

    @confirmed("Remove from their teams", "They see these teams no more. The keys that they issued stay.")
    def remove(self, memberships: QuerySet[Membership], by: User, reason: str) -> str:
        chosen = list(memberships.select_related("team", "user"))
        for row in chosen:
            actions.do_remove_member(row.team, user=row.user, by=by, reason=reason)
        return "; ".join(f"{row.user} is removed from {row.team}" for row in chosen) + "."


@admin.register(Invitation)
class InvitationAdmin(RecordAdmin):
    """Sent again and revoked on the page Invitations."""

    list_display = ("email", "role", "team", "team_role", "invited_by", "sent_at", "accepted_at", "revoked_at")
    list_filter = ("role", "sent_at")
    list_select_related = ("team", "invited_by")
    search_fields = ("email", "team__name")
    exclude = ("digest",)


@admin.register(BrowserSession)
class BrowserSessionAdmin(RecordAdmin):
    list_display = ("user", "ip", "device", "how", "began_at", "seen_at")
    list_filter = ("seen_at",)
    list_select_related = ("user",)
    search_fields = ("user__email", "=ip")
    exclude = ("session_key",)
    actions = ("end",)

    @confirmed("Sign out there", "Whoever is signed in there must sign in again.", changes=False)
    def end(self, sessions: QuerySet[BrowserSession], by: User, reason: str) -> str:
        return f"{actions.do_end_sessions(sessions, by=by)} sessions are ended."


@admin.register(Reveal)
class RevealAdmin(ReadOnlyAdmin):
    list_display = ("team", "kind")
    list_filter = ("kind",)
    list_select_related = ("team",)
    search_fields = ("team__name",)


@admin.register(Stop)
class StopAdmin(ReadOnlyAdmin):
    list_display = ("target", "reason", "actor", "by_administrator", "at")
    list_filter = ("by_administrator", "at")
    search_fields = ("target", "reason", "actor")
    actions = ("lift",)

    @confirmed("Lift: let it go on", "What was stopped goes out again. Say why.")
    def lift(self, stops: QuerySet[Stop], by: User, reason: str) -> str:
        chosen = list(stops)
        for stop in chosen:
            actions.do_lift_stop(stop, by=by, reason=reason)
        return f"{len(chosen)} stop{'s are' if len(chosen) != 1 else ' is'} lifted."


@admin.register(Alarm)
class AlarmAdmin(RecordAdmin):
    list_display = ("key", "kind", "at", "count", "mail_due_at", "mailed_at", "closed_at", "closed_by")
    list_filter = (choice("kind", "kind", Alarm.Kind.choices), ("closed_at", admin.EmptyFieldListFilter), "at")
    list_select_related = ("key",)
    search_fields = ("key__name", "key__prefix", "key__team__name")


@admin.register(KeyNetwork)
class KeyNetworkAdmin(RecordAdmin):
    list_display = ("key", "network", "first_at")
    list_filter = ("first_at",)
    list_select_related = ("key",)
    search_fields = ("key__name", "key__prefix", "network")


@admin.register(ToolCalls)
class ToolCallsAdmin(RecordAdmin):
    list_display = ("begins", "team_id", "tool", "calls", "denied")
    list_filter = ("begins",)
    search_fields = ("=tool", "=team_id")
    ordering = ("-begins", "team_id", "tool")


@admin.register(AgentCalls)
class AgentCallsAdmin(RecordAdmin):
    list_display = ("begins", "team_id", "actor", "calls", "denied")
    list_filter = ("begins",)
    search_fields = ("=actor", "=team_id")
    ordering = ("-begins", "team_id", "actor")


@admin.register(ConfigChange)
class ConfigChangeAdmin(RecordAdmin):
    list_display = ("at", "actor", "team", "action", "target", "reason")
    list_filter = ("at",)
    search_fields = ("=actor", "=team", "=action", "target")
    heavy = ("before", "after")


@admin.register(Entry)
class EntryAdmin(RecordAdmin):
    """The newest of the journal; any of it by its decision's whole id. The rest is looked through on the audit page."""

    list_display = ("at", "kind", "actor", "tool", "verdict", "outcome", "decision_id")
    list_filter = (
        choice("kind", "kind", [(kind.value, kind.value.replace("_", " ")) for kind in EntryKind]),
        choice("verdict", "verdict", [(one.value, one.value.replace("_", " ")) for one in Decision]),
        choice("outcome", "outcome", [(one.value, one.value) for one in Outcome if one.value]),
        "at",
    )
    # Not "=", which is to say whatever the capitals are, and has no index.
    search_fields = ("decision_id__exact",)
    list_select_related = ("stream",)
    sortable_by = ()
    heavy = ("record", "hash")

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        subtitle = "The newest 10,000, or any by its decision's whole id. The audit page looks through all of them."
        return super().changelist_view(request, {"subtitle": subtitle, **(extra_context or {})})

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows = super().get_queryset(request)
        if not is_list(request) or request.GET.get("q", "").strip():
            return rows
        newest = Entry.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
        return rows.filter(pk__gt=newest - 10_000)


@admin.register(Stream)
class StreamAdmin(RecordAdmin):
    list_display = ("name", "created_at")
    list_filter = ("created_at",)
    search_fields = ("name",)
    ordering = ("-pk",)


@admin.register(Review)
class ReviewAdmin(RecordAdmin):
    list_display = ("at", "actor", "team", "query", "first_id", "last_id", "note")
    list_filter = ("at",)
    search_fields = ("=actor", "team", "note")


@admin.register(SavedView)
class SavedViewAdmin(ReadOnlyAdmin):
    """Each belongs to one person, who alone saves and deletes it."""

    list_display = ("user", "name", "query")
    list_select_related = ("user",)
    search_fields = ("user__email", "name")


@admin.register(SignInFailures)
class SignInFailuresAdmin(RecordAdmin):
    list_display = ("began_at", "count", "subject")
    list_filter = ("began_at",)
    search_fields = ("=subject",)


@admin.register(JournalCheck)
class JournalCheckAdmin(RecordAdmin):
    list_display = ("at", "actor", "state", "done", "total", "told")
    list_filter = ("state", "at")
    search_fields = ("=actor",)
    heavy = ("held",)


@admin.register(Digest)
class DigestAdmin(RecordAdmin):
    list_display = ("week", "user", "at")
    list_filter = ("week",)
    list_select_related = ("user",)
    search_fields = ("user__email",)


@admin.register(ToolRequest)
class ToolRequestAdmin(RecordAdmin):
    list_display = ("at", "user", "team", "tool", "subject_name", "closed_at", "closed_by", "allowed")
    list_filter = ("allowed", "at")
    list_select_related = ("user", "team")
    search_fields = ("user__email", "team__name", "=tool", "=subject")


@admin.register(PolicyVersion)
class PolicyVersionAdmin(ReadOnlyAdmin):
    list_display = ("version", "moved_at")


@admin.register(ReadsGoOn)
class ReadsGoOnAdmin(ReadOnlyAdmin):
    list_display = ("minutes", "reason", "actor", "at")


@admin.register(Counted)
class CountedAdmin(ReadOnlyAdmin):
    list_display = ("entry_id", "newest_id", "at")


def asking(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # noqa: S101  (the admin lets nobody else in)
    return request.user
