-- Replaces, in each queue of a topic, the message with a key that waits, or publishes one where there is none. The
-- transaction has locked the key.
--
-- Parameters: as those of insert_unique.sql, and $7 the longest time in microseconds since the message that is replaced was
-- stored, or 0 if it keeps its time.
--
-- The only row says whether the route is right, which {unchanged} tells, and has the ID of a message that was replaced, or ''.
--
-- {copies} is what replace_copy.sql has, for each queue.

with r as materialized (
	select coalesce(t.at, clock_timestamp() + t.delay * interval '1 microsecond') as vt,
		t.message::jsonb as message, t.headers::jsonb || jsonb_build_object('ezq_unique', $6::text) as headers
	from unnest($1::text[], $2::text[], $3::bigint[], $4::timestamptz[]) as t(message, headers, delay, at)
	where {unchanged}){copies}
select exists (select from r), coalesce((select min(id) from ({found}) as e), '')
