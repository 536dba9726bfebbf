package pgmq

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend/pgmq/internal/catalog"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/backend/pgmq/internal/sqlfile"
	"github.com/ezq-go/ezq/backend/pgmq/internal/transact"
)

//go:embed sql/mark_key.sql
var markKeySQL string

// KeyStore remembers keys in a table, each for a while: a store for the middleware
// Deduplicate that all processes share and that a restart does not empty. Create it
// with [Client.KeyStore]:
//
//	store, err := client.KeyStore(ctx, "app.ezq_seen")
//	…
//	router.Use(middleware.Deduplicate{Store: store}.Middleware)
//
// Of a key it stores the SHA-256, and the time until which it counts, by the clock of
// the server. Each Mark removes up to two keys whose time is over, so the table stays
// as small as what it has to remember.
type KeyStore struct {
	pool       *pgxpool.Pool
	table      string
	seen, mark string
}

// newKeyStore returns the store of keys in the table that has this quoted name.
func newKeyStore(pool *pgxpool.Pool, name string) *KeyStore {
	return &KeyStore{
		pool:  pool,
		table: name,
		seen:  "select exists (select from " + name + " where key = $1 and (until > now()) is true)", // "is true" keeps PostgreSQL from the index of times
		mark:  strings.ReplaceAll(sqlfile.Text(markKeySQL), "{keys}", name),
	}
}

// createKeys creates the table if it is not there.
func createKeys(ctx context.Context, pool *pgxpool.Pool, table string) error {
	err := keysTable(table).Ensure(ctx, pool)
	if fault.IsCode(err, "3F000") { // invalid_schema_name
		return &Error{Kind: ErrInvalidConfig, Cause: fault.WithoutSecrets(err), Remedy: `name a schema that exists, as in "app.ezq_seen": the search_path has none`}
	}
	return keysDenied(table, err)
}

func keysTable(name string) catalog.OwnTable { return catalog.KeysTable(name, "remembers keys") }

// keysDenied returns err, or says which rights to the table a role lacks.
func keysDenied(table string, err error) error {
	if !fault.IsCode(err, "42501") {
		return err
	}
	schema, _, qualified := strings.Cut(table, ".")
	if !qualified {
		schema = "…"
	}
	keys := keysTable(table)
	return &Error{
		Kind: ErrPermission, Cause: fault.WithoutSecrets(err),
		Remedy: fmt.Sprintf("if the table does not exist, let its owner create it with %s; then run GRANT USAGE ON SCHEMA %s TO the role; %s",
			keys.Create, schema, keys.Grants),
	}
}

// requireKeyRights returns an error if the role may not do with the table what a store does. Otherwise each event would
// fail of which the store is asked.
func requireKeyRights(ctx context.Context, pool *pgxpool.Pool, table string) error {
	allowed, err := transact.Value[bool](ctx, pool, keyRightsSQL, table)
	if err != nil || allowed {
		return keysDenied(table, err)
	}
	return &Error{
		Kind: ErrPermission, Cause: fmt.Errorf("the role may not read and change %s", table), Remedy: "let its owner run " + keysTable(table).Grants,
	}
}

const keyRightsSQL = `
select pg_catalog.bool_and(pg_catalog.has_table_privilege(pg_catalog.to_regclass($1::text)::oid, privilege))
from pg_catalog.unnest('{select,insert,update,delete}'::text[]) as privilege`

// Seen reports whether key was marked and still counts.
func (s *KeyStore) Seen(ctx context.Context, key string) (seen bool, err error) {
	conn, err := acquire(ctx, s.pool)
	if err == nil {
		defer conn.Release()
		err = conn.QueryRow(ctx, s.seen, pgx.QueryExecModeCacheDescribe, digest(key)).Scan(&seen)
	}
	return seen, fault.Classify("look up a key", "", keysDenied(s.table, err))
}

// Mark remembers key for as long as window, from now.
func (s *KeyStore) Mark(ctx context.Context, key string, window time.Duration) error {
	conn, err := acquire(ctx, s.pool)
	if err == nil {
		defer conn.Release()
		_, err = conn.Exec(ctx, s.mark, pgx.QueryExecModeCacheDescribe, digest(key), window.Seconds())
	}
	return fault.Classify("remember a key", "", keysDenied(s.table, err))
}

func digest(key string) []byte {
	sum := sha256.Sum256([]byte(key))
	return sum[:]
}

// openKeyStore is [Client.KeyStore].
func openKeyStore(ctx context.Context, s *Subscriber, table string) (*KeyStore, error) {
	parts := strings.Split(table, ".")
	if len(parts) > 2 || slices.Contains(parts, "") || !utf8.ValidString(table) || strings.Contains(table, "\x00") {
		return nil, fault.Classify("create key store", "", &Error{
			Kind: ErrInvalidConfig, Cause: errors.New("the name of the table is empty, has more than two parts, or is not UTF-8 without NUL"), Remedy: `name a schema and a table, as in "app.ezq_seen"`,
		})
	}
	name := pgx.Identifier(parts).Sanitize()
	if err := createKeys(ctx, s.pool, name); err != nil {
		return nil, fault.Classify("create key store "+name, "", err)
	}
	err := s.owners.Check(ctx, s.pool, s.logger, []string{name}, "")
	if err == nil {
		err = requireKeyRights(ctx, s.pool, name)
	}
	if err != nil {
		return nil, fault.Classify("open key store "+name, "", err)
	}
	return newKeyStore(s.pool, name), nil
}
