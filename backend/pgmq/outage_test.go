package pgmq_test

import (
	"context"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/internal/faultproxy"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// The router says within 5 seconds of any outage that it receives nothing, and when
// that is over.
func TestOutage_MakesRouterUnreadyUntilOver(t *testing.T) {
	t.Parallel()
	const within = 5 * time.Second
	t.Run("the database takes no connections", func(t *testing.T) {
		t.Parallel()
		database := pgtest.Database(t)
		server := pgtest.Pool(t, pgtest.URL(t))
		u, err := url.Parse(database)
		require.NoError(t, err)
		name := strings.TrimPrefix(u.Path, "/")
		allow := func(allowed string) {
			execute(t, server, "alter database "+name+" allow_connections "+allowed)
		}
		t.Cleanup(func() { _, _ = server.Exec(context.Background(), "alter database "+name+" allow_connections true") })
		router, log := runLogged(t, database)
		allow("false")
		execute(t, server, "select pg_terminate_backend(pid) from pg_stat_activity where datname = '"+name+"'")
		pgtest.Eventually(t, within, "the router is not healthy", func() bool { return router.Ready() != nil })
		require.ErrorIs(t, router.Ready(), pgmq.ErrUnreachable)
		waitFor(t, time.Second)
		require.Error(t, router.Ready(), "for as long as it lasts")
		allow("true")
		pgtest.Eventually(t, patience, "the router is healthy", func() bool { return router.Ready() == nil })
		pgtest.Eventually(t, patience, "that is logged", func() bool { return strings.Contains(log(), "receiving again") })
		require.Regexp(t, `level=INFO msg="ezq: receiving again" topic=ezq lasted=[0-9.]+s`, log())
	})
	t.Run("nothing gets through the network", func(t *testing.T) {
		t.Parallel()
		proxy, database := throughProxy(t, pgtest.Database(t))
		router, _ := runLogged(t, database)
		proxy.Stall(faultproxy.Both)
		pgtest.Eventually(t, within, "the router is not healthy", func() bool { return router.Ready() != nil })
		proxy.Heal()
		pgtest.Eventually(t, patience, "the router is healthy", func() bool { return router.Ready() == nil })
	})
}

// runLogged runs a router, until the test ends, and returns it when it is healthy, with
// what reads the log of its queue.
func runLogged(t *testing.T, database string) (router *ezq.Router, log func() string) {
	t.Helper()
	out := &logRecorder{}
	client := openAt(t, database, pgmq.Config{Logger: out.logger()})
	router = newRouter(client, ezq.Config{})
	ezq.Handle(router, func(context.Context, userCreated) error { return nil })
	ended := make(chan error, 1)
	ctx, stop := context.WithCancel(t.Context())
	go func() { ended <- router.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		assert.NoError(t, <-ended)
	})
	pgtest.Eventually(t, patience, "the router is healthy", func() bool { return router.Ready() == nil })
	return router, out.String
}
