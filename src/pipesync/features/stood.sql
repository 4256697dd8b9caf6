-- Where every opportunity stood, in the few columns that moments are compared by; amounts in the home currency.

SELECT
    o.id, o.is_closed, o.is_won, o.close_date, o.pipeline, o.segment, o.product, o.source, o.type, o.owner_id,
    u.team, u.manager_id,
    CAST(o.amount * CASE WHEN o.currency IS NULL OR NOT EXISTS (SELECT 1 FROM rates) THEN 1.0 ELSE r.rate END
        AS DECIMAL(18, 2)) AS amount
FROM standing AS o
LEFT JOIN rates AS r ON r.currency = o.currency
LEFT JOIN users AS u ON u.connection = getvariable('connection') AND u.id = o.owner_id
