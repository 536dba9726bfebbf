-- Makes messages visible again, at once or after a delay, if they are still leased under these tokens. See
-- ack.sql.
--
-- Parameters: $1 ids, $2 their read counts, $3 the times of their leases, $4 delays in microseconds, or null,
-- $5 headers to merge, or null, $6 how many reads to take back.
--
-- A message without a delay is released to its place, before those published after it, and not to one still to come,
-- where it would be invisible. Headers that are not an object mean nothing, and are replaced: a message whose failures
-- are not kept would come back for ever.

with t as (
	select * from unnest($1::bigint[], $2::int[], $3::timestamptz[], $4::bigint[], $5::text[], $6::int[])
	as t(id, number, at, delay, headers, uncount) order by id),
l as (
	select m.msg_id, t.delay, t.headers, t.uncount from t cross join lateral (
		select m.msg_id from {table} m
		where m.msg_id = t.id and {same}
		for update skip locked) m)
update {table} m
set vt = case when l.delay is null then least(m.enqueued_at, clock_timestamp()) else clock_timestamp() + l.delay::double precision * interval '1 microsecond' end,
	read_ct = {uncount},
	headers = case
		when l.headers is null then m.headers
		when pg_catalog.jsonb_typeof(m.headers) = 'object' then m.headers - 'ezq_unknown_since'::text || l.headers::jsonb
		else l.headers::jsonb end
from l where m.msg_id = any($1) and m.msg_id = l.msg_id returning m.msg_id
