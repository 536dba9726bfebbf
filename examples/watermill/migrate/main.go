// Migrate moves a program from watermill-sql to PGMQ without losing an event: new events
// go to the new queue, the same handlers take from both, and when the old tables are
// empty of what was not handled yet, the old half is deleted.
//
// It needs PGMQ, at EZQ_DATABASE_URL. The old tables are those of watermill-sql's topic
// ezq_example_users.
package main

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"os"

	"github.com/ThreeDotsLabs/watermill"
	wsql "github.com/ThreeDotsLabs/watermill-sql/v4/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/components/cqrs"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/examples/internal/open"
	"github.com/ezq-go/ezq/ezq"
)

// UserCreated was published with cqrs.JSONMarshaler, under the name "main.UserCreated".
type UserCreated struct{ Email string }

const oldTopic = "ezq_example_users"

func main() {
	if err := run(context.Background(), os.Getenv("EZQ_DATABASE_URL")); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, databaseURL string) error {
	if databaseURL == "" {
		return open.ErrNeedsPostgreSQL
	}
	pool, err := pgxpool.New(ctx, databaseURL)
	if err != nil {
		return err
	}
	defer pool.Close()
	if err := asItWas(pool); err != nil {
		return err
	}
	client, err := pgmq.New(pool, nil)
	if err != nil {
		return err
	}
	defer client.Close()

	// From now on events go to the new queue. Those in the old one are still there.
	if err := ezq.Publish(ctx, client, UserCreated{Email: "new@example.com"}); err != nil {
		return err
	}
	if err := drainOld(ctx, pool); err != nil {
		return err
	}
	// Also for another reason: watermill-sql may not have stored the ack of its last event.
	if _, err := pool.Exec(ctx, "drop table watermill_offsets_"+oldTopic+", watermill_"+oldTopic); err != nil {
		return err
	}
	if err := ezq.Publish(ctx, client, ezq.EndEvent{}); err != nil {
		return err
	}
	return newRouter(client, "new").Run(ctx)
}

// newRouter returns the program's handlers on either queue. In a real program both
// routers run side by side for as long as it takes.
func newRouter(queue message.Subscriber, name string, opts ...ezq.HandleOption) *ezq.Router {
	router := ezq.NewRouter(queue, &ezq.Config{Concurrency: 1})
	opts = append(opts, ezq.Alias("main.UserCreated"))
	ezq.Handle(router, func(_ context.Context, e UserCreated) error {
		fmt.Printf("from the %s queue: %s\n", name, e.Email)
		return nil
	}, opts...)
	return router
}

// drainOld handles what is left in watermill-sql's tables.
func drainOld(ctx context.Context, pool *pgxpool.Pool) error {
	old, err := wsql.NewSubscriber(wsql.BeginnerFromPgx(pool), wsql.SubscriberConfig{
		SchemaAdapter:    wsql.DefaultPostgreSQLSchema{},
		OffsetsAdapter:   wsql.DefaultPostgreSQLOffsetsAdapter{},
		InitializeSchema: true,
	}, logger())
	if err != nil {
		return err
	}
	defer old.Close()
	// The last one that was published there: everything before it has been handled.
	last, err := oldPublisher(pool)
	if err != nil {
		return err
	}
	if err := ezq.Publish(ctx, last, ezq.EndEvent{}, ezq.Topic(oldTopic)); err != nil {
		return err
	}
	return newRouter(old, "old", ezq.Topic(oldTopic)).Run(ctx)
}

// asItWas publishes as the program did before.
func asItWas(pool *pgxpool.Pool) error {
	publisher, err := oldPublisher(pool)
	if err != nil {
		return err
	}
	msg, err := cqrs.JSONMarshaler{}.Marshal(UserCreated{Email: "old@example.com"})
	if err != nil {
		return err
	}
	return publisher.Publish(oldTopic, msg)
}

func oldPublisher(pool *pgxpool.Pool) (*wsql.Publisher, error) {
	config := wsql.PublisherConfig{SchemaAdapter: wsql.DefaultPostgreSQLSchema{}, AutoInitializeSchema: true}
	return wsql.NewPublisher(wsql.BeginnerFromPgx(pool), config, logger())
}

func logger() watermill.LoggerAdapter { return watermill.NewSlogLogger(slog.New(slog.DiscardHandler)) }
