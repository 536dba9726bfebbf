-- Indexes that a CREATE INDEX CONCURRENTLY has left behind: each write keeps them up, and no statement uses them. One that
-- is being built, or may be, is none: REINDEX CONCURRENTLY has one for each index of the table.
select substr(t.relname, 3), format('pgmq.%I is not valid', i.relname), format('drop index concurrently pgmq.%I', i.relname)
from pg_index x join pg_class i on i.oid = x.indexrelid join pg_class t on t.oid = x.indrelid
where t.relnamespace = to_regnamespace('pgmq') and t.relkind = 'r' and not x.indisvalid
	and not exists (select from pg_stat_progress_create_index p where p.relid = t.oid or p.relid is null)
	and not exists (select from pg_inherits where inhrelid = i.oid)
order by 1, 2
