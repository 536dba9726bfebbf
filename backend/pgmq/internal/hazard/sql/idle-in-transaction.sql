-- Sessions that have done nothing for a minute, in a transaction that is open. Those of ezq last 50 ms.
select 'session ' || pid,
	format('%s, idle for %s (%s)', usename, date_trunc('second', clock_timestamp() - state_change), left(application_name, 60)),
	format('select pg_catalog.pg_terminate_backend(%s)', pid)
from pg_stat_activity
where starts_with(state, 'idle in transaction') and datname = current_database() and state_change < clock_timestamp() - {threshold}
order by state_change
