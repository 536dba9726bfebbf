-- What a topic is bound to, as pgmq.send_topic would find it: see the type TopicBindings, which has the same order.
--
-- Parameters: $1 the routing key, $2 a regular expression for the names of the queues of the topic's groups, $3 the
-- topic's own queue, $4 the topic as it is written, with ? for each byte that no pattern has; a pattern itself, which
-- is what groups subscribe to, and which others do not match; or null for the topic of dead letters.
--
-- {version} changes whenever a binding comes or goes. {is group} is whether a binding is that of a group.
--
-- A group that takes a pattern is bound twice: as the group of a topic of that name, whose routing key ends with a part
-- of the SHA-256 of the pattern, and by the pattern. Its pattern is compared with the topic as it is written. Other
-- patterns are compared with the routing key, and make no group; one that PGMQ would refuse is not encoded, which could
-- fail. Only patterns are compared as regular expressions, each of which PostgreSQL compiles.

with t as (
	select pattern::text, queue_name, compiled_regex::text, {is group} as grouped, pattern::text ~ '[*#]'::text as wild,
		case when pattern::text ~ '^[A-Za-z0-9._*#-]*[*#][A-Za-z0-9._*#-]*$'::text then
			(queue_name::text, '_h'::text || pg_catalog.left(pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(pattern::text, 'UTF8')), 'hex'), 20))
				in (select queue_name::text, pg_catalog.right(pattern::text, 22) from pgmq.topic_bindings)
			else false end as patterned
	from pgmq.topic_bindings),
b as (
	select pg_catalog.lower(queue_name) as queue, pg_catalog.to_regclass(pg_catalog.format('pgmq.%I', 'q_' || pg_catalog.lower(queue_name))) as found,
		pg_catalog.bool_or(grouped or patterned) as grouped, pg_catalog.bool_or(patterned) as patterned
	from t where case when not wild then pattern = $1::text when not patterned then $1::text ~ compiled_regex
		when $4::text ~ '[*#]'::text then pattern = $4::text else $4::text ~ compiled_regex end group by 1, 2)
select {version},
	array(select queue from b where found is not null order by 1),
	array(select queue from b where found is null order by 1),
	array(select queue from b where not pg_catalog.has_any_column_privilege(found, 'insert') order by 1),
	exists (select from b where grouped and found is not null),
	array(select queue from b where patterned order by 1)
