-- One row per opportunity that existed as of then, of one part of them: what is joined then fits into memory.
-- Columns in the order of the catalogue (columns.py).

SELECT
    o.id, coalesce(o.name, o.id) AS name, o.account_id, a.name AS account_name, o.pipeline, o.type, o.source, o.product, o.segment, o.currency,
    o.custom,

    NOT o.is_closed AS is_open, o.is_won, o.is_closed, o.created_at,
    CASE WHEN o.is_closed THEN o.ended_at END AS closed_at,
    o.stage, s.stage_order, s.phase, s.default_category AS stage_default_category,
    CASE WHEN s.required IS NOT NULL THEN nullif(array_to_string(list_filter(string_split(s.required, ','), lambda f:
        NOT list_contains(getvariable('unread'), split_part(f, '.', 1)) AND CASE f
            WHEN 'account_id' THEN o.account_id IS NULL
            WHEN 'amount' THEN coalesce(o.amount, 0) = 0
            WHEN 'close_date' THEN o.close_date IS NULL
            WHEN 'contact_count' THEN coalesce(pp.contact_count, o.summed_contacts, 0) = 0
            WHEN 'forecast_category' THEN o.forecast_category IS NULL
            WHEN 'has_decision_maker' THEN NOT coalesce(pp.has_decision_maker, FALSE)
            WHEN 'line_item_count' THEN coalesce(i.line_item_count, 0) = 0
            WHEN 'next_step' THEN nullif(trim(o.next_step), '') IS NULL
            WHEN 'owner_id' THEN o.owner_id IS NULL
            WHEN 'product' THEN o.product IS NULL
            WHEN 'source' THEN o.source IS NULL
            WHEN 'type' THEN o.type IS NULL
            ELSE coalesce(trim(map_extract_value(o.custom, substr(f, 8))), '') = ''
        END), ', '), '') END AS required_missing,
    o.forecast_category, o.probability,
    o.lost_reason,

    days_since(o.created_at) AS age_days,
    business_days_since(local_date(o.created_at)) AS business_age_days,
    CASE WHEN o.is_closed THEN date_diff('second', o.created_at, o.ended_at) / 86400.0 END AS cycle_days,
    CASE WHEN o.is_closed THEN days_since(o.ended_at) END AS days_since_closed,
    local_date(o.created_at) AS created_on,
    CASE WHEN o.is_closed THEN
        quarters_between(local_date(o.ended_at), getvariable('today')) END AS quarters_since_closed,
    CASE WHEN o.is_closed THEN
        date_diff('day', local_date(o.ended_at), quarter_end(local_date(o.ended_at))) END AS quarter_days_left,
    coalesce(o.is_closed AND local_date(o.ended_at) = created_on, FALSE) AS closed_same_day,
    CASE WHEN NOT o.is_closed THEN w.stage_entered_at END AS stage_entered_at,
    CASE WHEN NOT o.is_closed THEN days_since(w.stage_entered_at) END AS days_in_stage,
    CASE WHEN NOT o.is_closed THEN business_days_since(local_date(w.stage_entered_at)) END AS business_days_in_stage,
    coalesce(w.stage_changes, 0) AS stage_changes,
    coalesce(w.stage_changes_60d, 0) AS stage_changes_60d,
    coalesce(w.stage_entered_at, o.created_at) AS stage_changed_at,
    coalesce(w.regressions, 0) AS regressions, w.regressed_at,
    coalesce(w.skipped_stages, 0) AS skipped_stages, w.first_stage_order,
    coalesce(w.reopen_count, 0) AS reopen_count, w.reopened_at,

    coalesce(ds.q[1], dt.q[1], dp.q[1], 10.0) AS stage_dwell_p50,
    coalesce(ds.q[2], dt.q[2], dp.q[2], 20.0) AS stage_dwell_p75,
    coalesce(ds.q[3], dt.q[3], dp.q[3], 30.0) AS stage_dwell_p90,
    coalesce(ds.n, dt.n, dp.n, 0) AS stage_dwell_n,
    CASE WHEN m.n >= 20 THEN m.days END AS stage_remaining_p50,
    CASE WHEN NOT o.is_closed THEN greatest(stage_remaining_p50 - days_since(w.stage_entered_at), 0) END
        AS expected_remaining_days,
    CASE WHEN m.decided >= 20 THEN m.win_rate END AS stage_win_rate,
    coalesce(cs.q[1], c.q[1]) AS cycle_p50, coalesce(cs.q[2], c.q[2]) AS cycle_p90,
    CASE WHEN cs.n IS NULL THEN c.oldest ELSE cs.oldest END AS oldest_won_days, coalesce(cs.n, c.n, 0) AS won_n,
    CAST(p.p95 AS DECIMAL(18, 2)) AS won_amount_p95, coalesce(p.n, 0) AS won_amount_n,
    pa.idle_p90, coalesce(pa.idle_n, 0) AS idle_n, pa.reply_p90, coalesce(pa.reply_n, 0) AS reply_n,

    CAST(o.amount * o.in_home AS DECIMAL(18, 2)) AS amount,
    o.amount AS amount_original,
    coalesce(TRY_CAST(t.first_amount AS DECIMAL(18, 2)), CASE WHEN coalesce(t.amount_changes, 0) = 0 THEN o.amount END)
        AS first_amount,
    coalesce(t.amount_changes, 0) AS amount_changes,
    coalesce(t.amount_changed_at, o.created_at) AS amount_changed_at,
    CAST(CASE WHEN t.amount_changed_at > getvariable('as_of') - INTERVAL 7 DAY
              THEN TRY_CAST(t.amount_before AS DECIMAL(18, 2)) ELSE o.amount END * o.in_home AS DECIMAL(18, 2))
        AS amount_7d_ago,
    coalesce(n.n, 0) AS same_amount_count,
    coalesce(i.line_item_count, 0) AS line_item_count,
    i.line_item_total,
    abs(o.amount - i.line_item_total) AS line_item_gap,
    CAST(100 * abs(o.amount - i.line_item_total) / nullif(abs(o.amount), 0) AS DOUBLE) AS line_item_gap_pct,
    coalesce(i.line_item_currencies, 0) AS line_item_currencies, i.discount_pct,
    coalesce(h.products_used, FALSE) AS products_used,

    o.close_date,
    date_diff('day', getvariable('today'), o.close_date) AS days_to_close,
    greatest(date_diff('day', o.close_date, getvariable('today')), 0) AS days_past_due,
    coalesce(TRY_CAST(t.first_close_date AS DATE), o.close_date) AS first_close_date,
    coalesce(t.push_count, 0) AS push_count, coalesce(t.push_days_total, 0) AS push_days_total, t.pushed_at,
    coalesce(t.small_pushes_30d, 0) AS small_pushes_30d, t.pushed_out_of_quarter_at,
    coalesce(quarter_of(local_date(t.pushed_out_of_quarter_at)) = quarter_of(getvariable('today')), FALSE)
        AS pushed_out_this_quarter,
    coalesce(t.close_date_changes, 0) AS close_date_changes,
    coalesce(t.close_date_changed_at, o.created_at) AS close_date_changed_at,
    is_business_day(o.close_date) AS close_is_business_day,
    is_business_day(o.close_date) AND month(
        o.close_date + CASE isodow(o.close_date) WHEN 5 THEN 3 WHEN 6 THEN 2 ELSE 1 END
    ) <> month(o.close_date) AS close_is_period_end,
    quarter_of(o.close_date) = quarter_of(getvariable('today')) AS closes_this_quarter,

    CASE WHEN o.summed_last_at <= getvariable('as_of') THEN greatest(o.summed_last_at, act.last_at) ELSE act.last_at END
        AS last_activity_at,
    days_since(last_activity_at) AS days_since_last_activity,
    business_days_since(local_date(last_activity_at)) AS business_days_since_last_activity,
    coalesce(act.activity_count, 0) AS activity_count,
    coalesce(act.activities_14d, 0) AS activities_14d, coalesce(act.activities_30d, 0) AS activities_30d,
    act.last_inbound_at, business_days_since(local_date(act.last_inbound_at)) AS business_days_since_last_inbound,
    act.last_outbound_at, act.last_meeting_at, coalesce(h.meetings_used, FALSE) AS meetings_used,
    act.first_at AS first_activity_at,
    le.lead_created_at,
    CASE WHEN last_activity_at IS NULL AND le.lead_touched_at IS NULL
         THEN business_days_since(local_date(coalesce(le.lead_created_at, o.created_at))) END AS business_days_untouched,
    CASE WHEN getvariable('is_current') THEN coalesce(
        least(act.next_at, CASE WHEN o.summed_next_at > getvariable('as_of') THEN o.summed_next_at END),
        o.summed_next_at
    ) END AS next_activity_at,
    coalesce(act.overdue, 0) AS overdue_activities,
    nullif(trim(o.next_step), '') AS next_step,
    coalesce(t.next_step_changed_at, o.created_at) AS next_step_changed_at,
    coalesce(t.was_committed OR o.forecast_category = 'commit', FALSE) AS was_committed,
    coalesce(t.category_changes_30d, 0) AS category_changes_30d,
    coalesce(t.category_changed_at, o.created_at) AS category_changed_at,

    o.owner_id, u.name AS owner_name, u.is_active AS owner_active, u.manager_id, u.team,
    qo.amount AS owner_quota, qt.amount AS team_quota,
    coalesce(t.owner_changes_90d, 0) AS owner_changes_90d,
    coalesce(t.owner_changed_at, o.created_at) AS owner_changed_at,
    coalesce(pp.contact_count, o.summed_contacts, 0) AS contact_count,
    coalesce(pp.has_decision_maker, FALSE) AS has_decision_maker,
    coalesce(h.roles_used, FALSE) AS roles_used,
    al.duplicate_of, coalesce(al.duplicate_count, 0) AS duplicate_count
FROM (
    SELECT standing.*,
           CASE WHEN currency IS NULL OR NOT EXISTS (SELECT 1 FROM rates) THEN 1.0 ELSE rate END AS in_home
    FROM standing LEFT JOIN rates USING (currency)
    WHERE in_part(id)
) AS o
LEFT JOIN accounts AS a ON a.connection = getvariable('connection') AND a.id = o.account_id
LEFT JOIN users AS u ON u.connection = getvariable('connection') AND u.id = o.owner_id
LEFT JOIN stage_list AS s ON s.pipeline IS NOT DISTINCT FROM o.pipeline AND s.name = o.stage
LEFT JOIN (FROM told WHERE in_part(opportunity_id)) AS t ON t.opportunity_id = o.id
LEFT JOIN (FROM walked WHERE in_part(opportunity_id)) AS w ON w.opportunity_id = o.id
LEFT JOIN (FROM acted WHERE in_part(opportunity_id)) AS act ON act.opportunity_id = o.id
LEFT JOIN (FROM peopled WHERE in_part(opportunity_id)) AS pp ON pp.opportunity_id = o.id
LEFT JOIN (FROM led WHERE in_part(opportunity_id)) AS le ON le.opportunity_id = o.id
LEFT JOIN habits AS h ON h.pipeline IS NOT DISTINCT FROM o.pipeline
LEFT JOIN (FROM itemised WHERE in_part(opportunity_id)) AS i ON i.opportunity_id = o.id
LEFT JOIN (FROM alike WHERE in_part(opportunity_id)) AS al ON al.opportunity_id = o.id
LEFT JOIN round_numbers AS n ON n.owner_id = o.owner_id AND n.amount = o.amount AND NOT o.is_closed
LEFT JOIN dwell AS ds ON ds.of_stage = 0 AND ds.n >= 20 AND ds.pipeline IS NOT DISTINCT FROM o.pipeline
                     AND ds.stage = o.stage AND ds.segment IS NOT DISTINCT FROM o.segment
LEFT JOIN dwell AS dt ON dt.of_pipeline = 0 AND dt.of_stage = 1 AND dt.n >= 20
                     AND dt.pipeline IS NOT DISTINCT FROM o.pipeline AND dt.stage = o.stage
LEFT JOIN dwell AS dp ON dp.of_pipeline = 1 AND dp.n >= 20 AND dp.pipeline IS NOT DISTINCT FROM o.pipeline
LEFT JOIN remaining AS m ON m.pipeline IS NOT DISTINCT FROM o.pipeline AND m.stage = o.stage
LEFT JOIN cycles AS cs ON cs.of_pipeline = 0 AND cs.n >= 20 AND cs.pipeline IS NOT DISTINCT FROM o.pipeline
                       AND cs.segment IS NOT DISTINCT FROM o.segment
LEFT JOIN cycles AS c ON c.of_pipeline = 1 AND c.n >= 20 AND c.pipeline IS NOT DISTINCT FROM o.pipeline
LEFT JOIN won_amounts AS p ON p.n >= 20 AND p.segment IS NOT DISTINCT FROM o.segment
LEFT JOIN (SELECT owner_id, sum(amount) AS amount FROM quotas_now WHERE owner_id IS NOT NULL GROUP BY owner_id) AS qo
    ON qo.owner_id = o.owner_id
LEFT JOIN team_quotas AS qt ON qt.team = u.team
LEFT JOIN pauses AS pa ON pa.pipeline IS NOT DISTINCT FROM o.pipeline
