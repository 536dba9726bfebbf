-- Claim
with m as (
	update "pgmq"."q_orders" m
	set vt = clock_timestamp() + $2::bigint::double precision * interval '1 microsecond', read_ct = greatest(least(m.read_ct, 2147483646), 0) + 1
	where m.ctid = any (array(
		select ctid from "pgmq"."q_orders"
		where '"pgmq"."q_orders"'::regclass::oid = 16385::oid and vt <= statement_timestamp()
		order by vt, msg_id
		limit $1
		for update skip locked))
	returning m.msg_id, m.read_ct, now() as read_at, case when pg_catalog.isfinite(m.enqueued_at) then m.enqueued_at else 'epoch' end as enqueued_at, m.vt, true as known, m.message::text as message, m.headers::text as headers)
select msg_id, read_ct, read_at, enqueued_at, vt,
	case when size between 0 and $3 then message end, case when size between 0 and $3 then headers end, size, known
from (
	select *, case
		when pg_catalog.octet_length(headers) > 131072 then -pg_catalog.octet_length(headers)::bigint
		else coalesce(pg_catalog.octet_length(message), 0)::bigint + coalesce(pg_catalog.octet_length(headers), 0)
	end as size from m) as m;

-- Lock
with l as (
	select ctid, read_ct > 0 or xmax <> 0 as again from "pgmq"."q_orders"
	where '"pgmq"."q_orders"'::regclass::oid = 16385::oid and vt <= statement_timestamp()
	order by vt, msg_id
	limit $1
	for update skip locked),
m as materialized (
	select m.msg_id, m.read_ct, now() as read_at, case when pg_catalog.isfinite(m.enqueued_at) then m.enqueued_at else 'epoch' end as enqueued_at,
		case when pg_catalog.isfinite(m.vt) then m.vt else 'epoch' end as vt, true as known, m.message::text as message, m.headers::text as headers
	from "pgmq"."q_orders" m
	where m.ctid = any (array(select ctid from l)) )
select msg_id, read_ct, read_at, enqueued_at, vt,
	case when size between 0 and $2 then message end, case when size between 0 and $2 then headers end, size, known,
	(select pg_catalog.bool_or(again) from l)
from (
	select *, case
		when pg_catalog.octet_length(headers) > 131072 then -pg_catalog.octet_length(headers)::bigint
		else coalesce(pg_catalog.octet_length(message), 0)::bigint + coalesce(pg_catalog.octet_length(headers), 0)
	end as size from m) as m;

-- Lease
update "pgmq"."q_orders" m
set vt = clock_timestamp() + $2::bigint::double precision * interval '1 microsecond', read_ct = greatest(least(m.read_ct, 2147483646), 0) + 1
where m.ctid = any (array(
	select ctid from "pgmq"."q_orders"
	where '"pgmq"."q_orders"'::regclass::oid = 16385::oid and vt <= statement_timestamp() and msg_id <> all($3::bigint[])
	order by vt, msg_id
	limit $1
	for update skip locked))
returning m.msg_id, m.read_ct, now(), true;

-- Read
with m as materialized (
	select m.msg_id, m.read_ct, t.at as read_at, case when pg_catalog.isfinite(m.enqueued_at) then m.enqueued_at else 'epoch' end as enqueued_at, m.vt, t.known,
		m.message::text as message, m.headers::text as headers
	from "pgmq"."q_orders" m join unnest($1::bigint[], $2::int[], $4::timestamptz[], $5::boolean[]) as t(id, number, at, known)
		on m.msg_id = t.id and m.read_ct = t.number
	where m.msg_id = any($1))
select msg_id, read_ct, read_at, enqueued_at, vt,
	case when size between 0 and $3 then message end, case when size between 0 and $3 then headers end, size, known
from (
	select *, case
		when pg_catalog.octet_length(headers) > 131072 then -pg_catalog.octet_length(headers)::bigint
		else coalesce(pg_catalog.octet_length(message), 0)::bigint + coalesce(pg_catalog.octet_length(headers), 0)
	end as size from m) as m;

-- Next
select (extract(epoch from case when pg_catalog.isfinite(vt) then vt - clock_timestamp()
	when vt = '-infinity' then interval '0' when vt = 'infinity' then interval '1 day' end)::double precision * 1000000::double precision)::bigint, '"pgmq"."q_orders"'::regclass::oid
from (select (select vt from "pgmq"."q_orders" where msg_id <> all($1::bigint[]) order by vt limit 1) as vt) as m;

-- Later
select (extract(epoch from case when pg_catalog.isfinite(vt) then vt - clock_timestamp()
	when vt = '-infinity' then interval '0' when vt = 'infinity' then interval '1 day' end)::double precision * 1000000::double precision)::bigint, '"pgmq"."q_orders"'::regclass::oid
from (select (select vt from "pgmq"."q_orders" where vt > statement_timestamp() order by vt limit 1) as vt) as m
where pg_catalog.set_config('statement_timeout', '0', true) is not null;

-- Ack
with t as (select * from unnest($1::bigint[], $2::int[], $3::timestamptz[]) as t(id, number, at) order by id),
l as (
	select m.msg_id from t cross join lateral (
		select m.msg_id from "pgmq"."q_orders" m
		where m.msg_id = t.id and m.read_ct = t.number
		for update skip locked) m)
delete from "pgmq"."q_orders" m using l where m.msg_id = any($1) and m.msg_id = l.msg_id returning m.msg_id;

-- AckOne
with t as (select * from unnest($1::bigint[], $2::int[], $3::timestamptz[]) as t(id, number, at) where pg_catalog.set_config('lock_timeout', '3000', true) is not null order by id),
l as (
	select m.msg_id from t cross join lateral (
		select m.msg_id from "pgmq"."q_orders" m
		where m.msg_id = t.id and m.read_ct = t.number
		for update) m)
delete from "pgmq"."q_orders" m using l where m.msg_id = any($1) and m.msg_id = l.msg_id returning m.msg_id;

-- Nack
with t as (
	select * from unnest($1::bigint[], $2::int[], $3::timestamptz[], $4::bigint[], $5::text[], $6::int[])
	as t(id, number, at, delay, headers, uncount) order by id),
l as (
	select m.msg_id, t.delay, t.headers, t.uncount from t cross join lateral (
		select m.msg_id from "pgmq"."q_orders" m
		where m.msg_id = t.id and m.read_ct = t.number
		for update skip locked) m)
update "pgmq"."q_orders" m
set vt = case when l.delay is null then least(m.enqueued_at, clock_timestamp()) else clock_timestamp() + l.delay::double precision * interval '1 microsecond' end,
	read_ct = greatest(m.read_ct, 0),
	headers = case
		when l.headers is null then m.headers
		when pg_catalog.jsonb_typeof(m.headers) = 'object' then m.headers - 'ezq_unknown_since'::text || l.headers::jsonb
		else l.headers::jsonb end
from l where m.msg_id = any($1) and m.msg_id = l.msg_id returning m.msg_id;

-- Extend
with t as (select * from unnest($1::bigint[], $2::int[], $3::timestamptz[]) as t(id, number, at) order by id),
l as (
	select m.msg_id from t cross join lateral (
		select m.msg_id from "pgmq"."q_orders" m
		where m.msg_id = t.id and m.read_ct = t.number
		for update skip locked) m)
update "pgmq"."q_orders" m set vt = clock_timestamp() + $4::bigint::double precision * interval '1 microsecond'
from l where m.msg_id = any($1) and m.msg_id = l.msg_id returning m.msg_id;

-- CheckTokens
select m.msg_id, coalesce(m.read_ct = t.number, false) from "pgmq"."q_orders" m
join unnest($1::bigint[], $2::int[], $3::timestamptz[]) as t(id, number, at) on m.msg_id = t.id
where m.msg_id = any($1);

-- Due
select msg_id, (select msg_id from "pgmq"."q_orders" order by msg_id desc limit 1) as newest from "pgmq"."q_orders"
where '"pgmq"."q_orders"'::regclass::oid = 16385::oid and vt <= statement_timestamp() and msg_id <> all($2::bigint[])
order by vt, msg_id
limit $1;

-- TryLease
with l as (
	select ctid as place from "pgmq"."q_orders"
	where '"pgmq"."q_orders"'::regclass::oid = 16385::oid and msg_id = any($1::bigint[]) and clock_timestamp() < transaction_timestamp() + $3::bigint::double precision * interval '1 microsecond'
	for update skip locked),
u as (
	update "pgmq"."q_orders" m
	set vt = clock_timestamp() + $2::bigint::double precision * interval '1 microsecond', read_ct = greatest(least(m.read_ct, 2147483646), 0) + 1
	where m.ctid = any (array(select place from l))
	returning m.msg_id)
select (select count(*) from l), (select count(*) from u);

-- Existing
select msg_id from "pgmq"."q_orders" where msg_id = any($1::bigint[]);

-- Hide
with t as (
	select * from unnest($1::bigint[], $2::int[], $3::timestamptz[], $4::bigint[], $5::text[])
	as t(id, number, at, delay, headers) order by id),
l as (
	select m.msg_id, t.delay, t.headers from t cross join lateral (
		select m.msg_id from "pgmq"."q_orders" m
		where m.msg_id = t.id and m.read_ct = t.number
		for update skip locked) m)
update "pgmq"."q_orders" m
set vt = clock_timestamp() + l.delay::double precision * interval '1 microsecond',
	headers = case
		when l.headers is null then m.headers
		when not $6::boolean then l.headers::jsonb
		when pg_catalog.jsonb_typeof(m.headers) = 'object' then m.headers || l.headers::jsonb
		else l.headers::jsonb end
from l where m.msg_id = any($1) and m.msg_id = l.msg_id returning m.msg_id;

-- MinimumSize
select m.msg_id, coalesce((
	select pg_catalog.max(measured.total) from (values (m.message), (m.headers)) as part (document) cross join lateral (
		select total from (select pg_catalog.sum(size) over (rows unbounded preceding) as total from (
			select case pg_catalog.jsonb_typeof(n) when 'string' then pg_catalog.octet_length(n #>> '{}'::text[]) else case
				when pg_catalog.abs(n::numeric) >= 1e65536 then 65536
				when pg_catalog.abs(n::numeric) >= 1e32768 then 32768
				when pg_catalog.abs(n::numeric) >= 1e16384 then 16384
				when pg_catalog.abs(n::numeric) >= 1e8192 then 8192
				when pg_catalog.abs(n::numeric) >= 1e4096 then 4096
				when pg_catalog.abs(n::numeric) >= 1e2048 then 2048
				when pg_catalog.abs(n::numeric) >= 1e1024 then 1024
				when pg_catalog.abs(n::numeric) >= 1e512 then 512
				when pg_catalog.abs(n::numeric) >= 1e256 then 256
				when pg_catalog.abs(n::numeric) >= 1e128 then 128
				when pg_catalog.abs(n::numeric) >= 1e64 then 64
				when pg_catalog.abs(n::numeric) >= 1e32 then 32
				when pg_catalog.abs(n::numeric) >= 1e16 then 16
				else 1 end + pg_catalog.scale(n::numeric) end as size
			from (select pg_catalog.jsonb_array_elements(pg_catalog.jsonb_path_query_array(part.document, 'strict $.** ? (@.type() == "number" || @.type() == "string")')) as n offset 0) as n) as n) as n
		where total > $2::bigint limit 1) as measured), 0) from "pgmq"."q_orders" m
where m.msg_id = any($1::bigint[]);

-- Suspicious
select m.msg_id from "pgmq"."q_orders" m
where m.msg_id = any($1::bigint[]) and case
	when coalesce(pg_catalog.pg_column_size(m.message), 0) + coalesce(pg_catalog.pg_column_size(m.headers), 0) > $2 then true
	else coalesce(pg_catalog.jsonb_path_exists(m.message, '$.** ? (@.type() == "number" && (@ >= 1e40 || @ <= -1e40))'), false)
		or exists (select from (select pg_catalog.jsonb_array_elements(pg_catalog.jsonb_path_query_array(m.message, '$.** ? (@.type() == "number")')) as n offset 0) as m where pg_catalog.scale(n::numeric) > 40)
		or coalesce(pg_catalog.jsonb_path_exists(m.headers, '$.** ? (@.type() == "number" && (@ >= 1e40 || @ <= -1e40))'), false)
		or exists (select from (select pg_catalog.jsonb_array_elements(pg_catalog.jsonb_path_query_array(m.headers, '$.** ? (@.type() == "number")')) as n offset 0) as m where pg_catalog.scale(n::numeric) > 40) end;

-- RemoveForged
with t as (select * from unnest($1::bigint[], $2::int[], $3::timestamptz[], $4::boolean[]) as t(id, number, at, named) order by id),
l as (
	select m.msg_id, t.named from t cross join lateral (
		select m.msg_id from "pgmq"."q_orders" m
		where m.msg_id = t.id and m.read_ct = t.number
		for update skip locked) m)
update "pgmq"."q_orders" m
set headers = m.headers - array['ezq_failures', 'ezq_done', 'ezq_unknown_since'] - case when l.named then array['ezq_uuid'] else '{}' end
from l where m.msg_id = any($1) and m.msg_id = l.msg_id;

-- LockTable
lock table "pgmq"."q_orders" in row exclusive mode;

-- RemoveLocked
delete from "pgmq"."q_orders" where msg_id = any($1::bigint[]);

-- LeaseLocked
update "pgmq"."q_orders" m
set vt = clock_timestamp() + $2::bigint::double precision * interval '1 microsecond', read_ct = greatest(least(m.read_ct, 2147483646), 0) + 1
where msg_id = any($1::bigint[])
returning m.msg_id, m.read_ct, now();

-- Release
update "pgmq"."q_orders" m set vt = least(m.enqueued_at, clock_timestamp()) where msg_id = any($1::bigint[]);

with t as (
	select * from unnest($1::bigint[], $2::int[], $3::timestamptz[], $4::text[]) as t(id, number, at, headers) order by id),
l as (
	select m.msg_id, t.headers from t cross join lateral (
		select m.msg_id from "pgmq"."q_orders" m
		where m.msg_id = t.id and m.read_ct = t.number
		for update skip locked) m),
d as (
	delete from "pgmq"."q_orders" m using l where m.msg_id = any($1) and m.msg_id = l.msg_id
	returning m.msg_id, m.message, m.headers, l.headers as added),
i as (
	insert into "pgmq"."q_orders_dead" (vt, message, headers)
	select clock_timestamp(), d.message,
		case when pg_catalog.jsonb_typeof(d.headers) = 'object' then d.headers - array(
			select k from pg_catalog.jsonb_object_keys(d.headers) as k
			where pg_catalog.starts_with(k, 'ezq_') and k not in ('ezq_uuid', 'ezq_enc', 'ezq_topic')
				or k in ('reason_poisoned', 'topic_poisoned', 'handler_poisoned', 'failures_poisoned', 'poisoned_at')) else '{}' end || d.added::jsonb
	from d order by d.msg_id
	returning 1)
select msg_id from d where case when (select count(*) from d) = all(array[(select count(*) from i)]) then true else (select 'ezq_not_stored' from d limit 1)::boolean end
