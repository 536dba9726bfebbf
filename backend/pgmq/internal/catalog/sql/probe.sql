-- What there is of PGMQ in this database, and of one queue: see the type Layout, which has the same order.
--
-- Parameter: $1 the quoted name of the table, as in "pgmq"."q_orders".
--
-- {trusted roles} is trusted_roles.sql. Of PGMQ's tables, and of its functions that ezq calls, it tells which belong to other
-- roles than these and the owner of the schema: a role may make there what this version of PGMQ lacks. It looks for
-- these roles only if it has to.
--
-- It asks pg_class for the oid as well, so that all of the answer is of one snapshot: to_regclass alone also finds a
-- table that was created after that, without its columns.

{trusted roles},
parts as (
	select 'table '::text || name as what, (select relowner from pg_class where oid = pg_catalog.to_regclass(name)::oid) as of,
		(select relkind in ('r', 'p') from pg_class where oid = pg_catalog.to_regclass(name)::oid) as genuine
	from pg_catalog.unnest('{pgmq.meta,pgmq.topic_bindings,pgmq.notify_insert_throttle}'::text[]) as name
	union all select 'function '::text || name, (select proowner from pg_proc where oid = pg_catalog.to_regprocedure(name)::oid), true
	from pg_catalog.unnest(array['pgmq.create(text)', 'pgmq.create_unlogged(text)', 'pgmq.create_partitioned(text,text,text)',
		'pgmq.bind_topic(text,text)', 'pgmq.drop_queue(text)', 'pgmq.notify_queue_listeners()']) as name),
untrusted as (
	select what, pg_catalog.pg_get_userbyid(of) as owner from parts
	where not genuine or of <> (select nspowner from pg_namespace where nspname = 'pgmq') and of not in (select oid from trusted_roles)
	order by what limit 1)
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
	pg_backend_pid(),
	coalesce((select what from untrusted), ''),
	coalesce((select owner from untrusted), '')
