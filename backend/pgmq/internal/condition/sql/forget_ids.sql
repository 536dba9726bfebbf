-- A part of insert_new.sql, and no statement by itself. It forgets two expired IDs for each one that is published, without
-- waiting for any. In the caller's transaction it would keep the IDs of others locked. {ids} is the table of IDs.
--
-- The limit is one that PostgreSQL cannot know when it plans, which keeps it from sorting.

,
over as (
	delete from {ids} where key = any(array(
		select key from {ids} where until <= statement_timestamp() and key <> all(array(select id from t where id is not null))
		order by until limit (select 2 * pg_catalog.count(id) from t) for update skip locked)))
