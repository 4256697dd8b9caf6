-- What is usual in this company, learnt from what is known as of then: small tables that rows are compared with.

CREATE OR REPLACE TEMP TABLE dwell AS
SELECT pipeline, stage, segment, count(*) AS n,
       quantile_cont(date_diff('second', entered_at, left_at) / 86400.0, [0.5, 0.75, 0.9]) AS q,
       grouping(stage) AS of_pipeline, grouping(segment) AS of_stage
FROM stage_visits
WHERE exit IN ('advance', 'won')
GROUP BY GROUPING SETS ((pipeline, stage, segment), (pipeline, stage), (pipeline));

CREATE OR REPLACE TEMP TABLE remaining AS
SELECT v.pipeline, v.stage, count(*) AS n,
       median(date_diff('second', v.entered_at, o.ended_at) / 86400.0) AS days
FROM stage_visits AS v JOIN standing AS o ON o.id = v.opportunity_id
WHERE o.is_won
GROUP BY v.pipeline, v.stage;

CREATE OR REPLACE TEMP TABLE cycles AS
SELECT pipeline, count(*) AS n,
       quantile_cont(date_diff('second', created_at, ended_at) / 86400.0, [0.5, 0.9]) AS q,
       max(date_diff('second', created_at, ended_at) / 86400.0)
           FILTER (ended_at > getvariable('as_of') - INTERVAL 365 DAY) AS oldest
FROM standing
WHERE is_won AND created_at IS NOT NULL
GROUP BY pipeline;

CREATE OR REPLACE TEMP TABLE won_amounts AS
SELECT o.segment, quantile_cont(o.amount * coalesce(r.rate, 1), 0.95) AS p95
FROM standing AS o LEFT JOIN rates AS r USING (currency)
WHERE o.is_won AND o.amount > 0
GROUP BY o.segment;
