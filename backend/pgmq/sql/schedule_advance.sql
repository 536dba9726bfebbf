-- Moves a schedule on.
--
-- Parameters: $1 the id of the schedule, $2 its tick, which {last} of its message is from now on.

update {table} set message = pg_catalog.jsonb_set(message, '{last}', pg_catalog.to_jsonb($2::timestamptz)) where msg_id = $1
