-- How thecloud_cron's statements are planned. It claims a few rows of tables that fill and empty within seconds, faster than anybody counts
-- them: by the statistics of an empty table, reading it from end to end looks cheap, and each claim then costs as much as all that waits.
-- Such ways are ruled out where an index or a loop will do, so that a claim costs what it takes, whatever the statistics say; where nothing
-- else will do (housekeeping by ranges of time) they are still gone. JIT costs more than any of these statements.

alter role thecloud_cron set jit = off;
alter role thecloud_cron set enable_seqscan = off;
alter role thecloud_cron set enable_bitmapscan = off;
alter role thecloud_cron set enable_hashjoin = off;
alter role thecloud_cron set enable_mergejoin = off;
alter role thecloud_cron set enable_material = off;
-- What was just written is in memory.
alter role thecloud_cron set random_page_cost = 1.1;
