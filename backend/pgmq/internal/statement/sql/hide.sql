-- Makes messages that cannot be read invisible for some time, if they are still leased under these tokens, and
-- adds a reason to their headers, or replaces them with it. Headers that are not an object mean nothing. See
-- ack.sql.
--
-- Parameters: $1 ids, $2 their read counts, $3 the times of their leases, $4 delays in microseconds, $5 headers,
-- or null for none, $6 whether they are added.

with t as (
	select * from unnest($1::bigint[], $2::int[], $3::timestamptz[], $4::bigint[], $5::text[])
	as t(id, number, at, delay, headers) order by id),
l as (
	select m.msg_id, t.delay, t.headers from t cross join lateral (
		select m.msg_id from {table} m
		where m.msg_id = t.id and {same}
		for update skip locked) m)
update {table} m
set vt = clock_timestamp() + l.delay::double precision * interval '1 microsecond',
	headers = case
		when l.headers is null then m.headers
		when not $6::boolean then l.headers::jsonb
		when pg_catalog.jsonb_typeof(m.headers) = 'object' then m.headers || l.headers::jsonb
		else l.headers::jsonb end
from l where m.msg_id = any($1) and m.msg_id = l.msg_id returning m.msg_id
