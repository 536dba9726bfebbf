-- Deletes dead letters, as far as they are still chosen. Returns how many of them were to go, how many are deleted, and how many are
-- there.
--
-- Parameters: $1 to $13 those of {matches}, which is dead_letter_matches.sql; $14 ids.
--
-- One that another session has locked is passed by.

with doomed as (
	select msg_id from {table} m where msg_id = any($14::bigint[]) and {matches} order by msg_id for update skip locked),
d as (delete from {table} where msg_id = any(array(select msg_id from doomed)) returning 1)
select (select count(*) from doomed)::int, (select count(*) from d)::int, (select count(*) from {table} where msg_id = any($14::bigint[]))::int
