-- Publishes the next messages of an archive again, and returns where it has come to and how many there were.
--
-- {all stored}: otherwise it fails.
--
-- Parameters: $1 and $2 the time and the id of the last one, $3 before which time, $4 how many, $5 headers to remove.
--
-- Messages that consumers have put there as unreadable have the time infinity, and are passed by. Headers that are not an
-- object are not ezq's and mean nothing to PGMQ. {columns} and {values} mark the messages as leased before, where the
-- queue has a column for that.

with r as materialized (
	select msg_id, archived_at, message, headers from {archive}
	where (archived_at, msg_id) > ($1::timestamptz, $2::bigint) and archived_at < $3::timestamptz
		and vt < 'infinity'
	order by archived_at, msg_id
	limit $4),
i as (
	insert into {table} (vt, message, headers{columns})
	select clock_timestamp(), message, pg_catalog.jsonb_build_object('ezq_uuid', {queue}::text || '/' || msg_id::text) ||
		case when pg_catalog.jsonb_typeof(headers) = 'object' then headers - $5::text[] else '{}' end{values}
	from r order by archived_at, msg_id
	returning 1)
select archived_at, msg_id, (select count(*) from r)::int from r where {all stored} order by archived_at desc, msg_id desc limit 1
