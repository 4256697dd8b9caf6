"""Notices outside of the CRM: a weekly digest for each, an alert when runs fail; nothing without configuration."""

from __future__ import annotations

from pipesync.notices.delivery import alert, deliver, gather, previews
from pipesync.notices.digest import Digest, Facts
from pipesync.notices.layout import lay_out
from pipesync.notices.sending import NotSent

__all__ = ["Digest", "Facts", "NotSent", "alert", "deliver", "gather", "lay_out", "previews"]
