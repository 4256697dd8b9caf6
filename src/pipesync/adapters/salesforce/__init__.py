"""Salesforce: REST through simple-salesforce, keyset pages, writes by external id."""

from pipesync.adapters.salesforce.adapter import open_connection

__all__ = ["open_connection"]
