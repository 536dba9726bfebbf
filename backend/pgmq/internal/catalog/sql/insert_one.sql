-- Publishes one message to a queue, as insert.sql does; {unchanged} is that of insert.sql.
--
-- Parameters: $1 the message, $2 its headers, $3 its delay in microseconds, $4 its time or null, $5 the version of the
-- bindings.

insert into {table} (vt, message, headers)
	select coalesce($4::timestamptz, clock_timestamp() + $3::bigint::double precision * interval '1 microsecond'), $1::text::jsonb, $2::text::jsonb
	where {unchanged}
