package brokers

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	watermillnats "github.com/ThreeDotsLabs/watermill-nats/v2/pkg/nats"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"

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

// ConnectNATS connects to JetStream, with TrackMsgId and synchronous acks as Watermill's
// documentation has them (watermill.io/pubsubs/nats, "ExactlyOnceDelivery"). The members
// of a group share the messages of a topic, and the server remembers the group. Streams
// and consumers are created as they are needed.
func ConnectNATS(url, group string, drain time.Duration) (*conformance.Peer, error) {
	streams := watermillnats.JetStreamConfig{
		AutoProvision:     true,
		TrackMsgId:        true,
		DurablePrefix:     group,
		DurableCalculator: durableName,
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
		AckWaitTimeout:   unsettled,
		Unmarshaler:      &watermillnats.NATSMarshaler{},
		JetStream:        streams,
	}, watermill.NopLogger{})
	if err != nil {
		return nil, errors.Join(err, publisher.Close())
	}
	durable, err := newDurableSubscriber(subscriber, url, group)
	if err != nil {
		return nil, errors.Join(err, subscriber.Close(), publisher.Close())
	}
	return &conformance.Peer{Publisher: publisher, Subscriber: durable}, nil
}

func durableName(prefix, topic string) string { return prefix + "_" + topic }

// durableSubscriber creates the durable consumer of a topic before it subscribes.
// Otherwise watermill-nats has nats.go create it, and what nats.go has created it
// deletes again with the end of the subscription (js.go: "it will delete it on
// Unsubscribe()/Drain()"): the server forgets what was acked, and delivers all again.
type durableSubscriber struct {
	*watermillnats.Subscriber
	conn    *nats.Conn
	streams nats.JetStreamContext
	group   string
}

func newDurableSubscriber(subscriber *watermillnats.Subscriber, url, group string) (*durableSubscriber, error) {
	conn, err := nats.Connect(url)
	if err != nil {
		return nil, err
	}
	streams, err := conn.JetStream()
	if err != nil {
		conn.Close()
		return nil, err
	}
	return &durableSubscriber{Subscriber: subscriber, conn: conn, streams: streams, group: group}, nil
}

// SubscribeInitialize creates the stream and the consumer of a topic.
func (s *durableSubscriber) SubscribeInitialize(topic string) error {
	if err := s.Subscriber.SubscribeInitialize(topic); err != nil {
		return err
	}
	consumer := durableName(s.group, topic)
	if _, err := s.streams.ConsumerInfo(topic, consumer); !errors.Is(err, nats.ErrConsumerNotFound) {
		return err
	}
	_, err := s.streams.AddConsumer(topic, &nats.ConsumerConfig{
		Durable:        consumer,
		DeliverGroup:   watermillnats.DefaultSubjectCalculator(s.group, topic).QueueGroup,
		DeliverSubject: "deliver." + consumer, // one for all members of the group
		FilterSubject:  topic,
		AckPolicy:      nats.AckExplicitPolicy,
		AckWait:        unsettled,
	})
	return err
}

// Subscribe implements [message.Subscriber].
func (s *durableSubscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	if err := s.SubscribeInitialize(topic); err != nil {
		return nil, err
	}
	return s.Subscriber.Subscribe(ctx, topic)
}

// Close implements [message.Subscriber].
func (s *durableSubscriber) Close() error {
	defer s.conn.Close()
	return s.Subscriber.Close()
}
