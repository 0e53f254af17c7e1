from policies.models.alarms import Alarm, KeyNetwork
from policies.models.counts import AgentCalls, Counted, ToolCalls
from policies.models.journal import Checkpoint, Entry, JournalCheck, LastVerification, Stream
from policies.models.people import AgentKey, BrowserSession, Digest, Invitation, Membership, SignInFailures, Team, User
from policies.models.policy import ConfigChange, PolicyVersion, ReadsGoOn, Reveal, Stop, ToolRule, ToolSetting
from policies.models.requests import ToolRequest
from policies.models.review import Review, SavedView

__all__ = [
    "AgentCalls",
    "AgentKey",
    "Alarm",
    "BrowserSession",
    "Checkpoint",
    "ConfigChange",
    "Counted",
    "Digest",
    "Entry",
    "Invitation",
    "JournalCheck",
    "KeyNetwork",
    "LastVerification",
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
    "ToolCalls",
    "ToolRequest",
    "ToolRule",
    "ToolSetting",
    "User",
]
