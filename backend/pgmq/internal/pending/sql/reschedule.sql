-- Moves the messages of a table that are chosen and wait to another time. Returns how many are moved, how many of those that are
-- chosen stay, and whether there is more than it has looked at.
--
-- Parameters: $1 to $6 those of {matches}, which is matches.sql; $7 how many rows to look at, $8 the time, or null for now.
--
-- Which messages wait is what cancel.sql says. A message that is due already keeps its place if it is to be due at once.

with seen as materialized (
	select msg_id, ({matches}) is true as chosen from {table} m {which} limit (select $7::bigint + 1)),
chosen as materialized (
	select msg_id from seen where chosen union select msg_id from {table} m where msg_id = $6::bigint and {matches}),
free as materialized (
	select msg_id from {table} m
	where msg_id = any(array(select msg_id from chosen)) and not (read_ct > 0 and vt > statement_timestamp()) and {matches}
	for update skip locked),
u as (
	update {table} set vt = case when $8::timestamptz > clock_timestamp() then $8::timestamptz else least(vt, clock_timestamp()) end
	where msg_id = any(array(select msg_id from free)) returning 1)
select (select count(*) from u)::int, ((select count(*) from chosen) - (select count(*) from u))::int,
	(select count(*) > $7::bigint from seen)
