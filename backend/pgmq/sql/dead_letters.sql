-- Looks at the next messages of a dead-letter queue. Tells of each whether it is chosen, which is null if it was left out for its size,
-- whether it is due, and when it was stored; and of one that is chosen, {texts}.
--
-- Parameters: $1 to $13 those of {matches}, which is dead_letter_matches.sql; $14 after which id, $15 up to which one,
-- $16 how many, and with {rows} set, $17 the ids.
--
-- {small} is which rows are read. {enqueued} is when a message was stored, of which a time that is none is 1970. "is true" keeps
-- PostgreSQL from looking for all that are visible, of which it may expect one.

select msg_id, chosen, due, {enqueued}, case when chosen then array[{texts}]::text[] end
from (
	select msg_id, message, headers, enqueued_at, (vt <= statement_timestamp()) is true as due, case when {small} then ({matches}) is true end as chosen
	from {table} m where msg_id > $14::bigint and msg_id <= $15::bigint{rows} order by msg_id limit $16) as seen
order by msg_id
