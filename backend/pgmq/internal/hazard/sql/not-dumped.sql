-- Tables of queues that are members of an extension: pg_dump leaves their rows out.
select substr(c.relname, 3), format('pgmq.%I is a member of the extension %s', c.relname, extname), format('alter extension %I drop table pgmq.%I', extname, c.relname)
from pg_depend d join pg_class c on c.oid = d.objid join pg_extension e on e.oid = d.refobjid
where d.deptype = 'e' and d.classid = 'pg_class'::regclass and d.refclassid = 'pg_extension'::regclass
	and c.relnamespace = to_regnamespace('pgmq') and c.relkind in ('r', 'p') and c.relname ~ '^[qa]_'
order by 1, 2
