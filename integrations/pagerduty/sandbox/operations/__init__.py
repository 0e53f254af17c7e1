"""What the simulated PagerDuty does: one function for each operation, a module for each kind of object.

Importing a module puts its operations into the table ``ask.ROUTES``.
"""

from integrations.pagerduty.sandbox.operations import (
    analytics,
    incidents,
    policies,
    schedules,
    schedules_v3,
    services,
    users,
)

__all__ = ["analytics", "incidents", "policies", "schedules", "schedules_v3", "services", "users"]
