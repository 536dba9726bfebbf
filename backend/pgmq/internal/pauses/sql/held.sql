-- Lists the pauses that hold now of some queues, or of a topic.
--
-- Parameters: $1 queues, or null; $2 a topic, or null; $3 how many at most. If both are null, all are listed.
--
-- {table} is the table of pauses, {columns} its columns, {topic} and {group} two of those. Only an operator may write there,
-- and yet texts are cut, those that take long to read are left out, and times are kept within what can be shown.

select {columns} from {table}
where (until is null or until > now())
	and ($1::text[] is null and $2::text is null or coalesce(queue = any($1::text[]), false) or coalesce(topic = $2::text, false))
order by {topic}, {group}, queue limit $3::bigint
