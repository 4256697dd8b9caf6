"""The words of the connected CRMs: their stages, owners and custom fields, which conditions are checked against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from pipesync.features.columns import Column
from pipesync.model import Level
from pipesync.rules.format import Catalogue
from pipesync.rules.levels import LEVELS
from pipesync.store.warehouse import Warehouse

_LISTED = {
    "stage": "SELECT DISTINCT name FROM stages WHERE connection = ? AND name IS NOT NULL",
    "pipeline": "SELECT DISTINCT pipeline FROM stages WHERE connection = ? AND pipeline IS NOT NULL",
    "owner_id": "SELECT DISTINCT id FROM users WHERE connection = ?",
    "owner_name": "SELECT DISTINCT name FROM users WHERE connection = ? AND name <> ''",
    "manager_id": "SELECT DISTINCT manager_id FROM users WHERE connection = ? AND manager_id IS NOT NULL",
    "team": "SELECT DISTINCT team FROM users WHERE connection = ? AND team IS NOT NULL",
    "custom": "SELECT DISTINCT unnest(map_keys(custom)) FROM opportunities WHERE connection = ?",
}
"""Of these the CRM has a list; what is not on it is a mistake."""
_USED = ("segment", "type", "source", "product", "currency")
"""Of these only what opportunities hold so far is known; another word may be right, and is only wondered at."""


@dataclass(frozen=True)
class Vocabulary:
    """Values by field: `listed` are all that there can be, `used` those that occur."""

    listed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    used: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def catalogue(self) -> Catalogue:
        """What conditions may say without being wrong."""
        return _with_values(LEVELS, self.listed)

    @property
    def narrow(self) -> Catalogue:
        """What conditions may say without being wondered at."""
        return _with_values(LEVELS, {**self.used, **self.listed})


def vocabulary(warehouse: Warehouse, connections: Sequence[str]) -> Vocabulary:
    """Read the words of these connections, taken together, from the mirror."""

    def values(query: str) -> tuple[str, ...]:
        found = {value for name in connections for (value,) in warehouse.rows(query, [name])}
        return tuple(sorted(found))

    listed = {name: values(query) for name, query in _LISTED.items()}
    used = {
        name: values(
            f'SELECT DISTINCT "{name}" FROM opportunities WHERE connection = ? AND "{name}" IS NOT NULL'
        )
        for name in _USED
    }
    return Vocabulary({n: v for n, v in listed.items() if v}, {n: v for n, v in used.items() if v})


def _with_values(catalogue: Catalogue, values: Mapping[str, tuple[str, ...]]) -> Catalogue:
    def of(columns: Mapping[str, Column]) -> dict[str, Column]:
        return {n: replace(c, values=values[n]) if n in values else c for n, c in columns.items()}

    found: dict[Level, Mapping[str, Column]] = {level: of(columns) for level, columns in catalogue.items()}
    return found
