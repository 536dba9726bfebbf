-- The columns that a queue and its archive both have, and whether the role may archive. A table keeps the columns it was
-- created with: those of the archive are asked for as those of the queue are.
--
-- Parameters: $1 the table of the queue, $2 its archive.

select array(
		select attname::text from pg_attribute where attrelid = pg_catalog.to_regclass($1)::oid and attnum > 0 and not attisdropped
		intersect
		select attname::text from pg_attribute where attrelid = pg_catalog.to_regclass($2)::oid and attnum > 0 and not attisdropped),
	coalesce(pg_catalog.has_table_privilege(pg_catalog.to_regclass($2), 'select') and pg_catalog.has_table_privilege(pg_catalog.to_regclass($2), 'insert'), false)
