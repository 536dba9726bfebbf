package brokers

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-redisstream/pkg/redisstream"
	"github.com/redis/go-redis/v9"

	"github.com/ezq-go/ezq/conformance"
)

func redisStreams() Backend {
	return Backend{
		Name: "Redis Streams", Mode: "consumer group", Module: "github.com/ThreeDotsLabs/watermill-redisstream",
		Promises: conformance.Promises{Durable: true, Groups: true},
		Timeout:  time.Minute,
		Start: func(_ context.Context, services Services) (conformance.Open, func() error, error) {
			if services.Redis == "" {
				return nil, nil, missing("EZQ_TEST_REDIS")
			}
			return func(context.Context) (*conformance.System, error) {
				return &conformance.System{Connect: func(c conformance.PeerConfig) (*conformance.Peer, error) {
					return connectRedis(services.Redis, cmp.Or(c.Group, "ezq"))
				}}, nil
			}, nothing, nil
		},
	}
}

// connectRedis gives each half a client of its own, which it closes.
func connectRedis(url, group string) (*conformance.Peer, error) {
	options, err := redis.ParseURL(url)
	if err != nil {
		return nil, err
	}
	publisher, err := redisstream.NewPublisher(redisstream.PublisherConfig{Client: redis.NewClient(options)}, watermill.NopLogger{})
	if err != nil {
		return nil, err
	}
	subscriber, err := redisstream.NewSubscriber(redisstream.SubscriberConfig{
		Client:        redis.NewClient(options),
		ConsumerGroup: group,
		MaxIdleTime:   unsettled,
		ClaimInterval: time.Second,
	}, watermill.NopLogger{})
	if err != nil {
		return nil, errors.Join(err, publisher.Close())
	}
	return &conformance.Peer{Publisher: publisher, Subscriber: subscriber}, nil
}
