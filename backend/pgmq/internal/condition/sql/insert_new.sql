-- Publishes messages to the queues of a topic, but for those whose IDs are known.
--
-- Parameters: $1 messages, $2 headers, $3 delays in microseconds, $4 times or null, $5 the version of the bindings, $6 the
-- SHA-256 of the topic and the ID, in hexadecimal, or '' for a message that is stored in any case, $7 for how long an ID
-- is remembered, in microseconds.
--
-- The only row says whether the route is right, which {unchanged} tells, and lists the places of the messages that are
-- stored. Of several with one ID that is the first. IDs are remembered in their order, so that two transactions do not wait
-- for each other.
--
-- {ids} is the table of IDs. {forget} is what forget_ids.sql has, in a transaction of its own. {copies} is, for each queue:
-- , i0 as (insert into pgmq.q_orders (vt, message, headers) select vt, message, headers from r order by n returning 1), s0 as (select 1 from i0)
--
-- {all stored}: otherwise it fails, and no ID is remembered. {own wait} comes before that, which is what has messages stored:
-- in a transaction of its own, it waits for those with the same IDs only for a moment, and for anything else as the session says.

with t as materialized (
	select t.message, t.headers, t.delay, t.at, t.n, pg_catalog.decode(nullif(t.id, ''), 'hex') as id,
		row_number() over (partition by t.id order by t.n) as copy
	from unnest($1::text[], $2::text[], $3::bigint[], $4::timestamptz[], $6::text[]) with ordinality as t(message, headers, delay, at, id, n)
	where {unchanged}),
fresh as (
	insert into {ids} as known (key, until)
	select id, clock_timestamp() + $7::bigint::double precision * interval '1 microsecond' from t where id is not null and copy = 1 order by id
	on conflict (key) do update set until = excluded.until where known.until <= clock_timestamp()
	returning key),
r as materialized (
	select coalesce(at, clock_timestamp() + delay::double precision * interval '1 microsecond') as vt, message::jsonb as message, headers::jsonb as headers, n
	from t where id is null or copy = 1 and id in (select key from fresh) order by n){forget}{copies}
select exists (select from t), coalesce((select pg_catalog.string_agg(n::text, ',') from r), '')
where case when {own wait} then {all stored} end
