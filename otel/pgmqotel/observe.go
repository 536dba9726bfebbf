// Package pgmqotel reports to OpenTelemetry how the queues of backend/pgmq are doing.
// It asks PostgreSQL whenever metrics are collected, at a cost that does not grow with
// the queue: nothing counts a table.
//
//	registration, err := pgmqotel.Observe(otel.GetMeterProvider(), client, "orders", "orders_dead")
//	if err != nil {
//		return err
//	}
//	defer registration.Unregister() // before client.Close
//
// TestTrace_CrossesPostgreSQLWithMeasuredQueue in this directory does so, and looks at
// what comes out.
package pgmqotel

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/ezq-go/ezq/backend/pgmq"
	ezqotel "github.com/ezq-go/ezq/otel"
)

// queryTimeout bounds the questions to PostgreSQL of one collection.
const queryTimeout = 5 * time.Second

// Observe reports, whenever provider collects metrics, how the queues of the topics
// are doing, for all programs that use them:
//
//	ezq.queue.visible      messages that wait for a consumer; counted up to 10,000
//	ezq.queue.invisible    messages that are leased, delayed, or wait for a retry; likewise
//	ezq.queue.estimate     about how many messages there are, by PostgreSQL's statistics
//	ezq.queue.oldest_age   for how long the oldest of the visible messages has been visible
//	ezq.queue.dead_rows    rows that VACUUM has to remove
//
// and what the subscriptions of this client have done, on all topics:
//
//	ezq.subscription.claimed      messages claimed
//	ezq.subscription.settled      outcomes, by ezq.settlement: acked, nacked (which counts a failure),
//	                              dead_lettered, released; too_late and gone have changed nothing
//	ezq.subscription.quarantined  messages that cannot be read or are too large, and were quarantined
//	ezq.subscription.leases_lost  messages that lost their lease while a handler had them
//	ezq.subscription.cancelled    messages removed while consumers had them, as with Client.CancelRunning
//	ezq.subscription.prefetched   messages claimed that no consumer has received yet
//	ezq.subscription.unstored     outcomes that are not stored yet
//	ezq.subscription.failing      1 if messages cannot be fetched, otherwise 0
//	ezq.subscription.paused       1 if a pause of the topic, or of the group, holds, otherwise 0
//
// [pgmq.SubscriptionStats] says more about each.
// Each has the topic as messaging.destination.name; where the client has a Group, that is
// messaging.consumer.group.name, so that the groups of a topic are apart.
//
// Programs that watch the same topic report the same depth: take the maximum, not the
// sum. A topic that cannot be asked about, because its queue does not exist, say, is
// left out and reported to OpenTelemetry's error handler; the others are not affected.
//
// Observe returns an error if an argument is nil, or the provider refuses an
// instrument. Unregister its result before the client is closed.
func Observe(provider metric.MeterProvider, client *pgmq.Client, topics ...string) (metric.Registration, error) {
	switch {
	case provider == nil:
		return nil, errors.New("pgmqotel: Observe: the meter provider is nil: pass otel.GetMeterProvider()")
	case client == nil:
		return nil, errors.New("pgmqotel: Observe: the client is nil: pass what pgmq.Open returns")
	}
	meter := provider.Meter(ezqotel.ScopeName, metric.WithSchemaURL(ezqotel.SchemaURL))
	var in instruments
	observables, err := in.create(meter)
	if err != nil {
		return nil, fmt.Errorf("pgmqotel: the meter provider refuses an instrument: %w", err)
	}
	return meter.RegisterCallback(func(ctx context.Context, o metric.Observer) error {
		in.observeStats(o, client.Stats())
		return in.observeQueues(ctx, o, client, topics)
	}, observables...)
}

// destination says whose messages a measurement is about.
func destination(topic, group string) []attribute.KeyValue {
	attributes := []attribute.KeyValue{semconv.MessagingDestinationName(topic)}
	if group != "" {
		attributes = append(attributes, semconv.MessagingConsumerGroupName(group))
	}
	return attributes
}
