-- Deletes messages that were handled, if they are still leased under these tokens.
--
-- Parameters: $1 ids, $2 their read counts, $3 the times of their leases.
--
-- Settling and extending wait for no row: one that others have locked would keep all that come with it. It is
-- passed by, and tried again. Those that can be had are locked in the order of their ids, whatever the order of
-- the arrays, for other sessions, which do wait.
--
-- Each is looked up by itself: where PostgreSQL expects few rows in the queue, a join reads all of them, and
-- compares each with each id. A lateral subquery that locks cannot be made one. The ids are named twice for the
-- same reason.
--
-- For the ack in a handler's transaction, "skip locked" is left out, and the first line sets a lock_timeout.

with t as (select * from unnest($1::bigint[], $2::int[], $3::timestamptz[]) as t(id, number, at) order by id),
l as (
	select m.msg_id from t cross join lateral (
		select m.msg_id from {table} m
		where m.msg_id = t.id and {same}
		for update skip locked) m)
delete from {table} m using l where m.msg_id = any($1) and m.msg_id = l.msg_id returning m.msg_id
