-- Replication slots without a reader: the server keeps all WAL, and VACUUM all rows, that one would have to see.
select 'slot ' || slot_name,
	format('no reader%s%s', ', WAL ' || wal_status, ', ' || nullif(greatest(age(xmin), age(catalog_xmin)), 0) || ' transactions old'),
	format('select pg_drop_replication_slot(%L)', slot_name)
from pg_replication_slots where not active order by slot_name
