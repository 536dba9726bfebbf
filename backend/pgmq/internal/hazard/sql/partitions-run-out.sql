-- Queues that are partitioned by msg_id whose last partition is in use.
--
-- {queues} is queues.sql.

with {queues},
parts as (
	select queues.queue, queues.relname,
		(regexp_match(pg_get_expr(part.relpartbound, part.oid), '^FOR VALUES FROM \(''(\d{1,18})''\) TO \(''(\d{1,18})''\)$'))[1]::bigint as first,
		(regexp_match(pg_get_expr(part.relpartbound, part.oid), '^FOR VALUES FROM \(''(\d{1,18})''\) TO \(''(\d{1,18})''\)$'))[2]::bigint as past
	from queues join pg_inherits on inhparent = queues.oid join pg_class part on part.oid = inhrelid),
last as (
	select queue, relname, max(first) as first, max(past) as past from parts group by 1, 2)
select queue, format('the last partition begins at %s and ends before %s, and the ids are at %s', first, past, used),
	'select partman.run_maintenance()'
from last cross join lateral (select pg_sequence_last_value(to_regclass(pg_get_serial_sequence(format('pgmq.%I', relname), 'msg_id'))) as used) as ids
where used >= first order by queue
