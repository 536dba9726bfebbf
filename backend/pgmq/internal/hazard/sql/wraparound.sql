-- Tables of PGMQ, with their TOAST, and databases that autovacuum should have frozen long ago. The server takes no writes any more once
-- one is 2,000 million transactions old, or has as many sets of transactions that lock a row together.
with age as (
	select format('table pgmq.%I', t.relname) as object, format('vacuum (freeze, verbose) pgmq.%I', t.relname) as sql, age(c.relfrozenxid) as xids, mxid_age(c.relminmxid) as sets
	from pg_class t join pg_class c on c.oid in (t.oid, t.reltoastrelid)
	where t.relnamespace = to_regnamespace('pgmq') and t.relkind in ('r', 'm') and c.relfrozenxid <> '0' and c.relminmxid <> '0'
	union all select 'database ' || datname, '', age(datfrozenxid), mxid_age(datminmxid) from pg_database where datconnlimit <> -2)
select object, format('%s transactions since it was frozen, and %s sets of these', max(xids), max(sets)), sql
from age where xids > least(1.5 * current_setting('autovacuum_freeze_max_age')::float8, 1.8e9)
	or sets > least(1.5 * current_setting('autovacuum_multixact_freeze_max_age')::float8, 1.8e9)
group by object, sql order by max(xids) desc
