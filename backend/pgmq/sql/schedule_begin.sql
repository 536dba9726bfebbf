-- Begins a schedule now, unless it is there.
--
-- Parameters: $1 the id of the schedule, $2 its name.

insert into {table} (msg_id, vt, message) overriding system value
values ($1, clock_timestamp() + interval '100 years', pg_catalog.jsonb_build_object('schedule', $2::text, 'last', clock_timestamp()))
on conflict (msg_id) do nothing
