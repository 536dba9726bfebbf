-- Tells which tables have no index of keys, whatever its name is. A key has at most 303 characters; more, which
-- only another program can have written, would not fit an index.
--
-- Parameters: $1 names of tables.

select name from pg_catalog.unnest($1::text[]) as name
where not exists (
	select from pg_index where indrelid = pg_catalog.to_regclass(name)::oid and indisvalid
		and pg_catalog.pg_get_expr(indexprs, indrelid) = '"left"((headers ->> ''ezq_unique''::text), 400)'
		and pg_catalog.pg_get_expr(indpred, indrelid) = '(jsonb_typeof((headers -> ''ezq_unique''::text)) = ''string''::text)')
