-- Publishes a message to those queues of a topic that have none with its key, which the transaction has locked.
--
-- Parameters: $1 the message, $2 its headers, $3 its delay in microseconds, $4 its time or null, each as an array of one, $5
-- the version of the bindings, $6 the key.
--
-- The only row says whether the route is right, which {unchanged} tells, and has the ID of the message that is there, or ''
-- if one of the queues has stored the new one.
--
-- {all stored}: otherwise it fails.
--
-- {copies} is what insert_unique_copy.sql has, for each queue, and {found} what it has found. {queues} is how many there are.

with r as materialized (
	select coalesce(t.at, clock_timestamp() + t.delay::double precision * interval '1 microsecond') as vt,
		t.message::jsonb as message, t.headers::jsonb || pg_catalog.jsonb_build_object('ezq_unique', $6::text) as headers
	from unnest($1::text[], $2::text[], $3::bigint[], $4::timestamptz[]) as t(message, headers, delay, at)
	where {unchanged}){copies}
select exists (select from r), coalesce((select pg_catalog.min(id) from ({found}) as e having count(*) = {queues}), '')
where {all stored}
