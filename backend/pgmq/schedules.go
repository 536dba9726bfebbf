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
	"github.com/ezq-go/ezq/backend/pgmq/internal/queuename"
	"github.com/ezq-go/ezq/backend/pgmq/internal/transact"
)

var (
	//go:embed sql/schedule_list.sql
	listSchedulesSQL string
	//go:embed sql/schedule_pause.sql
	pauseScheduleSQL string
)

// maxSchedules is how many schedules one call lists.
const maxSchedules = 10_000

var _ backend.Scheduler = (*Client)(nil)

// schedules implements [backend.Schedules].
type schedules struct{ publisher *Publisher }

func (s schedules) List(ctx context.Context) ([]backend.ScheduleState, error) {
	var found []schedulePosition
	err := s.check(ctx)
	if err == nil {
		sql := strings.ReplaceAll(inSchedules(listSchedulesSQL), "{most}", strconv.Itoa(codec.MaxStoredHeaders))
		found, err = transact.Collect(ctx, s.publisher.pool, pgx.RowToStructByPos[schedulePosition], sql, maxSchedules+1)
	}
	if fault.IsCode(err, "42P01") { // undefined_table
		return nil, nil
	}
	if err != nil {
		return nil, fault.Classify(listSchedulesOp, "", scheduleDenied(err, "SELECT (msg_id, message)"))
	}
	if len(found) > maxSchedules {
		found, err = found[:maxSchedules], &backend.TruncatedError{
			Tables: []string{queuename.Table(schedulesQueue)}, Reason: fmt.Sprintf("only the first %d schedules were looked at", maxSchedules),
			Remedy: "delete the rows of those that no program has any more",
		}
	}
	all := make([]backend.ScheduleState, len(found))
	for i, one := range found {
		all[i] = one.state()
	}
	return all, fault.Classify(listSchedulesOp, "", err)
}

func (s schedules) Pause(ctx context.Context, name string, p backend.Pause) (paused backend.Paused, err error) {
	if invalid := p.Check(); invalid != nil {
		return paused, fault.Classify(pauseScheduleOp, "", &Error{Kind: ErrInvalidConfig, Cause: invalid})
	}
	err = s.change(ctx, name, func(found schedulePosition) (*backend.Paused, bool) {
		paused = p.Since(found.Now)
		if held := found.paused(); held != nil && !paused.Outlasts(*held) {
			paused = *held
			return nil, false
		}
		return &paused, true
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
	err = s.change(ctx, name, func(found schedulePosition) (*backend.Paused, bool) {
		resumed = found.paused() != nil
		return nil, found.IsPaused
	})
	if errors.Is(err, pgx.ErrNoRows) || fault.IsCode(err, "42P01") {
		return false, nil
	}
	return resumed && err == nil, fault.Classify("resume a schedule", "", err)
}

// change stores the pause that decide returns for a schedule, or with nil ends its pause, if decide says so.
func (s schedules) change(ctx context.Context, name string, decide func(schedulePosition) (*backend.Paused, bool)) error {
	if err := s.check(ctx); err != nil {
		return err
	}
	id := scheduleID(name)
	err := s.publisher.transact(ctx, func(inside *Publisher) error {
		found, err := position(ctx, inside.db, id)
		if err != nil {
			return err
		}
		if found.Schedule != name {
			return pgx.ErrNoRows
		}
		paused, store := decide(found)
		if !store {
			return nil
		}
		return execute(ctx, inside.db, pauseScheduleSQL, id, pauseText(paused))
	})
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

// pauseText returns a pause as it is stored, or nil if there is none.
func pauseText(paused *backend.Paused) *string {
	if paused == nil {
		return nil
	}
	text, _ := json.Marshal(storedPause{paused.By, paused.Reason, paused.Since, timeOrNull(paused.Until)}) // cannot fail: years end at 9999
	return new(string(text))
}
