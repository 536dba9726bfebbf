package conformance_test

import (
	"context"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
)

// ticking returns the flaw of doing something else with messages that are published for
// a tick. The copies that f gets are for none.
func ticking(f func(p *process, tick *backend.ScheduleTick, topic string, copies []*message.Message) error) fault {
	return fault{publish: func(p *process, topic string, msgs []*message.Message) error {
		if len(msgs) == 0 || backend.ScheduleTickFromContext(msgs[0].Context()) == nil {
			return p.store(topic, msgs...)
		}
		var copies []*message.Message
		for _, msg := range msgs {
			copies = append(copies, msg.Copy())
		}
		return f(p, backend.ScheduleTickFromContext(msgs[0].Context()), topic, copies)
	}}
}

// storeFor stores messages for a tick, and passes on what is reported.
func (p *process) storeFor(tick *backend.ScheduleTick, at time.Time, topic string, copies []*message.Message) error {
	other := &backend.ScheduleTick{Schedule: tick.Schedule, At: at}
	copies[0].SetContext(backend.WithScheduleTick(copies[0].Context(), other))
	err := p.store(topic, copies...)
	if result, ok := other.Result(); ok {
		tick.Report(result)
	}
	return err
}

// faultySchedules is schedules with a fault. A nil field is no fault.
type faultySchedules struct {
	backend.Schedules
	list  func() ([]backend.ScheduleState, error)
	pause func(schedule string, p backend.Pause) (backend.Paused, error)
}

func (s faultySchedules) List(ctx context.Context) ([]backend.ScheduleState, error) {
	if s.list != nil {
		return s.list()
	}
	return s.Schedules.List(ctx)
}

func (s faultySchedules) Pause(ctx context.Context, schedule string, p backend.Pause) (backend.Paused, error) {
	if s.pause != nil {
		return s.pause(schedule, p)
	}
	return s.Schedules.Pause(ctx, schedule, p)
}

func tickMutants() []mutant {
	const (
		isPaused  = "ticks/a paused schedule stores nothing"
		isOver    = "ticks/a tick of a pause that is over passes"
		isListed  = "ticks/schedules are listed"
		isRefused = "ticks/what cannot be paused is refused"
	)
	return []mutant{
		{
			name: "a paused schedule goes on", breaks: "Pause says that it holds, and the ticks of the schedule are stored", killedBy: []string{isPaused, isListed},
			fault: fault{schedules: func(p *process) backend.Schedules {
				return faultySchedules{Schedules: p.backend.Schedules(), pause: func(_ string, wanted backend.Pause) (backend.Paused, error) {
					return wanted.Since(time.Now()), wanted.Check()
				}}
			}},
		},
		{
			name: "a pause is made up for", breaks: "a tick that has passed in a pause is stored when the schedule is resumed", killedBy: []string{isPaused},
			fault: ticking(func(p *process, tick *backend.ScheduleTick, topic string, copies []*message.Message) error {
				all, err := p.backend.Schedules().List(context.Background())
				for _, one := range all {
					if one.Name == tick.Schedule && one.Paused != nil {
						tick.Report(backend.TickResult{Outcome: backend.TickPaused, Now: time.Now(), Last: tick.At})
						return err
					}
				}
				return p.storeFor(tick, tick.At, topic, copies)
			}),
		},
		{
			name: "a pause is forgotten", breaks: "a tick that no process took in a pause is stored when that is over", killedBy: []string{isOver},
			fault: ticking(func(p *process, tick *backend.ScheduleTick, topic string, copies []*message.Message) error {
				if err := p.storeFor(tick, tick.At, topic, copies); err != nil {
					return err
				}
				result, _ := tick.Result()
				all, err := p.backend.Schedules().List(context.Background())
				for _, one := range all {
					if one.Name == tick.Schedule && one.Paused == nil && result.Outcome == backend.TickPaused {
						result.Outcome = backend.TickPublished
						tick.Report(result)
						return p.store(topic, copies[0].Copy())
					}
				}
				return err
			}),
		},
		{
			name: "the next tick is not told", breaks: "a schedule is listed without the tick to come", killedBy: []string{isListed},
			fault: fault{schedules: func(p *process) backend.Schedules {
				return faultySchedules{Schedules: p.backend.Schedules(), list: func() ([]backend.ScheduleState, error) {
					all, err := p.backend.Schedules().List(context.Background())
					for i := range all {
						all[i].Next = time.Time{}
					}
					return all, err
				}}
			}},
		},
		{
			name: "an unknown schedule is paused", breaks: "a schedule that no program has can be paused", killedBy: []string{isRefused},
			fault: fault{schedules: func(p *process) backend.Schedules {
				return faultySchedules{Schedules: p.backend.Schedules(), pause: func(schedule string, wanted backend.Pause) (backend.Paused, error) {
					paused, err := p.backend.Schedules().Pause(context.Background(), schedule, wanted)
					if err != nil && wanted.Check() == nil {
						return wanted.Since(time.Now()), nil
					}
					return paused, err
				}}
			}},
		},
		{
			name:     "ticks are ignored",
			breaks:   "whatever is published for a tick is stored, however often",
			killedBy: []string{"ticks/a tick is stored once", "ticks/a schedule begins when it is first seen"},
			fault: ticking(func(p *process, tick *backend.ScheduleTick, topic string, copies []*message.Message) error {
				tick.Report(backend.TickResult{Now: time.Now(), Last: tick.At})
				return p.store(topic, copies...)
			}),
		},
		{
			name:     "a tick is taken after it is stored",
			breaks:   "two processes that publish for one tick at once both store their messages",
			killedBy: []string{"ticks/a tick is stored once"},
			fault: ticking(func(p *process, tick *backend.ScheduleTick, topic string, copies []*message.Message) error {
				taken := "tick " + tick.At.String()
				due := p.count(tick.Schedule) > 0 && p.count(taken) == 0 && !tick.At.After(time.Now())
				p.increment(tick.Schedule)
				stall(time.Millisecond)
				if !due {
					return p.storeFor(tick, tick.At, topic, copies)
				}
				p.increment(taken)
				tick.Report(backend.TickResult{Now: time.Now(), Last: tick.At})
				return p.store(topic, copies...)
			}),
		},
		{
			name:     "a tick that is to come has come",
			breaks:   "what is published for a tick is stored before its time",
			killedBy: []string{"ticks/a tick that is to come is early"},
			fault: ticking(func(p *process, tick *backend.ScheduleTick, topic string, copies []*message.Message) error {
				at := tick.At
				if now := time.Now(); at.After(now) {
					at = now
				}
				return p.storeFor(tick, at, topic, copies)
			}),
		},
		{
			name:     "a tick that is to come is taken",
			breaks:   "what is published for a tick in its time is not stored, because one process was early",
			killedBy: []string{"ticks/a tick that is to come is early"},
			fault: ticking(func(p *process, tick *backend.ScheduleTick, topic string, copies []*message.Message) error {
				if tick.At.After(time.Now()) {
					p.increment("early")
				} else if p.count("early") > 0 {
					tick.Report(backend.TickResult{Outcome: backend.TickTaken, Now: time.Now(), Last: tick.At})
					return nil
				}
				return p.storeFor(tick, tick.At, topic, copies)
			}),
		},
		{
			name:     "a schedule catches up",
			breaks:   "a tick that was past before its schedule was known is stored",
			killedBy: []string{"ticks/a schedule begins when it is first seen"},
			fault: ticking(func(p *process, tick *backend.ScheduleTick, topic string, copies []*message.Message) error {
				err := p.storeFor(tick, tick.At, topic, copies)
				if p.increment(tick.Schedule) == 1 {
					copies[0] = copies[0].Copy()
					return p.store(topic, copies...)
				}
				return err
			}),
		},
		{
			name:     "ticks are not reported",
			breaks:   "who publishes for a tick is not told what came of it",
			killedBy: []string{"ticks/a tick is stored once", "ticks/a tick that is to come is early"},
			fault: ticking(func(p *process, tick *backend.ScheduleTick, topic string, copies []*message.Message) error {
				return p.storeFor(&backend.ScheduleTick{Schedule: tick.Schedule, At: tick.At}, tick.At, topic, copies)
			}),
		},
	}
}

func featureMutants() []mutant {
	return []mutant{
		{
			name:     "features are left out",
			breaks:   "Features does not say what the backend can do",
			killedBy: []string{"features/a backend says what it promises"},
			fault:    fault{features: func(f *backend.Features) { f.Redelay = false }},
		},
		{
			name:     "a decorator hides methods",
			breaks:   "the publisher has a backend's methods, and none of those for stored messages and pauses",
			killedBy: []string{"features/a backend says what it promises"},
			fault:    fault{hidden: true},
		},
	}
}
