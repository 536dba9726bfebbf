-- Looks at a batch of what is between two ids, and deletes what a condition holds for. Returns how many it holds for, how
-- many are deleted, how many it does not hold for, and the last id.
--
-- Parameters: $1 and $2 the ids, and those of {condition}.
--
-- Rows are locked in the order of their ids, as all statements do that lock several.

with seen as (
	select msg_id, {condition} as doomed from {table}
	where msg_id > $1 and msg_id <= $2
	order by msg_id
	limit 1000
	for update),
d as (delete from {table} where msg_id = any(array(select msg_id from seen where doomed)) returning 1)
select count(*) filter (where doomed)::int, (select count(*) from d)::int, count(*) filter (where not doomed)::int, coalesce(pg_catalog.max(msg_id), $2)
from seen
