-- Deletes messages that the same transaction has locked.
--
-- Parameter: $1 ids.

delete from {table} where msg_id = any($1::bigint[])
