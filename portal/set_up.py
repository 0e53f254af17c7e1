"""The first start: while nobody is here, one link makes the first administrator, and nothing else is open."""

from __future__ import annotations

import sys

from django.conf import settings
from django.db import DatabaseError, connection
from django.urls import reverse
from django.utils import timezone

from policies.actions import SET_UP_HOURS, set_up_token
from policies.models import User


def link() -> str:
    """The set-up link; empty once somebody is here. Raises ``DatabaseError`` without the tables."""
    if User.objects.get_queryset().exists():
        return ""
    return f"{settings.PUBLIC_URL}{reverse('set-up', args=[set_up_token(timezone.now())])}"


def announce() -> None:
    """Print it on the console, if there is one: when a server starts, by each of its processes the same."""
    try:
        if at := link():
            sys.stdout.write(
                f"\nNobody is here yet. Set Pagewarden up, within {SET_UP_HOURS} hours and once, at:\n  {at}\n\n"
            )
            sys.stdout.flush()
    except DatabaseError:
        pass  # not migrated, or away: the probes say so
    finally:
        connection.close()
