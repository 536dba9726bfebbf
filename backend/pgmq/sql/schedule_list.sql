-- What is known of the schedules.
--
-- Parameter: $1 how many at most. {columns} is what is told of a schedule.

select pg_catalog.left(message->>'schedule'::text, 1000), {columns}
from {table} where msg_id < 0::bigint and message->>'schedule'::text <> ''::text order by message->>'schedule'::text limit $1::bigint
