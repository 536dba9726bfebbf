-- Queues that are empty after a crash, and on a standby.
--
-- {queues} is queues.sql.

with {queues}
select queue, 'its table is unlogged', format('alter table pgmq.%I set logged', relname) from queues where relpersistence = 'u' order by queue
