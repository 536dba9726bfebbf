-- The names of queues that have a table and no row in pgmq.meta.
--
-- Partitions are no queues, nor is a table without the columns of one. A queue has the name of its table in lower case there: see
-- queuesSQL.

select array(
	select pg_catalog.substr(c.relname::text, 3) from pg_class c
	where c.relnamespace = 'pgmq'::regnamespace::oid and c.relkind in ('r', 'p') and not c.relispartition
		and pg_catalog.starts_with(c.relname::text, 'q_'::text)
		and (select count(*) from pg_attribute where attrelid = c.oid and not attisdropped and attname in ('msg_id', 'read_ct', 'vt', 'message')) = 4
		and not exists (select from pgmq.meta m where c.relname = ('q_' || pg_catalog.lower(m.queue_name))::name)
	order by 1)
