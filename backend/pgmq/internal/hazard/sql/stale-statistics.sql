-- Queues that have changed a lot since ANALYZE looked at them. That misleads pgmq.read and queries of one's own, and
-- not ezq.
--
-- {queues} is queues.sql.

with {queues}
select queue, format('%s rows, of which the planner expects %s', live, greatest(reltuples, 0)::bigint), format('analyze pgmq.%I', relname)
from queues cross join lateral (select pg_stat_get_live_tuples(oid) as live) as now
where relkind = 'r' and live > {threshold} and live > 10 * greatest(reltuples, 0) and pg_stat_get_mod_since_analyze(oid) > {threshold} order by live desc
