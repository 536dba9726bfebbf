-- Removes from the headers what only ezq may say, of messages that were never leased before, if they are still
-- leased under these tokens. Headers that another transaction committed meanwhile stay. See ack.sql.
--
-- Parameters: $1 ids, $2 their read counts, $3 the times of their leases, $4 whether the id goes as well.

with t as (select * from unnest($1::bigint[], $2::int[], $3::timestamptz[], $4::boolean[]) as t(id, number, at, named) order by id),
l as (
	select m.msg_id, t.named from t cross join lateral (
		select m.msg_id from {table} m
		where m.msg_id = t.id and {same}
		for update skip locked) m)
update {table} m
set headers = m.headers - array['ezq_failures', 'ezq_done', 'ezq_unknown_since'] - case when l.named then array['ezq_uuid'] else '{}' end
from l where m.msg_id = any($1) and m.msg_id = l.msg_id
