-- Ack
with t as (select * from unnest($1::bigint[], $2::int[], $3::timestamptz[]) as t(id, number, at) order by id),
l as (
	select m.msg_id from t cross join lateral (
		select m.msg_id from "pgmq"."q_orders" m
		where m.msg_id = t.id and m.read_ct = t.number and case when pg_catalog.isfinite(coalesce(m.last_read_at, m.enqueued_at)) then coalesce(m.last_read_at, m.enqueued_at) else 'epoch' end = t.at
		for update skip locked) m),
d as (
	delete from "pgmq"."q_orders" m using l where m.msg_id = any($1) and m.msg_id = l.msg_id
	returning m.msg_id, m.read_ct, m.enqueued_at, m.vt, m.message, m.headers, m.last_read_at),
a as (
	insert into "pgmq"."a_orders" (msg_id, read_ct, enqueued_at, vt, message, headers, last_read_at)
	select msg_id, read_ct, enqueued_at, vt, message, headers, last_read_at from d
	on conflict do nothing
	returning msg_id),
b as (
	insert into "pgmq"."a_orders" (msg_id, read_ct, enqueued_at, vt, message, headers, last_read_at)
	select -1 - pg_catalog.floor(random() * 9e18::double precision)::bigint, read_ct, enqueued_at, vt, message,
		pg_catalog.jsonb_build_object('ezq_uuid', 'orders'::text || '/' || msg_id::text) ||
			case when pg_catalog.jsonb_typeof(headers) = 'object' then headers else '{}' end, last_read_at
	from d where msg_id not in (select msg_id from a)
	returning msg_id),
s as (select msg_id from a union all select msg_id from b)
select msg_id from d where case when (select count(*) from d) = all(array[(select count(*) from s)]) then true else (select 'ezq_not_stored' from d limit 1)::boolean end;

-- AckOne
with t as (select * from unnest($1::bigint[], $2::int[], $3::timestamptz[]) as t(id, number, at) where pg_catalog.set_config('lock_timeout', '3000', true) is not null order by id),
l as (
	select m.msg_id from t cross join lateral (
		select m.msg_id from "pgmq"."q_orders" m
		where m.msg_id = t.id and m.read_ct = t.number and case when pg_catalog.isfinite(coalesce(m.last_read_at, m.enqueued_at)) then coalesce(m.last_read_at, m.enqueued_at) else 'epoch' end = t.at
		for update) m),
d as (
	delete from "pgmq"."q_orders" m using l where m.msg_id = any($1) and m.msg_id = l.msg_id
	returning m.msg_id, m.read_ct, m.enqueued_at, m.vt, m.message, m.headers, m.last_read_at),
a as (
	insert into "pgmq"."a_orders" (msg_id, read_ct, enqueued_at, vt, message, headers, last_read_at)
	select msg_id, read_ct, enqueued_at, vt, message, headers, last_read_at from d
	on conflict do nothing
	returning msg_id),
b as (
	insert into "pgmq"."a_orders" (msg_id, read_ct, enqueued_at, vt, message, headers, last_read_at)
	select -1 - pg_catalog.floor(random() * 9e18::double precision)::bigint, read_ct, enqueued_at, vt, message,
		pg_catalog.jsonb_build_object('ezq_uuid', 'orders'::text || '/' || msg_id::text) ||
			case when pg_catalog.jsonb_typeof(headers) = 'object' then headers else '{}' end, last_read_at
	from d where msg_id not in (select msg_id from a)
	returning msg_id),
s as (select msg_id from a union all select msg_id from b)
select msg_id from d where case when (select count(*) from d) = all(array[(select count(*) from s)]) then true else (select 'ezq_not_stored' from d limit 1)::boolean end;

-- LockTable
lock table "pgmq"."q_orders", "pgmq"."a_orders" in row exclusive mode;

-- Quarantine
with t as (select * from unnest($1::bigint[], $2::int[], $3::timestamptz[]) as t(id, number, at) order by id),
l as (
	select m.msg_id from t cross join lateral (
		select m.msg_id from "pgmq"."q_orders" m
		where m.msg_id = t.id and m.read_ct = t.number and case when pg_catalog.isfinite(coalesce(m.last_read_at, m.enqueued_at)) then coalesce(m.last_read_at, m.enqueued_at) else 'epoch' end = t.at
		for update skip locked) m),
d as (
	delete from "pgmq"."q_orders" m using l where m.msg_id = any($1) and m.msg_id = l.msg_id
	returning m.msg_id, m.read_ct, m.enqueued_at, m.vt, m.message, m.headers, m.last_read_at),
a as (
	insert into "pgmq"."a_orders" (msg_id, read_ct, enqueued_at, vt, message, headers, last_read_at)
	select msg_id, read_ct, enqueued_at, 'infinity'::timestamptz, message, headers, last_read_at from d
	on conflict do nothing
	returning msg_id),
b as (
	insert into "pgmq"."a_orders" (msg_id, read_ct, enqueued_at, vt, message, headers, last_read_at)
	select -1 - pg_catalog.floor(random() * 9e18::double precision)::bigint, read_ct, enqueued_at, 'infinity'::timestamptz, message,
		pg_catalog.jsonb_build_object('ezq_uuid', 'orders'::text || '/' || msg_id::text) ||
			case when pg_catalog.jsonb_typeof(headers) = 'object' then headers else '{}' end, last_read_at
	from d where msg_id not in (select msg_id from a)
	returning msg_id),
s as (select msg_id from a union all select msg_id from b)
select msg_id from d where case when (select count(*) from d) = all(array[(select count(*) from s)]) then true else (select 'ezq_not_stored' from d limit 1)::boolean end;


