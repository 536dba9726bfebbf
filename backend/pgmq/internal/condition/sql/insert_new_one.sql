-- Publishes one message to a queue unless its ID is known, as insert_new.sql does for several: without arrays, which cost
-- more than the ID.
--
-- Parameters: $1 the message, $2 its headers, $3 its delay in microseconds, $4 its time or null, $5 the version of the
-- bindings, $6 the SHA-256 of the topic and the ID, $7 for how long it is remembered, in microseconds.
--
-- The only row says whether the route is right, and has '1' if the message is stored, or ''. {mark} is in the error if the
-- queue has not taken it, as a trigger may decide; no ID is remembered then. {ids}, {unchanged}, {wait} and {own wait} are
-- those of insert_new.sql.

with w as materialized (
	select before, {wait} as wait from (select pg_catalog.current_setting('lock_timeout') as before offset 0) as s where {unchanged}),
fresh as (
	insert into {ids} as known (key, until)
	select $6::bytea, clock_timestamp() + $7::bigint::double precision * interval '1 microsecond' from w where wait is not null
	on conflict (key) do update set until = excluded.until where known.until <= clock_timestamp()
	returning 1),
i as (
	insert into {table} (vt, message, headers)
	select coalesce($4::timestamptz, clock_timestamp() + $3::bigint::double precision * interval '1 microsecond'), $1::text::jsonb, $2::text::jsonb
	from fresh
	returning 1)
select exists (select from w), case when exists (select from i) then '1' when exists (select from fresh) then (select '{mark}' || before from w)::boolean::text else '' end
where {own wait}
