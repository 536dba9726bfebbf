-- Changes the messages of a table that are chosen and wait, and with {running} those that consumers may have. Returns how many that
-- waited are changed, how many of the others, how many of those that are chosen stay, whether there is more than it has looked at,
-- and whether it has left out any for its size.
--
-- Parameters: $1 to $8 those of {matches}, which is matches.sql, $6 among them; $9 how many rows to look at, and from
-- $10 on those of {change}.
--
-- {change} deletes or updates rows of the table. {running} is true or false. {small} and {which} are what it looks at, as in search.sql. A message with a lease, or with a
-- pause after a failure, has been read and is invisible. One that another transaction has locked is passed by: it would be a wait
-- for a handler. Both are looked at again once they are locked here, since the message may have been leased, or replaced by another
-- one, in the meantime.

with seen as materialized (
	select msg_id, case when {small} then ({matches}) is true end as chosen from {which} limit (select $9::bigint + 1)),
chosen as materialized (
	select msg_id from seen where chosen union select msg_id from {table} m where msg_id = $6::bigint and {matches}),
free as materialized (
	select msg_id, read_ct > 0 and vt > statement_timestamp() as running from {table} m
	where msg_id = any(array(select msg_id from chosen)) and ({running} or not (read_ct > 0 and vt > statement_timestamp())) and {matches}
	for update skip locked),
changed as ({change} where msg_id = any(array(select msg_id from free)) returning msg_id),
found as materialized (
	select msg_id, running from free where msg_id = any(array(select msg_id from changed)))
select (select count(*) from found where running is not true)::int, (select count(*) from found where running)::int,
	((select count(*) from chosen) - (select count(*) from found))::int,
	(select count(*) > $9::bigint from seen), (select count(*) filter (where chosen is null) > 0 from seen)
