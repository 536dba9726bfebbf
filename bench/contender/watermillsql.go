package contender

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	wsql "github.com/ThreeDotsLabs/watermill-sql/v4/pkg/sql"
)

// At its defaults a subscriber of watermill-sql takes 100 messages at a time and looks once a
// second; its documentation recommends larger batches for throughput, and shorter polling for latency.
func watermillSQLContenders() []Contender {
	var contenders []Contender
	for _, settings := range []struct {
		name, text string
		batch      int
		poll       time.Duration
	}{
		{"default", "batches of 100, looks every second (defaults)", 0, 0},
		{"best", "batches of 1,000, looks every 10 ms", 1000, 10 * time.Millisecond},
	} {
		for _, schema := range []string{"default", "queue"} {
			contenders = append(contenders, Contender{
				Name:     fmt.Sprintf("watermill-sql %s schema, %s", schema, settings.name),
				Settings: "on pgx; " + settings.text,
				Serial:   true,
				Open: func(_ context.Context, env Env) (Queue, error) {
					if schema == "queue" {
						return openWatermillSQL(env, queueSchema(env, settings.batch), settings.poll)
					}
					return openWatermillSQL(env, defaultSchema(env, settings.batch), settings.poll)
				},
			})
		}
	}
	return contenders
}

type watermillSQLSchema struct {
	messages wsql.SchemaAdapter
	offsets  wsql.OffsetsAdapter
	waiting  string
}

func defaultSchema(env Env, batch int) watermillSQLSchema {
	messages, offsets := `"watermill_`+env.Topic+`"`, `"watermill_offsets_`+env.Topic+`"`
	return watermillSQLSchema{
		messages: wsql.DefaultPostgreSQLSchema{SubscribeBatchSize: batch},
		offsets:  wsql.DefaultPostgreSQLOffsetsAdapter{},
		waiting: `select count(*), count(distinct payload->>'ID') from ` + messages +
			` where "offset" > coalesce((select max(offset_acked) from ` + offsets + `), 0)`,
	}
}

func queueSchema(env Env, batch int) watermillSQLSchema {
	return watermillSQLSchema{
		messages: wsql.PostgreSQLQueueSchema{SubscribeBatchSize: batch},
		offsets:  wsql.PostgreSQLQueueOffsetsAdapter{DeleteOnAck: true},
		waiting:  `select count(*), count(distinct payload->>'ID') from "watermill_` + env.Topic + `" where not acked`,
	}
}

func openWatermillSQL(env Env, schema watermillSQLSchema, poll time.Duration) (Queue, error) {
	db := wsql.BeginnerFromPgx(env.Pool)
	publisher, err := wsql.NewPublisher(db, wsql.PublisherConfig{SchemaAdapter: schema.messages}, watermill.NopLogger{})
	if err != nil {
		return nil, err
	}
	subscriber, err := wsql.NewSubscriber(db, wsql.SubscriberConfig{
		SchemaAdapter:  schema.messages,
		OffsetsAdapter: schema.offsets,
		PollInterval:   poll,
	}, watermill.NopLogger{})
	if err != nil {
		return nil, err
	}
	if err := subscriber.SubscribeInitialize(env.Topic); err != nil {
		return nil, err
	}
	closeBoth := func() error { return errors.Join(publisher.Close(), subscriber.Close()) }
	return &watermillSQLQueue{watermillQueue{env, publisher, subscriber, closeBoth}, schema.waiting}, nil
}

type watermillSQLQueue struct {
	watermillQueue
	waiting string
}

// Waiting implements [Queue].
func (q *watermillSQLQueue) Waiting(ctx context.Context) (Count, error) {
	return count(ctx, q.env.Pool, q.waiting)
}
