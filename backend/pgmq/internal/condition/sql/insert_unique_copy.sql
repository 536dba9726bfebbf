-- A part of insert_unique.sql, and no statement by itself: what it does for each queue of a topic, of which {i} is the
-- number, and {added} what the headers get. $6 is the key. {id} is the ID that its headers say, or ''; {most} is how
-- many bytes of headers are looked at.
--
-- The limit is one that PostgreSQL cannot know when it plans: whatever it expects of a queue, it uses the index of keys.

,
e{i} as materialized (
	select coalesce(nullif({id}, ''), {queue}::text || '/' || msg_id::text) as id from {table}
	where pg_catalog.pg_column_size(headers) <= {most} and pg_catalog.jsonb_typeof(headers->'ezq_unique'::text) = 'string' and pg_catalog.left(headers->>'ezq_unique'::text, 400) = $6 limit (select 1)),
i{i} as (
	insert into {table} (vt, message, headers) select vt, message, headers{added} from r where not exists (select from e{i}) returning 1),
s{i} as (select 1 from e{i}, r union all select 1 from i{i})
