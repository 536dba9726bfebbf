-- Whether a message of the table m is chosen.
--
-- Parameters: $1 its ID, $2 its key with the queue of the topic before it, $3 the name of its event, $4 and $5 the name
-- and the value of a header, each null if it does not matter; $6 the msg_id of the message that has the ID $1 if its
-- headers give it no other one, or null; $7 the names of members that lead to a field of its payload, and $8 the value
-- of that. {field} is that field of the column message: each step takes a member of an object, and none of an array.
--
-- Headers may have been written by any program. Values are compared as jsonb, since the text of a few bytes of it can have
-- a gigabyte. An ID of the form of those of messages that have none counts if the message was leased before, {known}, and if
-- it is no message after this one that has it, as in the claims of consumers; so does one of 255 bytes at most.
--
-- {says} is whether a message is one of the topic: the queue of a group that takes a pattern has those of several.

($1::text is null or case
	when $6::bigint is null then headers->'ezq_uuid'::text = pg_catalog.to_jsonb($1::text)
	when case when pg_catalog.jsonb_typeof(headers->'ezq_uuid'::text) = 'string'
		then pg_catalog.octet_length(headers->>'ezq_uuid'::text) between 1 and 255 and case when headers->>'ezq_uuid'::text ~ ('^' || {queue}::text || '/-?[0-9]+$')
			then {known} and pg_catalog.substr(headers->>'ezq_uuid'::text, pg_catalog.length({queue}::text) + 2)::numeric <= msg_id::numeric else true end
		else false end then headers->'ezq_uuid'::text = pg_catalog.to_jsonb($1::text)
	else msg_id = $6::bigint end)
and ($2::text is null or headers->'ezq_unique'::text = pg_catalog.to_jsonb($2::text))
and ($3::text is null or coalesce(message->'_type'::text, headers->'name'::text) = pg_catalog.to_jsonb($3::text))
and ($4::text is null or headers->$4::text = pg_catalog.to_jsonb($5::text))
and {says}
and ($7::text[] is null or {field} = $8::jsonb)
