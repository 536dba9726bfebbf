-- Moves messages that were handled to the archive of their queue, if they are still leased under these
-- tokens. It is one statement: a message is in one of the tables at any time. See ack.sql.
--
-- {all stored}: otherwise it fails, and nothing is deleted.
--
-- Parameters: $1 ids, $2 their read counts, $3 the times of their leases.
--
-- {vt} is the time that the message has in the archive: its own, or infinity, which tells that it was quarantined. A message
-- that is leased or locked is never due at infinity, whatever its publisher has written: its headers could say anything.
--
-- The archive can have a message with the same msg_id already: an unlogged queue counts from 1 again after a
-- crash, and its archive, which is logged, still has what was there before. (With PGMQ's own function archiving
-- then fails, until the ids are past that.) The message gets a negative number there, at random so that
-- concurrent acks do not choose the same, and keeps the id made of its own.

with t as (select * from unnest($1::bigint[], $2::int[], $3::timestamptz[]) as t(id, number, at) order by id),
l as (
	select m.msg_id from t cross join lateral (
		select m.msg_id from {table} m
		where m.msg_id = t.id and {same}
		for update skip locked) m),
d as (
	delete from {table} m using l where m.msg_id = any($1) and m.msg_id = l.msg_id
	returning m.msg_id, m.read_ct, m.enqueued_at, m.vt, m.message, m.headers{m.also}),
a as (
	insert into {archive} (msg_id, read_ct, enqueued_at, vt, message, headers{also})
	select msg_id, read_ct, enqueued_at, {vt}, message, headers{also} from d
	on conflict do nothing
	returning msg_id),
b as (
	insert into {archive} (msg_id, read_ct, enqueued_at, vt, message, headers{also})
	select -1 - pg_catalog.floor(random() * 9e18::double precision)::bigint, read_ct, enqueued_at, {vt}, message,
		pg_catalog.jsonb_build_object('ezq_uuid', {queue}::text || '/' || msg_id::text) ||
			case when pg_catalog.jsonb_typeof(headers) = 'object' then headers else '{}' end{also}
	from d where msg_id not in (select msg_id from a)
	returning msg_id),
s as (select msg_id from a union all select msg_id from b)
select msg_id from d where {all stored}
