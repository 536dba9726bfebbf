-- Transactions that were prepared a minute ago, and are neither committed nor rolled back. Which of both is right, only its manager
-- knows: the other one loses events.
select 'transaction ' || gid, format('prepared by %s, %s ago', owner, date_trunc('second', clock_timestamp() - prepared)), ''
from pg_prepared_xacts where database = current_database() and prepared < clock_timestamp() - {threshold} order by prepared
