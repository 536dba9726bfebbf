-- The next dead letters that can be moved now, and what their headers say: the queue, the topic and the group that they
-- came from, which are {origin}, {topic} and {group}.
--
-- Parameters: $1 after which id, $2 up to which one, $3 how many.
--
-- "is true" keeps PostgreSQL from looking for all that are visible, of which it may expect one.

select msg_id, {origin}, {topic}, {group}
from {table}
where msg_id > $1 and msg_id <= $2 and (vt <= statement_timestamp()) is true
order by msg_id
limit $3
