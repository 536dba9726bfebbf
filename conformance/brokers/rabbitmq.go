package brokers

import (
	"context"
	"errors"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-amqp/v3/pkg/amqp"

	"github.com/ezq-go/ezq/conformance"
)

func rabbitMQ() Backend {
	return Backend{
		Name: "RabbitMQ", Mode: "durable pub/sub", Module: "github.com/ThreeDotsLabs/watermill-amqp/v3",
		Promises: conformance.Promises{Durable: true, Groups: true},
		Timeout:  time.Minute,
		Start: func(_ context.Context, services Services) (conformance.Open, func() error, error) {
			if services.RabbitMQ == "" {
				return nil, nil, missing("EZQ_TEST_AMQP")
			}
			return func(context.Context) (*conformance.System, error) {
				return &conformance.System{Connect: func(c conformance.PeerConfig) (*conformance.Peer, error) {
					return ConnectRabbitMQ(services.RabbitMQ, c.Group)
				}}, nil
			}, nothing, nil
		},
	}
}

// ConnectRabbitMQ connects to RabbitMQ. Each group has a durable queue, bound to the
// exchange of a topic.
func ConnectRabbitMQ(url, group string) (*conformance.Peer, error) {
	config := amqp.NewDurablePubSubConfig(url, amqp.GenerateQueueNameTopicNameWithSuffix(group))
	publisher, err := amqp.NewPublisher(config, watermill.NopLogger{})
	if err != nil {
		return nil, err
	}
	subscriber, err := amqp.NewSubscriber(config, watermill.NopLogger{})
	if err != nil {
		return nil, errors.Join(err, publisher.Close())
	}
	return &conformance.Peer{Publisher: publisher, Subscriber: subscriber}, nil
}
