-- Deletes the next messages of an archive that were acked long ago. Messages that were quarantined stay, and so do those
-- that another session has locked. Returns how many it has looked at, how many it has deleted, and where it has come to.
--
-- Parameters: $1 and $2 the time and the id of the last one, $3 how long a message is kept, in seconds, $4 how many to look at.
--
-- There is an index on archived_at, and in a partitioned archive no other one. {archive} is the archive. Messages that were
-- quarantined have the time infinity: see archive.sql. Headers are not read, of which any publisher may store 250 MB in 3 MB.

with old as (
	select msg_id, archived_at, vt = 'infinity' as quarantined
	from {archive}
	where (archived_at, msg_id) > ($1::timestamptz, $2::bigint) and archived_at < now() - pg_catalog.make_interval(secs => $3::double precision)
	order by archived_at, msg_id
	limit $4
	for update skip locked),
d as (
	delete from {archive}
	where archived_at = any(array(select archived_at from old where not quarantined))
		and msg_id = any(array(select msg_id from old where not quarantined))
	returning 1)
select (select count(*) from old)::int, (select count(*) from d)::int, archived_at, msg_id
from old order by archived_at desc, msg_id desc limit 1
