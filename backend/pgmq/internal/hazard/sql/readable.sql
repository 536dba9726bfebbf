-- The queues that can be read without running code of their owners. A policy or a rule is such code.
--
-- {queues} is queues.sql.

with {queues}
select queue from queues
where not relrowsecurity and not exists (select from pg_rewrite where ev_class = queues.oid)
	and exists (select from pg_attribute where attrelid = queues.oid and attname = 'vt' and atttypid = 'timestamptz'::regtype)
	and has_table_privilege(queues.oid, 'select')
order by queue
