package lease

import (
	"cmp"
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/internal/subscription"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/backend/pgmq/internal/transact"
)

// lockTimeout is how long dead letters wait for a lock on their queue, as while an index is
// built there, before those for other topics go first. They wait with a connection of the
// pool, and are tried again once a second.
const lockTimeout = "100ms"

// DeadLetterTableFunc returns the table that dead letters for topic go to, after a look at it if
// asked to look, or if it was not known.
type DeadLetterTableFunc func(ctx context.Context, topic string, lookUp bool) (table string, err error)

// deadLetterMover moves messages of a queue to another one.
type deadLetterMover struct {
	queue  *queue
	writer writer
	table  DeadLetterTableFunc
}

// move moves messages to another queue, in a transaction of their own. It takes one round
// trip: only if that fails, it looks whether the queue is there, and can be filled.
func (m deadLetterMover) move(ctx context.Context, settlements []subscription.Settlement) (subscription.Missed, error) {
	topic := settlements[0].Disposition.Target.Topic
	about := fault.NewSubject("dead-letter", topic)
	about.Source = m.queue.name
	var refusal *subscription.Refusal
	for _, lookUp := range [...]bool{false, true} {
		table, err := m.table(ctx, topic, lookUp)
		if err != nil {
			return subscription.Missed{}, refuseDeadLetters(err)
		}
		found, err := m.run(ctx, table, settlements)
		switch {
		case err == nil:
			return m.writer.findMissed(ctx, tokensOf(settlements), found), nil
		case fault.IsLockTimeout(err):
			return subscription.Missed{Busy: tokensOf(settlements)}, nil
		case m.queue.isDropped(ctx, err):
			return subscription.Missed{Gone: tokensOf(settlements)}, nil
		case !fault.IsServerError(err):
			return subscription.Missed{}, about.Classify(err)
		}
		refusal = &subscription.Refusal{Cause: about.Classify(err), Transient: !fault.IsRefused(err)}
		if !fault.IsTableError(err) {
			break
		}
	}
	return subscription.Missed{}, refusal
}

// run runs the statement that moves messages, and returns those that it has found.
//
// pgx would have it parsed before the transaction, to learn the types of its parameters. PostgreSQL
// locks the tables of what it parses, and nothing would limit the wait for that.
func (m deadLetterMover) run(ctx context.Context, table string, settlements []subscription.Settlement) (idSet, error) {
	var columns deadLetterColumns
	for _, settlement := range settlements {
		columns.add(settlement, m.queue.name, m.queue.group, m.queue.encoding)
	}
	found := make(idSet, len(settlements))
	return found, m.queue.pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) error {
		types := conn.Conn().TypeMap()
		values, oids, err := columns.encode(types)
		if err != nil {
			return err
		}
		binary := []int16{pgx.BinaryFormatCode} // of all
		before := []string{transact.ReadCommittedSQL, transact.PlanSQL, "set local lock_timeout = '" + lockTimeout + "'"}
		var batch pgconn.Batch
		for _, sql := range before {
			batch.ExecParams(sql, nil, nil, nil, nil)
		}
		batch.ExecParams(m.queue.sql().DeadLetter(table), values, oids, binary, binary)
		batch.ExecParams("commit", nil, nil, nil, nil)
		results := conn.Conn().PgConn().ExecBatch(ctx, &batch)
		for i := 0; results.NextResult(); i++ {
			rows := pgx.RowsFromResultReader(types, results.ResultReader())
			if i == len(before) {
				err = found.collect(rows)
			}
			rows.Close()
		}
		return cmp.Or(results.Close(), err)
	})
}

// refuseDeadLetters returns err, which says that dead letters have no queue, as the refusal of all, if
// trying again does not help.
func refuseDeadLetters(err error) error {
	var refused bool
	if known, ok := errors.AsType[*fault.Error](err); ok {
		refused = known.Kind != nil && !errors.Is(known.Kind, fault.ErrUnreachable)
	}
	if refused || fault.IsRefused(err) || errors.Is(err, backend.ErrClosed) {
		return &subscription.Refusal{Cause: err, Whole: true}
	}
	return err
}
