-- What there is of PGMQ in this database, and of one queue: see the type Layout, which has the same order.
--
-- Parameter: $1 the quoted name of the table, as in "pgmq"."q_orders".
--
-- It asks pg_class for the oid as well, so that all of the answer is of one snapshot: to_regclass alone also finds a
-- table that was created after that, without its columns.

select pg_catalog.to_regprocedure('pgmq.create(text)') is not null,
	pg_catalog.to_regprocedure('pgmq.send(text,jsonb,jsonb,timestamptz)') is not null,
	array(select attname::text || ' ' || typname::text from pg_attribute
		join pg_type t on t.oid = atttypid and typnamespace = 'pg_catalog'::regnamespace::oid
		where attrelid = pg_catalog.to_regclass($1)::oid and attnum > 0 and not attisdropped),
	coalesce((select relkind in ('r', 'p') from pg_class where oid = pg_catalog.to_regclass($1)::oid), false),
	coalesce((select relkind = 'p' from pg_class where oid = pg_catalog.to_regclass($1)::oid), false),
	coalesce((select oid from pg_class where oid = pg_catalog.to_regclass($1)::oid), 0),
	coalesce(pg_catalog.has_table_privilege(pg_catalog.to_regclass($1), 'select')
		and pg_catalog.has_table_privilege(pg_catalog.to_regclass($1), 'update')
		and pg_catalog.has_table_privilege(pg_catalog.to_regclass($1), 'delete'), false),
	coalesce(pg_catalog.has_any_column_privilege(pg_catalog.to_regclass($1), 'insert'), false),
	pg_catalog.to_regclass('pgmq.topic_bindings') is not null,
	pg_catalog.current_setting('transaction_read_only')::boolean,
	pg_is_in_recovery(),
	pg_backend_pid()
