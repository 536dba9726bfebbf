-- Publishes messages to a queue, and returns a row if it stores any. It fails if it does not store all, with {mark} in the
-- error: a trigger may return NULL.
--
-- Parameters: $1 messages, $2 headers, $3 delays in microseconds, $4 times or null, $5 the version of the bindings.
--
-- It stores nothing if the route has changed, which {unchanged} tells: a group that was bound a moment ago gets what is
-- published now.
--
-- clock_timestamp is taken for each row, so that vt rises within a batch as it does between batches, and messages are
-- claimed in the order of publishing.

with i as (
	insert into {table} (vt, message, headers)
		select coalesce(t.at, clock_timestamp() + t.delay::double precision * interval '1 microsecond') as vt,
			t.message::jsonb as message, t.headers::jsonb as headers
		from unnest($1::text[], $2::text[], $3::bigint[], $4::timestamptz[]) as t(message, headers, delay, at)
		where {unchanged}
	returning 1)
select n from (select count(*) as n from i) as i
where n > 0 and case when n = pg_catalog.cardinality($1::text[]) then true else ('{mark}' || n::text)::boolean end
