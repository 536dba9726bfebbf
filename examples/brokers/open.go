package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-amqp/v3/pkg/amqp"
	"github.com/ThreeDotsLabs/watermill-nats/v2/pkg/nats"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/backend/pgmq"
)

// open is the only part that knows which broker it is.
func open(ctx context.Context, on, url string) (message.Publisher, message.Subscriber, error) {
	switch on {
	case "memory":
		broker := memory.New(nil)
		return broker, broker, nil
	case "pgmq":
		client, err := pgmq.Open(ctx, url, nil)
		return client, client, err
	case "nats":
		return openNATS(url)
	case "rabbitmq":
		return openRabbitMQ(url)
	}
	return nil, nil, fmt.Errorf("there is no broker %q: choose memory, pgmq, nats or rabbitmq", on)
}

// The name of the durable consumer contains the topic, so that each topic has its own.
func openNATS(url string) (message.Publisher, message.Subscriber, error) {
	streams := nats.JetStreamConfig{
		AutoProvision:     true,
		DurablePrefix:     "shop",
		DurableCalculator: func(prefix, topic string) string { return prefix + "_" + topic },
	}
	publisher, err := nats.NewPublisher(nats.PublisherConfig{
		URL: url, Marshaler: &nats.NATSMarshaler{}, JetStream: streams,
	}, watermill.NopLogger{})
	if err != nil {
		return nil, nil, err
	}
	subscriber, err := nats.NewSubscriber(nats.SubscriberConfig{
		URL: url, QueueGroupPrefix: "shop", Unmarshaler: &nats.NATSMarshaler{}, JetStream: streams,
	}, watermill.NopLogger{})
	if err != nil {
		return nil, nil, errors.Join(err, publisher.Close())
	}
	return publisher, subscriber, nil
}

func openRabbitMQ(url string) (message.Publisher, message.Subscriber, error) {
	config := amqp.NewDurableQueueConfig(url)
	publisher, err := amqp.NewPublisher(config, watermill.NopLogger{})
	if err != nil {
		return nil, nil, err
	}
	subscriber, err := amqp.NewSubscriber(config, watermill.NopLogger{})
	if err != nil {
		return nil, nil, errors.Join(err, publisher.Close())
	}
	return publisher, subscriber, nil
}
