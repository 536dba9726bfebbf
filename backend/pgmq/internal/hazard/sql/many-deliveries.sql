-- Messages that were delivered more than twenty times, among the first thousand.
--
-- {table} is that of the queue.

select format('%s of the first %s events were delivered more than 20 times, msg_id %s %s times', count(*) filter (where read_ct > 20), count(*),
	(array_agg(msg_id order by read_ct desc))[1], max(read_ct)), ''
from (select msg_id, read_ct from {table} where vt < 'infinity' order by vt limit 1000) as first having max(read_ct) > 20
