-- Pauses that hold.
select queue, format('paused by %s since %s: %s', left(paused_by, 100), to_char(since at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"'), left(reason, 200)), ''
from pgmq.ezq_pauses where until is null or until > clock_timestamp() order by since limit 1000
