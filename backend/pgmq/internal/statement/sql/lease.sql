-- Leases messages as claim.sql does, and does not read them.
--
-- Parameters: $1 how many at most, $2 the lease in microseconds, $3 the ids to pass by.

update {table} m
set vt = {end}, read_ct = greatest(least(m.read_ct, 2147483646), 0) + 1{mark}
where m.{place} = any (array(
	select {place} from {table}
	where {current} and vt <= statement_timestamp() and msg_id <> all($3::bigint[])
	order by vt, msg_id
	limit $1
	for update skip locked))
returning m.msg_id, m.read_ct, {read}, {known}
