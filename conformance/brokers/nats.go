package brokers

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	watermillnats "github.com/ThreeDotsLabs/watermill-nats/v2/pkg/nats"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"

	"github.com/ezq-go/ezq/conformance"
)

// natsMode is how watermill-nats is set up.
type natsMode struct {
	name string

	// options are given to each subscription.
	options []nats.SubOpt

	// provision creates the durable consumer of a topic before it is subscribed to.
	// Otherwise watermill-nats has nats.go create it, and what nats.go has created it
	// deletes again with the end of the subscription (js.go: "it will delete it on
	// Unsubscribe()/Drain()"): the server forgets what was acked, and delivers all again.
	provision bool
}

// asDocumented is what Watermill's documentation recommends (watermill.io/pubsubs/nats-jetstream,
// "ExactlyOnceDelivery": TrackMsgId, and no AckAsync), with the options of its example
// (_examples/pubsubs/nats-jetstream), the durable queue group that the comments of
// watermill-nats recommend, and nothing else.
func asDocumented() natsMode {
	return natsMode{name: "as documented", options: []nats.SubOpt{nats.DeliverAll(), nats.AckExplicit()}}
}

// repaired is what it takes to lose nothing. Without ManualAck, nats.go acks a message
// when the callback of watermill-nats returns, and that also returns when it discards a
// message because the subscription ends, or because it is not acked in time.
func repaired() natsMode {
	mode := asDocumented()
	mode.name = "ManualAck, consumers of its own"
	mode.options = append(mode.options, nats.ManualAck())
	mode.provision = true
	return mode
}

// jetStream is the package of watermill-nats that has durable consumers. The other one,
// pkg/jetstream, calls itself beta, and its consumers are forgotten after five seconds
// without a subscriber.
func jetStream(mode natsMode) Backend {
	return Backend{
		Name: "NATS JetStream", Mode: mode.name, Module: "github.com/ThreeDotsLabs/watermill-nats/v2",
		Promises: conformance.Promises{Durable: true, Groups: true},
		Timeout:  time.Minute,
		Start: func(_ context.Context, services Services) (conformance.Open, func() error, error) {
			if services.NATS == "" {
				return nil, nil, missing("EZQ_TEST_NATS")
			}
			return func(context.Context) (*conformance.System, error) {
				return &conformance.System{Connect: func(c conformance.PeerConfig) (*conformance.Peer, error) {
					return mode.connect(services.NATS, cmp.Or(c.Group, "ezq"), c.DrainTimeout)
				}}, nil
			}, nothing, nil
		},
	}
}

// connect connects to JetStream. The members of a group share the messages of a topic,
// and the server remembers the group. Streams are created as they are needed.
func (mode natsMode) connect(url, group string, drain time.Duration) (*conformance.Peer, error) {
	streams := watermillnats.JetStreamConfig{
		AutoProvision: true,
		TrackMsgId:    true,
		// Clipped, since watermill-nats appends the name of the durable consumer to the
		// options (connection.go, QueueSubscribe): where there is room for one more,
		// subscriptions that begin at the same time overwrite each other's.
		SubscribeOptions:  slices.Clip(mode.options),
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
	peer := &conformance.Peer{Publisher: publisher, Subscriber: subscriber}
	if mode.provision {
		if peer.Subscriber, err = newDurableSubscriber(subscriber, url, group); err != nil {
			return nil, errors.Join(err, subscriber.Close(), publisher.Close())
		}
	}
	return peer, nil
}

func durableName(prefix, topic string) string { return prefix + "_" + topic }

// durableSubscriber creates the durable consumer of a topic before it subscribes.
type durableSubscriber struct {
	*watermillnats.Subscriber
	conn    *nats.Conn
	streams nats.JetStreamContext
	group   string
}

func newDurableSubscriber(subscriber *watermillnats.Subscriber, url, group string) (message.Subscriber, error) {
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
