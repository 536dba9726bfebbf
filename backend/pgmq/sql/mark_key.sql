-- Remembers a key, and removes up to two whose time is over.
--
-- Parameters: $1 the digest of the key, $2 for how many seconds it counts. {keys} is the table of the store.
--
-- Whatever PostgreSQL expects, it is to look at one key, and at two that are over: a limit that it cannot know keeps it
-- from sorting them all.

with over as (
	delete from {keys} where key = any(array(
		select key from {keys} where until <= now() and key <> $1 order by until limit (select 2) for update skip locked)))
insert into {keys} (key, until) values ($1, now() + pg_catalog.make_interval(secs => $2::double precision))
on conflict (key) do update set until = excluded.until
