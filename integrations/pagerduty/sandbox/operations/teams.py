"""Teams and who belongs to them."""

from __future__ import annotations

from integrations.pagerduty.sandbox.ask import (
    Ask,
    Result,
    find,
    invalid,
    matching,
    not_found,
    route,
)
from integrations.pagerduty.sandbox.shapes import (
    one_of,
    record,
)
from integrations.pagerduty.sandbox.world import (
    World,
    reference,
)


@route("GET", "/teams", "teams.read")
def list_teams(ask: Ask) -> Result:
    return 200, ask.page("teams", matching(ask.world.teams, ask.one("query")))


@route("GET", "/teams/{id}", "teams.read")
def get_team(ask: Ask) -> Result:
    return 200, {"team": find(ask.world.teams, ask.path["id"])}


def role_in(world: World, team: int, user: int) -> str:
    """A member's role: what was set, else the team's first member manages it and the others respond."""
    first = world.members[team][0] if world.members[team] else None
    return world.roles.get(
        (world.teams[team]["id"], world.users[user]["id"]), "manager" if user == first else "responder"
    )


@route("GET", "/teams/{id}/members", "teams.read")
def list_members(ask: Ask) -> Result:
    world = ask.world
    team = world.teams.index(find(world.teams, ask.path["id"]))
    return 200, ask.page(
        "members",
        world.members[team],
        lambda user: {
            "user": world.users[user] if "users" in ask.include else reference(world.users[user]),
            "role": role_in(world, team, user),
        },
    )


def _both(ask: Ask) -> tuple[int, int]:
    """The places of the team and the user of the path."""
    world = ask.world
    return (
        world.teams.index(find(world.teams, ask.path["id"])),
        world.users.index(find(world.users, ask.path["user_id"])),
    )


@route("PUT", "/teams/{id}/users/{user_id}", "teams.write", body_optional=True)
def add_member(ask: Ask) -> Result:
    """Add somebody, or change a member's role."""
    team, user = _both(ask)
    asked = {}
    if ask.body is not None:
        asked = ask.read_all(record({}, {"role": one_of("observer", "responder", "manager")}))
    world = ask.world
    if world.users[user]["role"] in ("read_only_user", "read_only_limited_user"):
        raise invalid("Read only users cannot be members of a team")
    # Whoever is a member keeps the role where none is asked for.
    keeps = role_in(world, team, user) if user in world.members[team] else "manager"
    world.roles[world.teams[team]["id"], world.users[user]["id"]] = asked.get("role", keeps)
    if user not in world.members[team]:
        world.members[team].append(user)
        world.users[user]["teams"] = [*world.users[user]["teams"], reference(world.teams[team])]
    return 204, None


@route("DELETE", "/teams/{id}/users/{user_id}", "teams.write")
def remove_member(ask: Ask) -> Result:
    """Refused while an escalation policy of the team names the user, as PagerDuty does."""
    team, user = _both(ask)
    world = ask.world
    if user not in world.members[team]:
        raise not_found()
    identifier, person = world.teams[team]["id"], world.users[user]["id"]
    for policy in world.policies:
        targets = {target["id"] for rule in policy["escalation_rules"] for target in rule["targets"]}
        if person in targets and any(row["id"] == identifier for row in policy["teams"]):
            raise invalid("User cannot be removed as they belong to an escalation policy on this team")
    # The others keep the roles that they have: the first member's going makes nobody a manager.
    for member in world.members[team]:
        world.roles[identifier, world.users[member]["id"]] = role_in(world, team, member)
    del world.roles[identifier, person]
    world.members[team].remove(user)
    world.users[user]["teams"] = [row for row in world.users[user]["teams"] if row["id"] != identifier]
    return 204, None
