"""The traps of sealing a token, each a test."""

from __future__ import annotations

import copy
import io
import json
import logging
import pickle
import sys
import traceback
import uuid

import pytest
from cryptography.fernet import Fernet, InvalidToken
from django.contrib import admin
from django.core import serializers
from django.core.exceptions import FieldError, ImproperlyConfigured
from django.core.management import call_command
from django.db import connection as database
from django.db.models import F
from django.forms import modelform_factory
from django.forms.models import model_to_dict
from django.test import override_settings
from django.views.debug import ExceptionReporter

from integrations.fields import Sealed, reseal, seal, sealed_by
from integrations.models import Connection
from integrations.pagerduty.transport import UnsealError, unseal
from tests.conftest import Cast

TOKEN = "u+PLANTEDplantedTOKEN42"
OLD, NEW = Fernet.generate_key().decode(), Fernet.generate_key().decode()
ROW = uuid.UUID("0f7e0cb4-6c52-4f0e-8f61-0f6b6d7f3a11")


@pytest.fixture
def row(cast: Cast) -> Connection:
    made = Connection(team=cast.payments, name="Main", kind="user", fingerprint="f" * 64, from_email="mina@example.com")
    made.token = seal(made.pk, TOKEN)
    made.save()
    return made


def stored(row: Connection) -> str:
    with database.cursor() as cursor:
        cursor.execute("SELECT token FROM integrations_connection")
        return str(cursor.fetchone()[0])


def test_a_token_opens_with_its_key_for_its_row(row: Connection) -> None:
    loaded = Connection.objects.get()
    assert unseal(loaded.token.ciphertext, str(row.pk)) == TOKEN
    assert TOKEN not in stored(row)


def test_a_wrong_key_raises_and_gives_no_ciphertext_in_place_of_the_token(row: Connection) -> None:
    with override_settings(FIELD_ENCRYPTION_KEY=[OLD]):
        loaded = Connection.objects.get()
        with pytest.raises(UnsealError) as raised:
            unseal(loaded.token.ciphertext, str(row.pk))
    assert stored(row)[:20] not in str(raised.value)


def test_the_ciphertext_of_another_row_raises(row: Connection, cast: Cast) -> None:
    other = Connection(team=cast.search, name="Theirs", kind="user", fingerprint="e" * 64, from_email="o@example.com")
    other.token = row.token
    other.save()
    with pytest.raises(UnsealError):
        unseal(Connection.objects.get(name="Theirs").token.ciphertext, str(other.pk))


@pytest.mark.parametrize("damage", [b"", b"gAAAA", b"\xff\xfe", TOKEN.encode()])
def test_what_was_never_sealed_does_not_open(damage: bytes) -> None:
    with pytest.raises(UnsealError):
        unseal(damage, str(ROW))
    assert sealed_by(Sealed(damage)) is None


def test_a_token_with_colons_comes_back_whole() -> None:
    assert unseal(seal(ROW, "a:b::c").ciphertext, str(ROW)) == "a:b::c"


def test_saving_again_does_not_seal_again(row: Connection) -> None:
    before = stored(row)
    for _ in range(2):
        loaded = Connection.objects.get()
        loaded.save()
    assert stored(row) == before
    assert unseal(Connection.objects.get().token.ciphertext, str(row.pk)) == TOKEN


def test_saving_with_a_wrong_key_leaves_the_seal_as_it_was(row: Connection) -> None:
    before = stored(row)
    with override_settings(FIELD_ENCRYPTION_KEY=[OLD]):
        Connection.objects.get().save()
    assert stored(row) == before


@pytest.mark.parametrize("bare", [TOKEN, TOKEN.encode(), "", 5])
def test_a_bare_token_is_not_stored(row: Connection, bare: object) -> None:
    row.token = bare  # type: ignore[assignment]  # what a mistake would do
    with pytest.raises(TypeError) as raised:
        row.save()
    assert TOKEN not in str(raised.value)
    with pytest.raises(TypeError):
        Connection.objects.update(token=bare)


@pytest.mark.parametrize(
    "lookup",
    [
        {"token": TOKEN},
        {"token__exact": TOKEN},
        {"token__in": [TOKEN]},
        {"token__contains": "PLANTED"},
        {"token__startswith": "gAAAA"},
        {"token__gt": "a"},
        {"token__regex": "."},
        {"token__lower": "a"},
        {"candidate": TOKEN},
    ],
)
def test_there_is_no_looking_a_token_up(row: Connection, lookup: dict[str, object]) -> None:
    with pytest.raises(FieldError):
        Connection.objects.filter(**lookup).exists()


def test_whether_there_is_a_replacement_may_be_asked(row: Connection) -> None:
    assert Connection.objects.filter(candidate__isnull=True).get() == row


def test_no_rendering_shows_the_token_or_its_ciphertext(row: Connection) -> None:
    sealed = Connection.objects.get().token
    shown = [
        str(sealed),
        repr(sealed),
        f"{sealed}",
        format(sealed),
        "{}".format(sealed),  # noqa: UP032  (another way to show it)
        str([sealed]),
        repr({"a": sealed}),
        str(row),
        repr(row),
        str(model_to_dict(row)),
        str(Connection.objects.values()),
        str(vars(row)),
        str(Connection.objects.annotate(again=F("token")).values_list("again")),
    ]
    with pytest.raises(TypeError):
        json.dumps({"token": sealed})
    for text in shown:
        assert TOKEN not in text
        assert stored(row)[:30] not in text


def test_a_sealed_token_is_not_pickled(row: Connection) -> None:
    for thing in (row.token, row):
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(thing)
    assert copy.deepcopy(row).token == row.token


@pytest.mark.parametrize("form", ["json", "xml", "python", "jsonl"])
def test_no_serialiser_writes_a_token(row: Connection, form: str) -> None:
    with pytest.raises(TypeError, match="not serialised"):
        serializers.serialize(form, Connection.objects.all())
    out = io.StringIO()
    with pytest.raises(Exception, match="not serialised"):
        call_command("dumpdata", "integrations", stdout=out)
    assert stored(row)[:30] not in out.getvalue()


def test_no_form_and_no_admin_form_has_the_field(row: Connection) -> None:
    fields = modelform_factory(Connection, fields="__all__").base_fields
    assert "name" in fields
    assert not {"token", "candidate"} & set(fields)
    assert not {"token", "candidate"} & {
        field.name for field in Connection._meta.get_fields() if getattr(field, "editable", False)
    }
    if Connection in admin.site._registry:
        assert "token" not in admin.site._registry[Connection].list_display


def test_a_traceback_with_every_local_shows_nothing(row: Connection, caplog: pytest.LogCaptureFixture) -> None:
    ciphertext = stored(row)

    def fails(connection: Connection, sealed: Sealed) -> None:
        raise RuntimeError(f"something with {sealed} of {connection}")

    try:
        fails(row, row.token)
    except RuntimeError:
        logging.getLogger("test").exception("failed for %s", row.token)
        kind, error, trace = sys.exc_info()
        html = ExceptionReporter(None, kind, error, trace).get_traceback_html()
        text = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())  # type: ignore[arg-type]
    # The test's own local is what it looks for: only the frame that failed counts.
    frame = text[text.rindex("in fails") :]
    assert "<sealed>" in frame
    for shown in (frame, caplog.text):
        assert ciphertext[:30] not in shown
        assert TOKEN not in shown
    assert "&lt;sealed&gt;" in html


def test_the_bare_token_is_no_local_that_an_error_report_shows(cast: Cast) -> None:
    with override_settings(FIELD_ENCRYPTION_KEY=["not a key"]):
        try:
            seal(ROW, TOKEN)
        except ValueError:
            kind, error, trace = sys.exc_info()
            frames = ExceptionReporter(None, kind, error, trace).get_traceback_frames()
    inside = [frame for frame in frames if frame["function"] == "seal"]
    assert inside
    assert TOKEN not in str([frame["vars"] for frame in inside])
    assert TOKEN not in str(error)


def test_keys_are_read_when_they_are_used(row: Connection) -> None:
    with override_settings(FIELD_ENCRYPTION_KEY=[OLD]):
        under_old = seal(ROW, TOKEN)
    with pytest.raises(UnsealError):
        unseal(under_old.ciphertext, str(ROW))
    with override_settings(FIELD_ENCRYPTION_KEY=[NEW, OLD]):
        assert unseal(under_old.ciphertext, str(ROW)) == TOKEN
    with override_settings(FIELD_ENCRYPTION_KEY=[]), pytest.raises(ImproperlyConfigured):
        seal(ROW, TOKEN)


def test_the_first_key_seals_and_every_key_opens() -> None:
    with override_settings(FIELD_ENCRYPTION_KEY=[OLD]):
        under_old = seal(ROW, TOKEN)
        assert sealed_by(under_old) == 0
    with override_settings(FIELD_ENCRYPTION_KEY=[NEW, OLD]):
        assert sealed_by(under_old) == 1
        under_new = reseal(under_old)
        assert sealed_by(under_new) == 0
        assert under_new != under_old
    with override_settings(FIELD_ENCRYPTION_KEY=[NEW]):
        assert unseal(under_new.ciphertext, str(ROW)) == TOKEN
        assert sealed_by(under_old) is None
        with pytest.raises(InvalidToken):
            reseal(under_old)
