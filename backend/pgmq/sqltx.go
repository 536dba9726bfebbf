package pgmq

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
)

// WithSQLTx is [Client.WithTx] for a transaction of database/sql, with any driver for
// PostgreSQL. The driver's connections must have the client_encoding UTF8, which is
// not checked: set it in their URL where the database or the role has another one. Nor
// can the bindings be looked up in tx: under REPEATABLE READ and SERIALIZABLE, a publish
// to a topic that got a group after tx began is refused with [ErrRejected].
func (c *Client) WithSQLTx(tx *sql.Tx) *Publisher {
	if tx == nil {
		return c.publisher.withTx(noTx{"begin one with BeginTx of the *sql.DB"})
	}
	return c.publisher.withTx(sqlTx{tx, c.pool})
}

// sqlTx is a *sql.Tx as far as publishing needs it. Parameters go as text, which
// all drivers can send.
type sqlTx struct {
	tx   *sql.Tx
	pool *pgxpool.Pool
}

// Query looks up a queue, for which any connection will do.
func (t sqlTx) Query(ctx context.Context, statement string, args ...any) (pgx.Rows, error) {
	return t.pool.Query(ctx, statement, args...)
}

func (t sqlTx) Exec(ctx context.Context, statement string, args ...any) (pgconn.CommandTag, error) {
	var texts []any
	for _, arg := range args {
		if _, ok := arg.(pgx.QueryExecMode); ok {
			continue // the driver has its own ways
		}
		text, err := asText(arg)
		if err != nil {
			return pgconn.CommandTag{}, fmt.Errorf("pgmq: encode a parameter: %w", err)
		}
		texts = append(texts, text)
	}
	result, err := t.tx.ExecContext(ctx, statement, texts...)
	if err != nil {
		return pgconn.CommandTag{}, err
	}
	n, err := result.RowsAffected()
	return pgconn.NewCommandTag(fmt.Sprintf("SELECT %d", n)), err
}

func asText(arg any) (string, error) {
	var oid uint32
	switch value := arg.(type) {
	case string:
		return value, nil
	case []string:
		oid = pgtype.TextArrayOID
	case []int64:
		oid = pgtype.Int8ArrayOID
	case []*time.Time:
		oid = pgtype.TimestamptzArrayOID
	default:
		return "", fmt.Errorf("unexpected %T", arg)
	}
	text, err := pgtype.NewMap().Encode(oid, pgtype.TextFormatCode, arg, nil)
	return string(text), err
}
