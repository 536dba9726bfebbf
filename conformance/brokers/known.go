package brokers

import "maps"

// Known says why a foreign Pub/Sub fails a case that it promises, or that holds for
// every Pub/Sub, by the title of the case. Many of them depend on timing, so it is no
// failure of the test if they do not show. Ours have none.
func Known(backend string) map[string]string {
	return map[string]map[string]string{
		"watermill-sql, default schema":                   watermillSQLKnown(defaultSchemaKnown()),
		"watermill-sql, queue schema":                     watermillSQLKnown(queueSchemaKnown()),
		"NATS JetStream, as documented":                   natsKnown(forgottenKnown()),
		"NATS JetStream, ManualAck, consumers of its own": natsKnown(nil),
		"RabbitMQ, durable pub/sub":                       rabbitKnown(),
		"Redis Streams, consumer group":                   redisKnown(),
	}[backend]
}

// oneAtATime holds for every Pub/Sub whose subscriptions wait for the ack of a message
// before they hand over the next one.
const oneAtATime = "a subscription hands over one message at a time, so the event that is to interrupt waits behind the one " +
	"that is to be interrupted."

func watermillSQLKnown(ofSchema map[string]string) map[string]string {
	known := map[string]string{
		"delivery/nothing is published": "an INSERT without rows is sent to PostgreSQL.",
		"delivery/what is stored cannot be changed": "a nacked message is sent again from the memory of the subscriber, " +
			"in the same transaction, which stays open for as long as it is nacked (sendMessage in pkg/sql/subscriber.go), " +
			"not from the table.",
		"payload/the id is the publisher's": "the column uuid is VARCHAR(36).",
		"topics/an odd name works or is refused": "the name of a table is made of the topic by putting it between quotes, " +
			"and PostgreSQL cuts it to 63 bytes.",
		"topics/names that are alike are apart": "PostgreSQL cuts the name of the table to 63 bytes, so long topics that " +
			"begin alike are one.",
		"hostile input/odd metadata":                     "metadata are stored as JSON, so bytes that are not UTF-8 become U+FFFD.",
		"control events/InterruptEvent interrupts":       oneAtATime,
		"router/a handled event is done":                 acksOfABatch,
		"control events/EndEvent stops one router, once": acksOfABatch,
		"router/an unknown event stays":                  acksOfABatch,
		"stopping/the end of a context loses nothing":    acksOfABatch,
	}
	maps.Copy(known, ofSchema)
	return known
}

const acksOfABatch = "up to 100 messages are fetched in one transaction, and their acks are stored at its end: what was acked " +
	"comes again if the subscription ends before that (query in pkg/sql/subscriber.go)."

// lostBatch is shown by TestWatermillQueueSchema_LosesFetchedMessages.
const lostBatch = "the whole batch is marked as acked as soon as its first message is, also those that were never handed over " +
	"(AckMessageQuery in pkg/sql/queue_offsets_adapter_postgresql.go takes all rows of the batch). They are lost when the " +
	"subscription ends, or when a message is not acked within AckDeadline. " +
	"TestWatermillQueueSchema_LosesFetchedMessages in conformance/brokers shows it."

func queueSchemaKnown() map[string]string {
	return map[string]string{
		"stopping/Close loses nothing":                lostBatch,
		"stopping/the end of a context loses nothing": acksOfABatch + " And " + lostBatch,
		"stopping/what was not handed over goes back": lostBatch,
		"router/an unknown event stays":               lostBatch,
		"stopping a router/a stop loses nothing":      lostBatch,
	}
}

// openTransaction is the price of an order that is never wrong.
const openTransaction = "only messages that are older than every open transaction of the server are read (pg_snapshot_xmin in " +
	"pkg/sql/schema_adapter_postgresql.go), so any of them, in any database, stalls every topic. A subscription whose message " +
	"is not settled holds such a transaction itself."

func defaultSchemaKnown() map[string]string {
	return map[string]string{
		"transactions/a transaction is all or nothing":                openTransaction,
		"transactions/a transaction holds up no other publisher":      openTransaction,
		"delivery/a message that waits does not hold up other topics": openTransaction,
		"groups/a group that lags holds up no other":                  openTransaction,
		"router/a slow handler holds up no other topic":               openTransaction,
		"stopping/Close loses nothing":                                acksOfABatch,
		"control events/EndEvent ends after what came before it":      acksOfABatch,
	}
}

// natsKnown holds however watermill-nats is set up.
func natsKnown(ofMode map[string]string) map[string]string {
	known := map[string]string{
		"payload/any text in metadata": "metadata are NATS headers (NATSMarshaler), whose keys are written as in HTTP: nats.go " +
			"1.55 refuses those that are not tokens of it, and 1.37, which watermill-nats asks for, drops them without an error. " +
			"The GobMarshaler keeps them.",
		"payload/the id is the publisher's": "TrackMsgId, which its documentation recommends, drops a second message with the " +
			"same id for two minutes.",
		"control events/InterruptEvent interrupts": oneAtATime,
		"delivery/an acked message is gone":        randomSelect,
		"router/a handled event is done":           randomSelect,
		"stopping/Close loses nothing":             randomSelect,
	}
	maps.Copy(known, ofMode)
	return known
}

const randomSelect = "an ack right before the end of a subscription is not always sent: processMessage waits for the ack and for " +
	"the end in one select, which chooses at random (pkg/nats/subscriber.go). The same select can send on the channel that is " +
	"closed meanwhile, which ends the process with a panic: seen once in seven runs."

func forgottenKnown() map[string]string {
	return map[string]string{
		"delivery/an acked message is gone":              forgotten,
		"groups/a group keeps its place":                 forgotten,
		"stopping/Close loses nothing":                   forgotten,
		"stopping/the end of a context loses nothing":    forgotten,
		"stopping/what was not handed over goes back":    forgotten,
		"router/a handled event is done":                 forgotten,
		"router/an unknown event stays":                  forgotten,
		"control events/EndEvent stops one router, once": forgotten,
		"stopping a router/a stop loses nothing":         forgotten,
	}
}

// forgotten is shown by TestWatermillNATS_ForgetsAcks.
const forgotten = "the durable consumer is created by nats.go, which deletes it with the subscription that has created it, so " +
	"the next one gets everything again. And nats.go acks what is discarded at the end of a subscription, since the option " +
	"ManualAck is missing. TestWatermillNATS_ForgetsAcks in conformance/brokers shows it. The other row has neither."

func rabbitKnown() map[string]string {
	const redelivered = "a message that comes again has the metadata _watermill_amqp_redelivered, which was not published " +
		"(pkg/amqp/subscriber.go)."
	return map[string]string{
		"delivery/what is stored cannot be changed": redelivered,
		"redelivery/a nacked message comes back":    redelivered,
		"topics/an odd name works or is refused": "the exchange without a name is the one that RabbitMQ has for publishing to a " +
			"queue by its name: what is published to the topic \"\" is dropped.",
		"control events/InterruptEvent interrupts": oneAtATime,
	}
}

func redisKnown() map[string]string {
	return map[string]string{
		"delivery/what is stored cannot be changed": "a nacked message is handed over again from the memory of the " +
			"subscriber (the loop ResendLoop in pkg/redisstream/subscriber.go), not from the stream.",
		"control events/InterruptEvent interrupts": oneAtATime,
	}
}
