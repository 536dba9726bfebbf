package pgmq

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
)

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

// QueryRow reads what a statement in the transaction returns.
func (t sqlTx) QueryRow(ctx context.Context, statement string, args ...any) pgx.Row {
	texts, err := asTexts(args)
	if err != nil {
		return failedRow{err}
	}
	return t.tx.QueryRowContext(ctx, statement, texts...)
}

func (t sqlTx) Exec(ctx context.Context, statement string, args ...any) (pgconn.CommandTag, error) {
	texts, err := asTexts(args)
	if err != nil {
		return pgconn.CommandTag{}, err
	}
	result, err := t.tx.ExecContext(ctx, statement, texts...)
	if err != nil {
		return pgconn.CommandTag{}, err
	}
	n, err := result.RowsAffected()
	return pgconn.NewCommandTag(fmt.Sprintf("SELECT %d", n)), err
}

// failedRow is the row of a statement that was not run.
type failedRow struct{ err error }

// Scan implements [pgx.Row].
func (r failedRow) Scan(...any) error { return r.err }

func asTexts(args []any) (texts []any, err error) {
	for _, arg := range args {
		if _, ok := arg.(pgx.QueryExecMode); ok {
			continue // the driver has its own ways
		}
		text, err := asText(arg)
		if err != nil {
			return nil, fmt.Errorf("pgmq: encode a parameter: %w", err)
		}
		texts = append(texts, text)
	}
	return texts, nil
}

func asText(arg any) (string, error) {
	var oid uint32
	switch value := arg.(type) {
	case string:
		return value, nil
	case int64:
		return strconv.FormatInt(value, 10), nil
	case []string:
		oid = pgtype.TextArrayOID
	case []int64:
		oid = pgtype.Int8ArrayOID
	case [][]byte:
		oid = pgtype.ByteaArrayOID
	case []*time.Time:
		oid = pgtype.TimestamptzArrayOID
	default:
		return "", fmt.Errorf("unexpected %T", arg)
	}
	text, err := pgtype.NewMap().Encode(oid, pgtype.TextFormatCode, arg, nil)
	return string(text), err
}

// noTx stands for a transaction that is nil, as [TxFromContext] returns it outside of TxMiddleware.
type noTx struct{ remedy string }

// Exec implements [DBTX].
func (t noTx) Exec(context.Context, string, ...any) (pgconn.CommandTag, error) {
	return pgconn.CommandTag{}, t.err()
}

// Query implements [DBTX].
func (t noTx) Query(context.Context, string, ...any) (pgx.Rows, error) { return nil, t.err() }

func (t noTx) err() error {
	return &Error{Kind: ErrInvalidConfig, Cause: errors.New("the transaction is nil"), Remedy: t.remedy}
}
