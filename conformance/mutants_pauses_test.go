package conformance_test

import (
	"context"
	"time"

	"github.com/ezq-go/ezq/backend"
)

// pausing is how a broker pauses topics, where that is a fault. A nil field is no fault.
type pausing struct {
	pause  func(p *process, topic string, wanted backend.Pause) (backend.Paused, error)
	resume func(p *process, topic string) (bool, error)
	pauses func(p *process, topic string) ([]backend.Paused, error)

	pauserOf func(p *process, group string) backend.Pauser
}

// pausedAs returns the fault of a broker that pauses topics in this way.
func pausedAs(pause func(p *process, topic string, wanted backend.Pause) (backend.Paused, error)) fault {
	return fault{pausing: pausing{pause: pause}}
}

func pauseMutants() []mutant {
	const (
		isHeld    = "pauses/a paused topic hands over nothing"
		isLonger  = "pauses/the longer pause holds"
		endsAlone = "pauses/a pause ends by itself"
	)
	return []mutant{
		{
			name: "a pause pauses nothing", breaks: "Pause says that it holds, and nothing is paused",
			killedBy: []string{isHeld, "pauses/a pause leaves handlers alone", "pauses/a pause holds for those that come later"},
			fault: pausedAs(func(_ *process, topic string, wanted backend.Pause) (backend.Paused, error) {
				return backend.Paused{Topic: topic, By: wanted.By, Reason: wanted.Reason}, wanted.Check()
			}),
		},
		{
			name: "a topic is never resumed", breaks: "Resume says that it was, and the topic stays paused", killedBy: []string{isHeld},
			fault: fault{pausing: pausing{resume: func(p *process, topic string) (bool, error) {
				pauses, err := p.backend.Pauses(context.Background(), topic)
				return len(pauses) > 0, err
			}}},
		},
		{
			name: "a pause has no end", breaks: "a topic stays paused when the time of the pause is over", killedBy: []string{endsAlone, isLonger},
			fault: pausedAs(func(p *process, topic string, wanted backend.Pause) (backend.Paused, error) {
				until := time.Now().Add(wanted.For)
				wanted.For = 0
				paused, err := p.backend.Pause(context.Background(), topic, wanted)
				paused.Until = until
				return paused, err
			}),
		},
		{
			name: "the last pause holds", breaks: "a shorter pause takes the place of a longer one", killedBy: []string{isLonger},
			fault: pausedAs(func(p *process, topic string, wanted backend.Pause) (backend.Paused, error) {
				if err := wanted.Check(); err != nil {
					return backend.Paused{}, err
				}
				if _, err := p.backend.Resume(context.Background(), topic); err != nil {
					return backend.Paused{}, err
				}
				return p.backend.Pause(context.Background(), topic, wanted)
			}),
		},
		{
			name: "pauses are not listed", breaks: "a topic is paused, and Pauses does not say so", killedBy: []string{isLonger},
			fault: fault{pausing: pausing{pauses: func(*process, string) ([]backend.Paused, error) { return nil, nil }}},
		},
		{
			name: "a silent pause is stored", breaks: "Pause accepts what does not say who and why",
			killedBy: []string{"pauses/a pause that does not say who and why is refused"},
			fault: pausedAs(func(p *process, topic string, wanted backend.Pause) (backend.Paused, error) {
				if wanted.Check() != nil {
					wanted = backend.Pause{By: "?", Reason: "?", For: time.Nanosecond}
				}
				return p.backend.Pause(context.Background(), topic, wanted)
			}),
		},
	}
}
