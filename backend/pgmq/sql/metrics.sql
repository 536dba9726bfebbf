-- How a queue is doing: see the type QueueMetrics.
--
-- Parameters: $1 how far to count. {relation} is the name of the {table}, as a string.
--
-- The order keeps all of it on the index of vt. Without it, PostgreSQL may take the limit for a reason to scan the table,
-- and not find so many in it.
--
-- Messages that were set to plus or minus infinity count, but are neither old nor due; and an age beyond the longest
-- Duration is reported as that. The statistics come from the functions below pg_stat_user_tables, which is a view of all
-- tables.

select
	(select count(*) from (
		select from {table} where vt <= statement_timestamp() order by vt limit $1) as visible)::int,
	(select count(*) from (
		select from {table} where vt > statement_timestamp() order by vt limit $1) as invisible)::int,
	coalesce((select least(extract(epoch from statement_timestamp() - vt)::double precision * 1000000::double precision, 9e15::double precision)::bigint
		from {table} where vt <= statement_timestamp() and vt > '-infinity' order by vt limit 1), 0),
	(select vt from {table} where vt > statement_timestamp() and vt < 'infinity' order by vt limit 1),
	s.estimate, s.dead, s.inserted, s.deleted, s.vacuumed
from (
	select coalesce(pg_catalog.sum(pg_catalog.pg_stat_get_live_tuples(relid)), 0)::bigint as estimate,
		coalesce(pg_catalog.sum(pg_catalog.pg_stat_get_dead_tuples(relid)), 0)::bigint as dead,
		coalesce(pg_catalog.sum(pg_catalog.pg_stat_get_tuples_inserted(relid)), 0)::bigint as inserted, coalesce(pg_catalog.sum(pg_catalog.pg_stat_get_tuples_deleted(relid)), 0)::bigint as deleted,
		pg_catalog.max(greatest(pg_catalog.pg_stat_get_last_vacuum_time(relid), pg_catalog.pg_stat_get_last_autovacuum_time(relid))) as vacuumed
	from (select {relation}::regclass as relid union select relid from pg_catalog.pg_partition_tree({relation}::regclass)) as r) as s
