-- The tables that can have code of others run as the current role: the owner of such a table, whether that is trusted,
-- whether the table would run such code now, and the name and the owner of a function or relation that it runs, or ''.
--
-- Parameters: $1 the tables, $2 a table that vouches for these, or ''.
--
-- The current role trusts itself, the roles it is a member of, superusers, and the owners of the database, of the
-- table's schema, and of a table that vouches for this one. A superuser is a member of all roles, and does not trust
-- them for that.
--
-- Code is what runs when a row is written or read: triggers, rules, policies, and functions in constraints, in defaults
-- and in indexes. What a role that is not trusted has given it, by a function, or by a relation that a rule or a policy
-- uses, stays when a table gets another owner. All rules and policies of an untrusted owner count.

with me as (select oid, rolsuper from pg_roles where rolname = current_user),
t as (
	select distinct c.oid, c.relowner, c.relnamespace from pg_catalog.unnest($1::text[]) as name
	join pg_class c on c.oid = pg_catalog.to_regclass(name)::oid),
trusted as (
	select r.oid from pg_roles r, me
	where r.rolsuper or r.oid = me.oid or not me.rolsuper and pg_catalog.pg_has_role(r.oid, 'member')
		or r.oid in (select datdba from pg_database where datname = current_database())
		or r.oid in (select nspowner from pg_namespace where oid in (select relnamespace from t))
		or r.oid in (select relowner from pg_class where oid = pg_catalog.to_regclass(nullif($2::text, ''))::oid)),
parts as (
	select 'pg_constraint'::regclass::oid as class, oid, conrelid as of, false as own from pg_constraint
	union all select 'pg_attrdef'::regclass::oid, oid, adrelid, false from pg_attrdef
	union all select 'pg_class'::regclass::oid, indexrelid, indrelid, false from pg_index
	union all select 'pg_trigger'::regclass::oid, oid, tgrelid, false from pg_trigger where not tgisinternal
	union all select 'pg_rewrite'::regclass::oid, oid, ev_class, true from pg_rewrite
	union all select 'pg_policy'::regclass::oid, oid, polrelid, true from pg_policy),
code as (
	select t.oid, p.oid::regprocedure::text as what, p.proowner as of from t
	join parts on parts.of = t.oid
	join pg_depend d on d.classid = parts.class and d.objid = parts.oid and d.refclassid = 'pg_proc'::regclass::oid
	join pg_proc p on p.oid = d.refobjid
	union all select t.oid, c.oid::regclass::text, c.relowner from t
	join parts on parts.of = t.oid and parts.own
	join pg_depend d on d.classid = parts.class and d.objid = parts.oid
		and d.refclassid = 'pg_class'::regclass::oid and d.refobjid <> t.oid
	join pg_class c on c.oid = d.refobjid),
foreign_code as (
	select distinct on (oid) oid, what, of from code where of not in (select oid from trusted) order by oid, what),
checked as (select oid, relowner, relowner in (select oid from trusted) as trusted from t)
select t.oid::regclass::text, pg_catalog.pg_get_userbyid(t.relowner), t.trusted,
	f.oid is not null or not t.trusted and exists (select from parts where parts.of = t.oid and parts.own),
	coalesce(f.what, ''), coalesce(pg_catalog.pg_get_userbyid(f.of), '')
from checked t left join foreign_code f on f.oid = t.oid
where not t.trusted or f.oid is not null
