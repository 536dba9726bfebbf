-- Reads messages that search.sql has found, as far as they are still chosen.
--
-- Parameters: $1 to $8 those of {matches}, $9 ids, $10 the most bytes of the text of a message, or -1 to read no text.
--
-- A text is made once, and its size is known then. One that is too large stays where it is; {most} is the most bytes of
-- headers. {enqueued} and {vt} are the times of a message, of which one that is none is 1970. {id} and {key} are what its
-- headers say of these, or ''. {known} is whether it was leased before. In an archive, infinity tells that it was quarantined.

select msg_id, greatest(read_ct, 0), {enqueued}, {vt}, vt > statement_timestamp(), vt = 'infinity', known, id, key,
	coalesce(pg_catalog.octet_length(message), 0), case when pg_catalog.octet_length(message) <= $10::bigint then message end,
	coalesce(pg_catalog.octet_length(headers), 0), case when pg_catalog.octet_length(headers) <= {most} then headers end
from (
	select msg_id, read_ct, enqueued_at, vt, {known} as known, {id} as id, {key} as key,
		case when $10::bigint >= 0 then message::text end as message, case when $10::bigint >= 0 then headers::text end as headers
	from {table} m where msg_id = any($9::bigint[]) and {matches} offset 0) as m
