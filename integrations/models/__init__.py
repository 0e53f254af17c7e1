from integrations.models.attempt import Attempt
from integrations.models.connection import Connection, ConnectionKey, ConnectionTest, RunningTest
from integrations.models.feed import Feed
from integrations.models.mirror import Mirror, MirroredDocument, MirrorPart, PastKnown, PastShift

__all__ = [
    "Attempt",
    "Connection",
    "ConnectionKey",
    "ConnectionTest",
    "Feed",
    "Mirror",
    "MirrorPart",
    "MirroredDocument",
    "PastKnown",
    "PastShift",
    "RunningTest",
]
