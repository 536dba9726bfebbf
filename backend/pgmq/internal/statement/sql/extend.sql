-- Extends leases, if they are still those of these tokens. See ack.sql.
--
-- Parameters: $1 ids, $2 their read counts, $3 the times of their leases, $4 the lease in microseconds from now.

with t as (select * from unnest($1::bigint[], $2::int[], $3::timestamptz[]) as t(id, number, at) order by id),
l as (
	select m.msg_id from t cross join lateral (
		select m.msg_id from {table} m
		where m.msg_id = t.id and {same}
		for update skip locked) m)
update {table} m set vt = clock_timestamp() + $4::bigint::double precision * interval '1 microsecond'
from l where m.msg_id = any($1) and m.msg_id = l.msg_id returning m.msg_id
