-- Whether a dead letter m is chosen.
--
-- Parameters: $1 its ID, $2 the msg_id of the message that has this ID if its headers give it no other one, $3 its
-- handler, $4 a regular expression that its reason matches, $5 the name of its event, $6 its group, $7 and $8 the name
-- and the value of a header, $9 and $10 from and until when it was stored here, $11 the topics that it may have come
-- from, $12 the names of members that lead to a field of its payload, and $13 the value of that; each null if it does
-- not matter. {field} is as in the search for single messages.
--
-- Headers may have been written by any program. Values are compared as jsonb, since the text of a few bytes of it can have
-- a gigabyte. Of a reason, ezq keeps 1024 bytes.

($1::text is null or case
	when $2::bigint is null then headers->'ezq_uuid'::text = pg_catalog.to_jsonb($1::text)
	when case when pg_catalog.jsonb_typeof(headers->'ezq_uuid'::text) = 'string'
		then pg_catalog.octet_length(headers->>'ezq_uuid'::text) between 1 and 255 else false end then headers->'ezq_uuid'::text = pg_catalog.to_jsonb($1::text)
	else msg_id = $2::bigint end)
and ($3::text is null or headers->'handler_poisoned'::text = pg_catalog.to_jsonb($3::text))
and ($4::text is null or case when pg_catalog.jsonb_typeof(headers->'reason_poisoned'::text) = 'string'
	then pg_catalog.left(headers->>'reason_poisoned'::text, 1025) ~ $4::text else false end)
and ($5::text is null or coalesce(message->'_type'::text, headers->'name'::text) = pg_catalog.to_jsonb($5::text))
and ($6::text is null or headers->'ezq_group'::text = pg_catalog.to_jsonb($6::text))
and ($7::text is null or headers->$7::text = pg_catalog.to_jsonb($8::text))
and ($9::timestamptz is null or enqueued_at >= $9::timestamptz) and ($10::timestamptz is null or enqueued_at < $10::timestamptz)
and ($11::text[] is null or case when pg_catalog.jsonb_typeof(headers->'topic_poisoned'::text) = 'string'
	then pg_catalog.left(headers->>'topic_poisoned'::text, 2049) = any($11::text[]) else false end)
and ($12::text[] is null or {field} = $13::jsonb)
