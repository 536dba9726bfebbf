package schedule

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
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
	// CatchUp is how many ticks of a schedule are made up for that have been missed;
	// of more, the latest. Defaults to 1: after a night without any process there is
	// one event of an hourly schedule, and not eight.
	CatchUp int

	// Logger is told when an event cannot be published. Defaults to [slog.Default].
	Logger *slog.Logger
}

// Timetable publishes the events of schedules. Create it with [New], [Timetable.Add]
// schedules, then [Timetable.Run] it, once. Until it runs it is for one goroutine.
type Timetable struct {
	publisher message.Publisher
	config    Config
	entries   []*entry
	started   atomic.Bool
}

// New returns a timetable that publishes through p. It returns an error if p is nil,
// if a number in config is negative, or if p does not promise Schedules; that one matches
// [errors.ErrUnsupported]. A nil config is that of the defaults.
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

// Add has event published at each tick of s, with opts, of which [ezq.Delay] and
// [ezq.At] are not allowed. The name is the same in all processes and must not change:
// under a new one the schedule begins anew. If s changes, the name may stay.
//
// Add returns an error if the name is empty, not UTF-8 without NUL, or taken, if s is
// nil, not valid or has no tick, or if [ezq.Publish] would refuse event or an option;
// and if the timetable has been started.
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
		return errors.New("a schedule needs a name, of UTF-8 without NUL")
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
	return e.publish(context.Background(), dryRun{}, now)
}

// dryRun is a publisher that refuses what no schedule may ask for, and has nothing
// else to do.
type dryRun struct{}

func (dryRun) Features() backend.Features { return backend.Features{Delay: true, Schedules: true} }

func (dryRun) Publish(_ string, msgs ...*message.Message) error {
	for _, msg := range msgs {
		if d, at, err := backend.DelayOf(msg); err != nil || d != 0 || !at.IsZero() {
			return errors.New("no Delay and no At: the schedule says when")
		}
	}
	return nil
}

func (dryRun) Close() error { return nil }

// Run publishes until ctx ends, and returns nil. It finishes a publish that has begun,
// which takes up to 30 seconds if the backend does not answer. An event that
// cannot be published is logged, and tried again until it is, or a later tick takes its
// place: after a second at first, a minute at most.
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
