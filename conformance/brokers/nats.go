package brokers

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	watermillnats "github.com/ThreeDotsLabs/watermill-nats/v2/pkg/nats"

	"github.com/ezq-go/ezq/conformance"
)

// jetStream is the package of watermill-nats that has durable consumers. The other one,
// pkg/jetstream, calls itself beta, and its consumers are forgotten after five seconds
// without a subscriber.
func jetStream() Backend {
	return Backend{
		Name: "NATS JetStream", Mode: "durable queue group", Module: "github.com/ThreeDotsLabs/watermill-nats/v2",
		Promises: conformance.Promises{Durable: true, Groups: true},
		Limit:    time.Minute,
		Start: func(_ context.Context, services Services) (conformance.Open, func() error, error) {
			if services.NATS == "" {
				return nil, nil, missing("EZQ_TEST_NATS")
			}
			return func(context.Context) (*conformance.System, error) {
				return &conformance.System{Connect: func(o conformance.Options) (*conformance.Peer, error) {
					return ConnectNATS(services.NATS, cmp.Or(o.Group, "ezq"), o.Drain)
				}}, nil
			}, nothing, nil
		},
	}
}

// ConnectNATS connects to JetStream. The members of a group share the messages of a
// topic, and the server remembers the group. Streams are created as they are needed.
func ConnectNATS(url, group string, drain time.Duration) (*conformance.Peer, error) {
	streams := watermillnats.JetStreamConfig{
		AutoProvision:     true,
		TrackMsgId:        true,
		DurablePrefix:     group,
		DurableCalculator: func(prefix, topic string) string { return prefix + "_" + topic },
	}
	publisher, err := watermillnats.NewPublisher(watermillnats.PublisherConfig{
		URL: url, Marshaler: &watermillnats.NATSMarshaler{}, JetStream: streams,
	}, watermill.NopLogger{})
	if err != nil {
		return nil, err
	}
	subscriber, err := watermillnats.NewSubscriber(watermillnats.SubscriberConfig{
		URL:              url,
		QueueGroupPrefix: group,
		CloseTimeout:     drain,
		Unmarshaler:      &watermillnats.NATSMarshaler{},
		JetStream:        streams,
	}, watermill.NopLogger{})
	if err != nil {
		return nil, errors.Join(err, publisher.Close())
	}
	return &conformance.Peer{Publisher: publisher, Subscriber: subscriber}, nil
}
