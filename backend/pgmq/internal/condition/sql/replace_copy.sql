-- A part of replace.sql, and no statement by itself: what it does for each queue of a topic, of which {i} is the
-- number, and {added} what the headers get. {id} and {most} are those of insert_unique_copy.sql, {longest wait} is how
-- long in microseconds a message may still have to wait, unless the new one waits as long by itself.
--
-- A message that was never leased, that is due soon enough, and that no transaction has locked, waits. One that is due never, or
-- in a hundred thousand years, another program has written: what is put in its place is lost. One that is locked is being handled,
-- and stays beside the new one: to wait for its lock would be to wait for its handler. Of several the newest is replaced. PGMQ
-- before 1.10 has no last_read_at; there a message that was released uncounted is as one that was never leased.
--
-- Whatever PostgreSQL expects of a queue, the index of keys is the only one that it can use to look: an order by msg_id
-- itself, or a vt that is compared, would have it walk over all messages in the order of another index. What is changed is
-- named by its ids beside the join, which would otherwise read all messages to build a hash.
--
-- The time at which a message was stored is not after now, whatever its row says: the sum could be none that PostgreSQL has.

,
e{i} as materialized (
	select r.n, q.msg_id, q.enqueued_at, q.id from r cross join lateral (
		select msg_id, enqueued_at, coalesce(nullif({id}, ''), {queue}::text || '/' || msg_id::text) as id from {table} q
		where pg_catalog.pg_column_size(headers) <= {most} and pg_catalog.jsonb_typeof(headers->'ezq_unique'::text) = 'string' and pg_catalog.left(headers->>'ezq_unique'::text, 400) = r.key
			and (vt <= greatest(r.vt, clock_timestamp() + {longest wait}::bigint::double precision * interval '1 microsecond')) is true
			and read_ct = 0 and pg_catalog.to_jsonb(q)->>'last_read_at'::text is null
		order by msg_id | 0::bigint desc limit (select 1) for update skip locked) as q
	where r.locked),
u{i} as (
	update {table} m set message = r.message, headers = r.headers{added},
		vt = case when r.longest > 0::bigint then least(r.vt, least(e.enqueued_at, clock_timestamp()) + r.longest::double precision * interval '1 microsecond') else m.vt end
	from e{i} e join r on r.n = e.n where m.msg_id = e.msg_id and m.msg_id = any(array(select msg_id from e{i}))
	returning 1),
i{i} as (
	insert into {table} (vt, message, headers) select vt, message, headers{added} from r where locked and n not in (select n from e{i}) order by n returning 1),
s{i} as (select 1 from u{i} union all select 1 from i{i} union all select 1 from r where not locked)
