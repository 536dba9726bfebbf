// Package contender has the ways to move messages that are compared, each at settings that its own
// documentation would choose.
package contender

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// Contender is one way to move messages, at certain settings.
type Contender struct {
	Name     string
	Settings string // in words, for the reader of the tables

	// Serial says that it handles one message at a time, whatever one asks for. Work whose
	// handlers take time gives it fewer messages, or it would take minutes.
	Serial bool

	// Open opens the queue that Env names. It creates what is missing, and may be called for one
	// queue by several processes.
	Open func(ctx context.Context, env Env) (Queue, error)
}

// Env is what a contender works with.
type Env struct {
	Pool  *pgxpool.Pool // of a database that is the contender's own
	Topic string

	// InFlight is how many messages are handled at a time, each in a goroutine of its own. With
	// 0 the handler does nothing that could wait, and is called as suits the contender best.
	InFlight int
}

// Queue is what every contender can do. It may also be a [Publisher], a [BatchPublisher], a
// [ConditionalPublisher], a [Consumer] and an [Obstructor].
type Queue interface {
	// Waiting counts the messages that are stored and not acked. It may be called in the middle
	// of anything, by any process.
	Waiting(ctx context.Context) (Count, error)

	// Close ends publishing. Consumers have been stopped before.
	Close() error
}

// Count tells how many messages there are, and how many different ones.
type Count struct{ Messages, Distinct int }

// Publisher publishes one message per call. It is called concurrently.
type Publisher interface {
	Publish(ctx context.Context, m Message) error
}

// BatchPublisher publishes all messages, or none.
type BatchPublisher interface {
	PublishBatch(ctx context.Context, messages []Message) error
}

// ConditionalPublisher publishes one message per call, if its condition holds. It is called
// concurrently.
type ConditionalPublisher interface {
	PublishOn(ctx context.Context, m Message, condition Condition, key string) error
}

// Condition is what becomes of a message whose key another one has.
type Condition string

// The conditions.
const (
	Once    Condition = "once"    // it is not stored, whatever has become of the other one
	Unique  Condition = "unique"  // it is not stored while the other one waits or is handled
	Replace Condition = "replace" // it takes the place of the other one
)

// Consumer calls handle for every message until stop is called. A message is acked after handle
// has returned; stop returns when all acks are stored.
type Consumer interface {
	Consume(ctx context.Context, handle func(id int)) (stop func() error, err error)
}

// Obstruction is something that stands before the messages of a queue.
type Obstruction string

// The obstructions.
const (
	Delayed Obstruction = "delayed" // messages that are not due yet
	Leased  Obstruction = "leased"  // messages that other consumers are handling
)

// Obstructor can put messages that no consumer may have yet before all others.
type Obstructor interface {
	Obstruct(ctx context.Context, what Obstruction, n int) error
}

// All returns every contender.
func All() []Contender {
	var all []Contender
	for _, group := range [][]Contender{
		ezqContenders(), watermillSQLContenders(), riverContenders(),
		pgmqContenders(), floorContenders(),
		{conditionalFloor()},
		inProcessContenders(),
		{nothing()},
	} {
		all = append(all, group...)
	}
	return all
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// patience bounds what a contender does before and after the work.
const patience = 30 * time.Second

var errStalled = errors.New("contender: it did not stop in time")

// await waits until done is closed.
func await(done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-time.After(patience):
		return errStalled
	}
}

// count asks for two numbers.
func count(ctx context.Context, pool *pgxpool.Pool, sql string) (c Count, err error) {
	err = pool.QueryRow(ctx, sql).Scan(&c.Messages, &c.Distinct)
	return c, err
}
