-- Queues without a valid index that begins with vt, as partitioned queues are that other tools have created: each claim
-- reads the whole table.
--
-- {queues} is queues.sql.

with {queues}
select queue, 'no index begins with vt', format(case relkind when 'p' then 'create index on pgmq.%I (vt)' else 'create index concurrently on pgmq.%I (vt)' end, relname)
from queues where not exists (
	select from pg_index join pg_attribute on attrelid = queues.oid and attnum = indkey[0] where indrelid = queues.oid and indisvalid and indpred is null and attname = 'vt')
order by queue
