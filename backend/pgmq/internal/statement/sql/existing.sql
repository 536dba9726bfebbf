-- Which messages there are.
--
-- Parameter: $1 ids.

select msg_id from {table} where msg_id = any($1::bigint[])
