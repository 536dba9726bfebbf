-- A part of other statements: the queues, by their tables.
queues as (
	select c.oid, c.relname, substr(c.relname, 3) as queue, c.relkind, c.relpersistence, c.reloptions, c.reltuples, c.relrowsecurity
	from pg_class c
	where c.relnamespace = to_regnamespace('pgmq') and c.relkind in ('r', 'p') and not c.relispartition and starts_with(c.relname, 'q_'))
