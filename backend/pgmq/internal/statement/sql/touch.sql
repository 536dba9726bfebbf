-- The update of a claim, of messages whatever their vt.
--
-- Parameters: $1 ids, $2 the lease in microseconds.

update {table} m
set vt = {end}, read_ct = greatest(least(m.read_ct, 2147483646), 0) + 1{mark}
where m.{place} = any (array(
	select {place} from {table} where {current} and msg_id = any($1::bigint[]) for update skip locked))
returning msg_id
