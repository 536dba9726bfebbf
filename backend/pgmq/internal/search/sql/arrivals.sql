-- Finds the messages of a table by their ids, which are given out as they are stored, without reading them.
--
-- Parameters: $1 the id behind which to begin, $2 how many to find. {order} is asc for the oldest of them, desc for the newest.
--
-- The index of the primary key finds them.

select msg_id from {table} where msg_id > $1::bigint order by msg_id {order} limit $2::bigint
