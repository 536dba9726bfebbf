-- Transactions that were prepared a minute ago, and are neither committed nor rolled back.
select 'transaction ' || gid, format('prepared by %s, %s ago', owner, date_trunc('second', clock_timestamp() - prepared)), format('rollback prepared %L', gid)
from pg_prepared_xacts where database = current_database() and prepared < clock_timestamp() - {threshold} order by prepared
