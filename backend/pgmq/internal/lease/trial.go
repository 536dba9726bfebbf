package lease

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/backend/pgmq/internal/queuename"
	"github.com/ezq-go/ezq/backend/pgmq/internal/transact"
)

// A trial is the UPDATE of a claim, of one row after the other, in a transaction that is rolled back. There is a
// savepoint before each row, so each has its own answer, and its own time. One round trip tries many rows. Halves
// would take two tries for each of a thousand rows that are refused; and if each UPDATE takes some milliseconds, all
// of them together take longer than there is time.

// trial is how rows are tried.
type trial struct {
	queue   *queue
	lease   time.Duration
	timeout time.Duration // of one row
	enough  time.Duration // of all, once a row is accepted
}

// slowUpdate is how long the UPDATE of one row may take, where others show that it is not the server that
// takes so long.
const slowUpdate = time.Second

// trialResult is what is known of rows that were tried. Of those that others have locked, and those that there was
// no time for, it is nothing.
type trialResult struct {
	accepted []int64
	refused  []refusal
}

// refusal is why a row cannot be leased.
type refusal struct {
	id       int64
	cause    error
	doubtful bool // it may have been the state of the server
	slow     bool // it took too long
}

// firstTrials is how many rows the first round trip tries.
const firstTrials = 16

// run tries rows in their order until so many are accepted, or until it has taken so long. If one
// is accepted, it takes less time. It reports whether it has tried them all.
func (t trial) run(ctx context.Context, ids []int64, wanted int, within time.Duration) (found trialResult, all bool, err error) {
	conn, err := t.queue.pool.Acquire(ctx)
	if err != nil {
		return found, false, err
	}
	defer conn.Release() // after an error, this ends the transaction with the connection
	server := conn.Conn().PgConn()
	begin := transact.ReadCommittedSQL + "; " + transact.PlanSQL + ", " + transact.StatementTimeoutSQL(t.timeout) + "; " +
		transact.CheckSQL + "; savepoint untouched"
	if _, err := server.Exec(ctx, begin).ReadAll(); err != nil {
		return found, false, err
	}
	began := time.Now()
	for n := firstTrials; len(ids) > 0 && len(found.accepted) < wanted; n *= 2 {
		limit := within
		if len(found.accepted) > 0 {
			limit = min(within, t.enough)
		}
		if time.Since(began) >= limit {
			break
		}
		n = min(n, len(ids))
		if err := t.tryEach(ctx, server, ids[:n], limit, &found); err != nil {
			return found, false, err
		}
		ids = ids[n:]
		all = len(ids) == 0 && time.Since(began) < limit
	}
	_, err = server.Exec(ctx, "rollback").ReadAll()
	return found, all, err
}

// tryEach tries rows in one round trip, until that time after the beginning of the transaction.
func (t trial) tryEach(ctx context.Context, server *pgconn.PgConn, ids []int64, until time.Duration, found *trialResult) error {
	pipeline := server.StartPipeline(ctx)
	lease, limit := []byte(strconv.FormatInt(t.lease.Microseconds(), 10)), []byte(strconv.FormatInt(until.Microseconds(), 10))
	for _, id := range ids {
		pipeline.SendQueryParams(t.queue.sql().TryLease, [][]byte{fmt.Appendf(nil, "{%d}", id), lease, limit}, nil, nil, nil)
		pipeline.SendPipelineSync()
		pipeline.SendQueryParams("rollback to savepoint untouched", nil, nil, nil, nil)
		pipeline.SendPipelineSync()
	}
	if err := pipeline.Flush(); err != nil {
		return errors.Join(err, pipeline.Close())
	}
	for _, id := range ids {
		counts, refused, err := nextAnswer(pipeline)
		if err == nil {
			_, _, err = nextAnswer(pipeline)
		}
		if err != nil {
			return errors.Join(err, pipeline.Close())
		}
		t.judge(id, counts, refused, found)
	}
	return pipeline.Close()
}

// nextAnswer returns the row that a statement of a pipeline returns, or the error of PostgreSQL.
func nextAnswer(pipeline *pgconn.Pipeline) (row [][]byte, refused, err error) {
	for {
		results, err := pipeline.GetResults()
		switch answer := results.(type) {
		case *pgconn.ResultReader:
			result := answer.Read()
			if err = result.Err; len(result.Rows) > 0 {
				row = result.Rows[0]
			}
		case *pgconn.PipelineSync:
			return row, refused, nil
		}
		switch {
		case fault.IsServerError(err):
			refused = err
		case err != nil:
			return nil, nil, err
		case results == nil:
			return nil, nil, errors.New("pgmq: PostgreSQL does not answer a statement of a pipeline")
		}
	}
}

// judge notes the answer for a row: how many were locked and updated, or an error.
func (t trial) judge(id int64, counts [][]byte, err error, found *trialResult) {
	switch {
	case fault.IsStatementTimeout(err):
		found.refused = append(found.refused, refusal{id: id, cause: t.slowError(err), doubtful: true, slow: true})
	case err != nil:
		found.refused = append(found.refused, refusal{id: id, cause: t.refusedError(err), doubtful: fault.MayBeRetried(err)})
	case len(counts) != 2 || string(counts[0]) == "0":
	case string(counts[1]) == "0":
		found.refused = append(found.refused, refusal{id: id, cause: t.keptError()})
	default:
		found.accepted = append(found.accepted, id)
	}
}

func (t trial) refusedError(err error) error {
	return t.rowError(fault.WithoutSecrets(err), "a constraint, a trigger or a policy that was added to the table refuses it: change what is refused, or remove that")
}

func (t trial) slowError(err error) error {
	return t.rowError(fmt.Errorf("to lease it takes longer than %v: %w", t.timeout, fault.WithoutSecrets(err)),
		"look for a trigger on "+queuename.Table(t.queue.name)+" that takes long, or waits for a lock")
}

func (t trial) keptError() error {
	return t.rowError(errors.New("it stays as it is: PostgreSQL was told to lease it, and returned no error"),
		"look for what keeps rows on "+queuename.Table(t.queue.name)+": a BEFORE UPDATE trigger that returns NULL, a rule or a policy")
}

func (t trial) rowError(cause error, remedy string) error {
	return &fault.Error{Op: "fetch", Topic: t.queue.topic, Cause: cause, Remedy: remedy}
}
