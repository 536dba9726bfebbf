-- Pauses the consumers of a queue, unless a pause holds that ends later, and tells consumers of it.
--
-- Parameters: $1 the queue, $2 the topic, $3 the group or '', $4 by, $5 the reason, $6 for how many seconds, or null.
--
-- The only row is the pause that holds then. {table} is the table of pauses, {columns} its columns, {channel} where consumers
-- listen, and {name} what they hear.

with wanted as (
	insert into {table} as held (queue, topic, consumer_group, paused_by, reason, since, until)
	values ($1::text, $2::text, $3::text, $4::text, $5::text, now(), now() + pg_catalog.make_interval(secs => $6::double precision))
	on conflict (queue) do update set (topic, consumer_group, paused_by, reason, since, until) = (
		select excluded.topic, excluded.consumer_group, v.paused_by, v.reason, v.since, v.until
		from (values (1, held.paused_by, held.reason, held.since, held.until),
			(2, excluded.paused_by, excluded.reason, excluded.since, excluded.until)) as v(n, paused_by, reason, since, until)
		order by v.until desc nulls first, n limit 1)
	returning *),
told as (select pg_catalog.pg_notify('{channel}'::text, '{name}'::text))
select {columns} from wanted, told
