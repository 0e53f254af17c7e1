"""The pages' forms. They read what was typed; the actions say whether it may be."""

from __future__ import annotations

import datetime as dt
import html
import json
import re
from collections.abc import Collection, Iterable
from functools import cache
from typing import Any, Final

from django import forms
from django.conf import settings
from django.contrib.auth.forms import AuthenticationForm
from django.db.models import QuerySet
from django.forms.utils import flatatt
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from integrations import measured
from integrations.actions import clean_bounds, end_of_day, suspension
from integrations.leaving import END, Held, digest_of
from integrations.models import Connection
from integrations.notices import HORIZONS
from integrations.pagerduty.analysis.escalation import SEVERITIES
from integrations.pagerduty.catalog import CATEGORIES, PRESETS, TOOLS
from integrations.pagerduty.diagnose import OBJECTS
from integrations.pagerduty.masking import REVEALABLE
from integrations.pagerduty.tools.definitions import definition
from integrations.standing import DAYS, MOST_MINUTES
from integrations.webhooks.message import LONGEST_ADDRESS
from policies.actions import MAXIMUM_MINUTES_OF_READS, facts_digest, time_zones
from policies.core.call import Decision, Door, EntryKind, Outcome, Risk, State, Tool
from policies.models import AgentKey, Membership, Team, User
from portal.connecting import about
from portal.oncall import timeline

ACT_AS = (
    "It matters for account keys: PagerDuty wants the e-mail of one of the account's users as the author of writes. For "
    "user keys PagerDuty ignores it."
)


def styled(form: forms.BaseForm) -> None:
    for field in form.fields.values():
        widget = field.widget
        if isinstance(widget, forms.CheckboxInput):
            widget.attrs["class"] = "form-check-input"
        elif not isinstance(widget, forms.RadioSelect | forms.HiddenInput):
            widget.attrs["class"] = "form-select" if isinstance(widget, forms.Select) else "form-control"
        if field.help_text and not isinstance(widget, forms.HiddenInput):
            widget.attrs["aria-describedby"] = f"{form[_name(form, field)].auto_id}_help"


def _name(form: forms.BaseForm, field: forms.Field) -> str:
    return next(name for name, other in form.fields.items() if other is field)


class PageForm(forms.Form):
    """Adds the look to the widgets, so that templates need not."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        styled(self)


class ReasonForm(PageForm):
    """Ends with why, which is kept with the change."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["reason"] = forms.CharField(
            required=False, max_length=500, label="Why", help_text="Kept in the record."
        )
        styled(self)


class NewPasswordForm(PageForm):
    new = forms.CharField(
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        label="New password",
        help_text="At least eight characters, not one of the common ones, and not like your name or address.",
    )
    again = forms.CharField(
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        label="The new password again",
    )

    def clean_again(self) -> str:
        if self.cleaned_data["again"] != self.cleaned_data.get("new"):
            raise forms.ValidationError("The two new passwords are not the same.")
        return str(self.cleaned_data["again"])


class PasswordForm(NewPasswordForm):
    old = forms.CharField(
        strip=False, widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}), label="Your password now"
    )
    field_order: tuple[str, ...] = ("old", "new", "again")


class ComeInForm(NewPasswordForm):
    """Of somebody who was invited."""

    name = forms.CharField(
        max_length=150,
        required=False,
        label="Your name",
        help_text="As others see it.",
        widget=forms.TextInput(attrs={"autocomplete": "name"}),
    )
    field_order: tuple[str, ...] = ("name", "new", "again")


class SetUpForm(ComeInForm):
    email = forms.EmailField(label="Your e-mail", widget=forms.EmailInput(attrs={"autocomplete": "username"}))
    field_order = ("email", "name", "new", "again")


class InviteForm(PageForm):
    """Into a team."""

    email = forms.EmailField(label="E-mail", help_text="Of somebody who does not sign in here yet.")
    team_role = forms.ChoiceField(
        choices=Membership.Role.choices, initial=Membership.Role.MEMBER, label="Role in the team"
    )


class PortalInviteForm(InviteForm):
    """Into the portal, with a role, and perhaps into a team at once."""

    role = forms.ChoiceField(
        required=False,
        label="In the portal",
        choices=[("", "no portal-wide role"), *((value, label) for value, label in User.Role.choices if value)],
    )
    team = forms.ModelChoiceField(
        Team.objects.filter(kind=Team.Kind.SHARED).order_by("name"),
        required=False,
        to_field_name="slug",
        empty_label="none",
    )
    field_order = ("email", "role", "team", "team_role")


def _options(choices: Iterable[Any], chosen: Collection[str]) -> SafeString:
    """Escaped by the standard library, as Django's own does: with format_html a thousand of them cost 100 ms."""
    rows = (
        (html.escape(str(key)), " selected" if str(key) in chosen else "", html.escape(str(said)))
        for key, said in choices
    )
    return SafeString("".join(f'<option value="{key}"{mark}>{said}</option>' for key, mark, said in rows))


class LongSelect(forms.Select):
    """A choice of one among hundreds, for each of which Django would render a template."""

    def render(self, name: str, value: Any, attrs: dict[str, Any] | None = None, renderer: object = None) -> SafeString:
        options = _options(self.choices, {"" if value is None else str(value)})
        return format_html(
            '<select name="{}"{}>{}</select>', name, flatatt(self.build_attrs(self.attrs, attrs)), options
        )


class LongSelectMultiple(forms.SelectMultiple):
    """The same of several among hundreds."""

    def render(self, name: str, value: Any, attrs: dict[str, Any] | None = None, renderer: object = None) -> SafeString:
        options = _options(self.choices, {str(one) for one in value or ()})
        return format_html(
            '<select name="{}" multiple{}>{}</select>', name, flatatt(self.build_attrs(self.attrs, attrs)), options
        )


class Days(forms.CheckboxSelectMultiple):
    """A few boxes in one line, which are not folded away."""


@cache
def zone_choices() -> tuple[tuple[str, str], ...]:
    """UTC, and the zones by area and city; the rest are other names of the same."""
    offered = sorted(name for name in time_zones() if "/" in name and not name.startswith(("Etc/", "SystemV/")))
    return (("UTC", "UTC"), *((name, name.replace("_", " ")) for name in offered))


class ZoneForm(PageForm):
    """In which zone pages tell times."""

    time_zone = forms.ChoiceField(
        required=False,
        widget=LongSelect,
        label="Tell times in",
        help_text="Wherever a time stands, pointing at it tells it in UTC.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["time_zone"]
        assert isinstance(field, forms.ChoiceField)  # noqa: S101
        field.choices = [("", "this browser's zone"), *zone_choices()]


class SignInForm(AuthenticationForm):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["username"].label = "E-mail"
        self.fields["username"].widget = forms.EmailInput(attrs={"autocomplete": "username", "autofocus": True})
        styled(self)


class Words(forms.CharField):
    """Several values in one line, separated by commas or blanks."""

    def to_python(self, value: Any) -> Any:
        return [word for word in re.split(r"[\s,]+", value or "") if word]

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(value) if isinstance(value, list) else value


class ExpiresOn(forms.DateField):
    """The last day of a token, as a moment: the end of that day, UTC."""

    def __init__(self) -> None:
        super().__init__(
            required=False,
            widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
            label="Expires on",
            help_text="If PagerDuty said when: it serves to the end of that day, UTC. Empty: not known.",
        )

    def clean(self, value: Any) -> dt.datetime | None:
        return end_of_day(super().clean(value))


class TeamForm(ReasonForm):
    name = forms.CharField(max_length=100)


class MemberForm(ReasonForm):
    email = forms.EmailField(label="E-mail", help_text="Of a person who can sign in already.")
    role = forms.ChoiceField(choices=Membership.Role.choices, initial=Membership.Role.MEMBER)

    def clean_email(self) -> User:
        user = User.objects.get_queryset().of_address(self.cleaned_data["email"]).filter(is_active=True).first()
        if user is None:
            raise forms.ValidationError("Nobody signs in with this address. An administrator can add them.")
        return user


class LeaveForm(ReasonForm):
    """What becomes of each thing that somebody holds who leaves; ``rest`` is for all that say nothing."""

    seen = forms.CharField(widget=forms.HiddenInput, max_length=64)

    def __init__(self, held: Collection[Held], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, initial={"seen": digest_of(held)}, **kwargs)
        self.held = held
        if held:
            # Who may keep all of it.
            everywhere = [person for person in next(iter(held)).heirs if all(person in one.heirs for one in held)]
            self.fields["rest"] = forms.ChoiceField(
                required=False,
                label="For all that is not chosen below",
                choices=[("", "Choose …"), (END, "Revoke it, or switch it off"), *map(_heir, everywhere)],
            )
        for one in held:
            self.fields[one.id] = forms.ChoiceField(
                required=False,
                label=one.what,
                widget=LongSelect,  # somebody may hold hundreds
                choices=[("", "As for all"), (END, one.ends), *map(_heir, one.heirs)],
            )
        self.order_fields(["seen", "rest", *(one.id for one in held)])
        styled(self)
        for one in held:
            self.fields[one.id].widget.attrs |= {"class": "form-select form-select-sm", "aria-label": one.what}

    @property
    def rows(self) -> list[tuple[Held, forms.BoundField]]:
        return [(one, self[one.id]) for one in self.held]

    def choices(self) -> dict[str, str]:
        """As ``do_let_go`` takes them."""
        values = self.cleaned_data
        return {"": values.get("rest", ""), **{one.id: values[one.id] for one in self.held}}


def _heir(person: User) -> tuple[str, str]:
    name = f"{person} ({person.email})" if person.name else person.email
    return f"keep:{person.pk}", f"Hand over to {name}"


class PeopleForm(PageForm):
    """Whom to show."""

    text = forms.CharField(required=False, max_length=100, label="Name or e-mail")
    role = forms.ChoiceField(
        required=False,
        choices=[("", "any"), *((value, label) for value, label in User.Role.choices if value), ("none", "none")],
    )
    state = forms.ChoiceField(
        required=False,
        choices=[("", "any"), ("active", "active"), ("off", "switched off"), ("never", "never signed in")],
    )


class RoleForm(ReasonForm):
    role = forms.ChoiceField(required=False, choices=User.Role.choices, label="Role in the whole portal")


class ReadsGoOnForm(PageForm):
    minutes = forms.IntegerField(
        min_value=1,
        max_value=MAXIMUM_MINUTES_OF_READS,
        initial=15,
        label="Minutes",
        help_text=f"1 to {MAXIMUM_MINUTES_OF_READS}: for so long reads may go by what was confirmed last.",
    )
    reason = forms.CharField(max_length=500, label="Why", help_text="Kept in the record.")


class StopForm(PageForm):
    """Why something is stopped. A rehearsal may leave it out."""

    reason = forms.CharField(
        max_length=500, label="Why", help_text="Kept in the record, shown on every page, and told to whoever calls."
    )

    def __init__(self, *args: Any, rehearsed: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["reason"].required = not rehearsed


class WhyForm(PageForm):
    reason = forms.CharField(max_length=500, label="Why", help_text="Kept in the record.")


class PresetForm(PageForm):
    # The preset's name goes before it.
    reason = forms.CharField(max_length=450, label="Why", help_text="Kept in the record with every change.")


class RevealsForm(PageForm):
    """What is shown of that which is masked. To show more is an administrator's choice."""

    def __init__(self, user: User, now: Collection[str], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for kind, words in REVEALABLE.items():
            box = self.fields[kind] = forms.BooleanField(
                required=False, initial=kind in now, label=f"Show {kind}", help_text=f"{words[0].upper()}{words[1:]}."
            )
            if not user.is_administrator and kind not in now:
                box.widget.attrs["disabled"] = True
        self.fields["reason"] = forms.CharField(max_length=500, label="Why", help_text="Kept in the record.")
        styled(self)

    def kinds(self) -> list[str]:
        return [kind for kind in REVEALABLE if self.cleaned_data[kind]]


class BoundsForm(ReasonForm):
    whole_account = forms.BooleanField(
        required=False,
        label="The whole PagerDuty account",
        help_text="An administrator's choice: this team then reaches everything that the token reaches.",
    )
    team_ids = Words(
        required=False,
        label="PagerDuty teams",
        help_text="Ids such as PQ9K7I8, separated by commas: assistants reach what these teams own, and nothing else.",
    )
    service_ids = Words(
        required=False, label="PagerDuty services", help_text="Ids, separated by commas: these services, too."
    )


class MeaningForm(PageForm):
    """Bounds to look at before they are set."""

    team_ids = Words(required=False, label="PagerDuty teams", help_text="Ids such as PQ9K7I8, separated by commas.")
    service_ids = Words(required=False, label="PagerDuty services", help_text="Ids, separated by commas.")

    def clean(self) -> dict[str, Any]:
        values: dict[str, Any] = super().clean() or {}
        teams, services = clean_bounds(False, values.get("team_ids", ()), values.get("service_ids", ()))
        return {"team_ids": teams, "service_ids": services}


class AccountWideForm(ReasonForm):
    """Which of the tools that bounds cannot hold may be used all the same."""

    tools = forms.MultipleChoiceField(
        required=False,
        choices=[(name, tool.title) for name, tool in TOOLS.items() if tool.bounds == "unbounded"],
        widget=forms.CheckboxSelectMultiple,
        label="Allowed account-wide",
        help_text="bounds cannot hold these: each that is checked reaches the whole PagerDuty account",
    )


class ConnectionForm(BoundsForm):
    field_order = ("name", "region", "kind", "token", "token_expires_on", "from_email")

    name = forms.CharField(max_length=100, help_text="What you call it, such as “Production account”.")
    region = forms.ChoiceField()
    kind = forms.ChoiceField(
        choices=Connection.Kind.choices,
        label="Kind of token",
        help_text="As PagerDuty made it; the test tells whether it is so.",
    )
    token = forms.CharField(
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
        max_length=600,
        help_text="Sealed at once and never shown again: only its last four characters are.",
    )
    token_expires_on = ExpiresOn()
    from_email = forms.EmailField(
        required=False,
        label="Act as",
        help_text=f"{ACT_AS} Empty: yourself. Anybody else: once an administrator signs.",
    )

    def __init__(self, user: User, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        regions = [choice for choice in Connection.Region.choices if choice[0] != Connection.Region.SANDBOX]
        if settings.PAGERDUTY_SANDBOX_URL:
            regions.append((Connection.Region.SANDBOX.value, Connection.Region.SANDBOX.label))
        field = self.fields["region"]
        assert isinstance(field, forms.ChoiceField)  # noqa: S101
        field.choices = regions
        if not user.is_administrator:
            kind = self.fields["kind"]
            assert isinstance(kind, forms.ChoiceField)  # noqa: S101
            kind.choices = [choice for choice in Connection.Kind.choices if choice[0] != Connection.Kind.ACCOUNT]
            kind.initial = Connection.Kind.USER
            kind.help_text = "An account API key is registered by an administrator."
            kind.error_messages["invalid_choice"] = "An account API key is registered by an administrator."


class ReplaceTokenForm(ReasonForm):
    token = forms.CharField(
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
        max_length=600,
        label="Replacement token",
        help_text="The old token serves until this one has passed its test.",
    )
    token_expires_on = ExpiresOn()


class ExpiryForm(ReasonForm):
    token_expires_on = ExpiresOn()


class FromForm(ReasonForm):
    email = forms.EmailField(
        label="Act as", help_text=f"{ACT_AS} Anybody but yourself waits for an administrator's signature."
    )


class DeleteConnectionForm(ReasonForm):
    """Where keys would stop, the connection's name is typed: nobody deletes that by a slip."""

    typed = forms.CharField(
        max_length=100, label="The connection's name", widget=forms.TextInput(attrs={"autocomplete": "off"})
    )

    def __init__(self, connection: Connection, stops_keys: bool, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.connection = connection
        if not stops_keys:
            del self.fields["typed"]

    def clean_typed(self) -> str:
        typed = str(self.cleaned_data["typed"])
        if " ".join(typed.split()) != " ".join(self.connection.name.split()):
            raise forms.ValidationError("This is not the connection's name: type it as it stands above.")
        return typed


class ExplainForm(PageForm):
    type = forms.ChoiceField(choices=[(name, what.title) for name, what in OBJECTS.items()], label="What")
    id_or_name = forms.CharField(max_length=100, label="Id or name", help_text="Such as PQ9K7I8, or Checkout.")


class ConnectionChoice(forms.ModelChoiceField):  # type: ignore[type-arg]  # not subscriptable at run time
    """A connection by its name, with what keeps it from being used."""

    def label_from_instance(self, obj: Connection) -> str:
        if not obj.is_enabled:
            return f"{obj.name} (switched off: calls are denied)"
        return obj.name if obj.whole_account else f"{obj.name} (bounded)"


CHOSEN = "Only the tools that are chosen below"


class KeyLimitsForm(ReasonForm):
    """What holds an agent key back."""

    networks = Words(
        required=False, label="Source networks", help_text="Such as 10.0.0.0/8. Empty: it may come from anywhere."
    )
    calls_per_minute = forms.IntegerField(min_value=0, max_value=960, initial=settings.CALLS_PER_MINUTE)
    may = forms.ChoiceField(
        required=False,
        initial="core",
        widget=forms.RadioSelect,
        label="What it may use",
        help_text="Of what the team has on, these at most. Each tool takes a part of every conversation of an assistant: the "
        "page Tools says how much.",
    )
    tools = forms.MultipleChoiceField(
        required=False,
        choices=[(name, tool.title) for name, tool in TOOLS.items()],
        widget=forms.CheckboxSelectMultiple,
        label="Choose the tools",
        help_text="it may then use these at most, whatever is switched on later",
    )

    def __init__(self, team: Team, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.team = team
        may = self.fields["may"]
        assert isinstance(may, forms.ChoiceField)  # noqa: S101
        core = [TOOLS[name] for name in PRESETS["core"]]
        may.choices = [
            ("core", f"The core for people on call: at most {len(core)} tools, {about(core)}"),
            ("team", f"All that {team.name} allows, now and later"),
            ("tools", CHOSEN),
        ]
        if team.kind == Team.Kind.PERSONAL:
            may.help_text = str(may.help_text).replace("Of what the team has on", "Of what you have on")

    def clean(self) -> dict[str, Any]:
        values: dict[str, Any] = super().clean() or {}
        chosen = values.get("tools", [])
        # A form that does not say is narrowed all the same: to what it names, or else to the core.
        values["may"] = values.get("may") or ("tools" if chosen else "core")
        if values["may"] == "tools" and not chosen and "tools" not in self.errors:
            self.add_error("tools", "Choose at least one tool, or let it use the core.")
        if values["may"] != "tools" and chosen:
            self.add_error("may", f"Tools are chosen below: choose “{CHOSEN}” here, or none of them there.")
        return values

    def narrowed_to(self) -> Collection[str] | None:
        """The tools that it may use at most; None: it is not narrowed."""
        chosen: list[str] = self.cleaned_data["tools"]
        return {"core": PRESETS["core"], "team": None, "tools": chosen}[self.cleaned_data["may"]]


class KeyForm(KeyLimitsForm):
    field_order = ("name", "connection", "days")

    name = forms.CharField(max_length=100, help_text="The assistant that will hold it.")
    connection = ConnectionChoice(Connection.objects.none(), help_text="The PagerDuty token that it works through.")
    days = forms.IntegerField(
        min_value=1,
        max_value=3650,
        required=False,
        initial=90,
        label="Expires in days",
        help_text="Empty: it does not.",
    )

    def __init__(self, team: Team, *args: Any, **kwargs: Any) -> None:
        super().__init__(team, *args, **kwargs)
        field = self.fields["connection"]
        assert isinstance(field, forms.ModelChoiceField)  # noqa: S101
        # Those that can be used come first, so one of them is chosen unless somebody chooses otherwise.
        field.queryset = Connection.objects.filter(team=team).order_by("-whole_account", "-is_enabled", "name")
        field.empty_label = None
        now = timezone.now()
        field.initial = next((row.pk for row in field.queryset if not suspension(row, now)), None)

    def clean_name(self) -> str:
        name = str(self.cleaned_data["name"])
        keys = AgentKey.objects.filter(team=self.team, name__iexact=name, revoked_at=None)
        if keys.exclude(expires_at__lte=timezone.now()).exists():
            raise forms.ValidationError(
                f"A usable key of {self.team.name} is called {name} already: revoke it first, or give this one another name."
            )
        return name

    def expires_at(self) -> dt.datetime | None:
        days = self.cleaned_data["days"]
        return timezone.now() + dt.timedelta(days=days) if days else None


class ChangeKeyForm(KeyLimitsForm):
    """What holds an issued key back, as it is and as it shall be."""

    field_order = ("seen", "expires_on")

    seen = forms.CharField(widget=forms.HiddenInput, max_length=64)
    expires_on = forms.DateField(
        required=False,
        widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
        label="Expires on",
        help_text="It serves to the end of that day, UTC. Empty: it does not expire.",
    )

    def __init__(self, key: AgentKey, *args: Any, **kwargs: Any) -> None:
        core = key.tools is not None and set(key.tools) == PRESETS["core"]
        now = {
            "seen": facts_digest(key),
            "expires_on": key.expires_at,
            "networks": key.networks,
            "calls_per_minute": key.calls_per_minute,
            "may": "team" if key.tools is None else "core" if core else "tools",
            "tools": [] if key.tools is None or core else key.tools,
        }
        super().__init__(key.team, *args, initial=now, **kwargs)
        self.key = key

    def expires_at(self) -> dt.datetime | None:
        day, known = self.cleaned_data["expires_on"], self.key.expires_at
        # The day that it had already: to the hour that it had.
        return known if known is not None and known.date() == day else end_of_day(day)


STATES_OF_KEYS = {
    "usable": "usable",
    "expiring": "expiring soon",
    "unused": "not used for 30 days",
    "stopped": "stopped",
    "expired": "expired",
    "revoked": "revoked",
}


class AgentsForm(PageForm):
    """Which of a team's keys to show, and in which order."""

    text = forms.CharField(required=False, max_length=100, label="Find")
    state = forms.ChoiceField(required=False, choices=[("", "any"), *STATES_OF_KEYS.items()])
    sort = forms.ChoiceField(
        required=False,
        label="Order",
        choices=[
            ("", "newest first"),
            ("name", "name"),
            ("used", "last used"),
            ("calls", "most calls"),
            ("denied", "most denied"),
            ("expires", "next to end"),
        ],
    )


KINDS = {
    EntryKind.STREAM: "About the record itself",
    EntryKind.INTENT: "Write, before it is sent",
    EntryKind.RESULT: "What became of a call",
    EntryKind.CONFIG: "Configuration change",
    EntryKind.SIGN_IN: "Sign-in",
    EntryKind.REJECTED: "Refused keys",
    EntryKind.ALARM: "Sign of a stolen key",
    EntryKind.NOTICE: "Notice to a webhook",
}
"""What the entries of the journal are called."""
KINDS_TOLD = {
    EntryKind.STREAM: "stream: a process begins a hash chain of its own, or spooled entries were brought into one",
    EntryKind.INTENT: "intent: on disk before PagerDuty is touched, so that no write is without a record",
    EntryKind.RESULT: "result: on disk before the caller got the answer",
    EntryKind.CONFIG: "config: who may do what was changed",
    EntryKind.SIGN_IN: "sign_in: somebody signed in, or was refused",
    EntryKind.REJECTED: "rejected: keys that nobody has, counted by where they came from",
    EntryKind.ALARM: "alarm: an agent key did what a stolen one would do",
    EntryKind.NOTICE: "notice: what the portal itself sends to a team's webhook, before it is sent and once it was",
}
"""The exact terms, as queries and the record have them, and what they mean."""
OUTCOMES = {
    Outcome.INTENDED: (
        "about to be sent",
        "intended: the write is on record; the entry after it tells what became of it",
    ),
    Outcome.DENIED: ("denied", "denied: the policy does not allow it; nothing was sent"),
    Outcome.INVALID: ("not understood", "invalid: what was asked for could not be sent; nothing was"),
    Outcome.DONE: ("done", "done: PagerDuty answered that it is so; of a notice: its receiver took it"),
    Outcome.REFUSED: ("refused by PagerDuty", "refused: PagerDuty answered 4xx"),
    Outcome.FAILED: (
        "failed",
        "failed: PagerDuty answered 5xx or was not reached; nothing was done. Of a notice: its receiver did not take it",
    ),
    Outcome.UNKNOWN: ("not certain", "unknown: it was sent, and no trustworthy answer came"),
    Outcome.REPLAYED: ("told again", "replayed: a second try of a write, answered with what became of the first"),
}
"""How a call ended in plain words, and the exact term with what it means."""


def in_words(value: str) -> str:
    """A tool, verdict or outcome as the pages call it, filter and table alike."""
    return TOOLS[value].title if value in TOOLS else value.replace("_", " ")


SINCE = {"1h": "last hour", "today": "today (UTC)", "7d": "last 7 days", "30d": "last 30 days"}
"""Times that the audit page offers, as its queries write them."""
MINUTES = {"type": "datetime-local"}


def _choices(values: list[str], everything: str) -> list[tuple[str, str]]:
    return [("", everything), *((value, in_words(value)) for value in values if value)]


class CatalogueForm(PageForm):
    """What to show of the catalogue."""

    text = forms.CharField(required=False, max_length=200, label="Name, path or reason")
    what = forms.ChoiceField(
        required=False,
        label="Show",
        choices=[
            ("", "everything"),
            ("served", "all tools"),
            ("reads", "tools that read"),
            ("writes", "tools that write"),
            ("refused", "refused operations"),
        ],
    )
    risk = forms.ChoiceField(
        required=False, label="Risk of a tool", choices=[("", "any"), *((risk.value, risk.value) for risk in Risk)]
    )


class ToolsForm(PageForm):
    """What to show of a team's tools."""

    text = forms.CharField(required=False, max_length=200, label="Name, path or word")
    category = forms.ChoiceField(
        required=False, choices=[("", "any"), *((name, name.capitalize()) for name in CATEGORIES)]
    )
    risk = forms.ChoiceField(required=False, choices=[("", "any"), *((risk.value, risk.value) for risk in Risk)])
    state = forms.ChoiceField(
        required=False,
        choices=[("", "any"), *((state.value, in_words(state.value)) for state in State), ("locked", "locked off")],
    )
    does = forms.ChoiceField(required=False, choices=[("", "either"), ("reads", "reads"), ("writes", "writes")])


class GridForm(PageForm):
    """What to show of the grid."""

    team = forms.CharField(required=False, max_length=100, label="Team")
    text = forms.CharField(required=False, max_length=200, label="Tool or path")
    category = forms.ChoiceField(
        required=False, choices=[("", "any"), *((name, name.capitalize()) for name in CATEGORIES)]
    )
    risk = forms.ChoiceField(required=False, choices=[("", "any"), *((risk.value, risk.value) for risk in Risk)])
    locked = forms.BooleanField(required=False, label="Locked off only")


class ConfirmForm(PageForm):
    """Confirms what was looked at: ``seen`` says what that was."""

    seen = forms.CharField(widget=forms.HiddenInput, max_length=64)
    reason = forms.CharField(max_length=400, label="Why", help_text="Kept in the record.")


class CoverageForm(PageForm):
    """Which escalation policies, and how far ahead."""

    weeks = forms.ChoiceField(required=False, choices=[("4", "4 weeks"), ("12", "12 weeks")], label="Ahead")
    team = forms.ChoiceField(required=False, widget=LongSelect)
    pagerduty_team = forms.ChoiceField(required=False, label="PagerDuty team", widget=LongSelect)
    service = forms.ChoiceField(required=False, widget=LongSelect)
    text = forms.CharField(required=False, max_length=200, label="Name of a policy, service or schedule")

    def __init__(
        self,
        data: Any,
        teams: Iterable[tuple[str, str]],
        pagerduty_teams: Iterable[tuple[str, str]],
        services: Iterable[tuple[str, str]],
    ) -> None:
        super().__init__(data)
        offered = {"team": teams, "pagerduty_team": pagerduty_teams, "service": services}
        for name, choices in offered.items():
            field = self.fields[name]
            assert isinstance(field, forms.ChoiceField)  # noqa: S101
            field.choices = [("", "any"), *choices]


class ResponseForm(PageForm):
    """Of which incidents it is told how fast they were answered."""

    days = forms.ChoiceField(
        required=False, choices=[("90", "90 days"), ("28", "28 days"), ("365", "365 days")], label="The last"
    )
    connection = forms.ChoiceField(required=False, widget=LongSelect)
    policy = forms.ChoiceField(required=False, label="Escalation policy", widget=LongSelect)
    service = forms.ChoiceField(required=False, widget=LongSelect)
    team = forms.ChoiceField(required=False, label="PagerDuty team", widget=LongSelect)
    urgency = forms.ChoiceField(required=False, choices=[("", "any"), ("high", "high"), ("low", "low")])
    priority = forms.ChoiceField(required=False, widget=LongSelect)

    def __init__(self, data: Any, connections: list[tuple[str, str]], **offered: Iterable[tuple[str, str]]) -> None:
        """``offered``: of each other field the choices."""
        super().__init__(data)
        if len(connections) < 2:
            del self.fields["connection"]
        choices = {"connection": connections, **{name: [("", "any"), *each] for name, each in offered.items()}}
        for name, field in self.fields.items():
            if name in choices and isinstance(field, forms.ChoiceField):
                field.choices = choices[name]


class EscalationsForm(PageForm):
    """Which escalation policies, and how far back their incidents are counted."""

    team = forms.ChoiceField(required=False, widget=LongSelect)
    severity = forms.ChoiceField(required=False, label="Wrong, at least")
    rule = forms.ChoiceField(required=False, label="What is wrong", widget=LongSelect)
    # The usual first: it is what is shown where none is chosen.
    days = forms.ChoiceField(
        required=False,
        label="Incidents of",
        choices=[
            (str(days), f"{days} days") for days in sorted(measured.DAYS, key=lambda days: days != measured.USUAL)
        ],
    )
    text = forms.CharField(required=False, max_length=200, label="Name of a policy, service or schedule")

    def __init__(self, data: Any, teams: Iterable[tuple[str, str]], rules: Iterable[tuple[str, str]]) -> None:
        super().__init__(data)
        for name, choices in (("team", teams), ("severity", ((each, each) for each in SEVERITIES)), ("rule", rules)):
            field = self.fields[name]
            assert isinstance(field, forms.ChoiceField)  # noqa: S101
            field.choices = [("", "any"), *choices]


FARTHEST: Final = dt.timedelta(days=3_660)
"""A time further away is none that a schedule could hold, and the calendar may end before it can be reckoned with."""


class IntendForm(PageForm):
    """Says that a gap is meant to be."""

    every = forms.ChoiceField(
        choices=[("once", "this gap alone"), ("week", "every week at this time")],
        widget=forms.RadioSelect,
        initial="once",
        label="What is intended",
        help_text="Only what lies within these hours: a gap that grows beyond them is shown again.",
    )
    until = forms.DateField(
        widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
        label="Until the end of",
        help_text="A day, a year ahead at most. From then on it is a gap like any other.",
    )
    reason = forms.CharField(max_length=500, label="Why", help_text="Shown beside it, and kept in the record.")

    def clean_until(self) -> dt.date:
        until: dt.date = self.cleaned_data["until"]
        if abs(until - timezone.localdate()) > FARTHEST:
            raise forms.ValidationError("This is more than ten years away.")
        return until


class MuteForm(PageForm):
    """Says that a finding is as it should be, for a while."""

    reason = forms.CharField(max_length=500, label="Why", help_text="Shown beside it, and kept in the record.")
    until = forms.DateField(
        widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
        label="Until the end of",
        help_text="A day, a year ahead at most. From then on it is told again.",
    )

    def clean_until(self) -> dt.date:
        until: dt.date = self.cleaned_data["until"]
        if abs(until - timezone.localdate()) > FARTHEST:
            raise forms.ValidationError("This is more than ten years away.")
        return until


class WhatIfForm(PageForm):
    """What a what-if has besides its levels: one target more, and how often it repeats."""

    add = forms.ChoiceField(required=False, label="Tell also", widget=LongSelect)
    to = forms.ChoiceField(required=False, label="On")
    loops = forms.IntegerField(label="Repeats", widget=forms.NumberInput(attrs={"min": 0, "max": 9}))

    def __init__(self, targets: Iterable[tuple[str, str]], levels: int, loops: int) -> None:
        super().__init__(initial={"loops": loops, "to": str(levels)}, auto_id="if-%s")
        numbers = [(str(number), f"level {number}") for number in range(1, levels + 1)]
        for name, choices in (
            ("add", [("", "nobody else"), *targets]),
            ("to", [*numbers, ("new", "a new last level")]),
        ):
            field = self.fields[name]
            assert isinstance(field, forms.ChoiceField)  # noqa: S101
            field.choices = choices


class OverrideForm(PageForm):
    """Who stands in, on which schedule and when; times in the reader's zone or as ISO 8601 says."""

    schedule = forms.ChoiceField(widget=LongSelect)
    person = forms.ChoiceField(label="Who goes on call", widget=LongSelect)
    starts = forms.CharField(label="From", widget=forms.DateTimeInput(attrs={"type": "datetime-local", "step": "1"}))
    ends = forms.CharField(label="Until", widget=forms.DateTimeInput(attrs={"type": "datetime-local", "step": "1"}))

    def __init__(
        self, data: Any, schedules: Iterable[tuple[str, str]], people: Iterable[tuple[str, str]], initial: Any = None
    ) -> None:
        super().__init__(data, initial=initial)
        for name, choices in (("schedule", schedules), ("person", people)):
            field = self.fields[name]
            assert isinstance(field, forms.ChoiceField)  # noqa: S101
            field.choices = list(choices)

    def clean_starts(self) -> dt.datetime:
        return moment(self.cleaned_data["starts"])

    def clean_ends(self) -> dt.datetime:
        ends = moment(self.cleaned_data["ends"])
        if ends <= timezone.now():
            raise forms.ValidationError("This is over already.")
        if (starts := self.cleaned_data.get("starts")) is not None and ends <= starts:
            raise forms.ValidationError("It ends before it begins.")
        return ends


class PagedForm(PageForm):
    """An incident of which service or policy, and when."""

    of = forms.ChoiceField(label="An incident of", widget=LongSelect)
    at = forms.CharField(
        required=False,
        label="That begins",
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}),
        help_text="Empty: now.",
    )
    urgency = forms.ChoiceField(
        required=False,
        choices=[("", "as the service says, else high"), ("high", "high"), ("low", "low")],
        help_text="Low urgency does not escalate by itself.",
    )

    def __init__(self, data: Any, choices: Iterable[Any], initial: Any = None) -> None:
        super().__init__(data, initial=initial)
        field = self.fields["of"]
        assert isinstance(field, forms.ChoiceField)  # noqa: S101
        field.choices = list(choices)

    def clean_at(self) -> dt.datetime | None:
        return moment(self.cleaned_data["at"]) if self.cleaned_data["at"] else None


def moment(text: str) -> dt.datetime:
    """A time as a browser's field or an address has it: without an offset it is in the reader's zone. To the second.

    Raises:
        ValidationError: it is none, or none that a schedule could hold.
    """
    try:
        found = dt.datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
        found = (timezone.make_aware(found) if found.tzinfo is None else found).astimezone(dt.UTC)
    except (ValueError, OverflowError) as error:
        raise forms.ValidationError("This is no time: write it like 2026-12-06T02:00.") from error
    if abs(found - timezone.now()) > FARTHEST:
        raise forms.ValidationError("This is more than ten years away.")
    return found.replace(microsecond=0)


class NoticesForm(ReasonForm):
    """What a team is told of gaps, and how."""

    horizon_days = forms.IntegerField(
        min_value=HORIZONS[0],
        max_value=HORIZONS[1],
        label="Days ahead",
        help_text="A gap is told once it begins within so many days.",
    )
    by_email = forms.BooleanField(
        required=False,
        label="Mail the managers",
        help_text="Each manager of this team, whatever address they sign in with.",
    )


class WebhookForm(ReasonForm):
    url = forms.CharField(
        max_length=LONGEST_ADDRESS,
        label="Address",
        widget=forms.TextInput(
            attrs={"autocomplete": "off", "inputmode": "url", "placeholder": "https://hooks.example.com/…"}
        ),
        help_text="It begins with https:// and leads to the Internet. Kept sealed: later only its host is shown.",
    )


class StandingForm(ReasonForm):
    """What must hold: an incident of what, when, reaches whom, within how long."""

    about = forms.ChoiceField(label="An incident of", widget=LongSelect)
    weekdays = forms.TypedMultipleChoiceField(
        coerce=int,
        choices=[(number, name) for number, name in enumerate(DAYS, 1)],
        widget=Days,
        label="On",
        error_messages={"required": "Choose at least one day of the week."},
    )
    clock = forms.TimeField(label="At", widget=forms.TimeInput(attrs={"type": "time"}, format="%H:%M"))
    time_zone = forms.ChoiceField(label="By the clock of", widget=LongSelect)
    whom = forms.ChoiceField(label="Must reach", widget=LongSelect)
    people = forms.MultipleChoiceField(
        required=False,
        label="Which people",
        widget=LongSelectMultiple(attrs={"size": 6}),
        help_text="Only where people are to be reached that are chosen here: one of them must be.",
    )
    within_minutes = forms.IntegerField(
        min_value=0,
        max_value=MOST_MINUTES,
        label="Within minutes",
        help_text="Until the first message to them is sent, by their own notification rules where these are known.",
    )

    def __init__(
        self,
        data: Any,
        about: Iterable[Any],
        whom: Iterable[tuple[str, str]],
        people: Iterable[tuple[str, str]],
        initial: Any = None,
        auto_id: str = "id_%s",
    ) -> None:
        super().__init__(data, initial=initial, auto_id=auto_id)
        offered: dict[str, Iterable[Any]] = {
            "about": about,
            "time_zone": zone_choices(),
            "whom": [("anybody", "anybody"), ("people", "one of the people chosen below"), *whom],
            "people": people,
        }
        for name, choices in offered.items():
            field = self.fields[name]
            assert isinstance(field, forms.ChoiceField)  # noqa: S101
            field.choices = list(choices)

    def clean(self) -> dict[str, Any]:
        values: dict[str, Any] = super().clean() or {}
        if values.get("whom") == "people" and not values.get("people") and "people" not in self.errors:
            self.add_error("people", "Choose at least one person.")
        return values


class SchedulesForm(PageForm):
    """Which schedules to list."""

    text = forms.CharField(required=False, max_length=100, label="Find")
    team = forms.ChoiceField(required=False, widget=LongSelect)

    def __init__(self, data: Any, teams: Iterable[tuple[str, str]]) -> None:
        super().__init__(data)
        field = self.fields["team"]
        assert isinstance(field, forms.ChoiceField)  # noqa: S101
        field.choices = [("", "any"), *teams]


class LoadForm(PageForm):
    """Whose load, over how long, and by which hours of the day."""

    connection = forms.ChoiceField(required=False, label="Team", widget=LongSelect)
    days = forms.ChoiceField(
        required=False,
        label="Over the last",
        choices=[("28", "28 days"), ("90", "90 days"), ("365", "365 days")],
    )
    pagerduty_team = forms.ChoiceField(required=False, label="PagerDuty team", widget=LongSelect)
    hours = forms.ChoiceField(
        required=False,
        label="Sleep hours",
        choices=[("api", "22 to 08, as PagerDuty's API"), ("insights", "21 to 08, as its Insights")],
    )

    def __init__(
        self, data: Any, connections: Iterable[tuple[str, str]], pagerduty_teams: Iterable[tuple[str, str]]
    ) -> None:
        """``pagerduty_teams``: none are offered where there are none."""
        # What a form shows is what is looked at, also where the address does not say it.
        super().__init__({"days": "90", **{name: data[name] for name in data}})
        offered = list(pagerduty_teams)
        for name, choices in (("connection", connections), ("pagerduty_team", [("", "any"), *offered])):
            field = self.fields[name]
            assert isinstance(field, forms.ChoiceField)  # noqa: S101
            field.choices = list(choices)
        if not offered:
            del self.fields["pagerduty_team"]


class TimelineForm(PageForm):
    """Which days of a schedule to show, by which clock."""

    view = forms.ChoiceField(
        required=False, label="Show", choices=[(name, view.said) for name, view in timeline.VIEWS.items()]
    )
    on = forms.DateField(
        required=False, label="With", widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d")
    )
    zone = forms.ChoiceField(required=False, label="By the clock of", widget=LongSelect)

    def __init__(self, data: Any, zones: Iterable[tuple[str, str]]) -> None:
        super().__init__(data)
        field = self.fields["zone"]
        assert isinstance(field, forms.ChoiceField)  # noqa: S101
        field.choices = list(zones)


class CloneForm(PageForm):
    """Whose tools are set as whose are."""

    source = forms.ModelChoiceField(
        Team.objects.order_by("name"),
        to_field_name="slug",
        label="As those of",
        empty_label="Choose a team",
        widget=LongSelect,
    )
    target = forms.ModelChoiceField(
        Team.objects.order_by("name"),
        to_field_name="slug",
        label="Set the tools of",
        empty_label="Choose a team",
        widget=LongSelect,
    )

    def clean(self) -> dict[str, Any]:
        values: dict[str, Any] = super().clean() or {}
        if "source" in values and values.get("source") == values.get("target"):
            raise forms.ValidationError("Choose two different teams.")
        return values


class CategoryForm(PageForm):
    """Which tools, of which teams, to what."""

    category = forms.ChoiceField(choices=[(name, name.capitalize()) for name in CATEGORIES])
    does = forms.ChoiceField(
        required=False, choices=[("", "all of it"), ("reads", "what reads"), ("writes", "what writes")]
    )
    state = forms.ChoiceField(label="Set to", choices=[(state.value, in_words(state.value)) for state in State])
    team = forms.ModelChoiceField(
        Team.objects.order_by("name"), required=False, to_field_name="slug", empty_label="every team", widget=LongSelect
    )


class AuditForm(PageForm):
    """A query of the journal, as fields: what each may be is the query's to say (``portal.audit.query``)."""

    since = forms.ChoiceField(required=False, label="Time")
    since_at = forms.CharField(required=False, label="From (UTC)", widget=forms.DateTimeInput(attrs=MINUTES))
    until = forms.CharField(required=False, label="To (UTC)", widget=forms.DateTimeInput(attrs=MINUTES))
    kind = forms.ChoiceField(
        required=False, choices=[("", "every kind"), *((kind.value, said) for kind, said in KINDS.items())]
    )
    team = forms.ChoiceField(required=False, widget=LongSelect)
    agent = forms.CharField(required=False, help_text="Its name, or the start of its key: pwk_….")
    person = forms.CharField(required=False, help_text="Name or e-mail.")
    connection = forms.CharField(required=False, help_text="Its name.")
    tool = forms.ChoiceField(required=False, choices=_choices(sorted(TOOLS), "every tool"), widget=LongSelect)
    risk = forms.ChoiceField(required=False, choices=_choices([risk.value for risk in Risk], "every risk"))
    verdict = forms.ChoiceField(
        required=False, choices=_choices([decision.value for decision in Decision], "every verdict")
    )
    outcome = forms.ChoiceField(
        required=False, choices=[("", "every outcome"), *((one.value, told) for one, (told, _) in OUTCOMES.items())]
    )
    door = forms.ChoiceField(required=False, choices=_choices([door.value for door in Door], "every door"))
    target = forms.CharField(required=False, help_text="An id of PagerDuty's, such as PT4KHLK.")
    decision = forms.CharField(required=False, label="Decision id")
    use = forms.CharField(required=False, label="Use of a tool", help_text="The id that its calls have in common.")
    words = forms.CharField(required=False, label="Words", help_text="Of a tool, a target or anything in the record.")
    revealed = forms.ChoiceField(
        required=False,
        label="Unmasked",
        choices=[("", "every answer"), ("yes", "only answers that showed what is masked")],
    )
    jobs = forms.ChoiceField(
        required=False, label="The portal's own calls", choices=[("", "shown"), ("hidden", "hidden")]
    )

    def __init__(self, user: User, initial: dict[str, str]) -> None:
        super().__init__(initial=initial)
        teams = Team.objects.visible_to(user).values_list("slug", "name")
        offered = {"team": {"": "every team", **dict(teams)}, "since": {"": "any, or from and to", **SINCE}}
        for name, known in offered.items():
            field = self.fields[name]
            assert isinstance(field, forms.ChoiceField)  # noqa: S101
            value = initial.get(name, "")
            # A query may say more than the form offers: 3h, or the number of a team that is gone.
            field.choices = [*known.items(), *([(value, value)] if value not in known else [])]
        for field in self.fields.values():
            field.widget.attrs["autocomplete"] = "off"


class ReviewForm(PageForm):
    """Marks what a query finds, up to an entry, as looked through."""

    note = forms.CharField(max_length=500, help_text="What you looked for and found. Kept in the record.")
    first = forms.IntegerField(min_value=1, label="From entry")
    last = forms.IntegerField(min_value=1, label="To entry")


class ViewForm(PageForm):
    name = forms.CharField(max_length=60, label="Save this query as", help_text="For yourself alone.")


LARGEST_CHECKPOINT = 5_000_000
"""Bytes: those of thousands of chains are smaller."""


class CheckpointForm(PageForm):
    """A checkpoint that somebody kept."""

    file = forms.FileField(
        label="The checkpoint that you kept",
        help_text="A file checkpoint-….json, at most 5 MB. It is held against the whole journal.",
        allow_empty_file=True,
    )

    def clean_file(self) -> str:
        given = self.cleaned_data["file"]
        if given.size > LARGEST_CHECKPOINT:
            raise forms.ValidationError("This file is larger than 5 MB, which no checkpoint is.")
        if not given.size:
            raise forms.ValidationError("This file is empty.")
        try:
            return str(given.read().decode())
        except ValueError as error:
            raise forms.ValidationError("This file is no text: a checkpoint is JSON.") from error


class DigestForm(PageForm):
    weekly_digest = forms.BooleanField(
        required=False,
        label="Send me the weekly digest",
        help_text="On Mondays at 08:00 UTC: what the agents did that you answer for, what was denied, what is about to expire.",
    )


LONG = frozenset({"description", "details", "html_message", "message", "note", "resolution"})
"""Texts that may have several lines."""
GIVEN = "given"
"""Before the names of a tool's arguments in a form."""


class Lines(forms.CharField):
    """A list of texts or whole numbers, one a line."""

    def __init__(self, *args: Any, numbers: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, widget=forms.Textarea(attrs={"rows": 2}), **kwargs)
        self.numbers = numbers

    def to_python(self, value: Any) -> Any:
        lines = [line.strip() for line in (value or "").splitlines() if line.strip()]
        if not self.numbers:
            return lines
        try:
            return [int(line) for line in lines]
        except ValueError as error:
            raise forms.ValidationError("Whole numbers, one a line.") from error

    def run_validators(self, value: Any) -> None:
        """What is in the lines the tool judges."""


class ToolForm(PageForm):
    """The arguments of one tool, from the flat JSON schema that MCP clients get of it. What a browser can check is checked
    here; the rest the tool judges itself."""

    def __init__(self, tool: Tool, data: Any = None) -> None:
        super().__init__(data, prefix=GIVEN)
        schema = definition(tool)["inputSchema"]
        required = schema.get("required", [])
        examples = {name: told.get("examples") for name, told in tool.input_schema["properties"].items()}
        for name in [*required, *(name for name in schema["properties"] if name not in required)]:
            self.fields[name] = _field(name, schema["properties"][name], name in required, examples.get(name))
        styled(self)

    def arguments(self) -> dict[str, Any]:
        """What was filled in. An argument that was left empty is not given."""
        return {name: value for name, value in self.cleaned_data.items() if value not in ("", None, [])}


def _field(name: str, schema: dict[str, Any], required: bool, examples: Any) -> forms.Field:
    kind, choices = schema["type"], schema.get("enum") or schema.get("items", {}).get("enum")
    common: dict[str, Any] = {
        "required": required,
        "label": name.replace("_", " ").capitalize(),
        "help_text": schema.get("description", ""),
    }
    field: forms.Field
    if kind == "array" and choices:
        common["help_text"] = common["help_text"] or "any of these"
        field = forms.MultipleChoiceField(
            choices=[(word, word) for word in choices], widget=forms.CheckboxSelectMultiple, **common
        )
    elif kind == "array":
        common["help_text"] = f"{common['help_text']} One a line.".strip()
        field = Lines(numbers=schema["items"].get("type") == "integer", **common)
    elif choices:
        field = forms.ChoiceField(choices=[("", "not given"), *((word, word) for word in choices)], **common)
    elif kind == "boolean":
        field = forms.TypedChoiceField(
            choices=[("", "not given"), ("yes", "yes"), ("no", "no")],
            coerce=lambda value: value == "yes",
            empty_value=None,
            **common,
        )
    elif kind == "integer":
        field = forms.IntegerField(min_value=schema.get("minimum"), max_value=schema.get("maximum"), **common)
    else:
        widget = forms.Textarea(attrs={"rows": 3}) if name in LONG else forms.TextInput()
        field = forms.CharField(strip=False, widget=widget, **common)
        if schema.get("format") == "date-time":
            widget.attrs["placeholder"] = "2026-11-30T09:00:00Z"
    if examples and not choices and kind in ("string", "integer", "array"):
        first = examples[0]
        field.widget.attrs["placeholder"] = "\n".join(map(str, first)) if isinstance(first, list) else str(first)
    field.widget.attrs["autocomplete"] = "off"
    return field


class ExplainDecisionForm(PageForm):
    """A decision that was made."""

    decision = forms.CharField(
        max_length=64, strip=True, help_text="As a denial names it: decision_id, or the header X-Pagewarden-Decision."
    )


class WouldForm(PageForm):
    """A decision that would be made."""

    who = forms.ChoiceField(label="Agent", widget=LongSelect)
    tool = forms.ChoiceField(
        choices=[(name, f"{tool.title} ({name})") for name, tool in TOOLS.items()], widget=LongSelect
    )
    arguments = forms.CharField(
        required=False,
        max_length=20_000,
        widget=forms.Textarea(attrs={"rows": 3, "placeholder": '{"incident_id": "PT4KHLK"}', "autocomplete": "off"}),
        help_text="As JSON. Empty: what holds for every call of the tool.",
    )

    def __init__(self, user: User, data: Any = None) -> None:
        super().__init__(data)
        field = self.fields["who"]
        assert isinstance(field, forms.ChoiceField)  # noqa: S101
        keys = AgentKey.objects.visible_to(user).select_related("team").order_by("team__name", "name")
        # An auditor uses no tool.
        teams = [] if user.is_auditor else list(Team.objects.visible_to(user))
        field.choices = [
            *((f"me:{team.slug}", f"Myself, for {team.name}") for team in teams),
            *((f"key:{key.pk}", f"{key.team.name}: {key.name} (pwk_{key.prefix})") for key in keys),
        ]

    def clean_arguments(self) -> dict[str, Any] | None:
        text = self.cleaned_data["arguments"].strip()
        if not text:
            return None
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise forms.ValidationError('This is no JSON: write an object, such as {"limit": 5}.') from error
        if not isinstance(found, dict):
            raise forms.ValidationError('The arguments are one JSON object, such as {"limit": 5}.')
        return found


class AskForm(PageForm):
    why = forms.CharField(
        max_length=500, label="Why it is needed", help_text="Mailed to the managers, and kept in the record."
    )


class AnswerForm(PageForm):
    word = forms.CharField(
        max_length=500,
        label="A word to them",
        help_text="Mailed to whoever asked, and kept in the record as the reason.",
    )


class AccessForm(PageForm):
    """Who could do what on a day."""

    day = forms.DateField(widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"), label="On the day (UTC)")
    what = forms.ChoiceField(label="Could use", widget=LongSelect)
    team = forms.ChoiceField(required=False, widget=LongSelect)

    def __init__(self, user: User, data: Any = None, initial: Any = None) -> None:
        super().__init__(data, initial=initial)
        what, team = self.fields["what"], self.fields["team"]
        assert isinstance(what, forms.ChoiceField)  # noqa: S101
        assert isinstance(team, forms.ChoiceField)  # noqa: S101
        what.choices = [
            *((f"risk:{risk.value}", f"any tool of {risk.value} risk") for risk in reversed(Risk)),
            *((f"category:{number}", f"any tool of {category}") for number, category in enumerate(CATEGORIES)),
            *((f"tool:{name}", f"{tool.title} ({name})") for name, tool in TOOLS.items()),
        ]
        team.choices = [("", "every team that you read"), *read_teams(user).values_list("slug", "name")]

    def clean_day(self) -> dt.date:
        day: dt.date = self.cleaned_data["day"]
        if day > timezone.now().astimezone(dt.UTC).date():
            raise forms.ValidationError("This day has not come yet.")
        return day


def read_teams(user: User) -> QuerySet[Team]:
    """The teams whose record somebody reads: all, or those that they manage."""
    return Team.objects.all() if user.is_administrator or user.is_auditor else Team.objects.editable_by(user)
