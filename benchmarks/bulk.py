"""A large made-up CRM, built in the warehouse by SQL alone: seeded, no files, a million opportunities in seconds.

Per opportunity five dated changes (stages, amount, close date) and ten activities; one in five is open. It is
for measuring time and memory; `pipesync.sandbox.company` makes companies that behave like one.
"""

from __future__ import annotations

from datetime import UTC, datetime

from pipesync.model import TABLES, ColumnState, Connection
from pipesync.schema import schema
from pipesync.store.warehouse import Warehouse

NAME = "bulk"
AS_OF = datetime(2026, 11, 16, 8, tzinfo=UTC)
_STAGES = (("Qualify", "early"), ("Discover", "early"), ("Propose", "middle"), ("Negotiate", "late"),
           ("Won", "won"), ("Lost", "lost"))  # fmt: skip

# u(key): a share in [0, 1) that depends on its key and the seed only.
_FILL = """
CREATE OR REPLACE TEMP MACRO u(key) AS (hash(getvariable('seed'), key) % 1000003) / 1000003.0;

CREATE OR REPLACE TEMP TABLE lives AS
SELECT i, '006' || lpad(i::VARCHAR, 12, '0') AS id,
       u(['open', i::VARCHAR]) < 0.2 AS is_open,
       to_seconds((u(['age', i::VARCHAR]) * CASE WHEN is_open THEN 90 ELSE 730 END * 86400)::BIGINT) AS age,
       least(age, to_seconds(((20 + 120 * u(['cycle', i::VARCHAR])) * 86400)::BIGINT)) AS life,
       u(['won', i::VARCHAR]) < 0.35 AS is_won,
       1 + (u(['reach', i::VARCHAR]) * 3)::INTEGER AS reach
FROM range(getvariable('opportunities')) AS r(i);

INSERT INTO opportunities BY NAME
SELECT 'bulk' AS connection, id, md5(i::VARCHAR) AS name, 'a' || (i // 2) AS account_id,
       'u' || (i % 200) AS owner_id, 'Sales' AS pipeline,
       CASE WHEN is_open THEN ['Qualify', 'Discover', 'Propose', 'Negotiate'][least(reach, 4)]
            WHEN is_won THEN 'Won' ELSE 'Lost' END AS stage,
       (1000 + 90000 * u(['amount', i::VARCHAR]))::DECIMAL(18, 2) AS amount, 'EUR' AS currency,
       ['pipeline', 'best_case', 'commit'][1 + i % 3] AS forecast_category,
       CASE WHEN is_open THEN DATE '2026-11-16' + (180 * u(['close', i::VARCHAR]) - 15)::INTEGER
            ELSE (getvariable('as_of') - age + life)::DATE END AS close_date,
       getvariable('as_of') - age AS created_at,
       CASE WHEN NOT is_open THEN getvariable('as_of') - age + life END AS closed_at,
       NOT is_open AS is_closed, NOT is_open AND is_won AS is_won,
       ['new', 'renewal'][1 + i % 2] AS type, ['web', 'event', 'partner', 'referral'][1 + i % 4] AS source,
       ['Basic', 'Plus', 'Pro'][1 + i % 3] AS product, ['small', 'large'][1 + i % 2] AS segment,
       CASE WHEN i % 12 > 0 THEN 'Call' END AS next_step
FROM lives;

INSERT INTO field_changes BY NAME
SELECT 'bulk' AS connection, id || '-' || k AS id, id AS opportunity_id,
       ['stage', 'amount', 'stage', 'close_date', 'stage'][k] AS field,
       CASE k WHEN 1 THEN 'Qualify' WHEN 2 THEN (1000 + i % 5000)::VARCHAR || '.00'
              WHEN 3 THEN ['Qualify', 'Discover', 'Propose', 'Negotiate'][reach + (reach < 2)::INTEGER]
              WHEN 4 THEN (DATE '2026-11-16' + (i % 180)::INTEGER)::VARCHAR
              ELSE CASE WHEN is_open THEN ['Qualify', 'Discover', 'Propose', 'Negotiate'][least(reach, 4)]
                        WHEN is_won THEN 'Won' ELSE 'Lost' END END AS value,
       getvariable('as_of') - age + CASE WHEN k = 1 THEN INTERVAL 0 DAY
           WHEN k = 5 THEN life ELSE to_seconds((epoch(life) * (k - 1) * 0.2
                * (0.5 + 0.5 * u(['at', i::VARCHAR, k::VARCHAR])))::BIGINT) END AS changed_at,
       'u' || (i % 200) AS changed_by, k AS seq
FROM lives, range(1, 6) AS c(k);

INSERT INTO activities BY NAME
SELECT 'bulk' AS connection, id || '-' || k AS id, id AS opportunity_id,
       ['Call', 'Email', 'Meeting'][1 + k % 3] AS kind,
       getvariable('as_of') - age + to_seconds((epoch(life) * u(['act', i::VARCHAR, k::VARCHAR]))::BIGINT)
           + CASE WHEN k = 10 AND is_open AND i % 8 > 0 THEN INTERVAL 400 DAY ELSE INTERVAL 0 DAY END AS "at",
       k < 10 OR NOT is_open OR i % 8 = 0 AS is_done, ['in', 'out'][1 + k % 2] AS direction,
       'u' || (i % 200) AS owner_id
FROM lives, range(1, 11) AS c(k);

INSERT INTO users BY NAME
SELECT 'bulk' AS connection, 'u' || i AS id, 'Rep ' || i AS name, i % 25 > 0 AS is_active,
       'u' || (i // 10 * 10) AS manager_id, 'Team ' || (i // 10) AS team FROM range(200) AS r(i);
INSERT INTO accounts BY NAME
SELECT 'bulk' AS connection, 'a' || i AS id, 'Account ' || i AS name
FROM range(getvariable('opportunities') // 2 + 1) AS r(i);
DROP TABLE lives
"""


def fill(warehouse: Warehouse, opportunities: int, seed: int = 1) -> None:
    """Put a connection `bulk` of so many opportunities into an empty warehouse, pulled up to AS_OF."""
    moment = AS_OF.replace(tzinfo=None)
    filled = {"opportunities", "stages", "field_changes", "activities", "users", "accounts"}
    absent = {"custom", "probability", "last_activity_at", "next_activity_at", "contact_count", "lost_reason"}
    states = [
        ColumnState(
            stream=stream,
            column=column,
            state="known" if stream in filled and column not in absent else "unmapped",
            history="full" if stream == "opportunities" else "none",
        )
        for stream in TABLES
        for column in schema(stream).names
    ]
    warehouse.set_connection(Connection(connection=NAME, adapter="files", currency="EUR"), states)
    for name, kind, value in (
        ("seed", "BIGINT", seed),
        ("opportunities", "BIGINT", opportunities),
        ("as_of", "TIMESTAMP", moment),
    ):
        warehouse.execute(f"SET VARIABLE {name} = ?::{kind}", [value])
    for order, (stage, phase) in enumerate(_STAGES, start=1):
        warehouse.execute(
            'INSERT INTO stages BY NAME SELECT ? AS connection, ? AS id, ? AS name, ? AS pipeline, ? AS "order", '
            "? AS phase, TRUE AS is_active",
            [NAME, stage, stage, "Sales", order, phase],
        )
    for statement in _FILL.split(";\n"):
        warehouse.execute(statement)
    for stream in TABLES:
        warehouse.execute(
            "INSERT INTO pulls VALUES (?, ?, NULL, ?, ?, TRUE, ?)", [NAME, stream, moment, moment, moment]
        )
