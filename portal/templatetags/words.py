"""How sentences that are made in Python are marked up on pages."""

from __future__ import annotations

from django import template
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

register = template.Library()


@register.filter
def code(sentence: str) -> SafeString:
    """A sentence, with what stands between backticks in it as code."""
    return format_html_join(
        "",
        "{}",
        ((format_html("<code>{}</code>", part) if odd % 2 else part,) for odd, part in enumerate(sentence.split("`"))),
    )
