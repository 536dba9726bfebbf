-- Finds how large messages are at least when they are read: the text in them, and the digits of their numbers,
-- of which it counts half of those before the point or more. It goes no further than to the largest size: a
-- message that is not larger counts as 0.
--
-- Parameters: $1 ids, $2 the largest size in bytes.

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
		where total > $2::bigint limit 1) as measured), 0) from {table} m
where m.msg_id = any($1::bigint[])
