"""Alembic's entry: migrations run on the connection that the ledger opened, in its one transaction."""

from __future__ import annotations

from alembic import context

from pipesync.store.ledger.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
