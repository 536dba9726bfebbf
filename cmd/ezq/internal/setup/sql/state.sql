-- What there is in the database, and what the role may do: see the type State, which has the same order.
--
-- {trusted roles} has the roles that this one trusts, in "trusted_roles".
--
-- Of what is in the schema pgmq, it lists the tables, functions and types of other roles: those that PGMQ itself makes, or,
-- where PGMQ is not there, all.

{trusted roles},
pgmq as (select oid, nspowner from pg_namespace where nspname = 'pgmq'),
things as (
	select 'table '::text || c.oid::regclass::text as what, relname::text as name, relowner as of from pg_class c join pgmq on relnamespace = pgmq.oid
	where relkind in ('r', 'p', 'v', 'm', 'f', 'S') and not exists (select from pg_depend where classid = 'pg_class'::regclass::oid and objid = c.oid and deptype in ('a', 'i'))
	union all select 'function '::text || p.oid::regprocedure::text, proname::text, proowner from pg_proc p join pgmq on pronamespace = pgmq.oid
	union all select 'type '::text || t.oid::regtype::text, typname::text, typowner from pg_type t join pgmq on typnamespace = pgmq.oid
	where typrelid = 0 and typelem = 0 or exists (select from pg_class where oid = typrelid and relkind = 'c')),
foreigners as (
	select what, of from things
	where of not in (select oid from trusted_roles)
		and (what not like 'table %' or name in ('meta', 'topic_bindings', 'notify_insert_throttle', 'ezq_ids', 'ezq_pauses')
			or pg_catalog.to_regprocedure('pgmq.create(text)') is null)
	order by what limit 5),
columns as (
	select relname::text as name, pg_catalog.array_agg(attname::text order by attname) as names
	from pg_class c join pg_attribute a on attrelid = c.oid join pgmq on relnamespace = pgmq.oid
	where relname in ('ezq_ids', 'ezq_pauses') and attnum > 0 and not attisdropped group by relname)
select pg_catalog.current_setting('server_version_num')::int,
	current_user::text,
	current_database()::text,
	pg_is_in_recovery(),
	pg_catalog.current_setting('transaction_read_only')::boolean,
	pg_catalog.has_database_privilege(current_database(), 'create'),
	coalesce((select default_version from pg_available_extensions where name = 'pgmq'), ''),
	coalesce((select pg_catalog.bool_or(superuser and not trusted) from pg_available_extension_versions v
		where name = 'pgmq' and version = (select default_version from pg_available_extensions where name = 'pgmq')), false)
		and not (select rolsuper from me),
	coalesce((select extversion from pg_extension where extname = 'pgmq'), ''),
	coalesce((select pg_catalog.pg_get_userbyid(nspowner)::text from pgmq), ''),
	coalesce((select nspowner in (select oid from trusted_roles) from pgmq), false),
	coalesce((select pg_catalog.has_schema_privilege(oid, 'create') from pgmq), false),
	coalesce((select pg_catalog.pg_has_role(nspowner, 'usage') from pgmq), false),
	pg_catalog.to_regprocedure('pgmq.create(text)') is not null,
	array(select what || ', of the role ' || pg_catalog.pg_get_userbyid(of) from foreigners),
	array(select pg_catalog.lower(name) from things where what not like 'type %'),
	coalesce((select names from columns where name = 'ezq_ids'), '{}'),
	coalesce((select names from columns where name = 'ezq_pauses'), '{}'),
	array(select mark from (values
		('1.5.0', pg_catalog.to_regprocedure('pgmq.send(text,jsonb,jsonb,timestamptz)') is not null),
		('1.6.0', pg_catalog.to_regprocedure('pgmq.acquire_queue_lock(text)') is not null),
		('1.7.0', pg_catalog.to_regprocedure('pgmq.pop(text,integer)') is not null),
		('1.8.0', pg_catalog.to_regclass('pgmq.notify_insert_throttle') is not null),
		('1.8.1', exists (select from pg_proc join pgmq on pronamespace = pgmq.oid where proname = 'convert_archive_partitioned' and prosrc like '%a_partition_col%')),
		('1.9.0', pg_catalog.to_regprocedure('pgmq.read_grouped_rr(text,integer,integer)') is not null),
		('1.10.0', exists (select from pg_attribute where attrelid = pg_catalog.to_regclass('pgmq.message_record')::oid and attname = 'last_read_at')),
		('1.10.1', exists (select from pg_proc join pgmq on pronamespace = pgmq.oid where proname = 'create_non_partitioned' and prosrc like '%last_read_at%')),
		('1.11.0', pg_catalog.to_regclass('pgmq.topic_bindings') is not null),
		('1.11.1', pg_catalog.to_regprocedure('pgmq.read_grouped_head(text,integer,integer)') is not null)) as marks(mark, there) where there)
