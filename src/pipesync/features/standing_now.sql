-- Opportunities as they stand: one row each, for a moment that the last pull has reached.

CREATE OR REPLACE TEMP TABLE standing AS
SELECT
    id, name, account_id, owner_id, pipeline, stage, amount, currency, probability, forecast_category, close_date,
    created_at, type, source, product, segment, next_step, lost_reason, custom,
    next_activity_at AS summed_next_at, last_activity_at AS summed_last_at, contact_count AS summed_contacts,
    CASE WHEN is_closed THEN coalesce(closed_at, close_date, getvariable('as_of')) END AS ended_at,
    coalesce(ended_at <= getvariable('as_of'), FALSE) AS is_closed,
    coalesce(is_won AND ended_at <= getvariable('as_of'), FALSE) AS is_won
FROM opportunities
WHERE connection = getvariable('connection')
  AND (created_at IS NULL OR created_at <= getvariable('as_of'));
