-- How full the server's queue of notifications is. When it is full, transactions that notify fail.
select 'server', format('%s %% full', round(100 * pg_notification_queue_usage())), ''
where pg_notification_queue_usage() > {threshold}
