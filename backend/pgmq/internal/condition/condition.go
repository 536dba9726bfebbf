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
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq/internal/catalog"
	"github.com/ezq-go/ezq/backend/pgmq/internal/codec"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
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

// ErrTaken says that another transaction, which has not ended, has published the same ID or key, or keeps a publish with an ID from
// a table. Nothing is stored.
var ErrTaken = errors.New("another transaction, which has not ended, has published the same ID or key, or has locked a table")

// Run stores the messages in the caller's transaction, and waits for others that publish the same. It returns no
// results if the route is old: then nothing is stored.
func (i *Insert) Run(ctx context.Context, tx transact.RowQueryer) ([]backend.PublishResult, error) {
	if i.Batch.Keyed() != nil {
		var isolation string
		if err := tx.QueryRow(ctx, waitSQL, pgx.QueryExecModeCacheDescribe, i.key()).Scan(new(bool), &isolation); err != nil {
			return nil, err
		}
		if isolation == "repeatable read" || isolation == "serializable" {
			return nil, isolationError(isolation)
		}
	}
	return i.store(ctx, tx, false)
}

func isolationError(isolation string) error {
	return &fault.Error{
		Kind:   fault.ErrInvalidConfig,
		Cause:  fmt.Errorf("the transaction is %s, and does not see what has become of other messages with the key since it began", strings.ToUpper(isolation)),
		Remedy: "publish with a key in a READ COMMITTED transaction, or outside of one",
	}
}

// Try stores the messages in a transaction of its own, in one round trip. It returns [ErrTaken] where Run waits.
func (i *Insert) Try(ctx context.Context, db transact.Sender) (results []backend.PublishResult, err error) {
	var transaction transact.Batch
	transaction.Queue(transact.ReadCommittedSQL)
	transaction.Queue(i.settings())
	locked := true
	if i.Batch.Keyed() != nil {
		transaction.Queue(tryLockSQL, i.key()).QueryRow(func(row pgx.Row) error { return row.Scan(&locked) })
	}
	sql, args := i.statement(true)
	transaction.Queue(sql, args...).QueryRow(func(row pgx.Row) (err error) {
		results, err = i.scan(row)
		return err
	})
	return i.taken(results, locked, transaction.Run(ctx, db))
}

// TryIn is Try in a transaction that was begun for it, statement by statement: a pooler keeps none that is prepared.
func (i *Insert) TryIn(ctx context.Context, tx pgx.Tx) (results []backend.PublishResult, err error) {
	if _, err := tx.Exec(ctx, i.settings(), pgx.QueryExecModeCacheDescribe); err != nil {
		return nil, err
	}
	locked := true
	if i.Batch.Keyed() != nil {
		if err := tx.QueryRow(ctx, tryLockSQL, pgx.QueryExecModeCacheDescribe, i.key()).Scan(&locked); err != nil {
			return nil, err
		}
	}
	results, err = i.store(ctx, tx, true)
	return i.taken(results, locked, err)
}

// store runs the statement in a transaction, which may be one of its own.
func (i *Insert) store(ctx context.Context, tx transact.RowQueryer, alone bool) ([]backend.PublishResult, error) {
	sql, args := i.statement(alone)
	return i.scan(tx.QueryRow(ctx, sql, append([]any{pgx.QueryExecModeCacheDescribe}, args...)...))
}

func (i *Insert) taken(results []backend.PublishResult, locked bool, err error) ([]backend.PublishResult, error) {
	if err == nil && !locked || i.Batch.Keyed() == nil && fault.IsOwnLockTimeout(err, idsName) {
		return nil, ErrTaken
	}
	return results, err
}

const (
	// waitSQL locks a key until the transaction ends. The seed keeps the lock apart from those of other programs.
	waitSQL = "select pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended($1::text, 7301942)) is not null, pg_catalog.current_setting('transaction_isolation')"

	// tryLockSQL is waitSQL without waiting: the next statement asks the setting, since it cannot see the result.
	tryLockSQL = "select pg_catalog.set_config('ezq.locked', pg_catalog.pg_try_advisory_xact_lock(pg_catalog.hashtextextended($1::text, 7301942))::text, true) = 'true'"

	lockedSQL = " and pg_catalog.current_setting('ezq.locked', true) = 'true'"
)

const (
	// settingsSQL has PostgreSQL plan each statement anew, by index.
	settingsSQL = transact.PlanSQL + ", pg_catalog.set_config('plan_cache_mode', 'force_custom_plan', true)"

	// shortWaitSQL has it wait for others with the same ID only so long that what waits does not keep connections from those
	// that need not wait. Nothing with a key waits: its lock is only tried.
	shortWaitSQL = ", pg_catalog.set_config('ezq.lock_timeout', pg_catalog.current_setting('lock_timeout'), true), pg_catalog.set_config('lock_timeout', '20ms', true)"

	// ownWaitSQL restores the setting of the session once all IDs are stored: triggers of the queue have the time that
	// they have in another publish. It is a condition in that statement, and true.
	ownWaitSQL = "(select pg_catalog.set_config('lock_timeout', case when count(*) >= 0 then pg_catalog.current_setting('ezq.lock_timeout') end, true) is not null from fresh)"
)

func (i *Insert) settings() string {
	if i.Batch.Keyed() != nil {
		return settingsSQL
	}
	return settingsSQL + shortWaitSQL
}

// key is what the header of the message says: messages of several topics in one queue, which is
// bound to them, do not share their keys.
func (i *Insert) key() string { return i.Route.Own + "/" + i.Batch.Keyed().UniqueKey }

// CheckIDs returns an error if an ID is of the form that a message without one has in a queue. Its consumers would
// take it for forged.
func (i *Insert) CheckIDs() error {
	for n, condition := range i.Batch.Conditions {
		for _, queue := range i.Route.Queues {
			if id := i.Batch.IDs[n]; condition != nil && codec.IsDefaultID(id, queue) {
				return &fault.Error{Kind: fault.ErrInvalidMessage, Cause: &backend.RefusedError{
					What: fmt.Sprintf("the ID %q", id), Reason: fmt.Sprintf("a message without an ID has one of this form in the queue %q", queue),
					Remedy: "put another character in the place of the slash",
				}}
			}
		}
	}
	return nil
}

// digests are what the table of IDs has of the messages that are stored once. The others have "".
func (i *Insert) digests() []string {
	digests := make([]string, i.Batch.Len())
	for n, condition := range i.Batch.Conditions {
		if condition != nil && condition.Once {
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
			return []backend.PublishResult{{Outcome: backend.PublishReplaced, ID: found}}, nil
		default:
			return []backend.PublishResult{{Outcome: backend.PublishExisted, ID: found}}, nil
		}
	}
	results := make([]backend.PublishResult, i.Batch.Len())
	for n := range results {
		results[n] = backend.PublishResult{Outcome: backend.PublishExisted, ID: i.Batch.IDs[n]}
	}
	for place := range strings.SplitSeq(found, ",") {
		if n, err := strconv.Atoi(place); err == nil && n >= 1 && n <= len(results) {
			results[n-1].Outcome = backend.PublishStored
		}
	}
	return results, nil
}

var (
	//go:embed sql/insert_new.sql
	insertNewSQL string
	//go:embed sql/forget_ids.sql
	forgetIDsSQL string
	//go:embed sql/insert_unique.sql
	insertUniqueSQL string
	//go:embed sql/insert_unique_copy.sql
	insertUniqueCopySQL string
	//go:embed sql/replace.sql
	replaceSQL string
	//go:embed sql/replace_copy.sql
	replaceCopySQL string
)

// statement returns the SQL, of which the only row says whether the route is right, and what was found there; in a
// transaction of its own, or in the caller's.
func (i *Insert) statement(alone bool) (sql string, args []any) {
	args = []any{i.Batch.Messages, i.Batch.Headers, i.Batch.Delays, i.Batch.Times, i.Route.Version}
	keyed := i.Batch.Keyed()
	switch {
	case keyed == nil:
		const copySQL = ",\ni{i} as (insert into {table} (vt, message, headers) select vt, message, headers{added} from r order by n returning 1),\ns{i} as (select 1 from i{i})"
		return i.forRoute("insert_new", insertNewSQL, copySQL, alone), append(args, i.digests(), i.Window.Microseconds())
	case keyed.Replace:
		debounce := keyed.Debounce.Microseconds()
		if keyed.Debounce > 0 {
			debounce = max(debounce, 1)
		}
		return i.forRoute("replace", replaceSQL, replaceCopySQL, alone), append(args, i.key(), debounce)
	default:
		return i.forRoute("insert_unique", insertUniqueSQL, insertUniqueCopySQL, alone), append(args, i.key())
	}
}

// forRoute returns the statement in a file, with what it does for each queue of the route.
func (i *Insert) forRoute(name, file, copyFile string, alone bool) string {
	return i.Route.Statement(fmt.Sprint(name, alone), func() string {
		var copies strings.Builder
		found, stored := make([]string, len(i.Route.Queues)), make([]string, len(i.Route.Queues))
		for n, queue := range i.Route.Queues {
			number := strconv.Itoa(n)
			found[n], stored[n] = "select id from e"+number, "s"+number
			copies.WriteString(strings.NewReplacer(
				"{i}", number, "{queue}", sqlfile.Literal(queue), "{added}", i.Route.AddedHeaders(queue), "{table}", queuename.Table(queue), "{id}", codec.HeaderSQL(codec.UUIDKey, backend.MaxID), "{most}", strconv.Itoa(codec.MaxStoredHeaders),
				"{wait}", strconv.FormatInt(backend.MaxReplaceWait.Microseconds(), 10),
			).Replace(sqlfile.Text(copyFile)))
		}
		unchanged, forget, ownWait := i.Route.Unchanged(), "", "true"
		if alone {
			ownWait = ownWaitSQL
			forget = strings.ReplaceAll(sqlfile.Text(forgetIDsSQL), "{ids}", idsTable)
			if i.Batch.Keyed() != nil {
				unchanged += lockedSQL
			}
		}
		return strings.NewReplacer(
			"{unchanged}", unchanged, "{ids}", idsTable, "{forget}", forget, "{own wait}", ownWait, "{copies}", copies.String(),
			"{due}", "coalesce(t.at, clock_timestamp() + t.delay::double precision * interval '1 microsecond')",
			"{found}", strings.Join(found, " union all "), "{queues}", strconv.Itoa(len(found)), "{all stored}", catalog.AllStored("r", stored...),
		).Replace(sqlfile.Text(file))
	})
}
