-- Opportunities as they stood at a moment in the past: the last change up to it, and the present value only of fields
-- that never changed. What no history tells is blank here and unknown by the catalogue.

CREATE OR REPLACE TEMP TABLE standing AS
WITH last_values AS (
    SELECT
        opportunity_id,
        arg_max_null(value, nth) FILTER (field = 'stage') AS stage,
        arg_max_null(value, nth) FILTER (field = 'amount') AS amount,
        arg_max_null(value, nth) FILTER (field = 'close_date') AS close_date,
        arg_max_null(value, nth) FILTER (field = 'owner_id') AS owner_id,
        arg_max_null(value, nth) FILTER (field = 'forecast_category') AS forecast_category,
        arg_max_null(value, nth) FILTER (field = 'probability') AS probability,
        arg_max_null(value, nth) FILTER (field = 'next_step') AS next_step,
        list(DISTINCT field) AS fields
    FROM changes
    GROUP BY opportunity_id
),
later AS (
    SELECT opportunity_id, list(DISTINCT field) AS fields
    FROM field_changes
    WHERE connection = getvariable('connection') AND changed_at > getvariable('as_of')
    GROUP BY opportunity_id
),
at_that_time AS (
    SELECT
        o.*,
        h AS then_values,
        coalesce(h.fields, []) AS told,
        list_concat(coalesce(h.fields, []), coalesce(l.fields, [])) AS moved,
        CASE WHEN o.is_closed THEN coalesce(o.closed_at, o.close_date) END AS ended_at
    FROM opportunities AS o
    LEFT JOIN last_values AS h ON h.opportunity_id = o.id
    LEFT JOIN later AS l ON l.opportunity_id = o.id
    WHERE o.connection = getvariable('connection') AND o.created_at <= getvariable('as_of')
)
SELECT
    id, name, account_id,
    CASE WHEN list_contains(told, 'owner_id') THEN then_values.owner_id
         WHEN NOT list_contains(moved, 'owner_id') THEN owner_id END AS owner_id,
    pipeline,
    CASE WHEN list_contains(told, 'stage') THEN then_values.stage
         WHEN NOT list_contains(moved, 'stage') THEN stage END AS stage,
    CASE WHEN list_contains(told, 'amount') THEN TRY_CAST(then_values.amount AS DECIMAL(18, 2))
         WHEN NOT list_contains(moved, 'amount') THEN amount END AS amount,
    currency,
    CASE WHEN list_contains(told, 'probability') THEN TRY_CAST(then_values.probability AS DOUBLE)
         WHEN NOT list_contains(moved, 'probability') THEN probability END AS probability,
    CASE WHEN list_contains(told, 'forecast_category') THEN then_values.forecast_category
         WHEN NOT list_contains(moved, 'forecast_category') THEN forecast_category END AS forecast_category,
    CASE WHEN list_contains(told, 'close_date') THEN TRY_CAST(then_values.close_date AS DATE)
         WHEN NOT list_contains(moved, 'close_date') THEN close_date END AS close_date,
    created_at, type, source, product, segment,
    CASE WHEN list_contains(told, 'next_step') THEN then_values.next_step
         WHEN NOT list_contains(moved, 'next_step') THEN next_step END AS next_step,
    CAST(NULL AS VARCHAR) AS lost_reason, CAST(NULL AS MAP(VARCHAR, VARCHAR)) AS custom,
    CAST(NULL AS TIMESTAMP) AS summed_next_at, CAST(NULL AS TIMESTAMP) AS summed_last_at,
    CAST(NULL AS BIGINT) AS summed_contacts,
    CASE WHEN ended_at <= getvariable('as_of') THEN ended_at END AS ended_at,
    coalesce(ended_at <= getvariable('as_of'), FALSE) AS is_closed,
    coalesce(is_won AND ended_at <= getvariable('as_of'), FALSE) AS is_won
FROM at_that_time;
