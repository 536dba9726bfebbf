-- The tables of queues and archives, and those of ezq.

select format('%I.%I', 'pgmq', relname) from pg_class
where relnamespace = to_regnamespace('pgmq') and relkind in ('r', 'p', 'v', 'm', 'f') and not relispartition and relname ~ '^([qa]|ezq)_'
order by 1
