-- The programs that are connected to this database: name, role, host or '', how many connections, and when the oldest was
-- opened.
--
-- Parameters: $1 how many to return. Of other roles one without pg_read_all_stats sees neither host nor time, nor what kind
-- of process it is.

select coalesce(application_name, ''), coalesce(usename::text, ''), coalesce(pg_catalog.host(client_addr), ''),
	count(*)::integer, min(backend_start)
from pg_stat_activity
where datname = pg_catalog.current_database() and coalesce(backend_type, 'client backend') = 'client backend'
group by 1, 2, 3
order by 1, 2, 3
limit $1::bigint
