package processes_test

import (
	"context"
	"log/slog"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

const (
	deployTopic = "deploy"
	oldVersion  = "old"
	newVersion  = "new"
)

// shipped is an event of the old version, which dispatched replaces. invoiced is new.
type (
	shipped    struct{ N int }
	dispatched struct{ N int }
	invoiced   struct{ N int }
)

// deploy attaches the handlers that a version of the program has.
func (s service) deploy(router *ezq.Router) {
	switch s.Version {
	case oldVersion:
		ezq.Handle(router, func(_ context.Context, e shipped) error { printLine("handled", e.N); return nil }, ezq.Topic(deployTopic))
	case newVersion:
		ezq.Handle(router, func(_ context.Context, e dispatched) error { printLine("handled", e.N); return nil },
			ezq.Topic(deployTopic), ezq.Alias("shipped"))
		ezq.Handle(router, func(_ context.Context, e invoiced) error { printLine("handled", e.N); return nil }, ezq.Topic(deployTopic))
	}
}

func TestRollingDeploy_AndRollbackLoseNothing(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	pool := pgtest.Pool(t, database)
	client, err := pgmq.Open(t.Context(), database, &pgmq.Config{Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	defer func() { require.NoError(t, client.Close()) }()

	var mu sync.Mutex
	handled := map[int]int{}
	run := func(version string) *child {
		c := start(t, version, service{Database: database, Version: version}, func(_ *child, words []string) {
			mu.Lock()
			defer mu.Unlock()
			if n, err := strconv.Atoi(words[len(words)-1]); err == nil && words[0] == "handled" {
				handled[n]++
			}
		})
		c.requireLine(t, listening) // SIGTERM would kill it before
		return c
	}
	stop := func(c *child) {
		c.signal(t, syscall.SIGTERM)
		require.Zero(t, c.end(t), &c.errors)
	}
	published := 0
	publish := func(events ...func(int) any) {
		for _, event := range events {
			published++
			require.NoError(t, ezq.Publish(t.Context(), client, event(published), ezq.Topic(deployTopic)))
		}
	}
	known := func(n int) any { return shipped{n} }
	renamed := func(n int) any { return dispatched{n} }
	added := func(n int) any { return invoiced{n} }
	released := func() { // the old version has met what it does not know
		pgtest.Eventually(t, patience, "an event is released", func() bool {
			var n int
			err := pool.QueryRow(t.Context(), `select count(*) from pgmq.q_deploy where headers ? 'ezq_unknown_since'`).Scan(&n)
			return err == nil && n > 0
		})
	}

	before := run(oldVersion)
	publish(known, renamed, added)
	released()
	after := run(newVersion) // beside the old one
	publish(known, renamed, added)
	stop(before)
	back := run(oldVersion) // and back again
	stop(after)
	publish(known, renamed, added)
	released()
	forth := run(newVersion)
	stop(back)
	pgtest.Eventually(t, patience, "all are handled", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(handled) == published
	})
	stop(forth)

	var left, dead int
	require.NoError(t, pool.QueryRow(t.Context(), "select count(*) from pgmq.q_deploy").Scan(&left))
	require.NoError(t, pool.QueryRow(t.Context(), "select count(*) from pgmq.list_queues() where queue_name = 'deploy_dead'").Scan(&dead))
	require.Zero(t, left)
	require.Zero(t, dead)
	for n, times := range handled {
		require.Equal(t, 1, times, "event %d", n)
	}
}
