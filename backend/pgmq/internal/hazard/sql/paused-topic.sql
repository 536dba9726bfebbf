-- Pauses that hold.
select queue, format('paused by %s for %s: %s', left(paused_by, 100), date_trunc('second', clock_timestamp() - since), left(reason, 200)), ''
from pgmq.ezq_pauses where until is null or until > clock_timestamp() order by since limit 1000
