// Package pgtest gives tests a PostgreSQL database with PGMQ, and takes it away again.
//
// Every test gets a database of its own on the server that EZQ_TEST_DATABASE names, so tests
// can run side by side and never see each other's queues. `make test` starts such a server.
package pgtest

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// patience bounds every statement of this package: a server that hangs fails the test instead of
// holding it up until the end of the run.
const patience = 2 * time.Minute

// URL returns the URL of the test server, from EZQ_TEST_DATABASE. Without it the test is
// skipped, saying so; or fails if CI is set, where a skipped test would pass unnoticed.
func URL(tb testing.TB) string {
	tb.Helper()
	server := os.Getenv("EZQ_TEST_DATABASE")
	switch {
	case server == "" && os.Getenv("CI") != "":
		tb.Fatal("PostgreSQL tests need EZQ_TEST_DATABASE, and CI must not skip them; run them with: make test")
	case server == "":
		tb.Skip("PostgreSQL tests need EZQ_TEST_DATABASE; run them with: make test")
	}
	if u, err := url.Parse(server); err != nil || !strings.HasPrefix(u.Scheme, "postgres") {
		tb.Fatal("EZQ_TEST_DATABASE must be a URL, as in postgres://user@host:port/database")
	}
	return server
}

// Database creates a database with PGMQ in it and returns its URL. It is dropped when the test
// ends, even if connections to it are still open. Where EZQ_TEST_TEMPLATE names a database with
// PGMQ on the server, it is a copy of that. The options are those of CREATE DATABASE:
//
//	pgtest.Database(t, "encoding 'LATIN1' locale 'C' template template0")
func Database(tb testing.TB, options ...string) string {
	tb.Helper()
	if template := os.Getenv("EZQ_TEST_TEMPLATE"); template != "" && strings.Join(options, "") == "" {
		return EmptyDatabase(tb, "template "+pgx.Identifier{template}.Sanitize())
	}
	database := EmptyDatabase(tb, options...)
	installPGMQ(tb, database)
	return database
}

// EmptyDatabase is Database without PGMQ.
func EmptyDatabase(tb testing.TB, options ...string) string {
	tb.Helper()
	server := URL(tb)
	name := "ezq_test_" + strings.ToLower(rand.Text())
	quoted := pgx.Identifier{name}.Sanitize()

	if err := admin.execute(tb.Context(), server, "create database "+quoted+" "+strings.Join(options, " ")); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := admin.execute(context.Background(), server, "drop database "+quoted+" with (force)"); err != nil {
			tb.Error(err)
		}
	})
	return changeURL(tb, server, func(u *url.URL) { u.Path = "/" + name })
}

// Pool opens a pool on a database. It is closed when the test ends, which waits until every
// connection has been returned.
func Pool(tb testing.TB, database string) *pgxpool.Pool {
	tb.Helper()
	pool, err := pgxpool.New(tb.Context(), database)
	if err != nil {
		tb.Fatal("opening a pool:", err)
	}
	tb.Cleanup(pool.Close)
	return pool
}

// Exec runs a statement, or several, that must not fail.
func Exec(tb testing.TB, pool *pgxpool.Pool, sql string) {
	tb.Helper()
	if _, err := pool.Exec(tb.Context(), sql); err != nil {
		tb.Fatalf("%s: %v", sql, err)
	}
}

// Role creates a role that may log in and nothing else, runs the grants in the database, and
// returns the database's URL for that role. In a grant, {role} stands for the role's name:
//
//	pgtest.Role(t, database, `grant usage on schema pgmq to {role}`)
//
// The role, and what it owns in the database, is dropped when the test ends.
func Role(tb testing.TB, database string, grants ...string) string {
	tb.Helper()
	name, password := "ezq_test_"+strings.ToLower(rand.Text()), rand.Text()
	quoted := pgx.Identifier{name}.Sanitize()

	statements := append([]string{"create role {role} login password '" + password + "'"}, grants...)
	execute(tb.Context(), tb, database, strings.ReplaceAll(strings.Join(statements, "; "), "{role}", quoted))
	tb.Cleanup(func() {
		if err := tryExecute(context.Background(), database, "drop owned by "+quoted+" cascade; drop role "+quoted); err != nil {
			tb.Error(err)
		}
	})
	return changeURL(tb, database, func(u *url.URL) { u.User = url.UserPassword(name, password) })
}

// Eventually fails the test unless the condition holds within the time given. It asks every
// 10 ms, from the test's own goroutine.
func Eventually(tb testing.TB, within time.Duration, what string, condition func() bool) {
	tb.Helper()
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()

	for !condition() {
		select {
		case <-again.C:
		case <-deadline.C:
			if condition() { // it may have come true while the condition was last asked
				return
			}
			tb.Fatalf("not within %v: %s", within, what)
		}
	}
}

func installPGMQ(tb testing.TB, database string) {
	tb.Helper()
	if extensionAvailable(tb, database) {
		execute(tb.Context(), tb, database, "create extension pgmq cascade")
		return
	}
	file := os.Getenv("EZQ_PGMQ_SQL")
	if file == "" {
		tb.Fatal("the server of EZQ_TEST_DATABASE does not have the extension pgmq: " +
			"install it there, or set EZQ_PGMQ_SQL to PGMQ's SQL file (scripts/pgmq install prints where it is)")
	}
	script, err := os.ReadFile(file)
	if err != nil {
		tb.Fatal("EZQ_PGMQ_SQL:", err)
	}
	execute(tb.Context(), tb, database, string(script))
}

func extensionAvailable(tb testing.TB, database string) (available bool) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	conn := connect(ctx, tb, database)
	defer func() { _ = conn.Close(ctx) }()
	const query = "select exists (select from pg_available_extensions where name = 'pgmq')"
	if err := conn.QueryRow(ctx, query).Scan(&available); err != nil {
		tb.Fatal("looking for the extension pgmq:", err)
	}
	return available
}

// execute runs SQL, which may be many statements, on a connection of its own.
func execute(ctx context.Context, tb testing.TB, database, sql string) {
	tb.Helper()
	if err := tryExecute(ctx, database, sql); err != nil {
		tb.Fatal(err)
	}
}

func tryExecute(ctx context.Context, database, sql string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, database)
	if err != nil {
		return fmt.Errorf("connecting to the test server: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.PgConn().Exec(ctx, sql).ReadAll(); err != nil {
		return fmt.Errorf("%.200s: %w", sql, err)
	}
	return nil
}

// administrator makes and drops databases, on a connection that it keeps: a new one takes PostgreSQL
// as long as a third of a database.
type administrator struct {
	mu   sync.Mutex
	conn *pgx.Conn
}

//nolint:gochecknoglobals // one for all tests of a package: it ends with their process
var admin administrator

func (a *administrator) execute(ctx context.Context, server, sql string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if a.conn == nil || a.conn.IsClosed() {
		conn, err := pgx.Connect(ctx, server)
		if err != nil {
			return fmt.Errorf("connecting to the test server: %w", err)
		}
		a.conn = conn
	}
	if _, err := a.conn.PgConn().Exec(ctx, sql).ReadAll(); err != nil {
		return fmt.Errorf("%.200s: %w", sql, err)
	}
	return nil
}

func connect(ctx context.Context, tb testing.TB, database string) *pgx.Conn {
	tb.Helper()
	conn, err := pgx.Connect(ctx, database)
	if err != nil {
		tb.Fatal("connecting to the test server:", err)
	}
	return conn
}

func changeURL(tb testing.TB, address string, change func(*url.URL)) string {
	tb.Helper()
	u, err := url.Parse(address)
	if err != nil {
		tb.Fatal("parsing a database's URL:", err)
	}
	change(u)
	return u.String()
}
