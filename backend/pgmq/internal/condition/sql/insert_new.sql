-- Publishes messages to the queues of a topic, but for those whose IDs are known.
--
-- Parameters: $1 messages, $2 headers, $3 delays in microseconds, $4 times or null, $5 the version of the bindings, $6 the
-- SHA-256 of the topic and the ID, each once, or null for a message that is stored in any case, $7 for how long an ID is
-- remembered, in microseconds.
--
-- The only row says whether the route is right, which {unchanged} tells, and lists the places of the messages that are
-- stored. IDs are remembered in their order, so that two transactions do not wait for each other.
--
-- {ids} is the table of IDs. {copies} is, for each queue:
-- , i0 as (insert into pgmq.q_orders (vt, message, headers) select vt, message, headers from r order by n returning 1), s0 as (select 1 from i0)
--
-- {all stored}: otherwise it fails, and no ID is remembered.
--
-- {wait}: where nothing but this statement is in the transaction, it waits for others with the same IDs only for a moment,
-- and then, {own wait}, for anything else as the session says: triggers of the queue have the time that they have in
-- another publish. {own wait} counts the IDs, so all of them are stored by then, and comes before {all stored}, which is
-- what has messages stored.

with w as materialized (
	select before, {wait} as wait from (select pg_catalog.current_setting('lock_timeout') as before offset 0) as s),
t as materialized (
	select t.message, t.headers, t.delay, t.at, t.n, t.id
	from unnest($1::text[], $2::text[], $3::bigint[], $4::timestamptz[], $6::bytea[]) with ordinality as t(message, headers, delay, at, id, n)
	where {unchanged} and (select wait is not null from w)),
fresh as (
	insert into {ids} as known (key, until)
	select id, clock_timestamp() + $7::bigint::double precision * interval '1 microsecond' from t where id is not null order by id
	on conflict (key) do update set until = excluded.until where known.until <= clock_timestamp()
	returning key),
r as materialized (
	select coalesce(at, clock_timestamp() + delay::double precision * interval '1 microsecond') as vt, message::jsonb as message, headers::jsonb as headers, n
	from t where id is null or id in (select key from fresh) order by n){copies}
select exists (select from t), coalesce((select pg_catalog.string_agg(n::text, ',') from r), '')
where case when {own wait} then {all stored} end
