-- Locks the oldest messages that are visible and that no other session has locked, and reads them. They are
-- not changed: that is for the end of the transaction.
--
-- Parameters: $1 how many at most, $2 the largest size in bytes, as in claim.sql.
--
-- The last column says whether one of them was locked or leased before, and not removed: PostgreSQL notes in a
-- row which transaction locked it last.

with l as (
	select {place}, read_ct > 0 or xmax <> 0 as again from {table}
	where {current} and vt <= statement_timestamp()
	order by vt, msg_id
	limit $1
	for update skip locked),
m as materialized (
	select m.msg_id, m.read_ct, {was} as read_at, case when pg_catalog.isfinite(m.enqueued_at) then m.enqueued_at else 'epoch' end as enqueued_at,
		case when pg_catalog.isfinite(m.vt) then m.vt else 'epoch' end as vt, {held} as known, m.message::text as message, m.headers::text as headers
	from {table} m
	where m.{place} = any (array(select {place} from l)) {latest})
select msg_id, read_ct, read_at, enqueued_at, vt,
	case when size between 0 and $2 then message end, case when size between 0 and $2 then headers end, size, known,
	(select pg_catalog.bool_or(again) from l)
from (
	select *, case
		when pg_catalog.octet_length(headers) > {most} then -pg_catalog.octet_length(headers)::bigint
		else coalesce(pg_catalog.octet_length(message), 0)::bigint + coalesce(pg_catalog.octet_length(headers), 0)
	end as size from m) as m
