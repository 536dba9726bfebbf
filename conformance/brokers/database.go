package brokers

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/jackc/pgx/v5"
)

// createDatabase creates an empty database on the test server, and returns its URL and
// what drops it.
func createDatabase(ctx context.Context, services Services) (database string, drop func() error, err error) {
	if services.PostgreSQL == "" {
		return "", nil, missing("EZQ_TEST_DATABASE")
	}
	u, err := url.Parse(services.PostgreSQL)
	if err != nil {
		return "", nil, fmt.Errorf("EZQ_TEST_DATABASE is not a URL") //nolint:err113 // and the cause would show the password
	}
	name := "ezq_test_" + strings.ToLower(rand.Text())
	quoted := pgx.Identifier{name}.Sanitize()
	if err := execute(ctx, services.PostgreSQL, "create database "+quoted); err != nil {
		return "", nil, err
	}
	u.Path = "/" + name
	return u.String(), func() error {
		return execute(context.Background(), services.PostgreSQL, "drop database "+quoted+" with (force)")
	}, nil
}

// plainSQL installs PGMQ from its SQL file, as on servers that do not have it.
func plainSQL(ctx context.Context, services Services, database string) error {
	if services.PGMQ == "" {
		return missing("EZQ_PGMQ_SQL")
	}
	script, err := os.ReadFile(services.PGMQ)
	if err != nil {
		return err
	}
	return execute(ctx, database, string(script))
}

// extension installs PGMQ as PostgreSQL's extensions are.
func extension(ctx context.Context, _ Services, database string) error {
	if err := execute(ctx, database, "create extension pgmq cascade"); err != nil {
		return &MissingError{What: "the extension pgmq", Remedy: "install it on the server of EZQ_TEST_DATABASE (" + err.Error() + ")"}
	}
	return nil
}

func execute(ctx context.Context, database, sql string) error {
	conn, err := pgx.Connect(ctx, database)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.Background()) }()
	_, err = conn.PgConn().Exec(ctx, sql).ReadAll()
	return err
}
