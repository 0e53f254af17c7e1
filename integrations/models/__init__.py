from integrations.models.attempt import Attempt
from integrations.models.connection import Connection, ConnectionKey, ConnectionTest, RunningTest

__all__ = ["Attempt", "Connection", "ConnectionKey", "ConnectionTest", "RunningTest"]
