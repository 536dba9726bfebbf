-- What next.sql says, of the messages that are not visible now: in a transaction that has locked some,
-- visible rows may be those.
--
-- The condition is true. Locked rows are settled in the same transaction, whatever time that takes.

select (extract(epoch from case when pg_catalog.isfinite(vt) then vt - clock_timestamp()
	when vt = '-infinity' then interval '0' when vt = 'infinity' then interval '1 day' end)::double precision * 1000000::double precision)::bigint, {oid}
from (select (select vt from {table} where vt > statement_timestamp() order by vt limit 1) as vt) as m
where pg_catalog.set_config('statement_timeout', '0', true) is not null
