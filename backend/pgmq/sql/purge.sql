-- Deletes a batch of what is between two ids. Returns how many messages those are, how many are deleted, and the last id.
--
-- Parameters: $1 and $2 the ids.
--
-- Rows are locked in the order of their ids, as all statements do that lock several.

with doomed as (
	select msg_id from {table}
	where msg_id > $1 and msg_id <= $2
	order by msg_id
	limit 1000
	for update),
d as (delete from {table} where msg_id = any(array(select msg_id from doomed)) returning 1)
select count(*)::int, (select count(*) from d)::int, coalesce(pg_catalog.max(msg_id), $2)
from doomed
