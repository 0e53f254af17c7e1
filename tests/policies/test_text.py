"""Text from outside: what is shown of it hides nothing and does nothing, and no secret in it is kept."""

from __future__ import annotations

import json
import logging
import re
import time
import unicodedata
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied, ValidationError
from hypothesis import example, given
from hypothesis import strategies as st

from policies import actions, keys
from policies.core.text import REDACTED, redacted, shown, written_out
from policies.models import ConfigChange, Entry
from portal.logs import Line
from tests.conftest import Cast

HOSTILE = "a\x1b[2J\x1b]0;x\x07\r\nb\u202egnp\u2066\u200b\u00ad\ufeff\U000e0041\ufe0f\ufe0f\U000e0100\x9b\x00\ud800c"
"""An escape of a terminal, a second line, a turned direction, what is not seen, and half a character."""


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("two\nlines\r\nand\ttabs\u2028more\x85end", "two lines and tabs more end"),
        ("\x1b[31mred\x07\x7f\x9b", "\\x1b[31mred\\x07\\x7f\\x9b"),
        ("abc\u202egnp.exe\u2066\u200f\u061c", "abc\\u202egnp.exe\\u2066\\u200f\\u061c"),
        ("ad\u200bmin\u2060\ufeff\u00ad\u180e\u034f\u3164", "ad\\u200bmin\\u2060\\ufeff\\xad\\u180e\\u034f\\u3164"),
        ("hi\U000e0068\U000e0069", "hi\\U000e0068\\U000e0069"),
        ("🏴\U000e0067\U000e007f", "🏴\\U000e0067\\U000e007f"),
        ("a\ufe0f\ufe01\U000e0100", "a\\ufe0f\\ufe01\\U000e0100"),
        ("❤\ufe0f\ufe0e\ufe0f", "❤\\ufe0f\\ufe0e\\ufe0f"),
        ("half \ud83d", "half \\ud83d"),
        ("nobody's \U000fffff \uffff", "nobody's \\U000fffff \\uffff"),
    ],
)
def test_what_hides_or_acts_is_written_out(text: str, seen: str) -> None:
    assert shown(text, 100) == seen


@pytest.mark.parametrize(
    "text",
    [
        "Zoë Łukasz 日本\u3000語 Ελλάδα العربية עברית",
        "👩‍💻 👍🏽 ❤️ 🇩🇪 1️⃣ #️⃣ ©️ 🏳️‍🌈 👨‍👩‍👧",
        "می‌خواهم क्‍ष",  # with joiners that their scripts are written with
        "e\u0301 is not made é, nor ﬁ fi, nor Ａ A",
        "C:\\x1b stays",
        "",
    ],
)
def test_what_people_write_stays_as_it_is(text: str) -> None:
    assert shown(text, 100) == text


def test_a_page_keeps_its_lines_and_what_people_write() -> None:
    page = "<p>\n\tZoë 👩‍💻 … می‌خواهم\r\n</p>"
    assert written_out(page) == page
    assert written_out(f"{page}\u202e\u200b") == f"{page}\\u202e\\u200b"


def test_a_joiner_that_joins_nothing_is_written_out() -> None:
    assert shown("a\u200db", 9) == "a\\u200db"
    assert shown("👩\u200d", 9) == "👩\\u200d"
    assert shown("👩\u200d\u200d💻", 20) == "👩\\u200d\\u200d💻"


def test_it_is_never_longer_than_it_may_be() -> None:
    assert shown("x" * 10, 10) == "x" * 10
    assert shown("x" * 11, 10) == "x" * 9 + "…"
    assert shown("\x00" * 10, 10) == "\\x00\\x00\\…"
    assert len(shown("\U000e0041" * 1_000_000, 50)) == 50


@given(st.text(st.characters(), max_size=60) | st.text(st.sampled_from(HOSTILE + "👩💻می‌ab\u200d❤"), max_size=40))
@example(HOSTILE)
def test_nothing_that_is_shown_acts_or_hides_and_it_is_shown_alike_twice(text: str) -> None:
    seen = shown(text, 1_000)
    assert shown(seen, 1_000) == seen
    seen.encode()
    kept = [char for char in seen if unicodedata.category(char) in ("Cc", "Cs", "Cn", "Co", "Zl", "Zp")]
    assert kept == []
    hidden = [char for char in seen if unicodedata.category(char) == "Cf"]
    assert set(hidden) <= {"\u200c", "\u200d"}
    assert not re.search("[\ufe00-\ufe0f\u200c\u200d]{2}", seen.replace("\ufe0f\u200d", ""))


# Secrets

_alnum = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def made(form: str) -> st.SearchStrategy[str]:
    return st.from_regex(re.compile(form, re.ASCII), fullmatch=True)


SECRETS = {
    "this portal's agent key": st.builds(lambda: keys.shown(*keys.new_key())),
    "PagerDuty's user token": made(r"u\+[A-Za-z0-9_-]{18}"),
    "PagerDuty's account key": made(r"y_[A-Za-z0-9_-]{17}[A-Z0-9]"),
    "PagerDuty's OAuth token": made(r"pdus\+_0X[A-Z0-9_]{8,20}_[0-9a-f]{8}-[0-9a-f]{4}"),
    "PagerDuty's integration key": made(r"[0-9a-f]{32}"),
    "PagerDuty's routing key": made(r"R0[0-9A-Z]{30}"),
    "AWS": made(r"(AKIA|ASIA)[A-Z0-9]{16}"),
    "GitHub": made(r"gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}"),
    "Slack": made(r"xox[baprs]-[0-9]{10,13}-[a-zA-Z0-9]{24}"),
    "Google": made(r"AIza[A-Za-z0-9_-]{35}"),
    "Stripe": made(r"sk_live_[A-Za-z0-9]{24}"),
    "a signed token": made(r"eyJ[A-Za-z0-9_-]{20}\.[A-Za-z0-9_-]{20}\.[A-Za-z0-9_-]{20}"),
}
"""Each is whole what must go."""
AROUND = {
    "Bearer {}": made(r"[A-Za-z0-9._~+/-]{10,30}[0-9][A-Za-z0-9]{3}"),
    "Authorization: Token token={}": made(r"[A-Za-z0-9_+-]{12,20}"),
    "password={}": made(r"[!-~]{4,20}").filter(lambda text: text[0] not in "\"'["),
    'PASSWORD = "{}"': made(r"[ !#-~]{4,20}"),
    '{{"api_key": "{}"}}': made(r"[ !#-~]{4,20}"),
    "the secret: {}": made(r"[A-Za-z]{4,8}[0-9!$%][A-Za-z]{4}"),
    "postgres://user:{}@db.example.com/x": made(r"[A-Za-z0-9!$%]{4,20}"),
    "-----BEGIN RSA PRIVATE KEY-----\n{}\n-----END RSA PRIVATE KEY-----": made(r"[A-Za-z0-9+]{40}"),
    "-----BEGIN PRIVATE KEY----- {}": made(r"[A-Za-z0-9+]{40}"),
    "webcal://acme.pagerduty.com/private/{}/feed": made(r"[0-9a-f]{40,64}"),
    "https://hooks.slack.com/services/{}": made(r"T[A-Z0-9]{8}/B[A-Z0-9]{8}/[A-Za-z0-9]{24}"),
}
"""What a secret stands in, which names it, and the secret that must go."""
before = st.sampled_from(["", "see ", "was (", "key: ", "ä ", "x\n", "-> "])
after = st.sampled_from(["", " now gone", ") and", ", so", "\ny", " Checkout-Production-v2"])


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_that_is_known_by_its_form_is_never_left(name: str) -> None:
    @given(SECRETS[name], before, after)
    def run(secret: str, one: str, two: str) -> None:
        kept = redacted(f"{one}{secret}{two}")
        assert secret not in kept
        assert REDACTED in kept
        assert redacted(kept) == kept

    run()


@pytest.mark.parametrize("form", AROUND)
def test_a_secret_that_is_known_by_what_it_stands_in_is_never_left(form: str) -> None:
    @given(AROUND[form], before, after)
    def run(secret: str, one: str, two: str) -> None:
        kept = redacted(f"{one}{form.format(secret)}{two}")
        assert secret not in kept.replace(REDACTED, "")
        assert REDACTED in kept
        assert redacted(kept) == kept

    run()


@pytest.mark.parametrize(
    "text",
    [
        "OAuth bearer tokens expired, and basic authentication too",
        "New token: the old one was leaked",
        "password reset for INC-1234; the secret is out",
        "Checkout-Production-v2-eu-west and CheckoutServiceProductionV2",
        "https://example.com/runbooks/checkout?since=2026-11-24T00:00:00Z",
        "ssh://git@github.com/acme/payments",
        "3f786850e387550fdab836ed7e6dc881de23001b",  # a commit
        "01a20b8fe9c8ff7c348099ac5130",  # a decision
        "mina@example.com and PT4KHLK, +1 415 555 0100",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redacted(text) == text


@pytest.mark.parametrize(
    "piece", ["://", "a", "A1b", "password=", "bearer ", "eyJ", "xoxb-", "-----BEGIN A-----", "u+", "a.", "\U000e0041"]
)
def test_however_hostile_it_takes_time_by_its_length_alone(piece: str) -> None:
    began = time.process_time()
    redacted(piece * (200_000 // len(piece)))
    shown(piece * (200_000 // len(piece)), 200_000)
    assert time.process_time() - began < 2


# Where it comes in


@pytest.mark.parametrize("text", ["a\u202eb", "a\ufe0f\ufe0fb", "ad\u200bmin", "hi\U000e0041", "password=hunter2"])
def test_a_name_or_reason_that_hides_something_or_holds_a_secret_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        actions.plain(text, "The reason", maximum=500)


@pytest.mark.parametrize("text", ["👩‍💻 on call", "Zoë's ❤️", "می‌خواهم"])
def test_names_with_joined_signs_are_names(text: str) -> None:
    assert actions.plain(text, "The name", maximum=100) == text


@pytest.mark.django_db(transaction=True)
def test_what_came_past_that_is_not_kept_in_a_change_either(cast: Cast) -> None:
    from django.db import transaction

    secret = "u+AbC3dEf9GhI2jKl5mN"
    facts: dict[str, Any] = {
        "name": f"key {secret}",
        "more": [{"deep": f"password={secret}"}],
        f"{secret}": None,
        "n": 3,
    }
    with transaction.atomic():
        change = actions.record_change(
            by=cast.ada,
            team=cast.payments,
            action="test",
            target=f"of {secret}{HOSTILE}",
            before=None,
            after=facts,
            reason=f"was {secret}",
        )
    stored = ConfigChange.objects.get(pk=change.pk)
    row = Entry.objects.get(kind="config")
    assert stored.reason == f"was {REDACTED}"
    assert isinstance(stored.after, dict)
    assert stored.after["n"] == 3
    for kept in (json.dumps([stored.before, stored.after, stored.target, stored.reason]), row.record):
        assert secret not in kept
        assert "\\u202e" not in kept.replace("\\\\u202e", "")
        assert REDACTED in kept


def test_a_line_of_the_log_is_one_line_without_secrets_and_a_traceback_is_told_apart() -> None:
    def logged(*args: Any, exc_info: Any = None) -> str:
        record = logging.LogRecord("x", logging.ERROR, "", 0, "Failed: %s", args, exc_info)
        return Line("{asctime} {levelname} {name}: {message}", style="{").format(record)

    line = logged(f"{HOSTILE}\n2026-11-24 00:00:00 INFO portal: all is well, y_NbAkKc66ryYTWUXYEu")
    assert "y_NbAkKc66ryYTWUXYEu" not in line
    assert "\x1b" not in line
    assert "\\x1b[2J" in line
    assert [part[:4] for part in line.split("\n")[1:]] == ["    "] * line.count("\n")
    try:
        raise ValueError("one\n2026-11-24 00:00:00 INFO portal: forged\x1b[2J Bearer abc123defg")
    except ValueError as error:
        told = logged("x", exc_info=(type(error), error, error.__traceback__))
    assert "Traceback" in told
    assert "abc123defg" not in told
    assert all(part.startswith("    ") for part in told.split("\n")[1:])
    assert "\x1b" not in told


def test_whoever_may_not_do_something_is_one_line_of_the_log() -> None:
    error = PermissionDenied("The grid is for administrators.")
    record = logging.LogRecord("x", logging.WARNING, "", 0, "Forbidden: /grid/", (), (PermissionDenied, error, None))
    assert Line("{message}", style="{").format(record) == "Forbidden: /grid/"


def test_the_portals_log_is_written_so() -> None:
    from django.conf import settings

    assert "'()': 'portal.logs.Line'" in str(settings.LOGGING["formatters"])
