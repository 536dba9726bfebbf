-- Replaces the payload of a dead letter that this transaction has locked.
--
-- Parameters: $1 its id, $2 the new message, $3 headers to add, among them the encoding of the message.

update {table} set message = $2::text::jsonb, headers = (headers - 'ezq_enc'::text) || $3::text::jsonb where msg_id = $1
