-- The messages that a claim leases, unless other sessions have locked them; and the newest message, whatever
-- its vt.
--
-- Parameters: $1 how many at most, $2 the ids to pass by.

select msg_id, (select msg_id from {table} order by msg_id desc limit 1) as newest from {table}
where {current} and vt <= statement_timestamp() and msg_id <> all($2::bigint[])
order by vt, msg_id
limit $1
