// Package condition publishes messages that are stored only if their like is not there: with an ID that is new, or with a
// key that no other message has.
//
// Which one of several publishers is first is decided by PostgreSQL: for an ID by the primary
// key of a table of IDs; for a key by an advisory lock, for the length of the transaction, under
// which the queue is searched for the key. A unique index would decide that too, but a message
// that is being handled has to stay beside one that is to replace it, a conflict with a message
// that a consumer has locked would wait for its handler, and a partitioned table can have none.
package condition

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq/internal/catalog"
	"github.com/ezq-go/ezq/backend/pgmq/internal/insert"
	"github.com/ezq-go/ezq/backend/pgmq/internal/queuename"
	"github.com/ezq-go/ezq/backend/pgmq/internal/sqlfile"
	"github.com/ezq-go/ezq/backend/pgmq/internal/transact"
)

// Insert stores messages, each as far as its condition allows: either one with a key, or any number without.
type Insert struct {
	Route  *catalog.Route
	Batch  insert.Batch
	Window time.Duration // for how long an ID is remembered
}

// BatchSender is a pool or a connection.
type BatchSender interface {
	SendBatch(ctx context.Context, batch *pgx.Batch) pgx.BatchResults
}

// IsOneStatement reports whether it needs no transaction.
func (i *Insert) IsOneStatement() bool { return i.Batch.Keyed() == nil }

// Run stores the messages through db, which is a transaction unless one statement is enough. It returns no
// results if the route is old: then nothing is stored.
func (i *Insert) Run(ctx context.Context, db transact.RowQueryer) ([]backend.PublishResult, error) {
	if !i.IsOneStatement() {
		if err := db.QueryRow(ctx, lockKeySQL, pgx.QueryExecModeCacheDescribe, i.key()).Scan(new(bool)); err != nil {
			return nil, err
		}
	}
	sql, args := i.statement()
	return i.scan(db.QueryRow(ctx, sql, append([]any{pgx.QueryExecModeCacheDescribe}, args...)...))
}

// RunTransaction is Run in a transaction of its own, in one round trip.
func (i *Insert) RunTransaction(ctx context.Context, db BatchSender) (results []backend.PublishResult, err error) {
	var transaction transact.Batch
	transaction.Queue(transact.ReadCommittedSQL)
	transaction.Queue(lockKeySQL, i.key())
	sql, args := i.statement()
	transaction.Queue(sql, args...).QueryRow(func(row pgx.Row) (err error) {
		results, err = i.scan(row)
		return err
	})
	return results, transaction.Run(ctx, db)
}

// lockKeySQL locks a key until the transaction ends. The seed keeps it apart from locks of other programs.
const lockKeySQL = "select pg_advisory_xact_lock(hashtextextended($1::text, 7301942)) is not null"

// key is what the header of the message says: messages of several topics in one queue, which is
// bound to them, do not share their keys.
func (i *Insert) key() string { return i.Route.Own + "/" + i.Batch.Keyed().Key }

// digests are what the table of IDs has of the messages that are stored once. The others have "".
func (i *Insert) digests() []string {
	digests := make([]string, i.Batch.Len())
	for n, condition := range i.Batch.Conditions {
		if condition != nil {
			sum := sha256.Sum256([]byte(i.Route.Own + "/" + i.Batch.IDs[n]))
			digests[n] = hex.EncodeToString(sum[:])
		}
	}
	return digests
}

func (i *Insert) scan(row pgx.Row) ([]backend.PublishResult, error) {
	var valid bool
	var found string
	if err := row.Scan(&valid, &found); err != nil || !valid {
		return nil, err
	}
	if keyed := i.Batch.Keyed(); keyed != nil {
		switch {
		case found == "":
			return []backend.PublishResult{{ID: i.Batch.IDs[0]}}, nil
		case keyed.Replace:
			return []backend.PublishResult{{Outcome: backend.Replaced, ID: found}}, nil
		default:
			return []backend.PublishResult{{Outcome: backend.Existed, ID: found}}, nil
		}
	}
	results := make([]backend.PublishResult, i.Batch.Len())
	for n := range results {
		results[n] = backend.PublishResult{Outcome: backend.Existed, ID: i.Batch.IDs[n]}
	}
	for place := range strings.SplitSeq(found, ",") {
		if n, err := strconv.Atoi(place); err == nil && n >= 1 && n <= len(results) {
			results[n-1].Outcome = backend.Stored
		}
	}
	return results, nil
}

var (
	//go:embed sql/insert_new.sql
	insertNewSQL string
	//go:embed sql/insert_unique.sql
	insertUniqueSQL string
	//go:embed sql/insert_unique_copy.sql
	insertUniqueCopySQL string
	//go:embed sql/replace.sql
	replaceSQL string
	//go:embed sql/replace_copy.sql
	replaceCopySQL string
)

// statement returns the SQL, of which the only row says whether the route is right, and what was found
// there.
func (i *Insert) statement() (sql string, args []any) {
	args = []any{i.Batch.Messages, i.Batch.Headers, i.Batch.Delays, i.Batch.Times, i.Route.Version}
	keyed := i.Batch.Keyed()
	switch {
	case keyed == nil:
		const copySQL = ",\ni{i} as (insert into {table} (vt, message, headers) select vt, message, headers from r order by n returning 1),\ns{i} as (select 1 from i{i})"
		return i.forRoute("insert_new", insertNewSQL, copySQL), append(args, i.digests(), i.Window.Microseconds())
	case keyed.Replace:
		return i.forRoute("replace", replaceSQL, replaceCopySQL), append(args, i.key(), keyed.Debounce.Microseconds())
	default:
		return i.forRoute("insert_unique", insertUniqueSQL, insertUniqueCopySQL), append(args, i.key())
	}
}

// forRoute returns the statement in a file, with what it does for each queue of the route.
func (i *Insert) forRoute(name, file, copyFile string) string {
	return i.Route.Statement(name, func() string {
		var copies strings.Builder
		found, stored := make([]string, len(i.Route.Queues)), make([]string, len(i.Route.Queues))
		for n, queue := range i.Route.Queues {
			number := strconv.Itoa(n)
			found[n], stored[n] = "select id from e"+number, "s"+number
			copies.WriteString(strings.NewReplacer("{i}", number, "{queue}", queue, "{table}", queuename.Table(queue)).Replace(sqlfile.Text(copyFile)))
		}
		return strings.NewReplacer(
			"{unchanged}", i.Route.Unchanged(), "{ids}", idsTable, "{copies}", copies.String(),
			"{found}", strings.Join(found, " union all "), "{queues}", strconv.Itoa(len(found)), "{all stored}", catalog.AllStored("r", stored...),
		).Replace(sqlfile.Text(file))
	})
}
