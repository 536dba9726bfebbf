-- Reads messages that are leased, if they still are under these tokens.
--
-- Parameters: $1 ids, $2 their read counts, $3 the largest size in bytes, as in claim.sql, $4 the times of their
-- leases, $5 whether they were leased before.
--
-- Without "materialized", PostgreSQL would write each row out again for each use of its text and of its size.

with m as materialized (
	select m.msg_id, m.read_ct, t.at as read_at, case when pg_catalog.isfinite(m.enqueued_at) then m.enqueued_at else 'epoch' end as enqueued_at, m.vt, t.known,
		m.message::text as message, m.headers::text as headers
	from {table} m join unnest($1::bigint[], $2::int[], $4::timestamptz[], $5::boolean[]) as t(id, number, at, known)
		on m.msg_id = t.id and {same}
	where m.msg_id = any($1))
select msg_id, read_ct, read_at, enqueued_at, vt,
	case when size between 0 and $3 then message end, case when size between 0 and $3 then headers end, size, known
from (
	select *, case
		when pg_catalog.octet_length(headers) > {most} then -pg_catalog.octet_length(headers)::bigint
		else coalesce(pg_catalog.octet_length(message), 0)::bigint + coalesce(pg_catalog.octet_length(headers), 0)
	end as size from m) as m
