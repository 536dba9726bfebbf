-- Replaces, in each queue of a topic, the message with a key that waits, or publishes one where there is none. The
-- transaction has locked the key.
--
-- Parameters: $1 messages, $2 headers, $3 delays in microseconds, $4 times or null, $5 the version of the bindings, $6 the
-- keys, each once, $7 the longest times in microseconds since the message that is replaced was stored, or 0 if it keeps
-- its time.
--
-- The only row says whether the route is right, which {unchanged} tells, and has, as JSON, for each message the ID of one that was
-- replaced, or '' if there was none, or null if its key is not locked: then nothing is done. {locked} tells.
--
-- {all stored}: otherwise it fails. A message is never due later than the longest time says; {due} is when it would be due by
-- itself. {copies} is what replace_copy.sql has, for each queue, and {found} what it has found.

with r as materialized (
	select case when t.longest > 0::bigint then least({due}, clock_timestamp() + t.longest::double precision * interval '1 microsecond') else {due} end as vt,
		t.message::jsonb as message, t.headers::jsonb || pg_catalog.jsonb_build_object('ezq_unique', t.key) as headers, t.key, t.longest, t.locked, t.n
	from unnest($1::text[], $2::text[], $3::bigint[], $4::timestamptz[], $6::text[], $7::bigint[], {locked}) with ordinality as t(message, headers, delay, at, key, longest, locked, n)
	where {unchanged}){copies},
f as (select n, pg_catalog.min(id) as id from ({found}) as e group by n)
select exists (select from r), pg_catalog.array_to_json(array(select case when r.locked then coalesce(f.id, '') end from r left join f on f.n = r.n order by r.n))::text
where {all stored}
