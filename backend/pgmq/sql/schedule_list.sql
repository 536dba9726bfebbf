-- What is known of the schedules.
--
-- Parameter: $1 how many at most. {name} and {columns} are what is told of a schedule, {read} is which messages are read,
-- and {longest} is how many bytes a name has at most.
--
-- Any role that may write there may have written anything. A name that is no string is none, and so is a longer one: a
-- hundred kilobytes of one character are stored in two.

select {name}, {columns}
from {table} where msg_id < 0::bigint and case when {read} then
	case when pg_catalog.jsonb_typeof(message->'schedule'::text) = 'string'::text then pg_catalog.octet_length(message->>'schedule'::text) between 1 and {longest} else false end
	else false end
order by 1 limit $1::bigint
