from policies.models.journal import Checkpoint, Entry, Stream
from policies.models.people import AgentKey, Membership, SignInFailures, Team, User
from policies.models.policy import ConfigChange, PolicyVersion, Reveal, Stop, ToolRule, ToolSetting

__all__ = [
    "AgentKey",
    "Checkpoint",
    "ConfigChange",
    "Entry",
    "Membership",
    "PolicyVersion",
    "Reveal",
    "SignInFailures",
    "Stop",
    "Stream",
    "Team",
    "ToolRule",
    "ToolSetting",
    "User",
]
