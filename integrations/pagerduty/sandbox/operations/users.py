"""Users and how they are reached."""

from __future__ import annotations

from integrations.pagerduty.sandbox import documents as docs
from integrations.pagerduty.sandbox.ask import (
    ApiError,
    Ask,
    Result,
    find,
    matching,
    of_teams,
    route,
)
from integrations.pagerduty.sandbox.world import (
    contact_methods,
)


@route("GET", "/users", "users.read")
def list_users(ask: Ask) -> Result:
    rows = {user["id"] for user in of_teams(matching(ask.world.users, ask.one("query")), ask.many("team_ids"))}
    places = [place for place, user in enumerate(ask.world.users) if user["id"] in rows]
    return 200, ask.page("users", places, lambda place: docs.user_document(ask.world, place, ask.include))


@route("GET", "/users/me")
def get_me(ask: Ask) -> Result:
    if ask.token.user is None:
        error = ApiError(400, "", 0)
        error.document = {
            "error": "The request could not be completed with an account-level access token: it names no user."
        }
        raise error
    return 200, {"user": docs.user_document(ask.world, ask.token.user, ask.include)}


def _user(ask: Ask) -> int:
    return ask.world.users.index(find(ask.world.users, ask.path["id"]))


@route("GET", "/users/{id}", "users.read")
def get_user(ask: Ask) -> Result:
    return 200, {"user": docs.user_document(ask.world, _user(ask), ask.include)}


@route("GET", "/users/{id}/contact_methods", "users:contact_methods.read")
def list_contact_methods(ask: Ask) -> Result:
    return 200, {"contact_methods": contact_methods(ask.world, _user(ask))}
