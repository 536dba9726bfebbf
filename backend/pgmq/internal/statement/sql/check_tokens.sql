-- Which messages there are, and whether under the tokens that they are asked for with.
--
-- Parameters: $1 ids, $2 their read counts, $3 the times of their leases.

select m.msg_id, coalesce({same}, false) from {table} m
join unnest($1::bigint[], $2::int[], $3::timestamptz[]) as t(id, number, at) on m.msg_id = t.id
where m.msg_id = any($1)
