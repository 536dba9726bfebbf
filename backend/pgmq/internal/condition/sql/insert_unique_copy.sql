-- A part of insert_unique.sql, and no statement by itself: what it does for each queue of a topic, of which {i} is the
-- number, and {added} what the headers get. {id} is the ID that the headers of a message say, or ''; {most} is how many
-- bytes of headers are looked at. {expired} tells of a message that is not to be handled any more: it has no key then, unless a
-- consumer has it, or it waits after a failure. The first one that is found with the key ends the search: any program can have
-- written many, with large headers.
--
-- A lateral subquery with a limit that PostgreSQL cannot know when it plans is no join: whatever it expects of a queue, it
-- looks each key up by itself, in the index of keys.

,
e{i} as materialized (
	select r.n, q.id from r cross join lateral (
		select coalesce(nullif({id}, ''), {queue}::text || '/' || msg_id::text) as id from {table}
		where pg_catalog.pg_column_size(headers) <= {most} and pg_catalog.jsonb_typeof(headers->'ezq_unique'::text) = 'string' and pg_catalog.left(headers->>'ezq_unique'::text, 400) = r.key
			and ({expired} and (read_ct = 0 or vt <= clock_timestamp())) is not true
		limit (select 1)) as q
	where r.locked),
i{i} as (
	insert into {table} (vt, message, headers) select vt, message, headers{added} from r where locked and n not in (select n from e{i}) order by n returning 1),
s{i} as (select 1 from e{i} union all select 1 from i{i} union all select 1 from r where not locked)
