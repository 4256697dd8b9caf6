-- What is usual in this company, learnt from what is known as of then: small tables that rows are compared with.

CREATE OR REPLACE TEMP TABLE dwell AS
SELECT pipeline, stage, segment, count(*) AS n,
       quantile_cont(date_diff('second', entered_at, left_at) / 86400.0, [0.5, 0.75, 0.9]) AS q,
       grouping(stage) AS of_pipeline, grouping(segment) AS of_stage
FROM stage_visits
WHERE exit IN ('advance', 'won')
GROUP BY GROUPING SETS ((pipeline, stage, segment), (pipeline, stage), (pipeline));

CREATE OR REPLACE TEMP TABLE remaining AS
SELECT v.pipeline, v.stage, count(*) FILTER (o.is_won) AS n,
       median(date_diff('second', v.entered_at, o.ended_at) / 86400.0) FILTER (o.is_won) AS days,
       count(*) AS decided, n / decided AS win_rate
FROM stage_visits AS v JOIN standing AS o ON o.id = v.opportunity_id
WHERE o.is_closed
GROUP BY v.pipeline, v.stage;

CREATE OR REPLACE TEMP TABLE cycles AS
SELECT pipeline, segment, count(*) AS n,
       quantile_cont(date_diff('second', created_at, ended_at) / 86400.0, [0.5, 0.9]) AS q,
       max(date_diff('second', created_at, ended_at) / 86400.0)
           FILTER (ended_at > getvariable('as_of') - INTERVAL 365 DAY) AS oldest,
       grouping(segment) AS of_pipeline
FROM standing
WHERE is_won AND created_at IS NOT NULL
GROUP BY GROUPING SETS ((pipeline, segment), (pipeline));

CREATE OR REPLACE TEMP TABLE won_amounts AS
SELECT o.segment, count(*) AS n, quantile_cont(o.amount * coalesce(r.rate, 1), 0.95) AS p95
FROM standing AS o LEFT JOIN rates AS r USING (currency)
WHERE o.is_won AND o.amount > 0
GROUP BY o.segment;

-- How long customers that bought kept still, and took to reply: of the last 1,000 wins of each pipeline.
CREATE OR REPLACE TEMP TABLE pauses AS
WITH wins AS (
    SELECT id, pipeline, ended_at FROM standing WHERE is_won
    QUALIFY row_number() OVER (PARTITION BY pipeline ORDER BY ended_at DESC, id) <= 1000
),
days AS (
    SELECT w.id, w.pipeline, local_date(a."at") AS day,
           bool_or(coalesce(a.direction IN ('in', 'both'), FALSE)) AS is_in,
           bool_or(coalesce(a.direction = 'out', FALSE)) AS is_out
    FROM activities AS a JOIN wins AS w ON w.id = a.opportunity_id
    WHERE a.connection = getvariable('connection') AND a."at" <= w.ended_at AND coalesce(a.is_done, TRUE)
    GROUP BY ALL
),
steps AS (
    SELECT id, pipeline, is_in,
           lag(is_out AND NOT is_in) OVER days_of AS was_asked,
           business_days_between(lag(day) OVER days_of, day) AS pause
    FROM days
    WINDOW days_of AS (PARTITION BY id ORDER BY day)
),
longest AS (
    SELECT pipeline, count(*) AS n, quantile_cont(pause, 0.9) AS p90
    FROM (SELECT pipeline, max(pause) AS pause FROM steps GROUP BY pipeline, id)
    WHERE pause IS NOT NULL GROUP BY pipeline
),
replies AS (
    SELECT pipeline, count(*) AS n, quantile_cont(pause, 0.9) AS p90
    FROM steps WHERE is_in AND was_asked GROUP BY pipeline
)
SELECT l.pipeline, l.n AS idle_n, CASE WHEN l.n >= 20 THEN l.p90 END AS idle_p90,
       coalesce(r.n, 0) AS reply_n, CASE WHEN r.n >= 20 THEN r.p90 END AS reply_p90
FROM longest AS l LEFT JOIN replies AS r ON r.pipeline IS NOT DISTINCT FROM l.pipeline;

-- Quotas of the present fiscal quarter, in the home currency; those of its months are added up.
CREATE OR REPLACE TEMP TABLE quotas_now AS
SELECT q.owner_id, coalesce(q.team, u.team) AS team,
       CAST(sum(q.amount * CASE WHEN q.currency IS NULL OR NOT EXISTS (SELECT 1 FROM rates) THEN 1.0 ELSE r.rate END)
            AS DECIMAL(18, 2)) AS amount
FROM quotas AS q
LEFT JOIN rates AS r ON r.currency = q.currency
LEFT JOIN users AS u ON u.connection = q.connection AND u.id = q.owner_id
WHERE q.connection = getvariable('connection') AND q.product IS NULL
  AND quarter_of(q.period_start) = quarter_of(getvariable('today'))
  AND q.period_end <= quarter_end(getvariable('today'))
GROUP BY ALL;

CREATE OR REPLACE TEMP TABLE team_quotas AS
SELECT team, greatest(sum(amount) FILTER (owner_id IS NULL), sum(amount) FILTER (owner_id IS NOT NULL)) AS amount
FROM quotas_now WHERE team IS NOT NULL GROUP BY team;
