"""Who a credential is: keys and connections in memory, under the same version as the policy."""

from __future__ import annotations

import datetime as dt
import ipaddress
import math
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from django.conf import settings
from django.utils import timezone

from integrations.actions import bounds_of, suspension
from integrations.gateway.integration import Connection
from integrations.models import Connection as ConnectionRow
from integrations.models import ConnectionKey
from policies import keys
from policies.core.call import Call, JobCredential, KeyCredential, Kind, PersonCredential, Principal, Role
from policies.models import AgentKey, Membership, User

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_NOBODY = "0" * 64
_NO_KEY = ("-" * keys.PREFIX_LENGTH, "-" * keys.SECRET_LENGTH)
REGIONS = {"us": "https://api.pagerduty.com", "eu": "https://api.eu.pagerduty.com"}


@dataclass(frozen=True, slots=True)
class KnownKey:
    """An agent key. A revoked one too: the record tells who still uses it."""

    id: str
    digest: str = field(repr=False)
    principal: Principal
    connection_id: str
    networks: tuple[Network, ...]
    expires_at: float
    """Unix time; infinite where it does not expire."""
    calls_per_minute: int
    is_revoked: bool = False

    def barred(self, now: float) -> str:
        """Why nothing that comes with it is anybody's, wherever it comes from: ``revoked`` or ``expired``; empty: it is good."""
        return "revoked" if self.is_revoked else "expired" if now >= self.expires_at else ""


@dataclass(frozen=True, slots=True)
class KnownPerson:
    """Somebody who may sign in."""

    role: str
    """In the whole portal (``User.Role``)."""
    teams: Mapping[int, str] = field(default_factory=dict)
    """Team number → the role of their membership."""

    def role_in(self, team_id: int) -> Role:
        return Role.of(self.role, self.teams.get(team_id, ""))


@dataclass(frozen=True, slots=True)
class Identified:
    """Who calls, and through which connection."""

    principal: Principal
    connection: Connection | None
    key_id: str = ""
    calls_per_minute: int = 0
    expires_at: float = math.inf
    """Unix time from which this no longer holds."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """Why a credential is nobody's, in words that tell a stranger nothing about which keys exist."""

    reason: str
    """For the record: ``malformed``, ``unknown``, ``revoked``, ``expired``, ``network``."""
    key_id: str = ""
    """Of a key that is good but for where it came from."""


@dataclass(frozen=True, slots=True)
class Identities:
    """Every key, every connection and every person, at one version."""

    keys: Mapping[str, KnownKey] = field(default_factory=dict)
    """By lookup prefix."""
    connections: Mapping[str, Connection] = field(default_factory=dict)
    candidates: Mapping[str, bytes] = field(default_factory=dict)
    """Sealed replacement tokens that wait for their test, by connection."""
    job_tools: frozenset[str] = frozenset()
    people: Mapping[int, KnownPerson] = field(default_factory=dict)
    """By their number; whoever was switched off is not there."""

    def identify(self, call: Call) -> Identified | Rejected:
        """The principal behind a call's credential. A dictionary lookup and one keyed hash."""
        credential = call.credential
        if isinstance(credential, KeyCredential):
            return self.agent(credential.secret, call.client.ip, call.at or time.time())
        if isinstance(credential, PersonCredential):
            connection = self.connections.get(credential.resource)
            person = self.people.get(credential.user_id)
            principal = Principal(
                Kind.PERSON,
                f"user:{credential.user_id}",
                credential.name,
                credential.team_id,
                credential.team,
                person.role_in(credential.team_id) if person else Role.NONE,
            )
            if connection is not None and connection.team_id != credential.team_id:
                connection = None
            # A page can be asked by a program as well: it must not use up what the team's agents need.
            return Identified(principal, connection, calls_per_minute=settings.CALLS_PER_MINUTE)
        if isinstance(credential, JobCredential):
            connection = self.connections.get(credential.resource)
            team_id, team = (connection.team_id, connection.team) if connection else (None, "")
            job = f"job:{credential.job}"
            return Identified(
                Principal(
                    Kind.JOB,
                    job,
                    credential.job,
                    team_id,
                    team,
                    narrowed_to=self.job_tools,
                    on_behalf_of=credential.on_behalf_of,
                ),
                connection,
            )
        raise TypeError(f"unknown kind of credential: {type(credential).__name__}")

    def agent(self, secret: str, ip: str, now: float) -> Identified | Rejected:
        """Whose key it is. Whatever is wrong with it, and whether it ever was one, costs the same."""
        parsed = keys.parse_key(secret)
        prefix, rest = parsed or _NO_KEY
        known = self.keys.get(prefix)
        matches = keys.matches(known.digest if known else _NOBODY, prefix, rest)
        if known is None or not matches:
            return Rejected("unknown" if parsed else "malformed")
        if barred := known.barred(now):
            return Rejected(barred)
        if known.networks and not _inside(ip, known.networks):
            return Rejected("network", known.id)
        return self.holder(known)

    def holder(self, known: KnownKey) -> Identified:
        """Whoever calls with a key that is good."""
        connection = self.connections.get(known.connection_id)
        return Identified(known.principal, connection, known.id, known.calls_per_minute, known.expires_at)


def _inside(ip: str, networks: tuple[Network, ...]) -> bool:
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return any(address in network for network in networks)


def load_identities(job_tools: frozenset[str], team_id: int | None = None) -> Identities:
    """Keys, connections and people as the database has them now. ``team_id``: those of one team alone."""
    of_team = {} if team_id is None else {"team_id": team_id}
    now = timezone.now()
    connections: dict[str, Connection] = {}
    candidates: dict[str, bytes] = {}
    for row in ConnectionRow.objects.filter(**of_team).select_related("team"):
        connection_id = str(row.pk)
        connections[connection_id] = Connection(
            id=connection_id,
            name=row.name,
            team_id=row.team_id,
            team=row.team.name,
            region=row.region,
            base_url=REGIONS.get(row.region) or settings.PAGERDUTY_SANDBOX_URL.rstrip("/"),
            auth="bearer" if row.kind == ConnectionRow.Kind.OAUTH else "token",
            sealed=row.token.ciphertext,
            from_email=row.from_email,
            bounds=bounds_of(row),
            version=row.token_version,
            suspended=suspension(row, now),
            is_enabled=row.is_enabled,
        )
        if row.candidate is not None:
            candidates[connection_id] = row.candidate.ciphertext
    links = ConnectionKey.objects.filter(**{f"key__{name}": value for name, value in of_team.items()})
    of_key = dict(links.values_list("key_id", "connection_id"))
    known: dict[str, KnownKey] = {}
    for key in AgentKey.objects.filter(**of_team).select_related("team"):
        principal = Principal(
            Kind.AGENT,
            f"key:{key.pk}",
            key.name,
            key.team_id,
            key.team.name,
            narrowed_to=None if key.tools is None else frozenset(key.tools),
            credential=f"pwk_{key.prefix}",
        )
        connection_id = str(of_key.get(key.pk, ""))
        known[key.prefix] = KnownKey(
            id=str(key.pk),
            digest=key.digest,
            principal=principal,
            # One that was registered a moment ago may not be among those that were read: the version has moved then, and
            # all of this is read again.
            connection_id=connection_id
            if (used := connections.get(connection_id)) is not None and used.team_id == key.team_id
            else "",
            networks=tuple(ipaddress.ip_network(network) for network in key.networks),
            expires_at=_unix(key.expires_at),
            calls_per_minute=key.calls_per_minute,
            is_revoked=key.revoked_at is not None,
        )
    return Identities(known, connections, candidates, job_tools, _people(of_team))


def _people(of_team: Mapping[str, int]) -> dict[int, KnownPerson]:
    roles: dict[int, dict[int, str]] = defaultdict(dict)
    members = Membership.objects.filter(user__is_active=True, **of_team).order_by()
    for user_id, team_id, role in members.values_list("user_id", "team_id", "role"):
        roles[user_id][team_id] = role
    # Of those who are in no team only whoever has a role in the whole portal may do anything.
    portal_wide = dict(
        User.objects.get_queryset().filter(is_active=True).exclude(role="").order_by().values_list("pk", "role")
    )
    return {
        user_id: KnownPerson(portal_wide.get(user_id, ""), roles.get(user_id, {}))
        for user_id in roles.keys() | portal_wide.keys()
    }


def _unix(moment: dt.datetime | None) -> float:
    return moment.timestamp() if moment is not None else float("inf")
