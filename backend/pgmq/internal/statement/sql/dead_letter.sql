-- Moves messages to the queue of a dead-letter topic, if they are still leased under these tokens. It is one
-- statement: a message is in one of the tables at any time. See ack.sql.
--
-- {all stored}: otherwise it fails, and nothing is deleted.
--
-- Parameters: $1 ids, $2 their read counts, $3 the times of their leases, $4 headers to merge.

with t as (
	select * from unnest($1::bigint[], $2::int[], $3::timestamptz[], $4::text[]) as t(id, number, at, headers) order by id),
l as (
	select m.msg_id, t.headers from t cross join lateral (
		select m.msg_id from {table} m
		where m.msg_id = t.id and {same}
		for update skip locked) m),
d as (
	delete from {table} m using l where m.msg_id = any($1) and m.msg_id = l.msg_id
	returning m.msg_id, m.message, m.headers, l.headers as added),
i as (
	insert into {target} (vt, message, headers)
	select clock_timestamp(), d.message,
		case when pg_catalog.jsonb_typeof(d.headers) = 'object' then d.headers - array['ezq_failures', 'ezq_done', 'ezq_unknown_since', 'ezq_unique'] else '{}' end || d.added::jsonb
	from d order by d.msg_id
	returning 1)
select msg_id from d where {all stored}
