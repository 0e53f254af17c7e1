"""The services of the account, and what depends on what."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any, Final

from integrations.pagerduty.sandbox.world import (
    BUSINESS,
    DAY,
    NOUNS,
    SIZES,
    World,
    document,
    iso,
    number_id,
    reference,
)

Edge = tuple[int, int]
"""Dependent, supporting: places of technical services, and after them those of business services."""
CHAIN: Final = ("checkout", "payments-api", "payments-db")
"""Each depends on the next."""
CIRCLE: Final = ("deploys", "registry", "secrets")
LEANING: Final = ("mfa", "consent", "audit")
"""They lean on ``tokens``."""
STRANGERS: Final = ("suggest", "android-api")
"""No path of dependencies leads from one to the other."""


def place_of(name: str) -> int:
    return NOUNS.index(name)


def add_services(world: World) -> None:
    size = SIZES[world.size]
    first = 0
    for place in range(size.services):
        team = place * size.teams // size.services
        if place and team != (place - 1) * size.teams // size.services:
            first = place
        own = list(range(team, size.policies, size.teams))
        number = place - first
        variant = 1 + number // 4 % (len(own) - 1) if number % 4 == 2 else 0
        noun = NOUNS[place % len(NOUNS)] + (f"-{place // len(NOUNS) + 1}" if place >= len(NOUNS) else "")
        policy = world.policies[own[variant]]
        world.services.append(_service(world, place, noun, team, policy))
        policy["services"].append(reference(world.services[place]))
    for place in range(size.business):
        name = BUSINESS[place % len(BUSINESS)] + (f" {place // len(BUSINESS) + 1}" if place >= len(BUSINESS) else "")
        identifier = number_id("PBSV", place, 3)
        world.business.append({**document("business_service", "business_services", identifier, name), "name": name})


def _service(world: World, place: int, noun: str, team: int, policy: dict[str, Any]) -> dict[str, Any]:
    return {
        **document("service", "services", number_id("PSVC", place, 3), noun, "service-directory"),
        "name": noun,
        "description": f"The {noun} service",
        "status": "active",
        "created_at": iso(world.now - 500 * DAY),
        "updated_at": iso(world.now - 30 * DAY),
        "auto_resolve_timeout": 14400,
        "acknowledgement_timeout": 1800,
        "alert_creation": "create_alerts_and_incidents",
        "last_incident_timestamp": iso(world.now - DAY),
        "escalation_policy": reference(policy),
        "teams": [reference(world.teams[team])],
        "incident_urgency_rule": {"type": "constant", "urgency": "severity_based"},
        "scheduled_actions": [],
        "addons": [],
        "integrations": [],
        "response_play": None,
        "alert_grouping_parameters": {"type": "time", "config": {"timeout": 300}},
        "auto_pause_notifications_parameters": {"enabled": False},
    }


def add_dependencies(world: World, *, planted: bool) -> None:
    """Without what is planted there is no circle, and no service whose loss cuts others off from the rest."""
    rng = random.Random(f"dependencies-{world.seed}")
    edges = _edges(world, rng, planted)
    while any(_reaches(edges, place_of(a), place_of(b)) for a, b in (STRANGERS, STRANGERS[::-1])):
        edges = _edges(world, rng, planted)
    rows = [
        *((row["id"], "service") for row in world.services),
        *((r["id"], "business_service") for r in world.business),
    ]
    world.edges += [(*rows[upper], *rows[lower]) for upper, lower in edges]


def _edges(world: World, rng: random.Random, planted: bool) -> list[Edge]:
    """A graph of ears: each new service, or pair of them, hangs on two that were there before, which no one service cuts."""
    size = SIZES[world.size]
    top, api, base = map(place_of, CHAIN)
    circle, leaning = [place_of(name) for name in CIRCLE], [place_of(name) for name in LEANING]
    deploys, registry, secrets = circle
    edges = [
        (top, api),
        (api, base),
        (top, base),
        (secrets, base),
        (secrets, api),
        (registry, secrets),
        (registry, base),
    ]
    edges += [(deploys, registry), (secrets, deploys) if planted else (deploys, secrets)]
    fixed = {top, api, base, *circle}
    rest = [place for place in range(size.services) if place not in fixed and place not in leaning]
    rng.shuffle(rest)
    # What the named services and the business services use is spoken for.
    left = size.edges - len(edges) - 2 * len(leaning) - 2 * size.business
    pairs = max(0, 2 * len(rest) - left)
    steps = [2] * pairs + [1] * (len(rest) - 2 * pairs)
    rng.shuffle(steps)
    there = sorted(fixed - {top})
    at = 0
    for step in steps:
        new = rest[at : at + step]
        at += step
        one, other = rng.sample(there, 2)
        edges += [(new[0], one), *pairwise(new), (new[-1], other)]
        there += reversed(new)
    known, order = set(edges), {place: number for number, place in enumerate(there)}
    wanted = size.edges - 2 * len(leaning) - 2 * size.business + (1 if planted else 0)
    while len(edges) < wanted:
        upper, lower = rng.sample(there, 2)
        if order[upper] > order[lower] and not {(upper, lower), (lower, upper)} & known:
            known.add((upper, lower))
            edges.append((upper, lower))
    edges += _leaning(leaning, planted)
    for place in range(size.services, size.services + size.business):
        edges += [(place, lower) for lower in rng.sample([top, *there], 2)]
    return edges


def _leaning(leaning: list[int], planted: bool) -> list[Edge]:
    tokens, login, directory = map(place_of, ("tokens", "login", "directory"))
    mfa, consent, audit = leaning
    edges = [(place, tokens) for place in leaning]
    return [
        *edges,
        *([(mfa, consent), (consent, audit)] if planted else [(mfa, login), (consent, directory), (audit, login)]),
    ]


def _reaches(edges: list[Edge], start: int, end: int) -> bool:
    below: dict[int, list[int]] = {}
    for upper, lower in edges:
        below.setdefault(upper, []).append(lower)
    seen, left = {start}, [start]
    while left:
        for lower in below.get(left.pop(), ()):
            if lower not in seen:
                seen.add(lower)
                left.append(lower)
    return end in seen
