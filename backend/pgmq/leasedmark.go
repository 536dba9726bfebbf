package pgmq

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// leasedMarkColumns returns the columns, besides those of a publisher, that mark a message of queue as
// one that was leased, and their values.
func leasedMarkColumns(ctx context.Context, db rowQuerier, queue string) (columns, values string, err error) {
	const sql = "select exists (select from pg_attribute where attrelid = to_regclass($1) and attname = 'last_read_at' and not attisdropped)"
	var can bool
	err = db.QueryRow(ctx, sql, pgx.QueryExecModeCacheDescribe, tableName(queue)).Scan(&can)
	if err != nil || !can {
		return "", "", err
	}
	return ", last_read_at", ", clock_timestamp()", nil
}
