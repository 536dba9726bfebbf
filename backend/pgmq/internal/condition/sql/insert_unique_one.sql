-- Publishes one message to a queue unless there is one with its key, as insert_unique.sql does for several: without arrays,
-- and without joins.
--
-- Parameters: $1 the message, $2 its headers, $3 its delay in microseconds, $4 its time or null, $5 the version of the
-- bindings, $6 the key.
--
-- The only row, {unchanged} and {locked} are those of insert_unique.sql. {mark} is in the error if the queue has not taken
-- the message, as a trigger may decide; where the route is old there is nothing to say. {id}, {most}, {expired} are those of
-- insert_unique_copy.sql. The key is a parameter, and PostgreSQL uses the index of keys since it is kept from reading the
-- whole queue.

with r as materialized (select {locked}[1] as locked where {unchanged}),
e as materialized (
	select coalesce(nullif({id}, ''), {queue}::text || '/' || msg_id::text) as id from {table}
	where pg_catalog.pg_column_size(headers) <= {most} and pg_catalog.jsonb_typeof(headers->'ezq_unique'::text) = 'string' and pg_catalog.left(headers->>'ezq_unique'::text, 400) = $6::text
		and ({expired} and (read_ct = 0 or vt <= clock_timestamp())) is not true and (select locked from r)
	limit (select 1)),
i as (
	insert into {table} (vt, message, headers)
	select coalesce($4::timestamptz, clock_timestamp() + $3::bigint::double precision * interval '1 microsecond'), $1::text::jsonb,
		$2::text::jsonb || pg_catalog.jsonb_build_object('ezq_unique', $6::text)
	from r where locked and not exists (select from e)
	returning 1)
select exists (select from r), case when not exists (select from r) then '' when not (select locked from r) then '[null]' when exists (select from e) then pg_catalog.array_to_json(array(select id from e))::text
	when exists (select from i) then '[""]' else (select '{mark}' || locked::text from r)::boolean::text end
