-- What a topic is bound to, as pgmq.send_topic would find it: see the type TopicBindings, which has the same order.
--
-- Parameters: $1 the routing key, $2 a regular expression for the names of the queues of the topic's groups, $3 the
-- topic's own queue.
--
-- {version} changes whenever a binding comes or goes. {is group} is whether a binding is that of a group.

with b as (
	select pg_catalog.lower(queue_name) as queue, pg_catalog.to_regclass(pg_catalog.format('pgmq.%I', 'q_' || pg_catalog.lower(queue_name))) as found, pg_catalog.bool_or({is group}) as grouped
	from pgmq.topic_bindings where $1::text ~ compiled_regex::text group by 1, 2)
select {version},
	array(select queue from b where found is not null order by 1),
	array(select queue from b where found is null order by 1),
	array(select queue from b where not pg_catalog.has_any_column_privilege(found, 'insert') order by 1),
	exists (select from b where grouped and found is not null)
