"""Registers the account under test in a portal of its own: ``python -m tests.live.register``, which reads JSON from standard
input, for a command line shows a token to everybody on the machine. Prints an agent key that has every read and no write."""

from __future__ import annotations

import json
import secrets
import sys

import django
from django.core.exceptions import ValidationError


def register(token: str, region: str, from_email: str) -> str:
    from integrations.actions import do_issue_agent_key, do_register_token
    from integrations.pagerduty.catalog import TOOLS
    from policies.actions import do_create_team, do_create_user, do_set_tools
    from policies.core.call import State

    ada = do_create_user(
        "ada@example.com", by="contract test", password=secrets.token_urlsafe(16), name="Ada", role="administrator"
    )
    team = do_create_team("Contract test", by=ada)
    connection = do_register_token(
        team,
        name="Live",
        token=token,
        kind="oauth" if token.lower().startswith("bearer ") else "account",
        region=region,
        by=ada,
        from_email=from_email,
        whole_account=True,
    )
    states = {name: State.OFF if tool.writes else State.ON for name, tool in TOOLS.items()}
    do_set_tools(team, states=states, tools=TOOLS, by=ada, reason="contract test")
    return do_issue_agent_key(connection, name="contract test", by=ada, tools=TOOLS, calls_per_minute=0)[1]


if __name__ == "__main__":
    django.setup()
    try:
        sys.stdout.write(register(**json.load(sys.stdin)))
    except ValidationError as error:
        sys.exit(" ".join(error.messages))
