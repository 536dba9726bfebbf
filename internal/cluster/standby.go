package cluster

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// Standby starts a server that follows this one, and returns when it streams.
func (c *Cluster) Standby() *Cluster {
	c.tb.Helper()
	s := newCluster(c.tb)
	s.password = c.password
	s.run("pg_basebackup", "-D", s.path("data"), "-R", "-X", "stream", "-c", "fast", "-d", c.url("postgres", c.Address()))
	s.configure()
	s.start()
	c.await("select count(*) > 0 from pg_stat_replication where state = 'streaming'")
	return s
}

// Synchronous makes commits wait until a standby has them too, from now on. There must be one.
func (c *Cluster) Synchronous() {
	c.tb.Helper()
	c.Execute("alter system set synchronous_standby_names = '*'", "select pg_reload_conf()")
	c.await("select count(*) > 0 from pg_stat_replication where sync_state = 'sync'")
}

// Detach makes a standby stop following its primary. What that commits from now on is lost when
// the standby takes its place.
func (c *Cluster) Detach() {
	c.tb.Helper()
	c.Execute("alter system set primary_conninfo = ''", "select pg_reload_conf()")
	c.await("select count(*) = 0 from pg_stat_wal_receiver")
}

// Promote makes a standby a primary, and returns when it takes writes.
func (c *Cluster) Promote() {
	c.tb.Helper()
	c.run("pg_ctl", "promote", "-w", "-s", "-D", c.path("data"))
}

// await returns when the query returns true.
func (c *Cluster) await(query string) {
	c.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, c.URL())
	c.check(err)
	defer func() { _ = conn.Close(ctx) }()
	for done := false; !done; time.Sleep(5 * time.Millisecond) {
		if err := conn.QueryRow(ctx, query).Scan(&done); err != nil {
			c.tb.Fatalf("%s: %v", query, err)
		}
	}
}
