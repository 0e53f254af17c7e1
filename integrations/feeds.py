"""Calendar feeds: made and revoked by people for themselves, and who an address stands for when it is fetched."""

from __future__ import annotations

import secrets
from typing import Final

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils.crypto import salted_hmac
from django.views.decorators.debug import sensitive_variables

from integrations.mirror import visible_to
from integrations.models import Connection, Feed
from policies.actions import By, Refused, clean_reason, record_change
from policies.core.text import shown
from policies.models import User

MAXIMUM: Final = 20
"""Feeds of one person."""
PREFIX: Final = "pwf_"
"""What the secret of an address begins with, by which ``policies.core.text`` takes it out of logs and texts."""
MINE: Final = "My on-call"


@sensitive_variables("token")
def digest_of(token: str) -> str:
    """64 hex digits, keyed from SECRET_KEY."""
    return salted_hmac("integrations.feeds", token, algorithm="sha256").hexdigest()


def _may_see(user: User, connection: Connection) -> bool:
    """Whether this person may see what the connection's mirror holds, now."""
    return any(one.pk == connection.pk for one in visible_to(user))


@transaction.atomic
@sensitive_variables("token")
def do_make_feed(
    *, by: User, connection: Connection | None = None, schedule_id: str = "", name: str = MINE
) -> tuple[Feed, str]:
    """A feed of one schedule of a connection's mirror, or of all that ``by`` is on call for. Returns it, and the secret of its
    address, which is kept nowhere.

    Raises:
        Refused: the connection's mirror is not theirs to see.
        ValidationError: they have too many feeds.
    """
    if connection is not None and not _may_see(by, connection):
        raise Refused("You may not see this schedule.")
    # Of two that are made at once, one waits here for the other.
    User.objects.select_for_update().get(pk=by.pk)
    if by.feeds.count() >= MAXIMUM:
        raise ValidationError(f"You have {MAXIMUM} calendar feeds: revoke one first.")
    token = PREFIX + secrets.token_urlsafe(32)
    made = Feed.objects.create(
        user=by, connection=connection, schedule_id=schedule_id[:64], name=shown(name, 200), digest=digest_of(token)
    )
    _record(made, by, "make_feed")
    return made, token


@transaction.atomic
def do_revoke_feed(feed: Feed, *, by: By, reason: str = "") -> None:
    """Its address answers nobody any more, from now on. One's own, or as an administrator."""
    if isinstance(by, User) and by.pk != feed.user_id and not (by.is_active and by.is_administrator):
        raise Refused("This feed is somebody else's.")
    _record(feed, by, "revoke_feed", clean_reason(reason))
    Feed.objects.filter(pk=feed.pk).delete()


def _record(feed: Feed, by: By, action: str, reason: str = "") -> None:
    connection = feed.connection
    facts = {"of": feed.user.email, "schedule": feed.schedule_id, "connection": connection.name if connection else ""}
    made = action == "make_feed"
    record_change(
        by=by,
        team=connection.team if connection else None,
        action=action,
        target=feed.name,
        before=None if made else facts,
        after=facts if made else None,
        reason=reason,
    )


@sensitive_variables("token")
def feed_of(token: str) -> Feed | None:
    """The feed that an address stands for. None: it stands for none, or its person was deactivated, has left the team, or the
    connection was switched off; nothing tells which."""
    if not token.startswith(PREFIX):
        return None
    found = Feed.objects.select_related("user", "connection__team").filter(digest=digest_of(token)).first()
    if found is None or not found.user.is_active:
        return None
    if found.connection is not None and not _may_see(found.user, found.connection):
        return None
    return found
