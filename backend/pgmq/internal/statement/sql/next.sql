-- How long until the next message is visible, in microseconds, negative if one is, and null if there is none;
-- and the oid of the table, which is another one if the queue was dropped and created anew.
--
-- Parameter: $1 the ids to pass by.
--
-- The limit makes PostgreSQL read one entry of the index. For min(vt) it reads all where it expects one row.

select (extract(epoch from case when pg_catalog.isfinite(vt) then vt - clock_timestamp()
	when vt = '-infinity' then interval '0' when vt = 'infinity' then interval '1 day' end)::double precision * 1000000::double precision)::bigint, {oid}
from (select (select vt from {table} where msg_id <> all($1::bigint[]) order by vt limit 1) as vt) as m
