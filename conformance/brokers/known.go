package brokers

// Known says why a foreign Pub/Sub fails a case that it promises, or that holds for
// every Pub/Sub, by the title of the case. Many of them depend on timing, so it is no
// failure of the test if they do not show. Ours have none.
func Known(backend string) map[string]string {
	return map[string]map[string]string{
		"watermill-sql, default schema": watermillSQLKnown(),
		"watermill-sql, queue schema":   watermillSQLKnown(),
		"NATS JetStream, durable queue group": {
			"delivery/an acked message is gone": "not found yet. Seen when a subscriber was closed right after the ack.",
		},
		"RabbitMQ, durable pub/sub": {
			"delivery/nobody can change what is stored": redeliveredKey,
			"redelivery/a nacked message comes back":    redeliveredKey,
		},
		"Redis Streams, consumer group": {
			"delivery/nobody can change what is stored": "a nacked message is handed over again from the memory of the " +
				"subscriber (the loop ResendLoop in pkg/redisstream/subscriber.go), not from the stream.",
		},
	}[backend]
}

const redeliveredKey = "a message that comes again has the metadata _watermill_amqp_redelivered, " +
	"which nobody published (pkg/amqp/subscriber.go)."

func watermillSQLKnown() map[string]string {
	return map[string]string{
		"delivery/nothing is published": "an INSERT without rows is sent to PostgreSQL.",
		"delivery/nobody can change what is stored": "a nacked message is sent again from the memory of the subscriber, " +
			"in the same transaction (pkg/sql/subscriber.go), not from the table.",
	}
}
