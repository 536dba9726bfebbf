-- Tables of PGMQ that autovacuum should have frozen long ago. The database takes no writes any more once one is 2,000 million
-- transactions old.
select format('table pgmq.%I', relname), format('%s transactions since it was frozen', age(relfrozenxid)), format('vacuum (freeze, verbose) pgmq.%I', relname)
from pg_class
where relnamespace = to_regnamespace('pgmq') and relkind in ('r', 't', 'm') and relfrozenxid <> '0'
	and age(relfrozenxid) > 1.5 * current_setting('autovacuum_freeze_max_age')::float8
order by age(relfrozenxid) desc
