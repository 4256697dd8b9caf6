"""The ledger: what we did and must never forget. Runs, findings and their episodes, the write journal, issued
forecasts, suppressions, and how our tasks ended.

Everything goes in and comes out as values of `pipesync.model`; nobody else speaks SQL to this database. Every
method that writes is one transaction, on disk when it returns.
"""

from __future__ import annotations

from pipesync.store.ledger.erasing import Person
from pipesync.store.ledger.leases import LeaseTaken
from pipesync.store.ledger.ledger import Ledger

__all__ = ["LeaseTaken", "Ledger", "Person"]
