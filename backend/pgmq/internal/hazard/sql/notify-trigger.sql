-- Queues with the trigger of pgmq.enable_notify_insert, which has publishers wait for each other's commits. ezq
-- notifies without it.
--
-- {queues} is queues.sql.

with {queues}
select queue, 'publishers wait for each other in ' || tgname, format('select pgmq.disable_notify_insert(%L)', queue)
from queues join pg_trigger on tgrelid = queues.oid where tgname = 'trigger_notify_queue_insert_listeners' order by queue
