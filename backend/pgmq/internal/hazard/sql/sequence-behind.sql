-- A queue whose next ids are those of messages that it has, as after a restore, or of an unlogged queue after a crash.
--
-- {table} and {table name} are that of the queue, as an identifier and as a string. Without a privilege on the sequence, PostgreSQL 18
-- gives null for its last value, as for one that is not used yet; currval refuses that in every version.

select format('the highest msg_id is %s, and the next one would be %s', highest, coalesce(used, 0) + 1), format('select pg_catalog.setval(%L, %s)', sequence, highest)
from (select (select msg_id from {table} order by msg_id desc limit 1) as highest, pg_get_serial_sequence({table name}, 'msg_id') as sequence) as q
cross join lateral (select case when has_sequence_privilege(to_regclass(sequence)::oid, 'select, usage') then pg_sequence_last_value(to_regclass(sequence))
	else currval(to_regclass(sequence)) end as used) as ids
where sequence is not null and highest > coalesce(used, 0)
