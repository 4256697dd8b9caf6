"""The only writer. Every write is intended in the journal before its request and settled after it.

`apply` writes a plan, `recover` settles what a run that died left open, `undo` takes a run back. Each holds the
connection's lease, so that two never write to one connection at once. `export` is the journal for auditors.
"""

from __future__ import annotations

from pipesync.apply.audit import export
from pipesync.apply.recovery import recover
from pipesync.apply.undoing import undo
from pipesync.apply.writing import Applied, apply

__all__ = ["Applied", "apply", "export", "recover", "undo"]
