-- Opportunities as they stood at a moment in the past, in the few columns that moments are compared by: what
-- `standing_then.sql` says of them, from three fields' histories in one pass.

CREATE OR REPLACE TEMP TABLE standing AS
WITH histories AS (
    SELECT opportunity_id, field, value, changed_at <= getvariable('as_of') AS is_told,
           {'at': changed_at, 'seq': seq} AS nth
    FROM field_changes
    WHERE connection = getvariable('connection') AND field IN ('amount', 'close_date', 'owner_id')
),
moved AS (
    SELECT
        opportunity_id,
        arg_max_null(value, nth) FILTER (field = 'amount' AND is_told) AS amount,
        arg_max_null(value, nth) FILTER (field = 'close_date' AND is_told) AS close_date,
        arg_max_null(value, nth) FILTER (field = 'owner_id' AND is_told) AS owner_id,
        list(DISTINCT field) FILTER (is_told) AS told,
        list(DISTINCT field) AS fields
    FROM histories
    GROUP BY opportunity_id
),
at_that_time AS (
    SELECT
        o.*, m AS then_values, coalesce(m.told, []) AS told, coalesce(m.fields, []) AS moved,
        CASE WHEN o.is_closed THEN coalesce(o.closed_at, o.close_date) END AS ended_at
    FROM opportunities AS o
    LEFT JOIN moved AS m ON m.opportunity_id = o.id
    WHERE o.connection = getvariable('connection') AND o.created_at <= getvariable('as_of')
)
SELECT
    id, pipeline, currency, type, source, product, segment,
    CASE WHEN list_contains(told, 'owner_id') THEN then_values.owner_id
         WHEN NOT list_contains(moved, 'owner_id') THEN owner_id END AS owner_id,
    CASE WHEN list_contains(told, 'amount') THEN TRY_CAST(then_values.amount AS DECIMAL(18, 2))
         WHEN NOT list_contains(moved, 'amount') THEN amount END AS amount,
    CASE WHEN list_contains(told, 'close_date') THEN TRY_CAST(then_values.close_date AS DATE)
         WHEN NOT list_contains(moved, 'close_date') THEN close_date END AS close_date,
    coalesce(ended_at <= getvariable('as_of'), FALSE) AS is_closed,
    coalesce(is_won AND ended_at <= getvariable('as_of'), FALSE) AS is_won
FROM at_that_time;
