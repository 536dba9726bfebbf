package schedule

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/ezq"
)

// Config adjusts a [Timetable]. The zero value is ready for production.
type Config struct {
	// CatchUp is how many missed ticks of a schedule are published later. If more were
	// missed, the latest are. Defaults to 1: after a night without any process, an hourly
	// schedule has one event, and not eight.
	CatchUp int

	// Logger receives an error when an event cannot be published. Defaults to
	// [slog.Default].
	Logger *slog.Logger
}

// Timetable publishes the events of schedules. Create it with [New], [Timetable.Add]
// schedules, then [Timetable.Run] it, once. Before Run, use it from one goroutine only.
type Timetable struct {
	publisher message.Publisher
	config    Config
	entries   []*entry
	started   atomic.Bool
}

// New returns a timetable that publishes through p. A nil config means the defaults. New
// returns an error if p is nil, if a number in config is negative, or if p does not
// promise Schedules. The last of these errors matches [errors.ErrUnsupported].
func New(p message.Publisher, config *Config) (*Timetable, error) {
	var settings Config
	if config != nil {
		settings = *config
	}
	switch {
	case p == nil:
		return nil, errors.New("schedule: New: the publisher is nil: pass a backend")
	case !backend.FeaturesOf(p).Schedules:
		return nil, fmt.Errorf("schedule: New: a %T cannot publish a tick exactly once: use PGMQ or memory: %w", p, errors.ErrUnsupported)
	case settings.CatchUp < 0:
		return nil, fmt.Errorf("schedule: New: Config.CatchUp is %d: set it to 0 for the default, or more", settings.CatchUp)
	}
	settings.CatchUp = cmp.Or(settings.CatchUp, 1)
	settings.Logger = cmp.Or(settings.Logger, slog.Default())
	return &Timetable{publisher: p, config: settings}, nil
}

// Add registers an event that is published at each tick of s, with opts. [ezq.Delay] and
// [ezq.At] are not allowed, and neither is [ezq.ID]: under one ID the ticks would be one event.
// With [ezq.Unique] a tick stores nothing while the event of an earlier one waits. Use the same name in all processes, and do not change it:
// under a new name the schedule starts again. The name may stay if s changes.
//
// Add returns an error
//
//   - if the name is empty, is not UTF-8 without NUL, has more than [backend.MaxTopic] bytes, or has been added before,
//   - if s is nil, is not valid, or has no tick,
//   - if [ezq.Publish] would refuse the event or an option, or
//   - if the timetable has been started.
func (t *Timetable) Add(name string, s Schedule, event any, opts ...ezq.PublishOption) error {
	e := &entry{timetable: t, name: name, schedule: s, event: event, opts: opts}
	if err := t.check(e); err != nil {
		return fmt.Errorf("schedule: Add %.60q: %w", name, err)
	}
	t.entries = append(t.entries, e)
	return nil
}

func (t *Timetable) check(e *entry) error {
	if t.started.Load() {
		return errors.New("the timetable has been started: add all schedules before Run")
	}
	if e.name == "" || !utf8.ValidString(e.name) || strings.Contains(e.name, "\x00") {
		return errors.New("the name must be UTF-8 without NUL, and must not be empty")
	}
	if len(e.name) > backend.MaxTopic {
		return fmt.Errorf("the name has %d bytes: choose one of %d at most", len(e.name), backend.MaxTopic)
	}
	for _, other := range t.entries {
		if other.name == e.name {
			return errors.New("a schedule of that name exists: choose another name")
		}
	}
	if e.schedule == nil {
		return errors.New("the schedule is nil: use Every or Cron")
	}
	if s, ok := e.schedule.(every); ok && s.check() != nil {
		return s.check()
	}
	now := time.Now()
	if next := e.schedule.Next(now); !next.After(now) {
		return fmt.Errorf("the tick after %v is %v: Next must return a later time", now, next)
	}
	return e.publish(context.Background(), dryRun{}, now, "")
}

// dryRun is a publisher that stores nothing. It refuses the options that no schedule may
// have.
type dryRun struct{}

func (dryRun) Features() backend.Features {
	return backend.Features{Delay: true, Schedules: true, Conditions: true}
}

func (dryRun) Publish(_ string, msgs ...*message.Message) error {
	for _, msg := range msgs {
		if d, at, err := backend.DelayOf(msg); err != nil || d != 0 || !at.IsZero() {
			return errors.New("the schedule decides the time: leave Delay and At out")
		}
		if c := backend.PublishConditionFromContext(msg.Context()); c != nil && c.Once {
			return errors.New("an ID is stored once, so only the first of the ticks would be: leave ID out, since each tick is stored once without it")
		}
	}
	_, err := backend.PublishConditionsOf(msgs)
	return err
}

func (dryRun) Close() error { return nil }

// Trigger publishes the event of a schedule now, once, in addition to its ticks: the schedule neither moves on nor has to run,
// and may be paused. The event is like that of a tick at this moment, and [Tick].TriggeredBy is by, the person or the program
// that triggers it, which must not be empty. Trigger may be called before Run, and meanwhile from any goroutine. If its error leaves it
// open whether the event was stored, a second call may store a second one.
func (t *Timetable) Trigger(ctx context.Context, name, by string) error {
	at := slices.IndexFunc(t.entries, func(e *entry) bool { return e.name == name })
	switch {
	case at < 0:
		return fmt.Errorf("schedule: Trigger %.60q: this timetable has no schedule of that name: Add it before", name)
	case strings.TrimSpace(by) == "":
		return fmt.Errorf("schedule: Trigger %.60q: by is empty: say who triggers it", name)
	}
	if err := t.entries[at].publish(ctx, t.publisher, time.Now().Truncate(time.Microsecond), by); err != nil {
		return fmt.Errorf("schedule: Trigger %.60q: %w", name, err)
	}
	return nil
}

// Run publishes until ctx ends, and returns nil. It finishes a publish that has begun,
// which takes up to 30 seconds if the backend does not answer. If an event cannot be
// published, Run logs the error and tries again: after a second at first, after a minute
// at most, until the event is published or a later tick replaces it.
//
// Run returns an error at once if the timetable is empty, or has been started before.
func (t *Timetable) Run(ctx context.Context) error {
	if len(t.entries) == 0 {
		return errors.New("schedule: the timetable is empty: Add a schedule")
	}
	if t.started.Swap(true) {
		return errors.New("schedule: the timetable has been started already: make a new one for each Run")
	}
	var running sync.WaitGroup
	for _, e := range t.entries {
		running.Go(func() { e.run(ctx) })
	}
	running.Wait()
	return nil
}
