"""Incident types, custom fields and groups of alerts: what the account settled for its incidents."""

from __future__ import annotations

import random
from typing import Any, Final

from integrations.pagerduty.sandbox.world import DAY, World, iso, number_id

TYPES: Final = (
    ("incident_default", "Base Incident", None, True),
    ("major_incident", "Major Incident", "Customers feel it; an incident commander leads.", True),
    ("security_incident", "Security Incident", "Somebody may have got in.", True),
    ("fraud_incident", "Fraud Incident", "No longer in use.", False),
)
"""Name, display name, description, whether it is enabled."""
REGIONS: Final = ("us-east-1", "eu-west-1", "ap-south-1")
FIELDS: Final[tuple[tuple[str, str, str, str, tuple[str, ...] | None, Any], ...]] = (
    ("environment", "single_value_fixed", "string", "Where it happened", ("production", "staging"), "production"),
    ("regions", "multi_value_fixed", "string", "The regions that it touches", REGIONS, None),
    ("labels", "multi_value", "string", "Words to find it by", None, None),
    ("cause", "single_value", "string", "What it came from, in a sentence", None, None),
    ("customers_affected", "single_value", "integer", "How many customers noticed", None, None),
    ("revenue_at_risk", "single_value", "float", "Thousands of dollars an hour", None, None),
    ("data_loss", "single_value", "boolean", "Whether data was lost", None, False),
    ("detected_at", "single_value", "datetime", "When it was first seen", None, None),
    ("postmortem", "single_value", "url", "Where it is written up", None, None),
)
"""Name, field type, data type, description, options, default."""


def settle(world: World) -> None:
    """Needs incidents to be there."""
    rng = random.Random(f"fields-{world.seed}")
    made = iso(world.now - 480 * DAY)
    for place, (name, display_name, description, enabled) in enumerate(TYPES):
        base = {"id": number_id("PITY", 0, 3), "type": "incident_type_reference"}
        world.incident_types.append(
            {
                "id": number_id("PITY", place, 3),
                "type": "incident_type",
                "name": name,
                "display_name": display_name,
                "description": description,
                "enabled": enabled,
                "parent": base if place else None,
                "created_at": made,
                "updated_at": made,
            }
        )
    for place, (name, field_type, data_type, description, options, default) in enumerate(FIELDS):
        world.custom_fields.append(
            {
                "id": number_id("PFLD", place, 3),
                "name": name,
                "display_name": name.replace("_", " ").capitalize(),
                "field_type": field_type,
                "data_type": data_type,
                "description": description,
                "options": options,
                "default_value": default,
            }
        )
    ids = {row["name"]: row["id"] for row in world.custom_fields}
    for incident in world.incidents:
        if rng.random() < 0.2:
            incident.alerts = rng.randint(2, 6)
        if rng.random() < 0.02:
            incident.extras().fields = {
                ids["regions"]: [rng.choice(REGIONS)],
                ids["customers_affected"]: rng.randrange(1, 5000),
                ids["revenue_at_risk"]: round(rng.random() * 40, 2),
                ids["detected_at"]: iso(incident.created - 120),
            }
