"""Any folder at all: the adapter loads it, rejects rows of it or refuses it with a reason, and never breaks."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from pipesync.adapters import open_adapter
from pipesync.config import ConnectionConfig
from pipesync.errors import InputError
from pipesync.schema import schema

CELLS = st.sampled_from([
    "", " ", "1", "2", "3", "1.005", "-7",
    "1e400", "NaN", "٣", "1_000", "0x10", "true", "Open", "Closed Won", "Closed Lost",
    "closed_won", "2026-01-05", "2026-01-05T09:00:00Z", "2026-01-05 09:00+99:00",
    "9999-12-31", "0001-01-01T00:00:00+14:00",
    "20260105", "commit", "Best Case", "stage", "amount", "close_date", "created_at", "=1+1", '"', '"a"b', "a,b", "a;b",
    "line\nbreak", "\r", "\0", "ünïcode", "x" * 300,
])  # fmt: skip
CELL = CELLS | st.text(max_size=6)
COLUMNS = {
    "opportunities": [
        "opportunity_id", "amount", "created_at", "closed_at", "outcome", "stage", "pipeline", "close_date",
        "probability",
        "forecast_category", "contact_count", "region",
    ],
    "stage_history": ["opportunity_id", "stage", "entered_at", "changed_by"],
    "field_history": ["opportunity_id", "field", "old", "new", "changed_at"],
    "activities": ["opportunity_id", "activity", "at", "is_done", "direction"],
    "quotas": ["owner_id", "period_start", "period_end", "amount"],
    "line_items": ["opportunity_id", "quantity", "total", "discount_pct"],
}  # fmt: skip
LIKELY = {
    "opportunity_id": ["1", "2", "3"], "created_at": ["2026-01-05"], "outcome": ["Open"], "entered_at": ["2026-01-06"],
    "at": ["2026-01-07"], "changed_at": ["2026-01-08"], "field": ["amount", "close_date", "stage"], "closed_at": [""],
}  # fmt: skip


@st.composite
def folders(draw: st.DrawFn) -> dict[str, bytes]:
    """Files by name: mostly right columns with odd cells, at times cut, requoted or in another encoding."""
    files = {}
    for name, columns in COLUMNS.items():
        if name != "opportunities" and draw(st.integers(0, 2)) == 0:
            continue
        dropped = draw(st.sampled_from([*[""] * 60, *columns]))
        kept = [c for c in columns if c != dropped]
        delimiter = draw(st.sampled_from([",", ",", ";"]))
        lines = [delimiter.join(kept)]
        if draw(st.integers(0, 4)):
            lines.append(delimiter.join(LIKELY.get(c, [""])[0] for c in kept))
        for _ in range(draw(st.integers(0, 5))):
            cells = [
                draw(st.sampled_from(LIKELY[c]) if c in LIKELY and draw(st.integers(0, 4)) else CELL)
                for c in kept
            ]
            quote = draw(st.booleans())
            lines.append(delimiter.join('"' + c.replace('"', '""') + '"' if quote else c for c in cells))
        text = draw(st.sampled_from(["\n", "\r\n"])).join(lines)
        encoded = text.encode(draw(st.sampled_from([*["utf-8"] * 20, "utf-8-sig", "utf-16"])), "replace")
        cut = draw(st.sampled_from([*[1.0] * 20, 0.0, 0.3, 0.6, 0.9]))
        files[f"{name}.csv"] = encoded[: int(len(encoded) * cut)]
    return files


MAPPINGS = st.sampled_from([
    "", "timezone: Asia/Tokyo\n", "as_of: 2026-02-01\n", "stages: {a: early, b: won}\n",
    "extends: pipesync:files\nstreams: {opportunities: {custom: {region: region}}}\n"
    "segments: [{name: x, when: {custom.region: {gte: 2}}}, {name: y}]\n",
])  # fmt: skip


@given(folders(), MAPPINGS)
@settings(max_examples=100, deadline=None)
def test_no_folder_breaks_the_adapter(files: dict[str, bytes], mapping: str) -> None:
    """Every folder either loads, with its bad rows told, or is refused with a place."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, content in files.items():
            (folder / file).write_bytes(content)
        if mapping:
            (folder / "mapping.yaml").write_text(mapping, encoding="utf-8")
        try:
            _pull_all(folder)
        except InputError as error:
            refused = error.problems
        else:
            refused = ()

        assert all(problem.place for problem in refused)


def _pull_all(folder: Path) -> None:
    adapter = open_adapter("x", ConnectionConfig(adapter="files", options={"data": folder}), folder)
    until = adapter.clock()
    adapter.columns()
    for stream in adapter.streams:
        for page in adapter.pull(stream, None, until):
            assert page.rows.num_columns
            assert all(schema(stream).field(f.name).type == f.type for f in page.rows.schema)
            assert all(r.where and r.reason for r in page.rejects)
