-- Tells which tables have no index of keys, whatever its name is.
--
-- Parameters: $1 names of tables.

select name from unnest($1::text[]) as name
where not exists (
	select from pg_index where indrelid = to_regclass(name) and indisvalid
		and pg_get_expr(indexprs, indrelid) = '(headers ->> ''ezq_unique''::text)'
		and pg_get_expr(indpred, indrelid) = '(headers ? ''ezq_unique''::text)')
