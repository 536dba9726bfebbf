-- Queues that are partitioned by msg_id whose last partition is in use, and has an end.
--
-- {queues} is queues.sql. Without a privilege on the sequence, PostgreSQL 18 gives null for its last value; currval refuses that.

with {queues},
parts as (
	select queues.queue, queues.relname,
		(regexp_match(pg_get_expr(part.relpartbound, part.oid), '^FOR VALUES FROM \(''(\d{1,18})''\) TO \((MAXVALUE|''\d{1,18}'')\)$'))[1]::bigint as first,
		(regexp_match(pg_get_expr(part.relpartbound, part.oid), '^FOR VALUES FROM \(''(\d{1,18})''\) TO \(''(\d{1,18})''\)$'))[2]::bigint as past,
		coalesce(pg_get_expr(part.relpartbound, part.oid) ~ 'MAXVALUE\)$', false) as endless
	from queues join pg_inherits on inhparent = queues.oid join pg_class part on part.oid = inhrelid
	where exists (select from pg_attribute where attrelid = queues.oid and attname = 'msg_id' and not attisdropped)),
last as (
	select queue, relname, max(first) as first, max(past) as past from parts group by 1, 2 having not bool_or(endless))
select queue, format('the last partition begins at %s and ends before %s, and the ids are at %s', first, past, used),
	coalesce((select format('select %I.run_maintenance()', nspname) from pg_extension join pg_namespace n on n.oid = extnamespace where extname = 'pg_partman'), '')
from last cross join lateral (select to_regclass(pg_get_serial_sequence(format('pgmq.%I', relname), 'msg_id')) as sequence) as q
cross join lateral (select case when has_sequence_privilege(sequence::oid, 'select, usage') then pg_sequence_last_value(sequence) else currval(sequence) end as used) as ids
where used >= first order by queue
