-- Replaces, in a queue, the message with a key that waits, or publishes one if there is none, as replace.sql does for
-- several: without arrays, and without joins.
--
-- Parameters: $1 the message, $2 its headers, $3 its delay in microseconds, $4 its time or null, $5 the version of the
-- bindings, $6 the key, $7 the longest time in microseconds since the message that is replaced was stored, or 0 if it keeps
-- its time.
--
-- The only row, {unchanged} and {locked} are those of replace.sql. {mark} is in the error if the queue has not taken the
-- message. {due} is when the message would be due by itself. What waits, and how it is looked for, is as in
-- replace_copy.sql, whose are {id}, {most} and {longest wait}.

with r as materialized (
	select {locked}[1] as locked,
		case when $7::bigint > 0::bigint then least({due}, clock_timestamp() + $7::bigint::double precision * interval '1 microsecond') else {due} end as vt
	where {unchanged}),
e as materialized (
	select msg_id, enqueued_at, coalesce(nullif({id}, ''), {queue}::text || '/' || msg_id::text) as id from {table} q
	where pg_catalog.pg_column_size(headers) <= {most} and pg_catalog.jsonb_typeof(headers->'ezq_unique'::text) = 'string' and pg_catalog.left(headers->>'ezq_unique'::text, 400) = $6::text
		and (vt <= greatest((select vt from r), clock_timestamp() + {longest wait}::bigint::double precision * interval '1 microsecond')) is true
		and read_ct = 0 and pg_catalog.to_jsonb(q)->>'last_read_at'::text is null and (select locked from r)
	order by msg_id | 0::bigint desc limit (select 1) for update skip locked),
u as (
	update {table} m set message = $1::text::jsonb, headers = $2::text::jsonb || pg_catalog.jsonb_build_object('ezq_unique', $6::text),
		vt = case when $7::bigint > 0::bigint then least((select vt from r), least((select enqueued_at from e), clock_timestamp()) + $7::bigint::double precision * interval '1 microsecond') else m.vt end
	where m.msg_id = (select msg_id from e)
	returning 1),
i as (
	insert into {table} (vt, message, headers)
	select vt, $1::text::jsonb, $2::text::jsonb || pg_catalog.jsonb_build_object('ezq_unique', $6::text) from r where locked and not exists (select from e)
	returning 1)
select exists (select from r), case when not exists (select from r) then '' when not (select locked from r) then '[null]' when exists (select from u) then pg_catalog.array_to_json(array(select id from e))::text
	when exists (select from i) then '[""]' else (select '{mark}' || locked::text from r)::boolean::text end
