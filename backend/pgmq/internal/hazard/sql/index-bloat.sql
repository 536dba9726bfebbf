-- Indexes of more than {threshold} bytes that are ten times as large as one of the rows that there are.
--
-- An entry is taken for 64 bytes: those of msg_id and vt have 20, and those of headers and keys may have some more.
--
-- The statistics are empty after a crash and a failover, and the planner's number of rows is not.
--
-- {queues} is queues.sql.

with {queues},
x as (
	select queue, i.relname, pg_relation_size(i.oid) as size, greatest(pg_stat_get_live_tuples(queues.oid), queues.reltuples)::bigint as live
	from queues join pg_index on indrelid = queues.oid join pg_class i on i.oid = indexrelid where i.relkind = 'i')
select queue, format('pgmq.%I has %s for %s rows', relname, pg_size_pretty(size), live), format('reindex index concurrently pgmq.%I', relname)
from x where size > {threshold} and size > 10 * 64 * (live + 1) order by size desc
