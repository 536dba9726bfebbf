-- The update of a claim, of messages whatever their vt: how many of them it has locked, and how many of those it
-- has updated. A trigger can keep a row as it is without an error.
--
-- Parameters: $1 ids, $2 the lease in microseconds, $3 for how many microseconds since the transaction has begun
-- to lock any.

with l as (
	select {place} as place from {table}
	where {current} and msg_id = any($1::bigint[]) and clock_timestamp() < transaction_timestamp() + $3::bigint::double precision * interval '1 microsecond'
	for update skip locked),
u as (
	update {table} m
	set vt = {end}, read_ct = greatest(least(m.read_ct, 2147483646), 0) + 1{mark}
	where m.{place} = any (array(select place from l))
	returning m.msg_id)
select (select count(*) from l), (select count(*) from u)
