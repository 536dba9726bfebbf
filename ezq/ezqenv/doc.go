// Package ezqenv reads the configuration of a service from environment variables:
//
//	settings, err := ezqenv.Read(os.LookupEnv)
//	…
//	client, err := pgmq.Open(ctx, settings.DatabaseURL.Reveal(), settings.PGMQ())
//	…
//	router := ezq.NewRouter(client, settings.Router())
//	ezq.Handle(router, ship, ezq.Topic(settings.Topic))
//
// The variables are these. Each may be missing or empty: then the default of the
// package that it is for applies. Where the Python library ezq has a variable that
// means the same, that is accepted too; if both are set, the first one counts.
//
//	EZQ_DATABASE_URL      where PostgreSQL is: postgres://… or host=… user=…, as pgx takes it
//	EZQ_TOPIC             the topic                       EZQ_DEFAULT_QUEUE_NAME
//	EZQ_GROUP             the group of consumers
//	EZQ_CONCURRENCY       events handled at a time        EZQ_CONSUMER_CONCURRENT_HANDLERS
//	EZQ_HANDLER_TIMEOUT   how long a handler may take     EZQ_CONSUMER_TIMEOUT
//	EZQ_DRAIN_TIMEOUT     how long handlers may go on     EZQ_CONSUMER_SHUTDOWN_GRACE_PERIOD
//	                      when the service stops
//	EZQ_POLL_INTERVAL     the longest time between        EZQ_CONSUMER_POLL_INTERVAL
//	                      two looks at an empty queue
//	EZQ_LEASE             how long the messages of a dead
//	                      process stay with it
//	EZQ_CONNECTIONS       connections for subscriptions
//	EZQ_LOG_LEVEL         debug, info, warn or error      (the same; WARNING, CRITICAL)
//
// A length of time is "1m30s", as Go writes it, or a number of seconds. Without
// EZQ_DATABASE_URL the place is made of Python's EZQ_QUEUE_HOST, EZQ_QUEUE_PORT,
// EZQ_QUEUE_USERNAME, EZQ_QUEUE_PASSWORD and EZQ_QUEUE_DATABASE, with Python's defaults
// for those that are missing; if none of them is set either, there is no DatabaseURL.
//
// Python's EZQ_CONSUMER_BATCH_SIZE is not read: ezq fetches as many messages as it can
// handle in time.
package ezqenv
