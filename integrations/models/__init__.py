from integrations.models.attempt import Attempt
from integrations.models.connection import Connection, ConnectionKey, ConnectionTest, RunningTest
from integrations.models.feed import Feed
from integrations.models.intended import IntendedGap
from integrations.models.mirror import Mirror, MirroredDocument, MirroredIncident, MirrorPart, PastKnown, PastShift
from integrations.models.mutes import MutedFinding
from integrations.models.notices import CheckRun, Delivery, NoticedGap, NoticeSettings, StandingCheck, Watch, Webhook

__all__ = [
    "Attempt",
    "CheckRun",
    "Connection",
    "ConnectionKey",
    "ConnectionTest",
    "Delivery",
    "Feed",
    "IntendedGap",
    "Mirror",
    "MirrorPart",
    "MirroredDocument",
    "MirroredIncident",
    "MutedFinding",
    "NoticeSettings",
    "NoticedGap",
    "PastKnown",
    "PastShift",
    "RunningTest",
    "StandingCheck",
    "Watch",
    "Webhook",
]
