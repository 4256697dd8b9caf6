-- One row per stay in an open stage. A stay that lasts is censored: left_at and exit are NULL.

CREATE OR REPLACE TEMP TABLE stage_visits AS
WITH entries AS (
    SELECT opportunity_id, value AS stage, changed_at AS entered_at, nth
    FROM changes
    WHERE field = 'stage' AND value IS NOT NULL AND value IS DISTINCT FROM old
),
placed AS (
    SELECT e.opportunity_id, e.stage, e.entered_at, e.nth, o.pipeline, o.segment, o.amount, o.is_closed, o.is_won,
           o.ended_at, s.phase, s.stage_order
    FROM entries AS e
    JOIN standing AS o ON o.id = e.opportunity_id
    LEFT JOIN stage_list AS s ON s.pipeline IS NOT DISTINCT FROM o.pipeline AND s.name = e.stage
),
moves AS (
    SELECT *,
        lead(stage) OVER seq AS next_stage, lead(entered_at) OVER seq AS next_at,
        lead(phase) OVER seq AS next_phase, lead(stage_order) OVER seq AS next_order,
        coalesce(lag(phase) OVER seq IN ('won', 'lost'), FALSE) AS is_reopened
    FROM placed
    WINDOW seq AS (PARTITION BY opportunity_id ORDER BY nth)
)
SELECT
    opportunity_id, pipeline, segment, stage,
    row_number() OVER (PARTITION BY opportunity_id ORDER BY nth) AS visit,
    entered_at,
    coalesce(next_at, CASE WHEN is_closed THEN greatest(ended_at, entered_at) END) AS left_at,
    CASE
        WHEN next_phase IN ('won', 'lost') THEN next_phase
        WHEN next_order > stage_order THEN 'advance'
        WHEN next_order < stage_order THEN 'backward'
        WHEN next_stage IS NULL AND is_closed THEN CASE WHEN is_won THEN 'won' ELSE 'lost' END
    END AS exit,
    CASE WHEN next_phase IN ('won', 'lost') THEN NULL ELSE next_stage END AS next_stage,
    stage_order,
    CASE WHEN next_phase IN ('won', 'lost') THEN NULL ELSE next_order END AS next_order,
    amount,
    is_reopened
FROM moves
WHERE phase IS NULL OR phase NOT IN ('won', 'lost');
