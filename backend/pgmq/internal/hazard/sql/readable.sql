-- The queues and their tables, each with whether the columns can be read that the statements about single queues read, and are of
-- the table itself: policies and rules show others.
--
-- {queues} is queues.sql.

with {queues}
select queue, format('%I.%I', 'pgmq', relname), not relrowsecurity and not exists (select from pg_rewrite where ev_class = queues.oid) and not exists (
		select from (values ('msg_id', 'bigint'::regtype), ('read_ct', 'integer'), ('vt', 'timestamptz'), ('last_read_at', 'timestamptz')) as wanted(name, type)
		left join pg_attribute on attrelid = queues.oid and attname = name and atttypid = type and not attisdropped
		where attname is null or not has_column_privilege(queues.oid, attname, 'select'))
from queues order by queue
