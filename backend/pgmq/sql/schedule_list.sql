-- What is known of the schedules.
--
-- Parameter: $1 how many at most. {name} and {columns} are what is told of a schedule, and {most} is how many bytes its
-- message takes at most, as PostgreSQL stores it.
--
-- Any role that may write there may have written anything. A name that is no string is none, and so is one of megabytes.

select {name}, {columns}
from {table} where msg_id < 0::bigint and case when pg_catalog.pg_column_size(message) <= {most} then {name} <> ''::text else false end
order by 1 limit $1::bigint
