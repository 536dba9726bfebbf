-- Replaces, in each queue of a topic, the message with a key that waits, or publishes one where there is none. The
-- transaction has locked the key.
--
-- Parameters: $1 the message, $2 its headers, $3 its delay in microseconds, $4 its time or null, each as an array of one, $5
-- the version of the bindings, $6 the key, $7 the longest time in microseconds since the message that is replaced was stored,
-- or 0 if it keeps its time.
--
-- The only row says whether the route is right, which {unchanged} tells, and has the ID of a message that was replaced, or ''.
--
-- {all stored}: otherwise it fails. A message is never due later than the longest time says; {due} is when it would be due by
-- itself. {copies} is what replace_copy.sql has, for each queue, and {found} what it has found.

with r as materialized (
	select case when $7::bigint > 0 then least({due}, clock_timestamp() + $7::bigint::double precision * interval '1 microsecond') else {due} end as vt,
		t.message::jsonb as message, t.headers::jsonb || pg_catalog.jsonb_build_object('ezq_unique', $6::text) as headers
	from unnest($1::text[], $2::text[], $3::bigint[], $4::timestamptz[]) as t(message, headers, delay, at)
	where {unchanged}){copies}
select exists (select from r), coalesce((select pg_catalog.min(id) from ({found}) as e), '')
where {all stored}
