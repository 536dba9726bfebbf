package pgmq

import (
	"cmp"
	"context"
	_ "embed"
	"fmt"
	"math"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/backend/pgmq/internal/queuename"
	"github.com/ezq-go/ezq/backend/pgmq/internal/sqlfile"
	"github.com/ezq-go/ezq/backend/pgmq/internal/transact"
)

//go:embed sql/purge.sql
var purgeSQL string

// lastSQL is what max(msg_id) is, for which PostgreSQL reads all where it expects one row.
const lastSQL = `select coalesce((select msg_id from %s order by msg_id desc limit 1), '-9223372036854775808'::bigint)`

// halted returns err, or says what stays if PostgreSQL refuses to delete one
// message of a batch.
func halted(err error, deleted int, table string) error {
	if err == nil || fault.MayBeRetried(err) {
		return err
	}
	return &Error{
		Cause: fmt.Errorf("%d messages are deleted, and all others stay, since PostgreSQL refuses to delete one of the next batch: %w", deleted, fault.WithoutSecrets(err)),
		Remedy: fmt.Sprintf("look for the trigger or the constraint on %s that refuses it, and remove that; or delete the others with DELETE FROM %[1]s WHERE …",
			table),
	}
}

// keptError returns an error if a table keeps messages that were deleted.
func keptError(kept int, table string) error {
	if kept == 0 {
		return nil
	}
	return &Error{
		Cause:  fmt.Errorf("%d messages stay: PostgreSQL was told to delete them, and returned no error", kept),
		Remedy: fault.KeptRemedy(table),
	}
}

// purge deletes all that queue has now.
func purge(ctx context.Context, pool *pgxpool.Pool, queue string) (deleted int, err error) {
	last, err := transact.Value[int64](ctx, pool, fmt.Sprintf(lastSQL, queuename.Table(queue)))
	if err != nil {
		return 0, err
	}
	sql := strings.ReplaceAll(sqlfile.Text(purgeSQL), "{table}", queuename.Table(queue))
	kept := 0 // of what was to go
	for after := int64(math.MinInt64); ; {
		var doomed, removed int
		err := transact.Run(ctx, pool, "", func(tx pgx.Tx) error {
			return tx.QueryRow(ctx, sql, pgx.QueryExecModeCacheDescribe, after, last).Scan(&doomed, &removed, &after)
		})
		err = fault.Changed(err, removed)
		if err != nil || doomed == 0 {
			return deleted, cmp.Or(halted(err, deleted, queuename.Table(queue)), keptError(kept, queuename.Table(queue)))
		}
		deleted, kept = deleted+removed, kept+doomed-removed
	}
}

// purgeTopic is [Client.PurgeQueue].
func purgeTopic(ctx context.Context, s *Subscriber, topic string) (int, error) {
	const op = "purge"
	queue, err := s.consumedQueue(topic)
	if err != nil {
		return 0, fault.Classify(op, topic, err)
	}
	deleted, err := purge(ctx, s.pool, queue)
	return deleted, s.consumerError(ctx, op, topic, err)
}
