-- Time arithmetic of the session. Variables set by compute(): connection, as_of (UTC), today (the calendar's date
-- of as_of), zone_offset, is_current, holidays, fiscal_month.

CREATE OR REPLACE TEMP MACRO days_since(moment) AS
    date_diff('second', moment, getvariable('as_of')) / 86400.0;

-- The offset of as_of serves for all moments: an hour of summer time may move an event across midnight.
CREATE OR REPLACE TEMP MACRO local_date(moment) AS
    CAST(moment + getvariable('zone_offset') AS DATE);

-- Mondays to Fridays since Monday, 29 December 1969, up to and including a day.
CREATE OR REPLACE TEMP MACRO weekdays_until(day) AS
    5 * (date_diff('day', DATE '1969-12-28', day) // 7) + least(date_diff('day', DATE '1969-12-28', day) % 7, 5);

-- Business days that have begun after a day up to another, that one included: from Friday to Monday it is one.
CREATE OR REPLACE TEMP MACRO business_days_between(day, later) AS
    weekdays_until(later) - weekdays_until(day)
    - CASE WHEN len(getvariable('holidays')) = 0 THEN 0
           ELSE len(list_filter(getvariable('holidays'), lambda h: h > day AND h <= later)) END;

CREATE OR REPLACE TEMP MACRO business_days_since(day) AS
    business_days_between(day, getvariable('today'));

-- Business days that begin after today, up to and including a day: from Friday to Monday it is one.
CREATE OR REPLACE TEMP MACRO business_days_until(day) AS
    weekdays_until(day) - weekdays_until(getvariable('today'))
    - CASE WHEN len(getvariable('holidays')) = 0 THEN 0
           ELSE len(list_filter(getvariable('holidays'), lambda h: h > getvariable('today') AND h <= day)) END;

CREATE OR REPLACE TEMP MACRO is_business_day(day) AS
    isodow(day) < 6 AND NOT list_contains(getvariable('holidays'), day);

CREATE OR REPLACE TEMP MACRO quarter_of(day) AS
    date_trunc('quarter', day - to_months(getvariable('fiscal_month') - 1));

CREATE OR REPLACE TEMP MACRO quarters_between(day, later) AS
    date_diff('quarter', quarter_of(day), quarter_of(later));

-- The first day of the next fiscal quarter.
CREATE OR REPLACE TEMP MACRO quarter_end(day) AS
    CAST(quarter_of(day) + to_months(getvariable('fiscal_month') + 2) AS DATE);

-- Whether an opportunity is in the part that is worked on; variables `part` and `parts`.
CREATE OR REPLACE TEMP MACRO in_part(id) AS
    hash(id) % getvariable('parts') = getvariable('part');
