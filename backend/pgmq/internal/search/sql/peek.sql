-- Finds the messages of a table behind a place, in the order in which they are due, without reading them.
--
-- Parameters: $1 when the message behind which to begin is due, $2 its id, $3 how many rows to look at, $4 how many to find.
--
-- Rows are looked at in the order of the index of vt, from $1 on. Of those that are due at one time, they come in the order of their
-- ids: PostgreSQL sorts the rows of each time by themselves. Any number of rows can be due at one time, as those that were published
-- together: only so many are looked at.

select msg_id, vt
from (select msg_id, vt from {table} where vt >= $1::timestamptz order by vt limit $3::bigint) as seen
where (vt, msg_id) > ($1::timestamptz, $2::bigint)
order by vt, msg_id limit $4::bigint
