from policies.models.alarms import Alarm, KeyNetwork
from policies.models.journal import Checkpoint, Entry, Stream, VerificationRun
from policies.models.people import AgentKey, Membership, SignInFailures, Team, User
from policies.models.policy import ConfigChange, PolicyVersion, ReadsGoOn, Reveal, Stop, ToolRule, ToolSetting
from policies.models.review import Review, SavedView

__all__ = [
    "AgentKey",
    "Alarm",
    "Checkpoint",
    "ConfigChange",
    "Entry",
    "KeyNetwork",
    "Membership",
    "PolicyVersion",
    "ReadsGoOn",
    "Reveal",
    "Review",
    "SavedView",
    "SignInFailures",
    "Stop",
    "Stream",
    "Team",
    "ToolRule",
    "ToolSetting",
    "User",
    "VerificationRun",
]
