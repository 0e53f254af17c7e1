from integrations.models.attempt import Attempt
from integrations.models.connection import Connection, ConnectionKey, ConnectionTest, RunningTest
from integrations.models.intended import IntendedGap

__all__ = ["Attempt", "Connection", "ConnectionKey", "ConnectionTest", "IntendedGap", "RunningTest"]
