-- Topics that have groups and a queue of their own: each event is stored there too, and waits if no consumer has no group.
--
-- {queues} is queues.sql.

with {queues}
select queue, format('%s queues are bound to the topic besides its own, among them %s', count(*), min(queue_name)), ''
from queues join pgmq.topic_bindings on pattern = queue and lower(queue_name) <> queue group by queue order by queue
