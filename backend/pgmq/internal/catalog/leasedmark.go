package catalog

import (
	"context"

	"github.com/ezq-go/ezq/backend/pgmq/internal/queuename"
	"github.com/ezq-go/ezq/backend/pgmq/internal/transact"
)

// LeasedMarkColumns returns the columns, besides those of a publisher, that mark a message of queue as
// one that was leased, and their values.
func LeasedMarkColumns(ctx context.Context, db transact.RowQueryer, queue string) (columns, values string, err error) {
	const sql = "select exists (select from pg_attribute where attrelid = pg_catalog.to_regclass($1)::oid and attname = 'last_read_at' and not attisdropped)"
	can, err := transact.Value[bool](ctx, db, sql, queuename.Table(queue))
	if err != nil || !can {
		return "", "", err
	}
	return ", last_read_at", ", clock_timestamp()", nil
}
