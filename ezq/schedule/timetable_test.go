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

// env is a queue, some processes that keep a timetable on it, and a router that notes
// for which ticks events come.
type env struct {
	t      *testing.T
	broker *memory.Broker

	mu    sync.Mutex
	ticks []schedule.Tick
	late  []time.Duration // how long after its tick an event was handled
}

func newEnv(t *testing.T) *env {
	t.Helper()
	e := &env{t: t, broker: memory.New(nil)}
	router := ezq.NewRouter(e.broker, &ezq.Config{Concurrency: 1})
	ezq.Handle(router, func(ctx context.Context, _ Report) error {
		tick, ok := schedule.TickFromContext(ctx)
		if !ok {
			t.Error("an event has no tick")
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		e.ticks, e.late = append(e.ticks, tick), append(e.late, time.Since(tick.At))
		return nil
	})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- router.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := errors.Join(<-done, e.broker.Close()); err != nil {
			t.Error(err)
		}
	})
	return e
}

// start starts processes with a timetable; the function that it returns ends them.
func (e *env) start(n int, p func() message.Publisher, config schedule.Config, s schedule.Schedule) (stopAll func()) {
	e.t.Helper()
	config.Logger = slog.New(slog.DiscardHandler)
	ctx, stop := context.WithCancel(e.t.Context())
	var running sync.WaitGroup
	for range n {
		timetable, err := schedule.New(p(), &config)
		if err == nil {
			err = timetable.Add("report", s, Report{"daily"})
		}
		if err != nil {
			e.t.Fatal(err)
		}
		running.Go(func() {
			if err := timetable.Run(ctx); err != nil {
				e.t.Error(err)
			}
		})
	}
	return func() {
		stop()
		running.Wait()
	}
}

func (e *env) otherProcess() message.Publisher { return e.broker.Connect(nil) }

// expect fails unless there was one event for each of the times, and in that order.
func (e *env) expect(times ...time.Time) {
	e.t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.ticks) != len(times) {
		e.t.Fatalf("%d events, not %d: %v", len(e.ticks), len(times), e.ticks)
	}
	for i, tick := range e.ticks {
		if tick.Schedule != "report" || !tick.At.Equal(times[i]) {
			e.t.Errorf("event %d is for %v, not %v", i, tick, times[i])
		}
	}
}

func TestTimetable_PublishesEachTickOnceAcrossProcesses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e, start := newEnv(t), time.Now()
		time.Sleep(time.Second)
		stopAll := e.start(5, e.otherProcess, schedule.Config{}, schedule.Every(time.Hour))
		time.Sleep(7 * 24 * time.Hour)
		stopAll()
		var want []time.Time
		for i := 1; i <= 7*24; i++ {
			want = append(want, start.Add(time.Duration(i)*time.Hour))
		}
		e.expect(want...)
		for i, late := range e.late {
			if late != 0 {
				t.Errorf("event %d came %v after its tick", i, late)
			}
		}
	})
}

func TestCatchUp_PublishesMissedTicksAsConfigured(t *testing.T) {
	t.Parallel()
	for catchUp, missed := range map[int][]int{0: {10}, 3: {8, 9, 10}, 100: {3, 4, 5, 6, 7, 8, 9, 10}} {
		synctest.Test(t, func(t *testing.T) {
			e, start := newEnv(t), time.Now()
			config := schedule.Config{CatchUp: catchUp}
			at := func(hour int) time.Time { return start.Add(time.Duration(hour) * time.Hour) }
			stopAll := e.start(2, e.otherProcess, config, schedule.Every(time.Hour))
			time.Sleep(150 * time.Minute)
			stopAll()
			time.Sleep(time.Until(at(10).Add(30 * time.Minute)))
			stopAll = e.start(2, e.otherProcess, config, schedule.Every(time.Hour))
			time.Sleep(time.Hour)
			stopAll()
			want := []time.Time{at(1), at(2)}
			for _, hour := range missed {
				want = append(want, at(hour))
			}
			e.expect(append(want, at(11))...)
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

func TestTimetable_RepeatsFailedPublish(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e, start := newEnv(t), time.Now()
		stopAll := e.start(1, e.otherProcess, schedule.Config{}, schedule.Every(time.Hour)) // so that it is known
		time.Sleep(time.Minute)
		stopAll()
		broken := &faulty{e.broker, start.Add(time.Hour + 10*time.Minute)}
		stopAll = e.start(1, func() message.Publisher { return broken }, schedule.Config{}, schedule.Every(time.Hour))
		time.Sleep(90 * time.Minute)
		stopAll()
		e.expect(start.Add(time.Hour))
		if late := e.late[0]; late < 10*time.Minute || late > 11*time.Minute {
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

func TestTimetable_WithFastClockWaitsForBackend(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e, start := newEnv(t), time.Now()
		late := fast{e.broker, 7 * time.Minute}
		stopAll := e.start(1, func() message.Publisher { return late }, schedule.Config{}, schedule.Every(time.Hour))
		time.Sleep(3 * time.Hour)
		stopAll()
		e.expect(start.Add(time.Hour), start.Add(2*time.Hour))
		if e.late[0] != 7*time.Minute {
			t.Errorf("it was published %v after its tick by the clock of the process, not 7m", e.late[0])
		}
	})
}

func TestTimetable_RefusesImpossibleSchedules(t *testing.T) {
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
		"must not be empty":             timetable.Add("", hour, Report{}),
		"must be UTF-8 without NUL":     timetable.Add("a\x00", hour, Report{}),
		"choose one of 1024 at most":    timetable.Add(strings.Repeat("n", 1025), hour, Report{}),
		"choose another name":           timetable.Add("taken", hour, Report{}),
		"the schedule is nil":           timetable.Add("a", nil, Report{}),
		"multiple of 1ms":               timetable.Add("b", schedule.Every(time.Microsecond), Report{}),
		"later time":                    timetable.Add("c", never{}, Report{}),
		"is not an event":               timetable.Add("d", hour, nil),
		"the schedule decides the time": timetable.Add("e", hour, Report{}, ezq.Delay(time.Minute)),
		"leave ID out":                  timetable.Add("h", hour, Report{}, ezq.ID("report")),
		"the key":                       timetable.Add("i", hour, Report{}, ezq.Unique(strings.Repeat("k", 10_000))),
		"the topic is empty":            timetable.Add("f", hour, Report{}, ezq.Topic("")),
		"the publisher is nil":          second(schedule.New(nil, nil)),
		"use PGMQ or memory":            second(schedule.New(struct{ message.Publisher }{}, nil)),
		"Config.CatchUp is -1":          second(schedule.New(broker, &schedule.Config{CatchUp: -1})),
		"Add a schedule":                run(schedule.New(broker, nil)),
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

// The ticks do not pile up: the next one is stored when the event of the last one has been handled.
func TestTimetable_UniqueTickStoresNothingWhileTheLastOneWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e, start := newEnv(t), time.Now()
		timetable, err := schedule.New(e.broker, nil)
		if err == nil {
			err = timetable.Add("report", schedule.Every(time.Hour), Report{}, ezq.Unique("report"))
		}
		if err == nil {
			_, err = e.broker.Pause(t.Context(), ezq.DefaultTopic, backend.Pause{By: "ada", Reason: "audit", For: 210 * time.Minute})
		}
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = timetable.Run(ctx) })
		time.Sleep(270 * time.Minute)
		stop()
		running.Wait()
		e.expect(start.Add(time.Hour), start.Add(4*time.Hour))
	})
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
