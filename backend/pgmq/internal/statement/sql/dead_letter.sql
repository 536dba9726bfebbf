-- Moves messages to the queue of a dead-letter topic, if they are still leased under these tokens. It is one
-- statement: a message is in one of the tables at any time. See ack.sql.
--
-- Of the headers that are ezq's or a dead letter's it keeps those that say what the message is. Others are of a lease
-- or a dead letter before this one, or a publisher has written them.
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
		case when pg_catalog.jsonb_typeof(d.headers) = 'object' then d.headers - array(
			select k from pg_catalog.jsonb_object_keys(d.headers) as k
			where pg_catalog.starts_with(k, 'ezq_') and k not in ('ezq_uuid', 'ezq_enc', 'ezq_topic')
				or k in ('reason_poisoned', 'topic_poisoned', 'handler_poisoned', 'failures_poisoned', 'poisoned_at')) else '{}' end || d.added::jsonb
	from d order by d.msg_id
	returning 1)
select msg_id from d where {all stored}
