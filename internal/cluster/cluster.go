// Package cluster gives tests PostgreSQL servers of their own: to stop, to kill, to start again,
// and to replace by a standby.
//
// A server has its own directory and port, is removed when the test ends, and never has anything
// to do with another server. The directory is in /tmp, or in what EZQ_TEST_DIRECTORY names. Should
// the test be killed, the next scripts/pgmq removes it.
package cluster

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// patience bounds whatever a server is asked for.
const patience = 2 * time.Minute

// Cluster is one PostgreSQL server. Its methods fail the test if they fail. They are for one
// goroutine, the test's own.
type Cluster struct {
	tb       testing.TB
	programs programs
	dir      string // holds data/, server.log and owner
	port     int
	password string
}

// Start starts a server with PGMQ in its database ezq. Settings are lines for postgresql.conf.
//
// It keeps what is committed if it is killed, but not if the machine is.
//
// Without PostgreSQL's programs or PGMQ's SQL file (EZQ_PGMQ_SQL) the test is skipped, saying so;
// or fails if CI is set, where a skipped test would pass unnoticed.
func Start(tb testing.TB, settings ...string) *Cluster {
	tb.Helper()
	c := newCluster(tb)
	if os.Getenv("EZQ_PGMQ_SQL") == "" {
		unavailable(tb, "EZQ_PGMQ_SQL must name PGMQ's SQL file")
	}
	c.write("password", c.password)
	c.run("initdb", "-N", "-A", "scram-sha-256", "--pwfile", c.path("password"),
		"-U", "postgres", "-E", "UTF8", "--locale", "C", "-D", c.path("data"))
	c.configure(append([]string{
		"listen_addresses = '127.0.0.1'",
		"unix_socket_directories = ''",
		"fsync = off", // the system outlives the server, and with it what the server has written
		"full_page_writes = off",
		"dynamic_shared_memory_type = mmap", // goes with the directory, even if the server is killed
		"shared_buffers = 32MB",
		"wal_keep_size = 64MB",
	}, settings...)...)
	c.start()
	c.execute("postgres", "create database ezq")
	c.execute("ezq", c.read(os.Getenv("EZQ_PGMQ_SQL")))
	return c
}

func newCluster(tb testing.TB) *Cluster {
	tb.Helper()
	c := &Cluster{tb: tb, programs: findPrograms(tb), port: freePort(tb), password: rand.Text()}
	var err error
	if c.dir, err = os.MkdirTemp(cmp.Or(os.Getenv("EZQ_TEST_DIRECTORY"), "/tmp"), "ezq-pgmq.*"); err != nil { //nolint:usetesting // the server's user has no way into TempDir
		tb.Fatal(err)
	}
	tb.Cleanup(c.remove)
	c.check(os.Chmod(c.dir, 0o711)) // the server's user, if it is not ours, passes through
	c.write("owner", strconv.Itoa(os.Getpid()))
	c.check(os.Mkdir(c.path("data"), 0o700))
	c.give(c.path("data"))
	return c
}

func (c *Cluster) remove() {
	if c.running() {
		_, _ = c.programs.output("pg_ctl", "stop", "-w", "-s", "-m", "immediate", "-D", c.path("data"))
	}
	c.removeSharedMemory()
	if err := os.RemoveAll(c.dir); err != nil {
		c.tb.Error(err)
	}
}

// URL returns the URL of the database ezq, for the superuser.
func (c *Cluster) URL() string { return c.url("ezq", c.Address()) }

// URLAt is URL for a server that is reached through another address, or through one of several:
// as in host:port,host:port.
func (c *Cluster) URLAt(address string) string { return c.url("ezq", address) }

// Address returns host and port.
func (c *Cluster) Address() string { return "127.0.0.1:" + strconv.Itoa(c.port) }

func (c *Cluster) url(database, address string) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword("postgres", c.password),
		Host: address, Path: database, RawQuery: "sslmode=disable",
	}
	return u.String()
}

// configure adds to the settings. The last one of a name counts.
func (c *Cluster) configure(settings ...string) {
	c.tb.Helper()
	file, err := os.OpenFile(c.path("data/postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	c.check(err)
	for _, line := range append(settings, fmt.Sprint("port = ", c.port)) {
		_, err := fmt.Fprintln(file, line)
		c.check(err)
	}
	c.check(file.Close())
}

// Execute runs SQL as the superuser in the database ezq, on a connection of its own: one
// statement after the other, each in its own transaction unless they begin one.
func (c *Cluster) Execute(statements ...string) {
	c.tb.Helper()
	c.execute("ezq", statements...)
}

func (c *Cluster) execute(database string, statements ...string) {
	c.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, c.url(database, c.Address()))
	c.check(err)
	defer func() { _ = conn.Close(ctx) }()
	for _, statement := range statements {
		if _, err := conn.PgConn().Exec(ctx, statement).ReadAll(); err != nil {
			c.tb.Fatalf("%.200s: %v", statement, err)
		}
	}
}

func (c *Cluster) path(name string) string { return filepath.Join(c.dir, name) }

func (c *Cluster) read(path string) string {
	c.tb.Helper()
	text, err := os.ReadFile(path)
	c.check(err)
	return string(text)
}

// write leaves a file for the server's user.
func (c *Cluster) write(name, text string) {
	c.tb.Helper()
	c.check(os.WriteFile(c.path(name), []byte(text), 0o600))
	if name != "owner" {
		c.give(c.path(name))
	}
}

func (c *Cluster) check(err error) {
	c.tb.Helper()
	if err != nil {
		c.tb.Fatal(err)
	}
}

// freePort returns a port that nobody listens on. Between now and when the server does, somebody
// else could: they lie below those that systems give to outgoing connections, which makes it rare.
func freePort(tb testing.TB) int {
	tb.Helper()
	for range 100 {
		port := 20000 + mathrand.N(12000)
		listener, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err == nil {
			_ = listener.Close()
			return port
		}
	}
	tb.Fatal("no port is free")
	return 0
}
