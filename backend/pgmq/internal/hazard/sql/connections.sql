-- Connections that are nearly used up: of the server, of the database and of the role. Those that are reserved for
-- superusers do not count.
with used as (
	select count(*) as all, count(*) filter (where datname = current_database()) as database, count(*) filter (where usename = current_user) as role
	from pg_stat_activity where backend_type = 'client backend'),
limits(object, used, most) as (
	select 'server', used.all, current_setting('max_connections')::bigint - current_setting('superuser_reserved_connections')::bigint from used
	union all select 'database ' || datname, used.database, datconnlimit from used, pg_database where datname = current_database()
	union all select 'role ' || rolname, used.role, rolconnlimit from used, pg_roles where rolname = current_user)
select object, format('%s of %s connections are used', used, most), '' from limits where most >= 0 and used >= 0.9 * most order by object
