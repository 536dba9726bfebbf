-- Does to messages that the same transaction has locked what nack.sql does to those of the same batch that
-- were leased at its end: vt is a little later, and one of them must not overtake the other.
--
-- Parameter: $1 ids.

update {table} m set vt = least(m.enqueued_at, clock_timestamp()) where msg_id = any($1::bigint[])
