package catalog

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/backend/pgmq/internal/transact"
	"github.com/ezq-go/ezq/internal/schema"
)

// OwnTable is a table of ezq's own, beside those of the queues. It is created when it is first needed.
type OwnTable struct {
	Name    string // as SQL
	Create  string // the statements that create it
	Purpose string // as "keeps pauses"
	Grants  string // the statement with which a role may use it
}

// KeysTable is a table of keys, each with the time until which it counts, and an index that finds those whose time is
// over.
func KeysTable(name, purpose string) OwnTable {
	return OwnTable{
		Name:    name,
		Create:  schema.KeysTableSQL(name),
		Purpose: purpose,
		Grants:  "GRANT SELECT, INSERT, UPDATE, DELETE ON " + name + " TO the role",
	}
}

// Ensure creates the table if it is not there.
func (t OwnTable) Ensure(ctx context.Context, db transact.Queryer) error {
	return Ensure(ctx, db, t.Name, MissingTablesSQL, t.Create)
}

// NotThere is the error of an operation that needs the table.
func (t OwnTable) NotThere() error {
	return &fault.Error{
		Kind: fault.ErrNotPrepared, Cause: fmt.Errorf("there is no table %s, which %s", t.Name, t.Purpose),
		Remedy: "let the owner of the queues run " + t.Create + "; " + t.Grants,
	}
}

// Explain returns err, which is about the table, as a [*fault.Error] that says what is to be done, if that is known.
func (t OwnTable) Explain(err error) error {
	switch {
	case fault.IsCode(err, "42P01"): // undefined_table
		return t.NotThere()
	case fault.IsCode(err, "42703", "42P10", "42804", "42883", "42809"): // undefined_column, or others of another type
		return &fault.Error{
			Kind: fault.ErrNotPrepared, Cause: fault.WithoutSecrets(err),
			Remedy: "see which role has made " + t.Name + ", which has other columns than ezq needs, or no primary key; drop it, and run " + t.Create,
		}
	case fault.IsCode(err, "42501") && t.isIn(err): // insufficient_privilege
		return &fault.Error{Kind: fault.ErrPermission, Cause: fault.WithoutSecrets(err), Remedy: "let its owner run " + t.Grants}
	case fault.IsCode(err, "42501"): // of the schema, in which it would have been created
		return &fault.Error{
			Kind: fault.ErrPermission, Cause: fault.WithoutSecrets(err),
			Remedy: "let the owner of the queues run " + t.Create + ", if there is no such table; then " + t.Grants,
		}
	}
	return err
}

// isIn reports whether PostgreSQL names the table in its message, whose other words depend on lc_messages. So the
// table is there.
func (t OwnTable) isIn(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	_, name, _ := strings.Cut(t.Name, ".")
	return ok && name != "" && strings.Contains(pg.Message, name)
}

// Ensure runs statements that create something, unless what is to be created is there: missingSQL selects name if it
// is not. If another process creates the same at once, the two get in each other's way, also with "if not exists".
// It is enough that it is there afterwards.
func Ensure(ctx context.Context, db transact.Queryer, name, missingSQL, create string) error {
	var failed error
	for attempts := 3; ; attempts-- {
		missing, err := Missing(ctx, db, missingSQL, name)
		switch {
		case err == nil && len(missing) == 0:
			return nil
		case failed != nil && (attempts == 0 || !fault.IsConcurrentCreation(failed)):
			return failed
		case err != nil:
			return err
		}
		if _, failed = db.Exec(ctx, create, pgx.QueryExecModeSimpleProtocol); failed == nil {
			return nil
		}
	}
}

// Missing returns which of these names missingSQL selects.
func Missing(ctx context.Context, db transact.Queryer, missingSQL string, names ...string) ([]string, error) {
	rows, err := db.Query(ctx, missingSQL, pgx.QueryExecModeCacheDescribe, names)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}
