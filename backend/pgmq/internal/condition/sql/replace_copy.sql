-- A part of replace.sql, and no statement by itself: what it does for each queue of a topic, of which {i} is the
-- number, and {added} what the headers get. $6 is the key, $7 the longest time in microseconds, or 0. {id} and {most}
-- are those of insert_unique_copy.sql, {wait} is how long in microseconds a message may still have to wait, unless the
-- new one waits as long by itself.
--
-- A message that was never leased, that is due soon enough, and that no transaction has locked, waits. One that is due never, or
-- in a hundred thousand years, another program has written: what is put in its place is lost. One that is locked is being handled,
-- and stays beside the new one: to wait for its lock would be to wait for its handler. Of several the newest is replaced. PGMQ
-- before 1.10 has no last_read_at; there a message that was released uncounted is as one that was never leased.
--
-- The time at which a message was stored is not after now, whatever its row says: the sum could be none that PostgreSQL has.

,
e{i} as materialized (
	select msg_id, enqueued_at, coalesce(nullif({id}, ''), {queue}::text || '/' || msg_id::text) as id from {table} q
	where pg_catalog.pg_column_size(headers) <= {most} and pg_catalog.jsonb_typeof(headers->'ezq_unique'::text) = 'string' and pg_catalog.left(headers->>'ezq_unique'::text, 400) = $6
		and vt <= greatest((select vt from r), clock_timestamp() + {wait}::bigint::double precision * interval '1 microsecond') and read_ct = 0 and pg_catalog.to_jsonb(q)->>'last_read_at'::text is null and exists (select from r)
	order by msg_id desc limit (select 1) for update skip locked),
u{i} as (
	update {table} m set message = r.message, headers = r.headers{added},
		vt = case when $7::bigint > 0 then least(r.vt, least(e.enqueued_at, clock_timestamp()) + $7::bigint::double precision * interval '1 microsecond') else m.vt end
	from e{i} e, r where m.msg_id = e.msg_id
	returning 1),
i{i} as (
	insert into {table} (vt, message, headers) select vt, message, headers{added} from r where not exists (select from e{i}) returning 1),
s{i} as (select 1 from u{i} union all select 1 from i{i})
