// Package connection finds the database that a command is to work on, and connects to it. The place comes from
// environment variables alone: arguments are in the list of processes, which all users of a machine can read.
package connection

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/ezq/ezqenv"
	"github.com/ezq-go/ezq/internal/databaseurl"
)

// ErrNowhere is that no variable says where the database is.
var ErrNowhere = errors.New("EZQ_DATABASE_URL is not set, and no PGHOST, PGSERVICE or the like: " +
	"set it to postgres://user:password@host:5432/database")

// URL returns what EZQ_DATABASE_URL says, or else Python's EZQ_QUEUE_HOST and the like, as ezqenv reads them. It
// returns "" if only libpq's variables say where the database is, which pgx reads itself: PGHOST, PGPORT, PGDATABASE,
// PGUSER or PGSERVICE. Lookup is as os.LookupEnv is. An error does not have the value.
func URL(lookup func(string) (string, bool)) (string, error) {
	settings, err := ezqenv.Read(func(name string) (string, bool) {
		if name != "EZQ_DATABASE_URL" && !strings.HasPrefix(name, "EZQ_QUEUE_") { // the others are for services
			return "", false
		}
		return lookup(name)
	})
	if err != nil {
		return "", err
	}
	if url := settings.DatabaseURL.Reveal(); url != "" {
		return url, nil
	}
	for _, name := range []string{"PGHOST", "PGPORT", "PGDATABASE", "PGUSER", "PGSERVICE"} {
		if value, _ := lookup(name); value != "" {
			return "", nil
		}
	}
	return "", ErrNowhere
}

// Named returns url with an application_name, by which the server tells the command from the programs that consume. It
// returns url as it is if that has one, or PGAPPNAME or a service names one, or if it cannot be parsed.
func Named(url, name string) string {
	url = strings.TrimSpace(url)
	if old, err := pgxpool.ParseConfig(url); err != nil || old.ConnConfig.RuntimeParams["application_name"] != "" {
		return url
	}
	separator := " "
	if strings.HasPrefix(url, "postgres://") || strings.HasPrefix(url, "postgresql://") {
		separator = "?"
		if strings.Contains(url, "?") {
			separator = "&"
		}
	}
	named := strings.TrimSpace(url + separator + "application_name=" + name)
	if config, err := pgxpool.ParseConfig(named); err != nil || config.ConnConfig.RuntimeParams["application_name"] != name {
		return url
	}
	return named
}

// Open returns a pool for the database at url, or that of libpq's variables if it is empty. It connects when a
// connection is needed, and gives up on a server that does not answer after 5 seconds, if the URL does not say
// otherwise. Its connections hold no prepared statements, so it works through a pooler.
//
// An error contains neither the URL nor the password.
func Open(ctx context.Context, url string) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(strings.TrimSpace(url))
	if fault := databaseurl.Fault(err); fault != "" {
		return nil, errors.New("the database URL cannot be used: " + fault + ": correct that parameter, or the variable of libpq that sets it")
	}
	if err != nil || !databaseurl.IsOne(&config.ConnConfig.Config) {
		return nil, errors.New("the database URL cannot be parsed; write it as postgres://user:password@host:5432/database")
	}
	if config.ConnConfig.ConnectTimeout == 0 {
		config.ConnConfig.ConnectTimeout = 5 * time.Second
	}
	if config.ConnConfig.DefaultQueryExecMode == pgx.QueryExecModeCacheStatement {
		config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	}
	parameters := config.ConnConfig.RuntimeParams
	parameters["client_encoding"] = "UTF8"
	if parameters["application_name"] == "" {
		parameters["application_name"] = "ezq-cli"
	}
	return pgxpool.NewWithConfig(ctx, config)
}

// Close closes pool. It does not wait long for connections whose server does not answer.
func Close(pool *pgxpool.Pool) {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		pool.Close()
	}()
	select {
	case <-closed:
	case <-time.After(5 * time.Second):
	}
}
