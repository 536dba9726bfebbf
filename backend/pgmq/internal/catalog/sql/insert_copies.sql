-- Publishes messages to several queues, as insert.sql does, and returns a row if it stores anything. It
-- fails if it does not store all.
--
-- Parameters: $1 messages, $2 headers, $3 delays in microseconds, $4 times or null, $5 the version of the bindings. $6 the channel to
-- notify, if {stored} does.
--
-- {unchanged} is that of insert.sql. {stored} is what is asked once all is stored. {copies} is, for each queue: , i0 as (insert into pgmq.q_orders (vt, message, headers) select vt, message, headers from r returning 1)

with r as materialized (
	select coalesce(t.at, clock_timestamp() + t.delay::double precision * interval '1 microsecond') as vt,
		t.message::jsonb as message, t.headers::jsonb as headers
	from unnest($1::text[], $2::text[], $3::bigint[], $4::timestamptz[]) as t(message, headers, delay, at)
	where {unchanged}){copies}
{stored}
