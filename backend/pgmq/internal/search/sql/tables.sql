-- Tells about tables which of them may be searched, and how.
--
-- Parameters: $1 names of tables, $2 a header and $4 the field of a payload, each as PostgreSQL writes it in an index,
-- $3 the name of an index for each table.
--
-- A row has the place in $1 of a table that exists; whether the role may read all of it; whether it has headers, and
-- last_read_at, which queues have since PGMQ 1.10; whether it is partitioned; whether there is an index for each of the
-- conditions of matches.sql, in their order: the ID, the key, the event, the header, the field; and whether there is
-- anything that has the name of the index.

with t as (
	select n, pg_catalog.to_regclass(name)::oid as oid, pg_catalog.to_regclass(index) is not null as taken
	from unnest($1::text[], $3::text[]) with ordinality as t(name, index, n)),
i as (
	select t.n, pg_catalog.pg_get_expr(indexprs, indrelid) as expression, pg_catalog.pg_get_expr(indpred, indrelid) as predicate
	from t join pg_index on indrelid = t.oid join pg_class c on c.oid = indexrelid join pg_am a on a.oid = c.relam
	where indisvalid and indnatts = 1 and indexprs is not null and amname in ('btree', 'hash'))
select (n - 1)::int, pg_catalog.has_table_privilege(oid, 'select'),
	exists (select from pg_attribute where attrelid = oid and attname = 'headers' and not attisdropped),
	exists (select from pg_attribute where attrelid = oid and attname = 'last_read_at' and not attisdropped),
	coalesce((select relkind = 'p' from pg_class where pg_class.oid = t.oid), false),
	exists (select from i where i.n = t.n and predicate is null and expression = '(headers -> ''ezq_uuid''::text)'),
	exists (select from i where i.n = t.n and predicate = '(jsonb_typeof((headers -> ''ezq_unique''::text)) = ''string''::text)' and expression = '"left"((headers ->> ''ezq_unique''::text), 400)'),
	exists (select from i where i.n = t.n and predicate is null and expression = 'COALESCE((message -> ''_type''::text), (headers -> ''name''::text))'),
	exists (select from i where i.n = t.n and predicate is null and expression = $2::text),
	exists (select from i where i.n = t.n and predicate is null and expression = $4::text),
	taken
from t where oid is not null
order by n
