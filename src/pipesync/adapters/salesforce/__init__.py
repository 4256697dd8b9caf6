"""Salesforce: keyset pages and Bulk jobs through simple-salesforce, writes by external id."""

from pipesync.adapters.salesforce.adapter import open_connection

__all__ = ["open_connection"]
