-- Moves dead letters to where they came from. Returns how many, those that are not deleted though they are due, since a
-- trigger may return NULL, and how many of the others are still there.
--
-- Parameters: $1 to $13 those of {matches}, which is dead_letter_matches.sql; $14 ids, $15 headers to remove, $16 the
-- name of the queue that they are in, from which the id is made of a message that has none.
--
-- They are locked, and looked at again once they are: another call may have moved them, a consumer may have leased them, an
-- edit may have changed them. The session that has locked them settles them.
--
-- {all stored}: otherwise it fails, and nothing is deleted.
--
-- {moves} is, for each queue that gets them, with the columns that mark a message as leased before:
-- , i0 as (insert into pgmq.q_orders (vt, message, headers, last_read_at) select clock_timestamp(), message, headers, clock_timestamp() from d order by msg_id returning 1)

with t as (select * from pg_catalog.unnest($14::bigint[]) as t(id) order by id),
due as (
	select m.msg_id from t cross join lateral (
		select m.msg_id from {table} m
		where m.msg_id = t.id and (m.vt <= statement_timestamp()) is true and {matches}
		for update skip locked) m),
d as (
	delete from {table} m where m.msg_id = any(array(select msg_id from due))
	returning m.msg_id, m.message, pg_catalog.jsonb_build_object('ezq_uuid', $16::text || '/' || m.msg_id::text) || (m.headers - $15::text[]) as headers){moves}
select count(*)::int, array(select msg_id from due where msg_id not in (select msg_id from d) order by msg_id),
	((select count(*) from {table} where msg_id = any($14::bigint[])) - (select count(*) from due))::int
from d having {all stored}
