-- Moves a schedule on.
--
-- Parameters: $1 the id of the schedule, $2 its tick, which {last} of its message is from now on, $3 the tick to come,
-- or null, which {next} is.

update {table} set message = pg_catalog.jsonb_set(pg_catalog.jsonb_set(message, '{last}', pg_catalog.to_jsonb($2::timestamptz)),
	'{next}', coalesce(pg_catalog.to_jsonb($3::timestamptz), 'null'))
where msg_id = $1
