-- Forgets IDs whose time is over, without waiting for any: one that is published again at the same time keeps its row.
--
-- Parameter: $1 how many. {ids} is the table of IDs.
--
-- It is a statement by itself, for many publishes at once: in theirs it would cost each as much as the ID itself. The limit
-- is one that PostgreSQL cannot know when it plans, which keeps it from sorting.

delete from {ids} where key = any(array(
	select key from {ids} where until <= statement_timestamp() order by until limit (select $1::bigint) for update skip locked))
