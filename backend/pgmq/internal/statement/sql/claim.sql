-- Leases the oldest messages that are visible and that no other session has locked, and reads them.
--
-- Parameters: $1 how many at most, $2 the lease in microseconds, $3 the largest size in bytes.
--
-- A message that is larger comes without its text. Its size is that of the headers, and less than 0, if those
-- are too large by themselves. The size is known when the text has been made, and that is done once.
--
-- The comparison is with statement_timestamp and not, as in pgmq.read, with the volatile clock_timestamp, which
-- no index can serve. The order is that of the index on vt, with the messages of one time sorted by their ids:
-- an incremental sort.
--
-- read_ct counts a delivery. Where others have written a count that is none, the first is 1, and the last that
-- an integer can hold stays: it must not fail, for other messages come with this one. Where there is no
-- last_read_at, two leases of such a message are the same.

with m as (
	update {table} m
	set vt = {end}, read_ct = greatest(least(m.read_ct, 2147483646), 0) + 1{mark}
	where m.{place} = any (array(
		select {place} from {table}
		where {current} and vt <= statement_timestamp()
		order by vt, msg_id
		limit $1
		for update skip locked))
	returning m.msg_id, m.read_ct, {read} as read_at, case when pg_catalog.isfinite(m.enqueued_at) then m.enqueued_at else 'epoch' end as enqueued_at, m.vt, {known} as known, m.message::text as message, m.headers::text as headers)
select msg_id, read_ct, read_at, enqueued_at, vt,
	case when size between 0 and $3 then message end, case when size between 0 and $3 then headers end, size, known
from (
	select *, case
		when pg_catalog.octet_length(headers) > {most} then -pg_catalog.octet_length(headers)::bigint
		else coalesce(pg_catalog.octet_length(message), 0)::bigint + coalesce(pg_catalog.octet_length(headers), 0)
	end as size from m) as m
