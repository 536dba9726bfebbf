-- Deletes the next messages of an archive that are older than a time. Returns how many they are, how many it has deleted,
-- and where it has come to.
--
-- Parameters: $1 and $2 the time and the id of the last one, $3 before which time.
--
-- There is an index on archived_at, and in a partitioned archive no other one.

with doomed as (
	select msg_id, archived_at from {archive}
	where (archived_at, msg_id) > ($1::timestamptz, $2::bigint) and archived_at < $3
	order by archived_at, msg_id
	limit 1000
	for update),
d as (
	delete from {archive}
	where archived_at = any(array(select archived_at from doomed)) and msg_id = any(array(select msg_id from doomed))
	returning 1)
select (select count(*) from doomed)::int, (select count(*) from d)::int, archived_at, msg_id
from doomed order by archived_at desc, msg_id desc limit 1
