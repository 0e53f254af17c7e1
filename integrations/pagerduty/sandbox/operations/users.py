"""Users and how they are reached."""

from __future__ import annotations

from integrations.pagerduty.sandbox import documents as docs
from integrations.pagerduty.sandbox.ask import (
    ApiError,
    Ask,
    Result,
    find,
    invalid,
    matching,
    of_teams,
    route,
)
from integrations.pagerduty.sandbox.world import (
    contact_methods,
    notification_rules,
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


@route("GET", "/users/{id}/notification_rules", "users:contact_methods.read")
def list_notification_rules(ask: Ask) -> Result:
    place, urgency = _user(ask), ask.one("urgency", "high")
    if urgency not in ("high", "low", "all"):
        raise invalid("Urgency must be high, low or all.")
    methods = {method["id"]: method for method in contact_methods(ask.world, place)}
    rules = [row for row in notification_rules(ask.world, place) if urgency in ("all", row["urgency"])]
    if "contact_methods" in ask.include:
        rules = [{**row, "contact_method": methods[row["contact_method"]["id"]]} for row in rules]
    return 200, {"notification_rules": rules}
