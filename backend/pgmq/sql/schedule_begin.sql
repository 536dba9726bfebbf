-- Begins a schedule now, unless it is there.
--
-- Parameters: $1 the id of the schedule, $2 its name, $3 its first tick to come, or null.

insert into {table} (msg_id, vt, message) overriding system value
values ($1, clock_timestamp() + interval '100 years', pg_catalog.jsonb_build_object('schedule', $2::text, 'last', clock_timestamp(), 'next', $3::timestamptz))
on conflict (msg_id) do nothing
