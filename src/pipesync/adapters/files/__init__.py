"""The `files` adapter: a folder of CSV or Parquet exports, and an outbox that stands for the CRM it came from."""

from pipesync.adapters.files.adapter import open_connection

__all__ = ["open_connection"]
