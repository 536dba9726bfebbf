-- The columns that a queue and its archive both have, and whether the role may archive. A table keeps the columns it was
-- created with: those of the archive are asked for as those of the queue are.
--
-- Parameters: $1 the table of the queue, $2 its archive.

select array(
		select attname::text from pg_attribute where attrelid = to_regclass($1) and attnum > 0 and not attisdropped
		intersect
		select attname::text from pg_attribute where attrelid = to_regclass($2) and attnum > 0 and not attisdropped),
	coalesce(has_table_privilege(to_regclass($2), 'select') and has_table_privilege(to_regclass($2), 'insert'), false)
