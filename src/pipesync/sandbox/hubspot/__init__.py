"""The sandbox's HubSpot: its CRM API over one portal, in legacy and date-based paths.

What `notes` call unverified is a switch (`portal.SWITCHES`), so that tests run with it both ways.
"""

from pipesync.sandbox.hubspot.app import routes
from pipesync.sandbox.hubspot.fill import Filled, clock_of, fill
from pipesync.sandbox.hubspot.portal import Portal

__all__ = ["Filled", "Portal", "clock_of", "fill", "routes"]
