package command

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// consumeUntil handles the events of the topic orders until done is closed.
func consumeUntil(t *testing.T, database string, handle func(stop func()) error) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	client, err := pgmq.Open(ctx, database, &pgmq.Config{Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	defer func() { _ = client.Close() }()
	router := ezq.NewRouter(client, &ezq.Config{Logger: slog.New(slog.DiscardHandler)})
	ezq.Handle(router, func(context.Context, OrderPaid) error { return handle(stop) }, ezq.Topic("orders"))
	require.NoError(t, router.Run(ctx))
}

// From a database without PGMQ to a dead letter that is handled after all. With -v it logs how long each command takes.
func TestNewUser_ComesFromAnEmptyDatabaseToARedrivenEvent(t *testing.T) {
	t.Parallel()
	database := pgtest.EmptyDatabase(t)
	run := func(args ...string) string {
		t.Helper()
		begin := time.Now()
		code, out, errOut := outputOf(t, database, args...)
		t.Logf("%8v  ezq %s", time.Since(begin).Round(time.Millisecond), strings.Join(args, " "))
		require.Zero(t, code, errOut)
		return out
	}
	run("install", "--yes", "--plain", "--file", pgmqFile(t))
	run("init", "orders", "--yes")
	run("publish", "orders", "--event", "OrderPaid", "--data", `{"Order": 4711}`)
	consumeUntil(t, database, func(stop func()) error {
		stop()
		return ezq.Permanent(context.DeadlineExceeded)
	})
	require.Contains(t, run("dead", "list", "orders"), "OrderPaid")
	run("dead", "redrive", "orders", "--all")
	handled := 0
	consumeUntil(t, database, func(stop func()) error {
		handled++
		stop()
		return nil
	})
	require.Equal(t, 1, handled)
	require.Contains(t, run("queues"), "orders_dead")
}
