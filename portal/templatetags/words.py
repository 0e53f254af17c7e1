"""How sentences and times that are made in Python are marked up on pages."""

from __future__ import annotations

import datetime as dt

from django import template
from django.utils import dateformat, timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.timesince import timesince

from integrations.pagerduty.analysis.model import Span
from policies.core.call import EntryKind, Outcome
from portal.forms import KINDS, KINDS_TOLD, OUTCOMES

register = template.Library()


@register.filter
def code(sentence: str) -> SafeString:
    """A sentence, with what stands between backticks in it as code."""
    return format_html_join(
        "",
        "{}",
        ((format_html("<code>{}</code>", part) if odd % 2 else part,) for odd, part in enumerate(sentence.split("`"))),
    )


FORMS = {
    "minutes": "j M Y, H:i",
    "seconds": "Y-m-d H:i:s",
    "exactly": "Y-m-d H:i:s.u",
    "day": "j F Y",
    "month": "F Y",
    "weekday": "D j M",
    "weekday minutes": "D j M, H:i",
    "clock": "H:i",
}
"""How a time can be written, in Django's letters; besides, ``ago`` says how long it is past."""


@register.filter
def when(at: dt.datetime | None, form: str = "minutes") -> SafeString:
    """A moment (aware), in the reader's zone, with UTC on hover; nothing for None. ``form``: one of ``FORMS``, ``ago``, or
    ``utc day``: the day in UTC, which it names, for what was given as a day there."""
    if at is None:
        return SafeString()
    utc = at.astimezone(dt.UTC)
    if form == "ago":
        past = timesince(at)
        told = "just now" if past.startswith("0") else f"{past} ago"
    elif form == "utc day":
        told = f"{dateformat.format(utc, FORMS['day'])}, UTC"
    else:
        told = dateformat.format(timezone.localtime(at), FORMS[form])
    full = dateformat.format(utc, "j M Y, H:i:s")
    return format_html('<time datetime="{}" title="{} UTC">{}</time>', utc.isoformat(), full, told)


@register.filter
def outcome(value: str) -> SafeString:
    """How a call ended, in plain words with the exact term on hover."""
    if value not in OUTCOMES:
        return format_html("{}", value) if value else SafeString('<span class="none">—</span>')
    return format_html('<span title="{1}">{0}</span>', *OUTCOMES[Outcome(value)])


@register.filter
def kind(value: str) -> SafeString:
    """What an entry of the journal is, likewise."""
    return format_html('<span title="{}">{}</span>', KINDS_TOLD[EntryKind(value)], KINDS[EntryKind(value)])


@register.filter
def between(span: Span) -> SafeString:
    """A time of hours or days, such as *Sun 6 Dec, 02:00 to 06:00*, in the reader's zone."""
    start, end = (dt.datetime.fromtimestamp(each, dt.UTC) for each in span)
    same = timezone.localtime(start).date() == timezone.localtime(end).date()
    return format_html("{} to {}", when(start, "weekday minutes"), when(end, "clock" if same else "weekday minutes"))
