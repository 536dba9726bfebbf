-- Replication slots without a reader: the server keeps all WAL, and VACUUM all rows, that one would have to see. One
-- that was never used keeps none. To drop it loses what its reader has not seen.
select 'slot ' || slot_name,
	format('no reader%s%s', ', WAL ' || wal_status, ', ' || nullif(greatest(age(xmin), age(catalog_xmin)), 0) || ' transactions old'),
	''
from pg_replication_slots where not active and (restart_lsn is not null or xmin is not null or catalog_xmin is not null) order by slot_name
