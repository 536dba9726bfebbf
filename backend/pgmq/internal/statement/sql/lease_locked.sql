-- Leases messages that the same transaction has locked.
--
-- Parameters: $1 ids, $2 the lease in microseconds.

update {table} m
set vt = clock_timestamp() + $2::bigint::double precision * interval '1 microsecond', read_ct = greatest(least(m.read_ct, 2147483646), 0) + 1{mark}
where msg_id = any($1::bigint[])
returning m.msg_id, m.read_ct, {read}
