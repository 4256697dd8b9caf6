-- One unit in the home currency. Without any rates the company has one currency.
CREATE OR REPLACE TEMP TABLE rates AS
SELECT currency, arg_max(rate, valid_from) AS rate
FROM currency_rates
WHERE connection = getvariable('connection') AND valid_from <= getvariable('today')
GROUP BY currency
UNION ALL BY NAME
SELECT currency, 1.0 AS rate FROM connections
WHERE connection = getvariable('connection') AND currency IS NOT NULL
  AND NOT EXISTS (SELECT 1 FROM currency_rates AS r
                  WHERE r.connection = getvariable('connection') AND r.currency = connections.currency);
