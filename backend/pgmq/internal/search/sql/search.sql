-- Finds the messages of a table that are chosen, the newest first, and tells whether there is more than it has looked at, and
-- whether it has left out any for its size.
--
-- Parameters: $1 to $8 those of {matches}, which is matches.sql, $6 among them; $9 how many rows to look at, $10 how
-- many to find.
--
-- {small} tells which rows it reads, {which} is what it looks at: the newest, by {order}, or the newest of what an index finds. The limit
-- is one that PostgreSQL cannot know when it plans: whatever it expects of the table, it uses that index. The message that has the ID by its number is looked at in any case.

with seen as materialized (
	select {order} as place, msg_id, case when {small} then ({matches}) is true end as chosen from {which} limit (select $9::bigint + 1)),
numbered as materialized (
	select {order} as place, msg_id from {table} m where msg_id = $6::bigint and {matches})
select array(
		select msg_id from (select place, msg_id from seen where chosen union select place, msg_id from numbered) as found
		order by place desc, msg_id desc limit $10::bigint),
	(select count(*) > $9::bigint from seen), (select count(*) filter (where chosen is null) > 0 from seen)
