"""The sealed-token field: django-encrypted-model-fields with its traps closed.

The library's field decrypts on every load, hands back the ciphertext when the key is wrong, seals twice what it
could not open, and freezes its keys at import. Ours never opens anything: a row is loaded with an opaque ``Sealed``,
which only ``integrations/pagerduty/transport.py`` opens, naming the row that it expects to find inside.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import uuid
from collections.abc import Sequence
from typing import Any, NoReturn, cast

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.core.exceptions import FieldError, ImproperlyConfigured
from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.views.decorators.debug import sensitive_variables
from encrypted_model_fields.fields import EncryptedTextField


class Sealed:
    """A token at rest. It shows nothing of itself, in any rendering."""

    __slots__ = ("ciphertext",)

    def __init__(self, ciphertext: bytes) -> None:
        self.ciphertext = ciphertext

    def __repr__(self) -> str:
        return "<sealed>"

    __str__ = __repr__

    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sealed) and other.ciphertext == self.ciphertext

    def __hash__(self) -> int:
        return hash(self.ciphertext)

    # It never changes, and a copy in the same process is no leak: Django copies what querysets hold.
    def __copy__(self) -> Sealed:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Sealed:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("A sealed token is not pickled: it belongs in its row alone.")


@functools.lru_cache(maxsize=4)
def _crypter(keys: tuple[str, ...]) -> MultiFernet:
    if not keys:
        raise ImproperlyConfigured("FIELD_ENCRYPTION_KEY is empty: there is no key to seal tokens with.")
    return MultiFernet([Fernet(key) for key in keys])


def crypter() -> MultiFernet:
    """The keys as they are set now: the first seals, all open (``manage.py rotate_keys`` reseals under the first)."""
    return _crypter(tuple(settings.FIELD_ENCRYPTION_KEY))


@sensitive_variables()
def seal(row_id: uuid.UUID, token: str) -> Sealed:
    """Seal ``token`` for the row ``row_id``: in any other row it does not open."""
    return Sealed(crypter().encrypt(f"{row_id}:{token}".encode()))


def sealed_by(sealed: Sealed) -> int | None:
    """Which of the keys sealed it: 0 for the first; None: none that is set. Nothing is opened: only the seal is
    checked."""
    try:
        raw = base64.urlsafe_b64decode(sealed.ciphertext)
    except ValueError:
        return None
    for place, key in enumerate(settings.FIELD_ENCRYPTION_KEY):
        # Fernet: the first half of the key signs, over all but the last 32 bytes (https://github.com/fernet/spec).
        signing = base64.urlsafe_b64decode(key)[:16]
        if hmac.compare_digest(hmac.digest(signing, raw[:-32], "sha256"), raw[-32:]):
            return place
    return None


def reseal(sealed: Sealed) -> Sealed:
    """The same token, sealed for the same row, under the first key.

    Raises:
        InvalidToken: none of the keys opens it.
    """
    return Sealed(crypter().rotate(sealed.ciphertext))


@functools.lru_cache(maxsize=8)
def _derived_crypter(keys: tuple[str, ...], purpose: bytes) -> MultiFernet:
    """Keys that are made from those of the tokens for one purpose alone: they open no token, and nothing of another purpose."""
    derived = (hashlib.blake2b(key.encode(), person=purpose, digest_size=32).digest() for key in keys)
    return MultiFernet([Fernet(base64.urlsafe_b64encode(key)) for key in derived])


def _for_answers() -> MultiFernet:
    return _derived_crypter(tuple(settings.FIELD_ENCRYPTION_KEY), b"kept answers")


def seal_answer(scope: str, answer: bytes) -> str:
    """Seal an answer that is kept for a second try, for the row ``scope``. Its keys are derived from those of the tokens, and
    open no token."""
    return _for_answers().encrypt(scope.encode() + b":" + answer).decode()


def open_answer(scope: str, sealed: str) -> bytes | None:
    """What ``seal_answer`` sealed for the row ``scope``; None: with the keys that are set it does not open as that."""
    try:
        opened = _for_answers().decrypt(sealed.encode())
    except InvalidToken:
        return None
    owner, _, answer = opened.partition(b":")
    return answer if owner.decode() == scope else None


def _for_webhooks(keys: Sequence[str] | None = None) -> MultiFernet:
    return _derived_crypter(tuple(settings.FIELD_ENCRYPTION_KEY if keys is None else keys), b"webhooks")


@sensitive_variables()
def seal_for_webhook(row_id: uuid.UUID, what: str, value: str) -> Sealed:
    """Seal a webhook's address or signing secret (``what`` says which) for its row: for another row, or as the other of the
    two, it does not open. Nor do its keys open a token."""
    return Sealed(_for_webhooks().encrypt(f"{row_id} {what}:{value}".encode()))


@sensitive_variables()
def open_for_webhook(row_id: uuid.UUID, what: str, sealed: Sealed) -> str | None:
    """What ``seal_for_webhook`` sealed; None: with the keys that are set it does not open as that. Only
    ``integrations/webhooks/transport.py`` asks."""
    try:
        owner, _, value = _for_webhooks().decrypt(sealed.ciphertext).decode().partition(":")
    except InvalidToken:
        return None
    return value if owner == f"{row_id} {what}" else None


def reseal_for_webhook(sealed: Sealed) -> Sealed | None:
    """The same, sealed under the first key; None: it is already.

    Raises:
        InvalidToken: none of the keys opens it.
    """
    try:
        _for_webhooks(settings.FIELD_ENCRYPTION_KEY[:1]).extract_timestamp(sealed.ciphertext)
    except InvalidToken:
        return Sealed(_for_webhooks().rotate(sealed.ciphertext))
    return None


class SealedTokenField(EncryptedTextField):  # type: ignore[misc]  # the library is untyped
    """Holds ``Sealed`` values and nothing else; assign ``seal(row.id, token)``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["editable"] = False
        super().__init__(*args, **kwargs)

    def deconstruct(self) -> tuple[str, str, list[Any], dict[str, Any]]:
        name, path, args, kwargs = super().deconstruct()
        kwargs.pop("editable", None)
        return name, path, args, kwargs

    def to_python(self, value: Any) -> Sealed | None:
        if value is None or isinstance(value, Sealed):
            return value
        raise TypeError(f"{self.name} holds sealed values: assign seal(row.id, token), never the token itself.")

    def from_db_value(self, value: str | None, *args: Any, **kwargs: Any) -> Sealed | None:
        return None if value is None else Sealed(value.encode())

    def get_prep_value(self, value: Any) -> Any:
        return self.to_python(value)

    def get_db_prep_value(self, value: Any, connection: BaseDatabaseWrapper, prepared: bool = False) -> Any:
        return self.get_db_prep_save(value, connection)

    def get_db_prep_save(self, value: Any, connection: BaseDatabaseWrapper) -> str | None:
        sealed = self.to_python(value)
        return None if sealed is None else sealed.ciphertext.decode()

    def get_lookup(self, lookup_name: str) -> type[models.Lookup[Any]] | None:
        if lookup_name != "isnull":
            raise FieldError(f"{self.name} is sealed: it cannot be searched. Use the fingerprint.")
        return cast("type[models.Lookup[Any]] | None", super().get_lookup(lookup_name))

    def get_transform(self, lookup_name: str) -> NoReturn:
        raise FieldError(f"{self.name} is sealed: it cannot be searched. Use the fingerprint.")

    def value_to_string(self, obj: models.Model) -> NoReturn:
        raise TypeError(f"{self.name} is sealed: it is not serialised.")

    def formfield(self, *args: Any, **kwargs: Any) -> None:
        return None
