package ezqtest_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/backend/pgmq/pgmqtest"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/ezq/ezqtest"
	"github.com/ezq-go/ezq/ezq/schedule"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// transact is what an application depends on: a transaction, and a publisher that is
// part of it.
type transact func(ctx context.Context, do func(events message.Publisher) error) error

// order is a piece of an application: it stores an order and publishes events.
func (t transact) order(ctx context.Context, number int) error {
	return t(ctx, func(events message.Publisher) error {
		if err := ezq.Publish(ctx, events, orderPaid{number}); err != nil {
			return err
		}
		if number == 13 {
			return errors.New("the order is refused")
		}
		return ezq.Publish(ctx, events, reminderDue{number}, ezq.Topic("reminders"), ezq.Delay(time.Hour))
	})
}

func ignoring(on backend.Backend) *ezq.Router {
	router := ezq.NewRouter(on, &quiet)
	ezq.Handle(router, func(context.Context, orderPaid) error { return nil })
	return router
}

func ordering(t *testing.T, shop transact) func(f *ezqtest.Flow) {
	t.Helper()
	return func(f *ezqtest.Flow) {
		for n := range 10 {
			require.NoError(t, shop.order(f.Context(), n))
			f.AwaitIdle()
			ezqtest.Published[orderPaid](f).Times(n + 1)
			ezqtest.Handled[orderPaid](f).Times(n + 1)
		}
		require.Error(t, shop.order(f.Context(), 13))
		f.AwaitIdle()
		ezqtest.Handled[orderPaid](f).Times(10)
		ezqtest.Published[reminderDue](f).Times(10)
	}
}

func TestTx_PublishesOnCommit(t *testing.T) {
	t.Parallel()
	t.Run("the memory backend", func(t *testing.T) {
		t.Parallel()
		var client backend.Backend
		build := func(on backend.Backend) *ezq.Router {
			client = on
			return ignoring(on)
		}
		ezqtest.Run(t, build, ordering(t, func(_ context.Context, do func(message.Publisher) error) error {
			tx := ezqtest.Begin(client)
			if err := do(tx); err != nil {
				return err
			}
			return tx.Commit()
		}))
	})
	t.Run("the PostgreSQL backend", func(t *testing.T) {
		t.Parallel()
		database := pgtest.Database(t)
		pool := pgtest.Pool(t, database)
		queue := pgmqtest.Open(t, database, nil)
		ezqtest.RunOn(t, queue, ignoring, ordering(t, inTransactionsOf(pool, queue.Client)))
	})
}

func inTransactionsOf(pool *pgxpool.Pool, client *pgmq.Client) transact {
	return func(ctx context.Context, do func(message.Publisher) error) error {
		return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error { return do(client.WithTx(tx)) })
	}
}

// A transaction of a database fails where the event is published, and stores nothing.
func TestTx_RefusesAtOnceWhatNoBackendTakes(t *testing.T) {
	t.Parallel()
	for name, msg := range map[string]*message.Message{
		"nil": nil, "an ID that is no text": message.NewMessage("a\x00b", nil),
		"a delay that is none": {UUID: "a", Metadata: message.Metadata{"_watermill_delayed_for": "soon"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			broker := memory.New(nil)
			tx := ezqtest.Begin(broker)
			require.NoError(t, tx.Publish("t", message.NewMessage("good", nil)))
			require.Error(t, tx.Publish("t", msg))
			require.Error(t, tx.Publish("", message.NewMessage("b", nil)))
			require.NoError(t, tx.Commit())
			found, err := broker.Find(t.Context(), "t", backend.Selection{ID: "good"})
			require.NoError(t, err)
			require.Len(t, found, 1)
		})
	}
}

func TestTx_EndsWithCommit(t *testing.T) {
	t.Parallel()
	ezqtest.Run(t, ignoring, func(f *ezqtest.Flow) {
		tx := ezqtest.Begin(discard{})
		require.NoError(t, tx.Commit())
		require.Error(t, tx.Commit())
		require.Error(t, ezq.Publish(f.Context(), tx, orderPaid{1}))
	})
}

type discard struct{}

func (discard) Publish(string, ...*message.Message) error { return nil }
func (discard) Close() error                              { return nil }

func TestPublished_IgnoresScheduleCheckWithoutTick(t *testing.T) {
	t.Parallel()
	var timetable *schedule.Timetable
	build := func(on backend.Backend) *ezq.Router {
		router := ezq.NewRouter(on, &quiet)
		var err error
		timetable, err = schedule.New(on, nil)
		require.NoError(t, err)
		require.NoError(t, timetable.Add("reminders", schedule.Every(time.Hour), reminderDue{1}, ezq.Topic("reminders")))
		ezq.Handle(router, func(context.Context, reminderDue) error { return nil }, ezq.Topic("reminders"))
		return router
	}
	ezqtest.Run(t, build, func(f *ezqtest.Flow) {
		ctx, stop := context.WithCancel(f.Context())
		stopped := make(chan error)
		go func() { stopped <- timetable.Run(ctx) }()
		f.Advance(30 * time.Minute)
		f.AwaitIdle()
		before := len(ezqtest.Published[reminderDue](f).All()) // whether an hour has begun meanwhile
		require.LessOrEqual(t, before, 1)
		f.Advance(72 * time.Hour)
		ezqtest.Published[reminderDue](f).Times(before + 72)
		ezqtest.Handled[reminderDue](f).Times(before + 72)
		stop()
		require.NoError(t, <-stopped)
	})
}
