-- The tables that can have code of others run as the current role: the owner of such a table, whether that is trusted,
-- whether the table would run such code now, what that is, and the owner of the function or relation that it runs, or ''.
--
-- Parameters: $1 the tables, $2 a table that vouches for these, or ''.
--
-- {trusted roles} is trusted_roles.sql. Trusted are also the owner of the table's schema, unless a setting has chosen that
-- schema, and of a table that vouches for this one. The search_path can lead to a schema that an untrusted role has given
-- the name of the current one.
--
-- Code is what runs when a row is written or read: triggers, rules, policies, and expressions in constraints, in defaults,
-- in indexes, in statistics (which the planner evaluates) and in the keys of partitions, on the table and on each that inherits from it, or that it inherits from.
-- An expression can hide a call, in a function of PostgreSQL that executes a text, and PostgreSQL notes no dependency
-- then. So of an untrusted owner all counts that is not known: what PGMQ and ezq make. PGMQ's own trigger is known of a
-- trusted owner only: it has functions and operators without a schema, which the role that made it may have made too.
-- Of a trusted owner, what depends on a function, an operator, a type or a relation of a role that is not trusted: that
-- stays when a table gets another owner.
--
-- pg_get_expr waits for a table that is locked exclusively, and is asked of untrusted owners' tables only.
--
-- The relatives are an array, of which PostgreSQL expects ten. Of a join it expects a thousand, and compiles the
-- statement (jit), which takes a second where the statement takes milliseconds.

{trusted roles},
named as (
	select distinct c.oid, case when pg_catalog.strpos(name, '.') > 0 then c.relnamespace end as schema from pg_catalog.unnest($1::text[]) as name
	join pg_class c on c.oid = pg_catalog.to_regclass(name)::oid),
trusted as (
	select oid from trusted_roles
	union select nspowner from pg_namespace where oid in (select schema from named)
	union select relowner from pg_class where oid = pg_catalog.to_regclass(nullif($2::text, ''))::oid),
relatives as (
	select oid from named
	union select other.oid from relatives cross join lateral (
		select inhrelid as oid from pg_inherits where inhparent = relatives.oid
		union all select inhparent from pg_inherits where inhrelid = relatives.oid) as other),
t as (
	select c.oid, c.relowner, c.relowner in (select oid from trusted) as trusted, c.relkind
	from pg_class c where c.oid = any(array(select oid from relatives))),
parts as (
	select t.oid as of, t.trusted, part.* from t cross join lateral (
		select 'pg_constraint'::regclass::oid as class, oid, 0 as subid, contype in ('p', 'u', 'n', 't') as known
		from pg_constraint where conrelid = t.oid
		union all select 'pg_constraint'::regclass::oid, oid, 0, false from pg_constraint where confrelid = t.oid
		union all select 'pg_attrdef'::regclass::oid, oid, 0, case when t.trusted then true else
			pg_catalog.pg_get_expr(adbin, adrelid) ~ '^(0|now\(\)|clock_timestamp\(\)|nextval\(''[^'']*''::regclass\))$' end
		from pg_attrdef where adrelid = t.oid
		union all select 'pg_class'::regclass::oid, indexrelid, 0,
			case when t.trusted then true when indpred is null then indexprs is null or indnatts = 1 and pg_catalog.replace(pg_catalog.pg_get_expr(indexprs, indrelid), '"', '')
					~ '^(\(headers -> ''([^'']|'''')*''::text\)|\(+message( -> ''([^'']|'''')*''::text\))+|COALESCE\(\(message -> ''_type''::text\), \(headers -> ''name''::text\)\))$'
				else indnatts = 1 and pg_catalog.replace(pg_catalog.pg_get_expr(indexprs, indrelid), '"', '') = 'left((headers ->> ''ezq_unique''::text), 400)'
					and pg_catalog.replace(pg_catalog.pg_get_expr(indpred, indrelid), '"', '') in (
						'(jsonb_typeof((headers -> ''ezq_unique''::text)) = ''string''::text)', '(headers ? ''ezq_unique''::text)') end is true
		from pg_index where indrelid = t.oid
		union all select 'pg_trigger'::regclass::oid, oid, 0, t.trusted and tgqual is null and tgfoid = pg_catalog.to_regprocedure('pgmq.notify_queue_listeners()')::oid
		from pg_trigger where tgrelid = t.oid and not tgisinternal
		union all select 'pg_rewrite'::regclass::oid, oid, 0, false from pg_rewrite where ev_class = t.oid
		union all select 'pg_policy'::regclass::oid, oid, 0, false from pg_policy where polrelid = t.oid
		union all select 'pg_statistic_ext'::regclass::oid, oid, 0, stxexprs is null from pg_statistic_ext where stxrelid = t.oid
		union all select 'pg_class'::regclass::oid, t.oid, 0, t.relkind in ('r', 'p')
			and not exists (select from pg_partitioned_table where partrelid = t.oid and partexprs is not null)
		union all select 'pg_class'::regclass::oid, attrelid, attnum, false from pg_attribute join pg_type on pg_type.oid = atttypid
		where attrelid = t.oid and attnum > 0 and not attisdropped and typnamespace <> 'pg_catalog'::regnamespace::oid) as part),
uses as (
	select parts.*, d.refclassid, d.refobjid from parts join pg_depend d on d.classid = parts.class and d.objid = parts.oid
	where parts.subid = 0 or d.objsubid = parts.subid),
code as (
	select of, p.oid::regprocedure::text as what, p.proowner as by from uses join pg_proc p on p.oid = refobjid where refclassid = 'pg_proc'::regclass::oid
	union all select of, o.oid::regoperator::text, p.proowner from uses join pg_operator o on o.oid = refobjid join pg_proc p on p.oid = o.oprcode::oid
	where refclassid = 'pg_operator'::regclass::oid
	union all select of, y.oid::regtype::text, y.typowner from uses join pg_type y on y.oid = refobjid where refclassid = 'pg_type'::regclass::oid
	union all select of, c.oid::regclass::text, c.relowner from uses join pg_class c on c.oid = refobjid
	where refclassid = 'pg_class'::regclass::oid and refobjid <> of and class in ('pg_rewrite'::regclass::oid, 'pg_policy'::regclass::oid, 'pg_constraint'::regclass::oid)
	union all select of, conrelid::regclass::text, relowner from parts join pg_constraint c on c.oid = parts.oid join pg_class r on r.oid = conrelid
	where class = 'pg_constraint'::regclass::oid and confrelid = of),
foreign_code as (
	select distinct on (of) of, what, by from code where by not in (select oid from trusted) order by of, what),
unknown as (
	select distinct on (of) of, pg_catalog.pg_describe_object(class, oid, subid) as what from parts
	where not trusted and (not known or exists (
		select from uses u where u.class = parts.class and u.oid = parts.oid and u.subid = parts.subid and class <> 'pg_trigger'::regclass::oid
			and u.refclassid in ('pg_proc'::regclass::oid, 'pg_operator'::regclass::oid, 'pg_type'::regclass::oid)))
	order by of, 2)
select t.oid::regclass::text, pg_catalog.pg_get_userbyid(t.relowner), t.trusted, f.of is not null or u.of is not null,
	coalesce(f.what, u.what, ''), coalesce(pg_catalog.pg_get_userbyid(f.by), '')
from t left join foreign_code f on f.of = t.oid left join unknown u on u.of = t.oid
where not t.trusted or f.of is not null
