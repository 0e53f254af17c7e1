from integrations.models.connection import Connection, ConnectionKey, ConnectionTest

__all__ = ["Connection", "ConnectionKey", "ConnectionTest"]
