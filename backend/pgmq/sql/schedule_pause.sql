-- Pauses a schedule, or with null ends its pause.
--
-- Parameters: $1 the id of the schedule, $2 the pause as an object, which {paused} of its message is then, or null.

update {table} set message = case when $2::text is null then message - 'paused'::text else pg_catalog.jsonb_set(message, '{paused}', $2::text::jsonb) end
where msg_id = $1
