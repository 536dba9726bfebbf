-- Queues in PGMQ's list without their tables, and tables that are not in it.
--
-- {queues} is queues.sql.

with {queues}
select queue, 'it is not in pgmq.meta', format('select pgmq.create(%L)', queue)
from queues where not exists (select from pgmq.meta where lower(queue_name) = queue)
union all select queue_name, format('pgmq.%I does not exist', kind || lower(queue_name)), format('select pgmq.create(%L)', queue_name)
from pgmq.meta cross join (values ('q_'), ('a_')) as part(kind) where to_regclass(format('pgmq.%I', kind || lower(queue_name))) is null
order by 1, 2
