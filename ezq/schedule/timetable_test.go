package schedule_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/ezq/schedule"
)

type Report struct{ Kind string }

// office is a queue, some processes that keep a timetable on it, and a router that notes
// for which ticks events come.
type office struct {
	t      *testing.T
	broker *memory.Broker

	mu    sync.Mutex
	ticks []schedule.Tick
	late  []time.Duration // how long after its tick an event was handled
}

func newOffice(t *testing.T) *office {
	t.Helper()
	o := &office{t: t, broker: memory.New(nil)}
	router := ezq.NewRouter(o.broker, &ezq.Config{Concurrency: 1})
	ezq.Handle(router, func(ctx context.Context, _ Report) error {
		tick, ok := schedule.TickFromContext(ctx)
		if !ok {
			t.Error("an event has no tick")
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		o.ticks, o.late = append(o.ticks, tick), append(o.late, time.Since(tick.At))
		return nil
	})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- router.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := errors.Join(<-done, o.broker.Close()); err != nil {
			t.Error(err)
		}
	})
	return o
}

// hire starts processes with a timetable; the function that it returns ends them.
func (o *office) hire(n int, p func() message.Publisher, config schedule.Config, s schedule.Schedule) (dismiss func()) {
	o.t.Helper()
	config.Logger = slog.New(slog.DiscardHandler)
	ctx, stop := context.WithCancel(o.t.Context())
	var running sync.WaitGroup
	for range n {
		timetable, err := schedule.New(p(), &config)
		if err == nil {
			err = timetable.Add("report", s, Report{"daily"})
		}
		if err != nil {
			o.t.Fatal(err)
		}
		running.Go(func() {
			if err := timetable.Run(ctx); err != nil {
				o.t.Error(err)
			}
		})
	}
	return func() {
		stop()
		running.Wait()
	}
}

func (o *office) beside() message.Publisher { return o.broker.Connect(nil) }

// expect fails unless there was one event for each of the times, and in that order.
func (o *office) expect(times ...time.Time) {
	o.t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.ticks) != len(times) {
		o.t.Fatalf("%d events, not %d: %v", len(o.ticks), len(times), o.ticks)
	}
	for i, tick := range o.ticks {
		if tick.Schedule != "report" || !tick.At.Equal(times[i]) {
			o.t.Errorf("event %d is for %v, not %v", i, tick, times[i])
		}
	}
}

func TestManyProcessesPublishOneEventForEachTick(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o, start := newOffice(t), time.Now()
		time.Sleep(time.Second)
		dismiss := o.hire(5, o.beside, schedule.Config{}, schedule.Every(time.Hour))
		time.Sleep(7 * 24 * time.Hour)
		dismiss()
		var want []time.Time
		for i := 1; i <= 7*24; i++ {
			want = append(want, start.Add(time.Duration(i)*time.Hour))
		}
		o.expect(want...)
		for i, late := range o.late {
			if late != 0 {
				t.Errorf("event %d came %v after its tick", i, late)
			}
		}
	})
}

func TestTicksThatAllHaveMissedAreMadeUpForAsConfigured(t *testing.T) {
	t.Parallel()
	for catchUp, missed := range map[int][]int{0: {10}, 3: {8, 9, 10}, 100: {3, 4, 5, 6, 7, 8, 9, 10}} {
		synctest.Test(t, func(t *testing.T) {
			o, start := newOffice(t), time.Now()
			config := schedule.Config{CatchUp: catchUp}
			at := func(hour int) time.Time { return start.Add(time.Duration(hour) * time.Hour) }
			dismiss := o.hire(2, o.beside, config, schedule.Every(time.Hour))
			time.Sleep(150 * time.Minute)
			dismiss()
			time.Sleep(time.Until(at(10).Add(30 * time.Minute)))
			dismiss = o.hire(2, o.beside, config, schedule.Every(time.Hour))
			time.Sleep(time.Hour)
			dismiss()
			want := []time.Time{at(1), at(2)}
			for _, hour := range missed {
				want = append(want, at(hour))
			}
			o.expect(append(want, at(11))...)
		})
	}
}

// faulty is a publisher that fails until it is repaired.
type faulty struct {
	*memory.Broker
	until time.Time
}

func (f *faulty) Publish(topic string, msgs ...*message.Message) error {
	if time.Now().Before(f.until) {
		return errors.New("out of order")
	}
	return f.Broker.Publish(topic, msgs...)
}

func TestAPublishThatFailsIsRepeated(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o, start := newOffice(t), time.Now()
		dismiss := o.hire(1, o.beside, schedule.Config{}, schedule.Every(time.Hour)) // so that it is known
		time.Sleep(time.Minute)
		dismiss()
		broken := &faulty{o.broker, start.Add(time.Hour + 10*time.Minute)}
		dismiss = o.hire(1, func() message.Publisher { return broken }, schedule.Config{}, schedule.Every(time.Hour))
		time.Sleep(90 * time.Minute)
		dismiss()
		o.expect(start.Add(time.Hour))
		if late := o.late[0]; late < 10*time.Minute || late > 11*time.Minute {
			t.Errorf("it came %v after its tick", late)
		}
	})
}

// fast is a queue whose clock is behind that of the process: the process is fast.
type fast struct {
	*memory.Broker
	by time.Duration
}

func (f fast) Publish(topic string, msgs ...*message.Message) error {
	if tick := backend.ScheduleTickFromContext(msgs[0].Context()); tick != nil && tick.At.After(time.Now().Add(-f.by)) {
		tick.Report(backend.TickResult{Outcome: backend.TickEarly, Now: time.Now().Add(-f.by)})
		return nil
	}
	return f.Broker.Publish(topic, msgs...)
}

func TestAProcessWhoseClockIsFastWaitsForTheBackend(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o, start := newOffice(t), time.Now()
		late := fast{o.broker, 7 * time.Minute}
		dismiss := o.hire(1, func() message.Publisher { return late }, schedule.Config{}, schedule.Every(time.Hour))
		time.Sleep(3 * time.Hour)
		dismiss()
		o.expect(start.Add(time.Hour), start.Add(2*time.Hour))
		if o.late[0] != 7*time.Minute {
			t.Errorf("it was published %v after its tick by the clock of the process, not 7m", o.late[0])
		}
	})
}

func TestATimetableRefusesWhatItCannotKeep(t *testing.T) {
	t.Parallel()
	broker := memory.New(nil)
	timetable, err := schedule.New(broker, nil)
	if err != nil {
		t.Fatal(err)
	}
	hour := schedule.Every(time.Hour)
	if err := timetable.Add("taken", hour, Report{}); err != nil {
		t.Fatal(err)
	}
	for want, err := range map[string]error{
		"needs a name":              timetable.Add("", hour, Report{}),
		"of UTF-8 without NUL":      timetable.Add("a\x00", hour, Report{}),
		"take another one":          timetable.Add("taken", hour, Report{}),
		"the schedule is nil":       timetable.Add("a", nil, Report{}),
		"multiple of a millisecond": timetable.Add("b", schedule.Every(time.Microsecond), Report{}),
		"later time":                timetable.Add("c", never{}, Report{}),
		"is not an event":           timetable.Add("d", hour, nil),
		"the schedule says when":    timetable.Add("e", hour, Report{}, ezq.Delay(time.Minute)),
		"the topic is empty":        timetable.Add("f", hour, Report{}, ezq.Topic("")),
		"the publisher is nil":      second(schedule.New(nil, nil)),
		"use PGMQ or memory":        second(schedule.New(struct{ message.Publisher }{}, nil)),
		"Config.CatchUp is -1":      second(schedule.New(broker, &schedule.Config{CatchUp: -1})),
		"Add a schedule":            run(schedule.New(broker, nil)),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
	}
	if _, err := schedule.New(struct{ message.Publisher }{}, nil); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("%v does not match ErrUnsupported", err)
	}
	over, stop := context.WithCancel(t.Context())
	stop()
	if err := timetable.Run(over); err != nil {
		t.Errorf("a stop is no error: %v", err)
	}
	if err := timetable.Run(over); err == nil || !strings.Contains(err.Error(), "started already") {
		t.Errorf("a second Run: %v", err)
	}
	if err := timetable.Add("g", hour, Report{}); err == nil || !strings.Contains(err.Error(), "before Run") {
		t.Errorf("an Add after Run: %v", err)
	}
}

type never struct{}

func (never) Next(time.Time) time.Time { return time.Time{} }

func second(_ any, err error) error { return err }

func run(timetable *schedule.Timetable, err error) error {
	if err != nil {
		return err
	}
	return timetable.Run(context.Background())
}
