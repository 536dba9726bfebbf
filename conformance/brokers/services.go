package brokers

import "os"

// Services are the addresses of the servers. One that is empty is not there.
type Services struct {
	PostgreSQL string // URL of a superuser, who creates databases and drops them
	PGMQ       string // path of PGMQ's SQL file
	NATS       string // nats://host:port, with JetStream
	RabbitMQ   string // amqp://user:password@host:port
	Redis      string // redis://host:port
}

// FromEnvironment returns the servers that the environment names, as scripts/brokers
// and scripts/pgmq set it.
func FromEnvironment() Services {
	return Services{
		PostgreSQL: os.Getenv("EZQ_TEST_DATABASE"),
		PGMQ:       os.Getenv("EZQ_PGMQ_SQL"),
		NATS:       os.Getenv("EZQ_TEST_NATS"),
		RabbitMQ:   os.Getenv("EZQ_TEST_AMQP"),
		Redis:      os.Getenv("EZQ_TEST_REDIS"),
	}
}

// MissingError says that a backend cannot run here.
type MissingError struct{ What, Remedy string }

// Error says what is missing and how to get it.
func (e *MissingError) Error() string { return e.What + " is missing: " + e.Remedy }

func missing(variable string) error {
	return &MissingError{What: variable, Remedy: "run this with scripts/brokers run"}
}
