package pgmq

import (
	"context"
	_ "embed"
	"encoding/json"
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
	"github.com/ezq-go/ezq/backend/pgmq/internal/transact"
)

var (
	//go:embed sql/schedule_list.sql
	listSchedulesSQL string
	//go:embed sql/schedule_pause.sql
	pauseScheduleSQL string
)

const (
	// maxSchedules is how many schedules one call lists.
	maxSchedules = 10_000

	// maxStoredSchedule is how many bytes the message of a schedule may have, as PostgreSQL stores it: with its name and a
	// pause it has half of that.
	maxStoredSchedule = 8 << 10

	// listSchedulesTimeout is how long a statement looks at schedules.
	listSchedulesTimeout = 3 * time.Second
)

var _ backend.Scheduler = (*Client)(nil)

// schedules implements [backend.Schedules].
type schedules struct{ publisher *Publisher }

func (s schedules) List(ctx context.Context) ([]backend.ScheduleState, error) {
	err := s.check(ctx)
	var all []backend.ScheduleState
	var leftOut error
	if err == nil {
		all, err = s.listThose(ctx, fmt.Sprintf("pg_catalog.pg_column_size(message) <= %d", maxStoredSchedule))
	}
	if fault.IsCode(err, "57014") && ctx.Err() == nil { // query_canceled
		all, err = s.listThose(ctx, codec.IsReadFast("message"))
		leftOut = &backend.TruncatedError{
			Tables: []string{queuename.Table(schedulesQueue)}, Reason: fmt.Sprintf("a statement took longer than %v, and schedules with large messages were left out", listSchedulesTimeout),
			Remedy: fmt.Sprintf("to see those, run select msg_id from %s where pg_column_compression(message) is not null", queuename.Table(schedulesQueue)),
		}
	}
	if fault.IsCode(err, "42P01") { // undefined_table
		return nil, nil
	}
	if err != nil {
		return nil, fault.Classify(listSchedulesOp, "", scheduleDenied(err, "SELECT (msg_id, message)"))
	}
	if len(all) > maxSchedules {
		all, leftOut = all[:maxSchedules], &backend.TruncatedError{
			Tables: []string{queuename.Table(schedulesQueue)}, Reason: fmt.Sprintf("only the first %d schedules were looked at", maxSchedules),
			Remedy: "delete the rows of those that no program has any more",
		}
	}
	return all, fault.Classify(listSchedulesOp, "", leftOut)
}

// listThose lists the schedules in messages for which a condition in SQL holds.
func (s schedules) listThose(ctx context.Context, condition string) (all []backend.ScheduleState, err error) {
	sql := strings.NewReplacer("{read}", condition, "{longest}", strconv.Itoa(backend.MaxTopic)).Replace(inSchedules(listSchedulesSQL))
	err = transact.Run(ctx, s.publisher.pool, fmt.Sprintf("statement_timeout = %d", listSchedulesTimeout.Milliseconds()), func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, sql, pgx.QueryExecModeCacheDescribe, maxSchedules+1)
		if err != nil {
			return err
		}
		all, err = pgx.CollectRows(rows, func(r pgx.CollectableRow) (backend.ScheduleState, error) {
			found, err := pgx.RowToStructByPos[schedulePosition](r)
			return found.state(), err
		})
		return err
	})
	return all, err
}

func (s schedules) Pause(ctx context.Context, name string, p backend.Pause) (paused backend.Paused, err error) {
	if invalid := p.Check(); invalid != nil {
		return paused, fault.Classify(pauseScheduleOp, "", &Error{Kind: ErrInvalidConfig, Cause: invalid})
	}
	err = s.change(ctx, name, func(found schedulePosition) *pauseChange {
		paused = p.Since(found.Now)
		if held := found.paused(); held != nil && !paused.Outlasts(*held) {
			paused = *held
			return nil
		}
		stored := storedPause{paused.By, paused.Reason, paused.Since, timeOrNull(paused.Until)}
		return &pauseChange{"{paused}", stored, found.takenBefore(paused)}
	})
	if errors.Is(err, pgx.ErrNoRows) || fault.IsCode(err, "42P01") {
		err = &Error{Kind: ErrInvalidConfig, Cause: backend.UnknownSchedule(name)}
	}
	return paused, fault.Classify(pauseScheduleOp, "", err)
}

const (
	listSchedulesOp = "list schedules"
	pauseScheduleOp = "pause a schedule"
)

func (s schedules) Resume(ctx context.Context, name string) (resumed bool, err error) {
	err = s.change(ctx, name, func(found schedulePosition) *pauseChange {
		if resumed = found.paused() != nil; !resumed {
			return nil
		}
		return &pauseChange{path: "{paused,until}", value: found.Now} // it is not forgotten: a tick that has passed in it may come late
	})
	if errors.Is(err, pgx.ErrNoRows) || fault.IsCode(err, "42P01") {
		return false, nil
	}
	return resumed && err == nil, fault.Classify("resume a schedule", "", err)
}

// pauseChange is what a call changes in the message of a schedule.
type pauseChange struct {
	path  string // to what changes
	value any
	last  time.Time // the last tick that is taken; zero: it stays
}

// change stores what decide returns for a schedule, unless it is nil.
func (s schedules) change(ctx context.Context, name string, decide func(schedulePosition) *pauseChange) error {
	if err := s.check(ctx); err != nil {
		return err
	}
	id, changes := scheduleID(name), false
	err := s.publisher.transact(ctx, func(inside *Publisher) error {
		found, err := position(ctx, inside.db, id)
		if err != nil {
			return err
		}
		if found.Schedule != name {
			return pgx.ErrNoRows
		}
		change := decide(found)
		if changes = change != nil; !changes {
			return nil
		}
		value, _ := json.Marshal(change.value) // cannot fail: years end at 9999
		return execute(ctx, inside.db, pauseScheduleSQL, id, change.path, string(value), timeOrNull(change.last))
	})
	if sent, ok := errors.AsType[*insert.SendError](err); ok && changes {
		err = fault.Sent(sent.Cause)
	}
	return scheduleDenied(err, "SELECT (msg_id, message), UPDATE (message)")
}

// check returns why the table of the schedules cannot be used.
func (s schedules) check(ctx context.Context) error {
	if err := s.publisher.checkOpen(); err != nil {
		return err
	}
	return catalog.RequireTrusted(ctx, s.publisher.pool, []string{queuename.Table(schedulesQueue)}, "")
}

// storedPause is a pause in the message of its schedule.
type storedPause struct {
	By     string     `json:"by"`
	Reason string     `json:"reason"`
	Since  time.Time  `json:"since"`
	Until  *time.Time `json:"until,omitempty"`
}
