"""The `hubspot` adapter: one portal, over its CRM API."""

from pipesync.adapters.hubspot.adapter import open_connection

__all__ = ["open_connection"]
