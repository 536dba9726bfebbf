package lease

import (
	"context"
	"log/slog"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/internal/subscription"
	"github.com/ezq-go/ezq/backend/pgmq/internal/catalog"
	"github.com/ezq-go/ezq/backend/pgmq/internal/dial"
	"github.com/ezq-go/ezq/backend/pgmq/internal/queuename"
	"github.com/ezq-go/ezq/backend/pgmq/internal/statement"
	"github.com/ezq-go/ezq/backend/pgmq/internal/wakeup"
)

// openStore returns a store as a subscription to the queue t, which is there, has it.
func openStore(tb testing.TB, pool *pgxpool.Pool, archive bool) *Store {
	const queue = "t"
	tb.Helper()
	own, err := dial.ConsumerPool(pool, 4)
	require.NoError(tb, err)
	tb.Cleanup(own.Close)
	layout, err := catalog.Probe(tb.Context(), own, queue)
	require.NoError(tb, err)
	sql := statement.New(queue, layout)
	if archive {
		columns, err := catalog.ArchiveColumns(tb.Context(), own, queue)
		require.NoError(tb, err)
		sql = sql.Archiving(queue, columns)
	}
	shared := NewExaminer()
	tb.Cleanup(shared.Close)
	known := catalog.New()
	return NewStore(Config{
		Topic: queue, Queue: queue, Pool: own, Statements: &sql, Encoding: layout.Encoding, Examiner: shared,
		ClaimSlots: make(chan struct{}, 3), LockSlots: make(chan struct{}, 2), Wakeups: wakeup.NewSignals(),
		MaxMessageBytes: 64 << 20, MaxBytes: 128 << 20, Logger: slog.New(slog.DiscardHandler),
		LoadStatements: func(context.Context, uint32, bool) (*statement.Set, error) { return &sql, nil },
		DeadLetterTable: func(ctx context.Context, topic string, _ bool) (string, error) {
			_, err := known.LookUp(ctx, own, topic, catalog.CreateWith(own))
			return queuename.Table(topic), err
		},
	})
}

func settlementsOf(leases []subscription.Lease, action subscription.Action) []subscription.Settlement {
	var all []subscription.Settlement
	for _, lease := range leases {
		s := subscription.Settlement{Token: lease.Token, Action: action, UUID: lease.Message.UUID}
		if action == subscription.DeadLetter {
			s.Disposition.Target = &backend.DeadLetterTarget{Topic: "dead"}
		}
		all = append(all, s)
	}
	return all
}
