-- Ends the pause of a queue, and tells consumers of it.
--
-- Parameters: $1 the queue.
--
-- The only row says whether there was one. {table} is the table of pauses, {channel} where consumers listen, and {name}
-- what they hear.

with ended as (
	delete from {table} where queue = $1::text returning until),
told as (select pg_catalog.pg_notify('{channel}'::text, '{name}'::text) from ended)
select exists (select from ended, told where until is null or until > now())
