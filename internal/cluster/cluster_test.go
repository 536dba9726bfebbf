package cluster_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/internal/cluster"
)

func count(t *testing.T, url string) (rows int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(ctx)) }()
	require.NoError(t, conn.QueryRow(ctx, "select count(*) from pgmq.q_t").Scan(&rows))
	return rows
}

const send = "select pgmq.send('t', '1')"

func TestCluster_CommitsSurviveAnyStop(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t)
	c.Execute("select pgmq.create('t')")
	for i, stop := range []func(){c.StopFast, c.StopImmediate, c.Kill9} {
		c.Execute(send)
		start := time.Now()
		stop()
		stopped := time.Since(start)
		_, err := pgx.Connect(t.Context(), c.URL())
		require.Error(t, err)
		c.StartAgain()
		t.Log("stopped in", stopped, "and started in", time.Since(start)-stopped)
		require.Equal(t, i+1, count(t, c.URL()))
	}
}

func TestStandby_SynchronousHasEverythingWhenPromoted(t *testing.T) {
	t.Parallel()
	primary := cluster.Start(t)
	primary.Execute("select pgmq.create('t')")
	standby := primary.Standby()
	primary.Synchronous()
	primary.Execute(send)
	primary.Kill9()
	standby.Promote()
	standby.Execute(send)
	require.Equal(t, 2, count(t, standby.URL()))
}

func TestStandby_DetachedLacksLaterCommits(t *testing.T) {
	t.Parallel()
	primary := cluster.Start(t)
	primary.Execute("select pgmq.create('t')")
	primary.Execute(send)
	standby := primary.Standby()
	standby.Detach()
	primary.Execute(send)
	standby.Promote()
	require.Equal(t, 2, count(t, primary.URL()))
	require.Equal(t, 1, count(t, standby.URL()))
}

func TestCluster_RecoversFromKilledProcess(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t)
	c.Execute("select pgmq.create('t')", send)
	conn, err := pgx.Connect(t.Context(), c.URL())
	require.NoError(t, err)
	c.KillOne()
	require.Error(t, conn.Ping(t.Context()), "all sessions end")
	require.Equal(t, 1, count(t, c.URL()))
}
