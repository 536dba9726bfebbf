-- Lists the pauses that hold now of some queues.
--
-- Parameters: $1 queues, or null for all; $2 a topic, or null for all; $3 how many at most.
--
-- {table} is the table of pauses, and {columns} its columns. Only an operator may write there, and yet texts are cut and
-- times are kept within what can be shown.

select {columns} from {table}
where (until is null or until > now()) and ($1::text[] is null or queue = any($1::text[])) and ($2::text is null or topic = $2::text)
order by topic, consumer_group, queue limit $3::bigint
