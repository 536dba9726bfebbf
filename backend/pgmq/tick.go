package pgmq

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/backend/pgmq/internal/queuename"
	"github.com/ezq-go/ezq/backend/pgmq/internal/sqlfile"
	"github.com/ezq-go/ezq/internal/schema"
)

var (
	//go:embed sql/schedule_position.sql
	positionSQL string
	//go:embed sql/schedule_begin.sql
	beginSQL string
	//go:embed sql/schedule_advance.sql
	advanceSQL string
)

// schedulesQueue has one message for each schedule, which says how far it has come.
// It is a queue so that there is no table that PGMQ does not know. No consumer
// receives those messages: they become visible in a hundred years.
const schedulesQueue = schema.Schedules

// advance takes tick for its schedule, if its time has come and it is not
// taken.
func advance(ctx context.Context, db DBTX, tick *backend.ScheduleTick) (backend.TickResult, error) {
	id := scheduleID(tick.Schedule)
	found, err := position(ctx, db, id)
	if errors.Is(err, pgx.ErrNoRows) {
		// It begins now. Another process may be faster, which is no error.
		if err = execute(ctx, db, beginSQL, id, tick.Schedule, timeOrNull(tick.Next)); err == nil {
			found, err = position(ctx, db, id)
		}
	}
	if err != nil {
		return backend.TickResult{}, err
	}
	last, err := found.check(tick.Schedule, id)
	if err != nil {
		return backend.TickResult{}, err
	}
	result := backend.TickResult{Now: found.Now, Last: last}
	switch {
	case tick.At.After(found.Now):
		result.Outcome = backend.TickEarly
	case !tick.At.After(last):
		result.Outcome = backend.TickTaken
	default:
		result.Last = tick.At
		if found.passes(tick.At) {
			result.Outcome = backend.TickPaused
		}
		err = execute(ctx, db, advanceSQL, id, tick.At, timeOrNull(tick.Next))
	}
	return result, err
}

// scheduleID is a number that PGMQ never gives a message: a negative one.
func scheduleID(schedule string) int64 {
	sum := sha256.Sum256([]byte(schedule))
	return int64(binary.BigEndian.Uint64(sum[:]) | 1<<63) //nolint:gosec // the sign is the point
}

// schedulePosition is what is stored of a schedule. Any role that may write into the queue may
// have written it: it is read as text, since a failed cast to a time would quote it.
type schedulePosition struct {
	Schedule, Last, Next     string
	IsPaused                 bool
	By, Reason, Since, Until string // of the pause
	Now                      time.Time
}

// maxScheduleName is how many characters of a name are read, which is more than any has.
const maxScheduleName = 1 << 17

// scheduleColumns returns a schedulePosition without the name, in SQL.
func scheduleColumns() string {
	const maxTime = 100
	return strings.Join([]string{
		scheduleText("message->'last'::text", maxTime), scheduleText("message->'next'::text", maxTime),
		"coalesce(pg_catalog.jsonb_typeof(message->'paused'::text) = 'object'::text, false)",
		scheduleText("message->'paused'::text->'by'::text", backend.MaxPauseAuthor), scheduleText("message->'paused'::text->'reason'::text", backend.MaxPauseReason),
		scheduleText("message->'paused'::text->'since'::text", maxTime), scheduleText("message->'paused'::text->'until'::text", maxTime),
		"clock_timestamp()",
	}, ", ")
}

// scheduleText reads up to most characters of a string in a message. Anything else is none: the text of a few bytes of
// jsonb can have a gigabyte.
func scheduleText(value string, most int) string {
	return fmt.Sprintf("case when pg_catalog.jsonb_typeof(%[1]s) = 'string'::text then pg_catalog.left(%[1]s#>>'{}'::text[], %[2]d) else ''::text end", value, most)
}

// lastPause returns the last pause, which may have ended, or nil. One whose end is no time has none.
func (p schedulePosition) lastPause() *backend.Paused {
	if !p.IsPaused {
		return nil
	}
	return &backend.Paused{By: p.By, Reason: p.Reason, Since: timeOf(p.Since), Until: timeOf(p.Until)}
}

// paused returns the pause that holds, or nil.
func (p schedulePosition) paused() *backend.Paused {
	paused := p.lastPause()
	if paused == nil || !paused.HoldsAt(p.Now) {
		return nil
	}
	return paused
}

// passes reports whether a tick that is due passes in a pause: in one that holds now, or that held when its time came.
func (p schedulePosition) passes(at time.Time) bool {
	paused := p.lastPause()
	return paused != nil && (paused.HoldsAt(p.Now) || paused.Covers(at))
}

// takenBefore returns the last tick that is taken when a pause replaces the last one: nothing that has passed before the
// end of that is made up for. It is the zero Time if that changes nothing.
func (p schedulePosition) takenBefore(wanted backend.Paused) time.Time {
	paused := p.lastPause()
	if paused == nil {
		return time.Time{}
	}
	if end := paused.EndBy(wanted.Since); end.After(timeOf(p.Last)) {
		return end
	}
	return time.Time{}
}

func (p schedulePosition) state() backend.ScheduleState {
	return backend.ScheduleState{Name: p.Schedule, Last: timeOf(p.Last), Next: timeOf(p.Next), Paused: p.paused()}
}

// timeOf returns the time that a text is, or the zero Time.
func timeOf(text string) time.Time {
	at, _ := time.Parse(time.RFC3339, text)
	return at
}

// maxAhead is how far ahead of the clock of the server the last tick may be, which steps back
// when it is set, or when another server takes over.
const maxAhead = time.Minute

// check returns the last tick, or says what is wrong with what is stored.
func (p schedulePosition) check(schedule string, id int64) (last time.Time, err error) {
	last, err = time.Parse(time.RFC3339, p.Last)
	wrong := ""
	switch {
	case p.Schedule != schedule:
		wrong = "is that of another schedule, or of none"
	case err != nil:
		wrong = "has no time"
	case last.Sub(p.Now) > maxAhead:
		wrong = "says that it has come further than the time is by the clock of the server, by " + last.Sub(p.Now).Round(time.Second).String()
	default:
		return last, nil
	}
	return time.Time{}, &Error{
		Cause: fmt.Errorf("no tick of the schedule %.100q is published: its message in the queue %q %s", schedule, schedulesQueue, wrong),
		Remedy: fmt.Sprintf("if the clock is right, run DELETE FROM %s WHERE msg_id = %d, and the schedule begins anew;"+
			" and see who else may write there", queuename.Table(schedulesQueue), id),
	}
}

func position(ctx context.Context, db DBTX, id int64) (schedulePosition, error) {
	rows, err := db.Query(ctx, inSchedules(positionSQL), pgx.QueryExecModeCacheDescribe, id)
	if err != nil {
		return schedulePosition{}, err
	}
	return pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[schedulePosition])
}

func execute(ctx context.Context, db DBTX, sql string, args ...any) error {
	_, err := db.Exec(ctx, inSchedules(sql), append([]any{pgx.QueryExecModeCacheDescribe}, args...)...)
	return err
}

func inSchedules(sql string) string {
	return strings.NewReplacer("{table}", queuename.Table(schedulesQueue), "{columns}", scheduleColumns(), "{name}", scheduleText("message->'schedule'::text", maxScheduleName)).Replace(sqlfile.Text(sql))
}

// scheduleDenied returns err, or if the role lacks one of the privileges, an error that says so.
func scheduleDenied(err error, privileges string) error {
	if !fault.IsCode(err, "42501") {
		return err
	}
	return &Error{
		Kind: ErrPermission, Cause: fault.WithoutSecrets(err),
		Remedy: fmt.Sprintf("let its owner run GRANT %s ON %s TO the role", privileges, queuename.Table(schedulesQueue)),
	}
}
