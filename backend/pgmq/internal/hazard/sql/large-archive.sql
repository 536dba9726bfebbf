-- Archives of more than {threshold} bytes.
select substr(relname, 3), format('pgmq.%I has %s', relname, pg_size_pretty(size)), ''
from pg_class cross join lateral (select coalesce(sum(pg_total_relation_size(relid)), 0)::bigint as size
	from (select oid as relid union select relid from pg_partition_tree(pg_class.oid)) as part) as sizes
where relnamespace = to_regnamespace('pgmq') and relkind in ('r', 'p') and not relispartition and starts_with(relname, 'a_') and size > {threshold}
order by size desc
