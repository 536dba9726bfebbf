-- Deletes those of the next messages of a dead-letter queue that a consumer has dead-lettered long ago. Returns how many it has
-- looked at, how many of those are old, and where it has come to.
--
-- Parameters: $1 after which id, $2 the topic that they came from, $3 the group of the consumer, or null, $4 how long a dead letter
-- is kept, in seconds, $5 how many to look at.
--
-- One that is leased or locked stays for now. {small} is which rows are read: those that take long to read hide no others.

with seen as materialized (
	select msg_id, (enqueued_at < now() - pg_catalog.make_interval(secs => $4::double precision)) is true as old,
		case when {small} then (headers->'topic_poisoned'::text = pg_catalog.to_jsonb($2::text)
			and case when $3::text is null then not headers ? 'ezq_group'::text else headers->'ezq_group'::text = pg_catalog.to_jsonb($3::text) end) is true end as ours
	from {table} where msg_id > $1 order by msg_id limit $5::bigint),
doomed as (
	select msg_id from {table}
	where msg_id = any(array(select msg_id from seen where old and ours)) and (vt <= statement_timestamp()) is true
	for update skip locked),
d as (delete from {table} where msg_id = any(array(select msg_id from doomed)) returning 1)
select count(*)::int, (count(*) filter (where old))::int, coalesce(pg_catalog.max(msg_id), $1) from seen
