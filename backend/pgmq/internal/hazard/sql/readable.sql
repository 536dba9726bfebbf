-- The queues, each with whether what the statements about single queues read can be read, without running code of its owner. A
-- policy or a rule is such code.
--
-- {queues} is queues.sql.

with {queues}
select queue, not relrowsecurity and not exists (select from pg_rewrite where ev_class = queues.oid) and not exists (
		select from (values ('msg_id', 'bigint'::regtype), ('read_ct', 'integer'), ('vt', 'timestamptz'), ('last_read_at', 'timestamptz')) as wanted(name, type)
		left join pg_attribute on attrelid = queues.oid and attname = name and atttypid = type and not attisdropped
		where attname is null or not has_column_privilege(queues.oid, attname, 'select'))
from queues order by queue
