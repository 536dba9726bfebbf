-- Tells of a message whether it has expired, as its headers say in RFC 3339. A part of insert_unique_one.sql and
-- insert_unique_copy.sql, and no statement by itself. {at} is that header, or ''; {read fast} is whether
-- the headers are small: larger ones are not looked at, and count as those of a message that has not expired.
--
-- Any program can have written it, and not every text of that form is a time for PostgreSQL, which would fail. As texts,
-- times of one form have the order of what they say, and a shorter one is before those that it begins. The offset is put on
-- the other side.

case when {read fast} then (select case when said ~ ('^[0-9]{4}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|[12][0-9]))' ||
		'T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]([.][0-9]+)?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$')
	then pg_catalog.substring(said, '^[0-9-]+T[0-9:.]+') collate "C" <= pg_catalog.to_char(
		clock_timestamp() at time zone 'UTC' + coalesce(pg_catalog.substring(said, '[+-][0-9]{2}:[0-9]{2}$'), '0')::interval, 'YYYY-MM-DD"T"HH24:MI:SS.US') collate "C"
	end from (select {at} as said) as header) end
