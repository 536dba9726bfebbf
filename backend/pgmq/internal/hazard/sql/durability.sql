-- Settings with which a commit may be lost in a crash, or a page be broken. Those of this statement's session, which a
-- role and a database can have of their own.
select 'server', name || ' is off', format('alter system set %s = on', name)
from pg_settings where name in ('fsync', 'full_page_writes') and setting = 'off'
union all select 'session', 'synchronous_commit is off', format('alter role %I in database %I set synchronous_commit = on', current_user, current_database())
from pg_settings where name = 'synchronous_commit' and reset_val = 'off'
order by 1, 2
