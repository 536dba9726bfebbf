-- The tables whose owners the current role has no reason to trust, these owners, and whether such a table would run the
-- code of a role that is not trusted either.
--
-- Parameters: $1 the tables, $2 a table that vouches for these, or ''.
--
-- The current role trusts itself, the roles it is a member of, superusers, and the owners of the database, of the
-- table's schema, and of a table that vouches for this one. A superuser is a member of all roles, and does not trust
-- them for that.
--
-- Code is what runs when a row is written or read: triggers, and functions in constraints, in defaults and in indexes,
-- that belong to no trusted role; rules and policies.

with me as (select oid, rolsuper from pg_roles where rolname = current_user),
t as (
	select distinct c.oid, c.relowner, c.relnamespace from unnest($1::text[]) as name
	join pg_class c on c.oid = to_regclass(name)),
trusted as (
	select r.oid from pg_roles r, me
	where r.rolsuper or r.oid = me.oid or not me.rolsuper and pg_has_role(r.oid, 'member')
		or r.oid in (select datdba from pg_database where datname = current_database())
		or r.oid in (select nspowner from pg_namespace where oid in (select relnamespace from t))
		or r.oid in (select relowner from pg_class where oid = to_regclass(nullif($2::text, '')))),
foreign_functions as (select oid from pg_proc where proowner not in (select oid from trusted)),
parts as (
	select 'pg_constraint'::regclass as class, oid, conrelid as of from pg_constraint
	union all select 'pg_attrdef'::regclass, oid, adrelid from pg_attrdef
	union all select 'pg_class'::regclass, indexrelid, indrelid from pg_index)
select t.oid::regclass::text, pg_get_userbyid(t.relowner),
	exists (select from pg_trigger where tgrelid = t.oid and not tgisinternal and tgfoid in (select oid from foreign_functions))
	or exists (select from pg_rewrite where ev_class = t.oid)
	or exists (select from pg_policy where polrelid = t.oid)
	or exists (select from parts join pg_depend d on d.classid = parts.class and d.objid = parts.oid
		where parts.of = t.oid and d.refclassid = 'pg_proc'::regclass and d.refobjid in (select oid from foreign_functions))
from t where t.relowner not in (select oid from trusted)
