-- Queues in which VACUUM does not keep up: dead rows are more than {threshold} and a fifth of the others, which
-- autovacuum waits for by default, and none has been there for ten minutes.
--
-- {queues} is queues.sql.

with {queues},
t as (
	select queue, sum(pg_stat_get_dead_tuples(relid))::bigint as dead, sum(pg_stat_get_live_tuples(relid))::bigint as live,
		max(greatest(pg_stat_get_last_vacuum_time(relid), pg_stat_get_last_autovacuum_time(relid))) as vacuumed
	from queues cross join lateral (select oid as relid union select relid from pg_partition_tree(queues.oid)) as part group by queue)
select queue, format('%s dead rows, %s others, %s', dead, live,
		coalesce('last vacuumed ' || date_trunc('second', clock_timestamp() - vacuumed) || ' ago', 'never vacuumed')),
	format('vacuum (verbose) pgmq.%I', 'q_' || queue)
from t where dead > {threshold} + 0.2 * live and (vacuumed is null or vacuumed < clock_timestamp() - interval '10 minutes')
order by dead desc
