-- Dated changes up to as_of, and each stay in an open stage as a row: where it came from, how long, how it ended.

CREATE OR REPLACE TEMP TABLE changes AS
SELECT
    opportunity_id, field, value, changed_at,
    lag(value) OVER nth AS old,
    row_number() OVER nth AS nth
FROM field_changes
WHERE connection = getvariable('connection')
  AND changed_at <= getvariable('as_of')
  AND field IN ('stage', 'amount', 'close_date', 'owner_id', 'forecast_category', 'probability', 'next_step')
WINDOW nth AS (PARTITION BY opportunity_id, field ORDER BY changed_at, seq);

-- Positions run from 1 without gaps, whatever numbers the CRM sorts by.
CREATE OR REPLACE TEMP TABLE stage_list AS
WITH one AS (
    SELECT pipeline, name, phase, default_category, probability, required, "order"
    FROM stages
    WHERE connection = getvariable('connection')
    QUALIFY row_number() OVER (PARTITION BY pipeline, name ORDER BY is_active DESC, "order", id) = 1
)
SELECT pipeline, name, phase, default_category, probability, required,
       row_number() OVER (PARTITION BY pipeline ORDER BY "order", name) AS stage_order
FROM one;
