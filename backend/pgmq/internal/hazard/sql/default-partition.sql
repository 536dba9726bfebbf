-- Default partitions that have rows: those that no other partition takes. pg_partman makes no partition for them any more.
-- A table that was emptied keeps its size. That it has rows is told by the statistics, unless a crash has reset these.
select substr(parent.relname, 3), format('pgmq.%I has %s', part.relname, pg_size_pretty(pg_relation_size(part.oid))), ''
from pg_inherits join pg_class part on part.oid = inhrelid join pg_class parent on parent.oid = inhparent
where parent.relnamespace = to_regnamespace('pgmq') and parent.relname ~ '^[qa]_' and part.relispartition
	and pg_get_expr(part.relpartbound, part.oid) = 'DEFAULT' and pg_relation_size(part.oid) > 0
	and (pg_stat_get_live_tuples(part.oid) > 0 or pg_stat_get_tuples_inserted(part.oid) = 0)
order by 1, 2
