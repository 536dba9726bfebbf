-- Settings of this role that end what ezq or a handler does. reset_val is what a session begins with: this one has its own. It can be a
-- setting of the role, the database or the server, and that of the role in the database comes before these.
select 'role ' || current_user, format('%s is %s ms', name, reset_val), format('alter role %I in database %I set %s = 0', current_user, current_database(), name)
from pg_settings join (values ('statement_timeout', 5000), ('lock_timeout', 100), ('idle_in_transaction_session_timeout', 5000), ('transaction_timeout', 30000)) as least(setting_name, ms)
	on setting_name = name
where case when unit = 'ms' then reset_val::bigint end between 1 and ms - 1 order by name
