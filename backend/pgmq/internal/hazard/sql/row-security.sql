-- Queues with row security: a consumer sees the rows that the policies let it see, and no error for the others.
--
-- {queues} is queues.sql.

with {queues}
select queue, 'row security is on', format('alter table pgmq.%I disable row level security', relname) from queues where relrowsecurity order by queue
