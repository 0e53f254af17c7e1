"""Makes a team, connections and keys in the database of the environment, and prints them as JSON. Run as a program:
``python -m tests.gateway.seed '{"token": "…", "states": {"resolve_incident": "on"}}'``."""

from __future__ import annotations

import json
import sys
from typing import Any

import django


def seed(
    *,
    token: str,
    states: dict[str, str],
    calls_per_minute: int = 0,
    kind: str = "account",
    from_email: str = "mina@example.com",
    region: str = "sandbox",
) -> dict[str, Any]:
    """A team "Payments" with Mina as its manager, one whole-account connection, and one key."""
    from integrations.actions import do_issue_agent_key, do_register_token
    from integrations.pagerduty.catalog import TOOLS
    from policies.actions import do_set_tools
    from policies.core.call import State
    from tests.conftest import make_cast

    cast = make_cast()
    connection = do_register_token(
        cast.payments,
        name="Main",
        token=token,
        kind=kind,
        region=region,
        from_email=from_email,
        by=cast.ada,
        whole_account=True,
    )
    do_set_tools(
        cast.payments,
        states={name: State(state) for name, state in states.items()},
        tools=TOOLS,
        by=cast.ada,
        reason="the test",
    )
    key, secret = do_issue_agent_key(
        connection, name="assistant", by=cast.ada, tools=TOOLS, calls_per_minute=calls_per_minute
    )
    return {"key": secret, "key_id": str(key.pk), "connection": str(connection.pk), "team": cast.payments.pk}


if __name__ == "__main__":
    django.setup()
    print(json.dumps(seed(**json.loads(sys.argv[1]))))  # noqa: T201
