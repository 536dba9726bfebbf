-- Whether nothing can be written here: a standby, or a default.
select 'server', 'it is a standby', '' where pg_is_in_recovery()
union all select 'session', 'default_transaction_read_only is on', '' where current_setting('default_transaction_read_only')::boolean
