-- Queues from before PGMQ 1.10: they lack a column that tells whether a lease is still held, and PGMQ 1.10's own
-- functions fail on them.
--
-- {queues} is queues.sql.

with {queues}
select queue, 'no column last_read_at', format('alter table pgmq.%I add column last_read_at timestamptz', relname)
from queues where not exists (select from pg_attribute where attrelid = queues.oid and attname = 'last_read_at' and not attisdropped) order by queue
