from integrations.models.attempt import Attempt
from integrations.models.connection import Connection, ConnectionKey, ConnectionTest, RunningTest
from integrations.models.feed import Feed
from integrations.models.intended import IntendedGap
from integrations.models.mirror import Mirror, MirroredDocument, MirrorPart, PastKnown, PastShift

__all__ = [
    "Attempt",
    "Connection",
    "ConnectionKey",
    "ConnectionTest",
    "Feed",
    "IntendedGap",
    "Mirror",
    "MirrorPart",
    "MirroredDocument",
    "PastKnown",
    "PastShift",
    "RunningTest",
]
