-- Finds the messages that may be large when they are read.
--
-- Parameters: $1 ids, $2 how many bytes they may take as they are stored.
--
-- A number of many digits takes a few bytes as it is stored, and thousands of those a few more. To look for one
-- is quick: PostgreSQL compares numbers without writing them out. They are made an array first, because
-- jsonb_path_query moves all that it has found for each row that it returns: the time for 100,000 numbers would
-- grow with their square.

select m.msg_id from {table} m
where m.msg_id = any($1::bigint[]) and case
	when coalesce(pg_catalog.pg_column_size(m.message), 0) + coalesce(pg_catalog.pg_column_size(m.headers), 0) > $2 then true
	else coalesce(pg_catalog.jsonb_path_exists(m.message, '$.** ? (@.type() == "number" && (@ >= 1e40 || @ <= -1e40))'), false)
		or exists (select from (select pg_catalog.jsonb_array_elements(pg_catalog.jsonb_path_query_array(m.message, '$.** ? (@.type() == "number")')) as n offset 0) as m where pg_catalog.scale(n::numeric) > 40)
		or coalesce(pg_catalog.jsonb_path_exists(m.headers, '$.** ? (@.type() == "number" && (@ >= 1e40 || @ <= -1e40))'), false)
		or exists (select from (select pg_catalog.jsonb_array_elements(pg_catalog.jsonb_path_query_array(m.headers, '$.** ? (@.type() == "number")')) as n offset 0) as m where pg_catalog.scale(n::numeric) > 40) end
