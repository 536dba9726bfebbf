-- Insert
with i as (
	insert into "pgmq"."q_orders" (vt, message, headers)
		select coalesce(t.at, clock_timestamp() + t.delay::double precision * interval '1 microsecond') as vt,
			t.message::jsonb as message, t.headers::jsonb as headers
		from unnest($1::text[], $2::text[], $3::bigint[], $4::timestamptz[]) as t(message, headers, delay, at)
		where $5::text = '' and pg_catalog.to_regclass('pgmq.topic_bindings') is null
	returning 1)
select n from (select count(*) as n from i) as i
where n > 0 and case when n = pg_catalog.cardinality($1::text[]) then true else ('ezq_not_stored' || n::text)::boolean end;

-- InsertAndNotify
with r as materialized (
	select coalesce(t.at, clock_timestamp() + t.delay::double precision * interval '1 microsecond') as vt,
		t.message::jsonb as message, t.headers::jsonb as headers
	from unnest($1::text[], $2::text[], $3::bigint[], $4::timestamptz[]) as t(message, headers, delay, at)
	where $5::text = '' and pg_catalog.to_regclass('pgmq.topic_bindings') is null),
i0 as (insert into "pgmq"."q_orders" (vt, message, headers) select vt, message, headers from r returning 1)
select case when has_room then pg_catalog.pg_notify($6, 'orders') end from (select 1 from r where case when (select count(*) from r) = all(array[(select count(*) from i0)]) then true else (select 'ezq_not_stored' from r limit 1)::boolean end limit 1) as stored, (select pg_catalog.pg_notification_queue_usage() < 0.5::float8 as has_room) as notifications;

-- InsertOne
insert into "pgmq"."q_orders" (vt, message, headers)
	select coalesce($4::timestamptz, clock_timestamp() + $3::bigint::double precision * interval '1 microsecond'), $1::text::jsonb, $2::text::jsonb
	where $5::text = '' and pg_catalog.to_regclass('pgmq.topic_bindings') is null;
