-- Publishes messages to those queues of a topic that have none with the key of the message, which the transaction has locked.
--
-- Parameters: $1 messages, $2 headers, $3 delays in microseconds, $4 times or null, $5 the version of the bindings, $6 the
-- keys, each once.
--
-- The only row says whether the route is right, which {unchanged} tells, and has, as JSON, for each message the ID of the one that is
-- there, or '' if one of the queues has stored it, or null if its key is not locked: then it is not stored. {locked} tells.
--
-- {all stored}: otherwise it fails.
--
-- {copies} is what insert_unique_copy.sql has, for each queue, and {found} what it has found. {queues} is how many there are.

with r as materialized (
	select coalesce(t.at, clock_timestamp() + t.delay::double precision * interval '1 microsecond') as vt,
		t.message::jsonb as message, t.headers::jsonb || pg_catalog.jsonb_build_object('ezq_unique', t.key) as headers, t.key, t.locked, t.n
	from unnest($1::text[], $2::text[], $3::bigint[], $4::timestamptz[], $6::text[], {locked}) with ordinality as t(message, headers, delay, at, key, locked, n)
	where {unchanged}){copies},
f as (select n, pg_catalog.min(id) as id from ({found}) as e group by n having count(*) = {queues}::bigint)
select exists (select from r), pg_catalog.array_to_json(array(select case when r.locked then coalesce(f.id, '') end from r left join f on f.n = r.n order by r.n))::text
where {all stored}
