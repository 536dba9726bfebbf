-- Lists the pauses that hold now of some queues.
--
-- Parameters: $1 queues, or null for all; $2 a topic, or null for all; $3 how many at most.
--
-- {table} is the table of pauses. Whoever may write to it is an operator, and yet texts are cut and times are kept within
-- what can be shown.

select {columns} from {table}
where (until is null or until > now()) and ($1::text[] is null or queue = any($1)) and ($2::text is null or topic = $2)
order by topic, consumer_group, queue limit $3
