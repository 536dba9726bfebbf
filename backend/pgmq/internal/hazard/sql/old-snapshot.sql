-- Sessions with a snapshot, or a transaction that has written, that is minutes old: VACUUM keeps all rows that died since. Another
-- VACUUM does not count.
select 'session ' || pid,
	format('%s, in %s for %s (%s)', usename, coalesce(datname, 'the server'), date_trunc('second', clock_timestamp() - xact_start), left(application_name, 60)),
	format('select pg_catalog.pg_terminate_backend(%s)', pid)
from pg_stat_activity a
where (backend_xmin is not null or backend_xid is not null) and pid <> pg_backend_pid() and backend_type <> 'autovacuum worker'
	and not exists (select from pg_stat_progress_vacuum v where v.pid = a.pid)
	and (datid is null or datname = current_database()) and xact_start < clock_timestamp() - {threshold}
order by xact_start
