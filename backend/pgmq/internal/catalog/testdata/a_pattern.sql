-- Insert
with r as materialized (
	select coalesce(t.at, clock_timestamp() + t.delay::double precision * interval '1 microsecond') as vt,
		t.message::jsonb as message, t.headers::jsonb as headers
	from unnest($1::text[], $2::text[], $3::bigint[], $4::timestamptz[]) as t(message, headers, delay, at)
	where (select coalesce(pg_catalog.sum(pg_catalog.hashtextextended(compiled_regex::text || ' ' || queue_name::text, 0)), 0)::text from pgmq.topic_bindings) = $5::text),
i0 as (insert into "pgmq"."q_orders.audit" (vt, message, headers) select vt, message, headers || pg_catalog.jsonb_build_object('ezq_topic', 'orders.eu'::text) from r returning 1),
i1 as (insert into "pgmq"."q_orders.eu" (vt, message, headers) select vt, message, headers from r returning 1)
select 1 from r where case when (select count(*) from r) = all(array[(select count(*) from i0), (select count(*) from i1)]) then true else (select 'ezq_not_stored' from r limit 1)::boolean end limit 1;

-- InsertAndNotify
with r as materialized (
	select coalesce(t.at, clock_timestamp() + t.delay::double precision * interval '1 microsecond') as vt,
		t.message::jsonb as message, t.headers::jsonb as headers
	from unnest($1::text[], $2::text[], $3::bigint[], $4::timestamptz[]) as t(message, headers, delay, at)
	where (select coalesce(pg_catalog.sum(pg_catalog.hashtextextended(compiled_regex::text || ' ' || queue_name::text, 0)), 0)::text from pgmq.topic_bindings) = $5::text),
i0 as (insert into "pgmq"."q_orders.audit" (vt, message, headers) select vt, message, headers || pg_catalog.jsonb_build_object('ezq_topic', 'orders.eu'::text) from r returning 1),
i1 as (insert into "pgmq"."q_orders.eu" (vt, message, headers) select vt, message, headers from r returning 1)
select case when has_room then pg_catalog.pg_notify($6, 'orders.audit') end, case when has_room then pg_catalog.pg_notify($6, 'orders.eu') end from (select 1 from r where case when (select count(*) from r) = all(array[(select count(*) from i0), (select count(*) from i1)]) then true else (select 'ezq_not_stored' from r limit 1)::boolean end limit 1) as stored, (select pg_catalog.pg_notification_queue_usage() < 0.5::float8 as has_room) as notifications;
