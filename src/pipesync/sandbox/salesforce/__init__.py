"""The sandbox's Salesforce: its REST API over one org. What the notes call unverified is a setting of the org."""

from pipesync.sandbox.salesforce.app import routes
from pipesync.sandbox.salesforce.fill import Filled, fill
from pipesync.sandbox.salesforce.org import Org

__all__ = ["Filled", "Org", "fill", "routes"]
