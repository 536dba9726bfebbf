-- A queue whose oldest message has been waiting for more than {threshold}, and from which none was leased in that time. One of dead
-- letters is meant to be like that, by its name or its label. Of what is leased or delayed it looks at a thousand messages.
--
-- {table}, {table name} and {queue}.

select format('the oldest event waits since %s', oldest) || coalesce(', and the last one was leased ' || date_trunc('second', clock_timestamp() - claimed) || ' ago', ''), ''
from (select (select vt from {table} where vt > '-infinity' order by vt limit 1) as oldest,
	(select max(last_read_at) from (select last_read_at from {table} where vt > clock_timestamp() order by vt limit 1000) as leased) as claimed) as q
where {queue} !~ '_dead(_h[0-9a-f]{20})?$' and left(obj_description(to_regclass({table name}), 'pg_class'), 20000) ~ '^ezq: topic ".*_dead"' is not true and oldest < clock_timestamp() - {threshold} and (claimed is null or claimed < clock_timestamp() - {threshold})
