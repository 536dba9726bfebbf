// Package dial opens connections, and pools of them, with the settings that ezq needs, and closes them in
// bounded time. Its errors contain neither the database URL nor the password.
package dial

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/internal/databaseurl"
)

// connectTimeout bounds a connection attempt to one host where the URL does not
// say: pgx has no bound, and the operating system's is about two minutes.
const connectTimeout = 5 * time.Second

// OpenPool returns a pool of connections to the database at url. It connects when one is needed.
func OpenPool(ctx context.Context, url string) (*pgxpool.Pool, error) {
	if strings.TrimSpace(url) == "" && !environmentConnects() {
		return nil, &fault.Error{
			Op: "open", Kind: fault.ErrInvalidConfig,
			Cause:  errors.New("the database URL is empty, and no PGHOST, PGSERVICE or the like is set"),
			Remedy: "write it as postgres://user:password@host:5432/database?sslmode=verify-full",
		}
	}
	config, err := ParseURL(url)
	if err != nil {
		return nil, err
	}
	setDefaults(config)
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fault.Classify("open", "", err)
	}
	return pool, nil
}

// ParseURL refuses what pgx refuses, and what it takes for the names of parameters, which the
// server would quote. Neither the text nor pgx's error is in that of ParseURL: both can contain
// the password. White space around the text is not a part of it: a file has it at its end.
func ParseURL(url string) (*pgxpool.Config, error) {
	config, err := pgxpool.ParseConfig(strings.TrimSpace(url))
	if err == nil && databaseurl.IsOne(&config.ConnConfig.Config) {
		return config, nil
	}
	refused := &fault.Error{
		Op: "open", Kind: fault.ErrInvalidConfig,
		Cause:  errors.New("the database URL cannot be parsed"),
		Remedy: "write it as postgres://user:password@host:5432/database?sslmode=verify-full",
	}
	if fault := databaseurl.Fault(err); fault != "" {
		refused.Cause = errors.New("the database URL cannot be used: " + fault)
		refused.Remedy = "correct that parameter, or the variable of libpq that sets it"
	}
	return nil, refused
}

// environmentConnects reports whether the variables of libpq say which database is meant.
// Otherwise an empty URL would lead to whatever listens on this machine.
func environmentConnects() bool {
	for _, name := range [...]string{"PGHOST", "PGPORT", "PGDATABASE", "PGUSER", "PGSERVICE"} {
		if os.Getenv(name) != "" {
			return true
		}
	}
	return false
}

// ConsumerPool returns a pool that connects as pool does.
//
// Statements are planned at each execution: a plan that was cached while the
// queue was empty scans the whole table once it is full. They do not stay
// prepared, which works behind a pooler.
func ConsumerPool(pool *pgxpool.Pool, connections int) (*pgxpool.Pool, error) {
	config := pool.Config()
	config.MaxConns = int32(connections) //nolint:gosec // a small number, which the configuration has checked
	config.MinConns = 0
	config.MinIdleConns = 0
	config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	setDefaults(config)
	own, err := pgxpool.NewWithConfig(context.Background(), config)
	if err != nil {
		return nil, fault.Classify("subscribe", "", err)
	}
	return own, nil
}

// Connect returns a connection that is in no pool.
func Connect(ctx context.Context, config *pgxpool.Config) (*pgx.Conn, error) {
	single := config.ConnConfig.Copy()
	if config.BeforeConnect != nil {
		if err := config.BeforeConnect(ctx, single); err != nil {
			return nil, err
		}
	}
	return pgx.ConnectConfig(ctx, single)
}

// IsBehindPooler reports whether conn, for which the process backend works just now,
// goes through a pooler: that has told it another process id at the login.
func IsBehindPooler(conn *pgx.Conn, backend uint32) bool {
	return conn.PgConn().PID() != backend
}

// RequireUTF8 returns an error if conn takes the bytes of Go's strings, which are
// UTF-8, for characters of another encoding. A pool that ezq opens does not; one that
// the application opens is in the encoding that the server, the database or the role
// has by default. SQL_ASCII is none: the bytes pass as they are.
func RequireUTF8(conn *pgconn.PgConn) error {
	client, server := conn.ParameterStatus("client_encoding"), conn.ParameterStatus("server_encoding")
	passes := client == "SQL_ASCII" && (server == "UTF8" || server == "SQL_ASCII")
	if client == "UTF8" || client == "" || passes {
		return nil
	}
	return &fault.Error{
		Kind: fault.ErrInvalidConfig, Cause: fmt.Errorf("the connection has the client_encoding %s, which would change what is published", client),
		Remedy: "add client_encoding=UTF8 to the database URL of the pool",
	}
}

// setDefaults sets what ezq's own connections need. The encoding is not a default: Go
// has no strings in another one.
func setDefaults(config *pgxpool.Config) {
	config.ConnConfig.RuntimeParams["client_encoding"] = "UTF8"
	if config.ConnConfig.ConnectTimeout == 0 {
		config.ConnConfig.ConnectTimeout = connectTimeout
	}
	if config.ConnConfig.RuntimeParams["application_name"] == "" {
		config.ConnConfig.RuntimeParams["application_name"] = "ezq"
	}
}

// closeTimeout is how long closing a pool may take. A connection whose peer does
// not answer any more would hold it up for pgx's own 15 seconds.
const closeTimeout = 5 * time.Second

// ClosePool closes pool. It does not wait long for connections whose server does not answer.
func ClosePool(pool *pgxpool.Pool) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		pool.Close()
	}()
	timer := time.NewTimer(closeTimeout)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
}
