-- What keeps autovacuum from queues and archives: a setting of the server, or of a table.
select 'server', name || ' is off', format('alter system set %s = on', name)
from pg_settings where name in ('autovacuum', 'track_counts') and setting = 'off'
union all select substr(c.relname, 3), format('autovacuum_enabled is off for pgmq.%I', c.relname), format('alter table pgmq.%I reset (autovacuum_enabled)', c.relname)
from pg_class c cross join lateral pg_options_to_table(c.reloptions)
where c.relnamespace = to_regnamespace('pgmq') and c.relkind = 'r' and c.relname ~ '^[qa]_' and option_name = 'autovacuum_enabled' and not option_value::boolean
order by 1, 2
