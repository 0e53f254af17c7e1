from integrations.models.attempt import Attempt
from integrations.models.connection import Connection, ConnectionKey, ConnectionTest, RunningTest
from integrations.models.feed import Feed

__all__ = ["Attempt", "Connection", "ConnectionKey", "ConnectionTest", "Feed", "RunningTest"]
