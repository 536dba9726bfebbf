-- Sessions with a snapshot that is minutes old: VACUUM keeps all rows that died since.
select 'session ' || pid,
	format('%s, in %s for %s (%s)', usename, coalesce(datname, 'the server'), date_trunc('second', clock_timestamp() - xact_start), left(application_name, 60)),
	format('select pg_terminate_backend(%s)', pid)
from pg_stat_activity
where backend_xmin is not null and pid <> pg_backend_pid() and backend_type <> 'autovacuum worker'
	and (datid is null or datname = current_database()) and xact_start < clock_timestamp() - {threshold}
order by xact_start
