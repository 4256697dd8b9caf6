-- Quarters of whole weeks, in place of those of months. Variables: quarter_starts, and quarter_numbers, which has for each
-- day from the first of them on the position of its quarter.

CREATE OR REPLACE TEMP MACRO quarter_number(day) AS
    getvariable('quarter_numbers')[greatest(date_diff('day', getvariable('quarter_starts')[1], day) + 1, 0)];

CREATE OR REPLACE TEMP MACRO quarter_of(day) AS
    getvariable('quarter_starts')[quarter_number(day)];

CREATE OR REPLACE TEMP MACRO quarters_between(day, later) AS
    quarter_number(later) - quarter_number(day);

CREATE OR REPLACE TEMP MACRO quarter_end(day) AS
    getvariable('quarter_starts')[quarter_number(day) + 1];
