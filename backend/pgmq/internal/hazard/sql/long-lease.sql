-- Messages that were delivered, and are not due for 12 hours. A consumer other than ezq's may have leased them for so
-- long and died; or they are to be retried then, or were snoozed. It looks at a thousand that are that late.
--
-- {table} is that of the queue.

select format('%s events were delivered and come back in more than 12 hours, msg_id %s at %s', count(*), min(msg_id), min(vt)),
	format('update %s set vt = pg_catalog.clock_timestamp() where msg_id = %s', {table name}, min(msg_id))
from (select msg_id, vt, read_ct from {table} where vt > clock_timestamp() + interval '12 hours' and vt < 'infinity' order by vt limit 1000) as late
where read_ct > 0 having count(*) > 0
