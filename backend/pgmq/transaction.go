package pgmq

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// transaction is statements that go to the server in one round trip, and take
// effect together.
//
// It states its isolation level. A role or a database may have another default,
// under which consumers that compete for messages would fail with 40001.
type transaction struct{ pgx.Batch }

func newTransaction() *transaction {
	t := &transaction{}
	t.Queue("begin isolation level read committed")
	return t
}

func (t *transaction) run(ctx context.Context, pool *pgxpool.Pool) error {
	t.Queue("commit")
	return pool.SendBatch(ctx, &t.Batch).Close()
}
