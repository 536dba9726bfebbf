-- Changes the last pause of a schedule, which is there also when it has ended.
--
-- Parameters: $1 the id of the schedule, $2 the path to what changes in its message, {paused} or {paused,until}, $3 the
-- new value, $4 the last tick that is taken, which {last} is then, or null, and it stays.

update {table} set message = pg_catalog.jsonb_set(
	case when $4::timestamptz is null then message else pg_catalog.jsonb_set(message, '{last}', pg_catalog.to_jsonb($4::timestamptz)) end,
	$2::text::text[], $3::text::jsonb)
where msg_id = $1
