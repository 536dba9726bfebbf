-- What queues are bound to: pattern, queue, the label of its table or '' ({label}), and whether it exists.
--
-- Parameters: $1 how many to return. It looks at twice as many bindings as a queue of a group has two if that takes a pattern.

select pattern::text, pg_catalog.lower(queue_name), {label}, c.oid is not null
from (select pattern, queue_name from pgmq.topic_bindings limit $1::bigint) as b
left join pg_class c on c.oid = pg_catalog.to_regclass(pg_catalog.format('pgmq.%I', 'q_' || pg_catalog.lower(queue_name)))::oid
order by 1, 2
