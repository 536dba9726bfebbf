-- Queues in PGMQ's list without their tables, and tables that are not in it. For one that is partitioned, or has a name that PGMQ gives
-- none, its functions would list another.
--
-- {queues} is queues.sql.

with {queues}
select queue, 'it is not in pgmq.meta', case when relkind = 'p' or queue <> lower(queue) or length(queue) > 47 or queue ~ '[$;'']|--' then ''
		else format('select pgmq.%s(%L)', case relpersistence when 'u' then 'create_unlogged' else 'create' end, queue) end
from queues where not exists (select from pgmq.meta where lower(queue_name) = queue)
union all select queue_name, format('pgmq.%I does not exist', kind || lower(queue_name)), case when not is_partitioned then format('select pgmq.%s(%L)', case when is_unlogged then 'create_unlogged' else 'create' end, queue_name) else '' end
from pgmq.meta cross join (values ('q_'), ('a_')) as part(kind) where to_regclass(format('pgmq.%I', kind || lower(queue_name))) is null
order by 1, 2
