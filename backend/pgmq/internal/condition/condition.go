// Package condition publishes messages that are stored only if their like is not there: with an ID that is new, or with a
// key that no other message has.
//
// A publish outside of a transaction is one round trip, and what it needs beside the message is little: its statements stay
// prepared, with a plan that does not depend on statistics, and several calls share them. Measured, these three are most of
// what a condition costs.
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
	"encoding/json"
	"errors"
	"fmt"
	"slices"
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

// Insert stores messages, each as far as its condition allows: either some with keys that are of one kind, or any number without.
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
func (i *Insert) Run(ctx context.Context, tx transact.RowQueryer) ([]insert.Result, error) {
	for _, key := range i.keys() {
		var isolation string
		if err := tx.QueryRow(ctx, waitSQL, pgx.QueryExecModeCacheDescribe, key).Scan(new(bool), &isolation); err != nil {
			return nil, err
		}
		if isolation == "repeatable read" || isolation == "serializable" {
			return nil, isolationError(isolation)
		}
	}
	sql, args := i.statement(nil, false)
	return i.scan(nil, tx.QueryRow(ctx, sql, append([]any{pgx.QueryExecModeCacheDescribe}, args...)...))
}

func isolationError(isolation string) error {
	return &fault.Error{
		Kind:   fault.ErrInvalidConfig,
		Cause:  fmt.Errorf("the transaction is %s, and does not see what has become of other messages with the key since it began", strings.ToUpper(isolation)),
		Remedy: "publish with a key in a READ COMMITTED transaction, or outside of one",
	}
}

// DB is a pool or a connection.
type DB interface {
	transact.RowQueryer
	transact.Sender
}

// Try stores the messages in one round trip, without a transaction that would have to be begun and committed. Messages whose
// keys another transaction has are not stored, and their results say so; for an ID it returns [ErrTaken] then, and
// has stored nothing. It returns no results, and has stored nothing, if the route is old, or if transactions of the
// connection are not READ COMMITTED by themselves.
func (i *Insert) Try(ctx context.Context, db DB) (results []insert.Result, err error) {
	shared := i.share()
	sql, args := i.statement(shared, true)
	if !i.Batch.IsKeyed() {
		if i.Route.Pooled {
			args = slices.Insert(args, 0, any(pgx.QueryExecModeCacheDescribe))
		}
		results, err = i.scan(shared, db.QueryRow(ctx, sql, args...))
		return i.taken(results, err)
	}
	var both pgx.Batch // which PostgreSQL takes as one transaction, with a snapshot for each of its statements
	both.Queue(tryLockSQL, sentOf(shared, i.keys()))
	both.Queue(sql, args...).QueryRow(func(row pgx.Row) (err error) {
		results, err = i.scan(shared, row)
		return err
	})
	return i.taken(results, db.SendBatch(ctx, &both).Close())
}

// TryIn is Try in a READ COMMITTED transaction that was begun for it, statement by statement: a pooler keeps none that is
// prepared.
func (i *Insert) TryIn(ctx context.Context, tx pgx.Tx) (results []insert.Result, err error) {
	shared := i.share()
	if i.Batch.IsKeyed() {
		if _, err := tx.Exec(ctx, tryLockSQL, pgx.QueryExecModeCacheDescribe, sentOf(shared, i.keys())); err != nil {
			return nil, err
		}
	}
	sql, args := i.statement(shared, true)
	results, err = i.scan(shared, tx.QueryRow(ctx, sql, append([]any{pgx.QueryExecModeCacheDescribe}, args...)...))
	return i.taken(results, err)
}

func (i *Insert) taken(results []insert.Result, err error) ([]insert.Result, error) {
	if err == nil {
		return results, nil
	}
	if !i.Batch.IsKeyed() && fault.IsOwnLockTimeout(err, idsName) {
		err = ErrTaken
	}
	return nil, err
}

const (
	// waitSQL locks a key until the transaction ends. The seed keeps the lock apart from those of other programs.
	waitSQL = "select pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended($1::text, 7301942)) is not null, pg_catalog.current_setting('transaction_isolation')"

	// tryLockSQL is waitSQL for several keys, without waiting: the next statement asks the setting, since it cannot see the
	// result. It also has PostgreSQL keep one plan of that, which reads queues by index whatever their statistics say, and
	// which is not compiled. The plan is made anew when an index comes or goes.
	tryLockSQL = "select pg_catalog.set_config('ezq.locked', array(select pg_catalog.pg_try_advisory_xact_lock(pg_catalog.hashtextextended(key, 7301942)) from pg_catalog.unnest($1::text[]) as key)::text, true), " +
		"pg_catalog.set_config('enable_seqscan', 'off', true), pg_catalog.set_config('jit', 'off', true), pg_catalog.set_config('plan_cache_mode', 'force_generic_plan', true)"

	lockedSQL = "(pg_catalog.current_setting('ezq.locked')::boolean[])"

	// readCommittedSQL keeps a statement that is a transaction by itself from storing anything where the session has another
	// default. There it would not see what others have stored before it, or fail instead.
	readCommittedSQL = " and pg_catalog.current_setting('transaction_isolation') = 'read committed'"
)

const (
	// shortWaitSQL has a statement wait for others with the same ID only so long that what waits does not keep connections from
	// those that need not wait. Nothing with a key waits: its lock is only tried. The setting lasts as long as the
	// transaction, which is the statement.
	shortWaitSQL = "pg_catalog.set_config('lock_timeout', case when before is not null then '20ms' end, true)"

	// ownWaitSQL restores the setting of the session once all IDs are stored. It is a condition in that statement, and true.
	// That it counts them has PostgreSQL store them before. It is also true where w has no row, since the route is old.
	ownWaitSQL = "(select pg_catalog.set_config('lock_timeout', case when (select count(*) from fresh) >= 0::bigint then before end, true) is not null from w) is not false"
)

// keys are what the headers of the messages say: messages of several topics in one queue, which is
// bound to them, do not share their keys.
func (i *Insert) keys() []string {
	if !i.Batch.IsKeyed() {
		return nil
	}
	keys := make([]string, i.Batch.Len())
	for n, condition := range i.Batch.Conditions {
		keys[n] = i.Route.Own + "/" + condition.UniqueKey
	}
	return keys
}

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

// digests are what the table of IDs has of the messages that are stored once. The others have nil.
func (i *Insert) digests() [][]byte {
	digests := make([][]byte, i.Batch.Len())
	for n, condition := range i.Batch.Conditions {
		if condition != nil && condition.Once {
			sum := sha256.Sum256([]byte(i.Route.Own + "/" + i.Batch.IDs[n]))
			digests[n] = sum[:]
		}
	}
	return digests
}

// share returns how messages with one ID, or one key, share the decision on it.
func (i *Insert) share() *share {
	if i.Batch.Len() == 1 {
		return nil
	}
	return newShare(i.Batch)
}

// scan returns what became of each message.
func (i *Insert) scan(shared *share, row pgx.Row) ([]insert.Result, error) {
	var valid bool
	var answer string
	if err := row.Scan(&valid, &answer); err != nil || !valid {
		return nil, err
	}
	if !i.Batch.IsKeyed() {
		return i.onceResults(shared, answer), nil
	}
	var found []*string
	if err := json.Unmarshal([]byte(answer), &found); err != nil {
		return nil, fmt.Errorf("the answer of PostgreSQL is no list of IDs: %w", err)
	}
	return i.keyedResults(shared, found), nil
}

// onceResults reads the places of those that were stored, of what was sent.
func (i *Insert) onceResults(shared *share, stored string) []insert.Result {
	results := make([]insert.Result, i.Batch.Len())
	for n := range results {
		results[n].PublishResult = backend.PublishResult{Outcome: backend.PublishExisted, ID: i.Batch.IDs[n]}
	}
	for place := range strings.SplitSeq(stored, ",") {
		if n, err := strconv.Atoi(place); err == nil && n >= 1 && n <= shared.count(len(results)) {
			results[shared.message(n-1)].Outcome = backend.PublishStored
		}
	}
	return results
}

// keyedResults reads the ID that was found for each message that was sent: "" if there was none, and nil if its key was not locked.
func (i *Insert) keyedResults(shared *share, found []*string) []insert.Result {
	results := make([]insert.Result, i.Batch.Len())
	before := make([]string, len(found)) // the message that has the key
	for n, condition := range i.Batch.Conditions {
		at := shared.place(n)
		if at < 0 || at >= len(found) || found[at] == nil {
			results[n].Taken = true
			continue
		}
		if before[at] == "" {
			before[at] = *found[at]
		}
		switch {
		case before[at] == "":
			results[n].PublishResult = backend.PublishResult{ID: i.Batch.IDs[n]}
			before[at] = i.Batch.IDs[n]
		case condition.Replace:
			results[n].PublishResult = backend.PublishResult{Outcome: backend.PublishReplaced, ID: before[at]}
			before[at] = i.Batch.IDs[n]
		default:
			results[n].PublishResult = backend.PublishResult{Outcome: backend.PublishExisted, ID: before[at]}
		}
	}
	return results
}

var (
	//go:embed sql/insert_new.sql
	insertNewSQL string
	//go:embed sql/insert_new_one.sql
	insertNewOneSQL string
	//go:embed sql/insert_unique_one.sql
	insertUniqueOneSQL string
	//go:embed sql/insert_unique.sql
	insertUniqueSQL string
	//go:embed sql/insert_unique_copy.sql
	insertUniqueCopySQL string
	//go:embed sql/replace_one.sql
	replaceOneSQL string
	//go:embed sql/replace.sql
	replaceSQL string
	//go:embed sql/replace_copy.sql
	replaceCopySQL string
)

// statement returns the SQL, of which the only row says whether the route is right, and what was found there; in a
// transaction of its own, or in the caller's.
func (i *Insert) statement(shared *share, alone bool) (sql string, args []any) {
	batch := shared.batch(i.Batch)
	one := alone && batch.Len() == 1 && i.Route.InsertOne != ""
	if one {
		args = append(make([]any, 0, 8), batch.Messages[0], batch.Headers[0], batch.Delays[0], batch.Times[0], i.Route.Version)
	} else {
		args = append(make([]any, 0, 8), batch.Messages, batch.Headers, batch.Delays, batch.Times, i.Route.Version)
	}
	switch {
	case !batch.IsKeyed() && one:
		return i.forRoute("insert_new_one", insertNewOneSQL, "", alone), append(args, sentOf(shared, i.digests())[0], i.Window.Microseconds())
	case !batch.IsKeyed():
		const copySQL = ",\ni{i} as (insert into {table} (vt, message, headers) select vt, message, headers{added} from r order by n returning 1),\ns{i} as (select 1 from i{i})"
		return i.forRoute("insert_new", insertNewSQL, copySQL, alone), append(args, sentOf(shared, i.digests()), i.Window.Microseconds())
	case batch.Conditions[0].Replace && one:
		return i.forRoute("replace_one", replaceOneSQL, "", alone), append(args, sentOf(shared, i.keys())[0], longestWaits(batch)[0])
	case batch.Conditions[0].Replace:
		return i.forRoute("replace", replaceSQL, replaceCopySQL, alone), append(args, sentOf(shared, i.keys()), longestWaits(batch))
	case one:
		return i.forRoute("insert_unique_one", insertUniqueOneSQL, "", alone), append(args, sentOf(shared, i.keys())[0])
	default:
		return i.forRoute("insert_unique", insertUniqueSQL, insertUniqueCopySQL, alone), append(args, sentOf(shared, i.keys()))
	}
}

// longestWaits are the times of Debounce in microseconds, or 0.
func longestWaits(batch insert.Batch) []int64 {
	waits := make([]int64, batch.Len())
	for n, condition := range batch.Conditions {
		if condition.Debounce > 0 {
			waits[n] = max(condition.Debounce.Microseconds(), 1)
		}
	}
	return waits
}

// forRoute returns the statement in a file, with what it does for each queue of the route.
func (i *Insert) forRoute(name, file, copyFile string, alone bool) string {
	if alone {
		name += ", alone"
	}
	return i.Route.Statement(name, func() string {
		var copies strings.Builder
		found, stored := make([]string, len(i.Route.Queues)), make([]string, len(i.Route.Queues))
		for n := range i.Route.Queues {
			found[n], stored[n] = "select n, id from e"+strconv.Itoa(n), "s"+strconv.Itoa(n)
			copies.WriteString(strings.NewReplacer(i.queueNames(n)...).Replace(sqlfile.Text(copyFile)))
		}
		unchanged, locked, wait, ownWait := i.Route.Unchanged(), "'{t}'::boolean[]", "''::text", "true"
		if alone {
			unchanged += readCommittedSQL
			locked, wait, ownWait = lockedSQL, shortWaitSQL, ownWaitSQL
		}
		return strings.NewReplacer(append(i.queueNames(0),
			"{unchanged}", unchanged, "{ids}", idsTable, "{locked}", locked, "{wait}", wait, "{own wait}", ownWait, "{copies}", copies.String(),
			"{mark}", fault.NotStoredMark, "{due}", dueSQL(file), "{found}", strings.Join(found, " union all "), "{queues}", strconv.Itoa(len(found)),
			"{all stored}", catalog.AllStored("r", stored...),
		)...).Replace(sqlfile.Text(file))
	})
}

// expiredSQL tells of a message whether it has expired.
func expiredSQL() string {
	return strings.NewReplacer("{read fast}", codec.IsReadFast("headers"),
		"{at}", codec.HeaderSQL(backend.ExpiresAt, len("2006-01-02T15:04:05.123456789+15:04"))).Replace(sqlfile.Text(expiredFile))
}

// queueNames are the names in a statement that are those of a queue, and what they stand for.
func (i *Insert) queueNames(n int) []string {
	queue := i.Route.Queues[n]
	return []string{
		"{i}", strconv.Itoa(n), "{queue}", sqlfile.Literal(queue), "{added}", i.Route.AddedHeaders(queue), "{table}", queuename.Table(queue),
		"{id}", codec.HeaderSQL(codec.UUIDKey, backend.MaxID), "{most}", strconv.Itoa(codec.MaxStoredHeaders), "{expired}", expiredSQL(),
		"{longest wait}", strconv.FormatInt(backend.MaxReplaceWait.Microseconds(), 10),
	}
}

//go:embed sql/expired.sql
var expiredFile string

// dueSQL is when a message is due, of one or of several.
func dueSQL(file string) string {
	if file == replaceOneSQL {
		return "coalesce($4::timestamptz, clock_timestamp() + $3::bigint::double precision * interval '1 microsecond')"
	}
	return "coalesce(t.at, clock_timestamp() + t.delay::double precision * interval '1 microsecond')"
}
