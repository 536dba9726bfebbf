-- Queues whose names have capital letters: their tables have small ones, and PGMQ's update to 1.10 fails on them.
select queue_name, 'the name has capital letters', ''
from pgmq.meta where queue_name <> lower(queue_name) order by 1
