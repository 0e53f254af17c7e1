from policies.models.journal import Checkpoint, Entry, Stream
from policies.models.people import AgentKey, Membership, Team, User
from policies.models.policy import ConfigChange, PolicyVersion, ToolRule, ToolSetting

__all__ = [
    "AgentKey",
    "Checkpoint",
    "ConfigChange",
    "Entry",
    "Membership",
    "PolicyVersion",
    "Stream",
    "Team",
    "ToolRule",
    "ToolSetting",
    "User",
]
