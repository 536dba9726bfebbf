package conformance_test

import (
	"context"
	"slices"
	"time"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
)

// brokenPauser is a Pauser of a group that does something otherwise. A nil field is no fault.
type brokenPauser struct {
	backend.Pauser
	pause  func(ctx context.Context, topic string, wanted backend.Pause) (backend.Paused, error)
	resume func(ctx context.Context, topic string) (bool, error)
	pauses func(ctx context.Context, topic string) ([]backend.Paused, error)
}

func (b brokenPauser) Pause(ctx context.Context, topic string, wanted backend.Pause) (backend.Paused, error) {
	if b.pause != nil {
		return b.pause(ctx, topic, wanted)
	}
	return b.Pauser.Pause(ctx, topic, wanted)
}

func (b brokenPauser) Resume(ctx context.Context, topic string) (bool, error) {
	if b.resume != nil {
		return b.resume(ctx, topic)
	}
	return b.Pauser.Resume(ctx, topic)
}

func (b brokenPauser) Pauses(ctx context.Context, topic string) ([]backend.Paused, error) {
	if b.pauses != nil {
		return b.pauses(ctx, topic)
	}
	return b.Pauser.Pauses(ctx, topic)
}

// brokenPausers returns the fault of a broker whose Pausers of groups break breaks.
func brokenPausers(breaks func(p *process, group string, b *brokenPauser)) fault {
	return fault{pausing: pausing{pauserOf: func(p *process, group string) backend.Pauser {
		b := brokenPauser{Pauser: p.backend.PauserOf(group)}
		breaks(p, group, &b)
		return b
	}}}
}

// pretend returns a Pause that says that it holds, and pauses nothing.
func pretend(group string) func(context.Context, string, backend.Pause) (backend.Paused, error) {
	return func(_ context.Context, topic string, wanted backend.Pause) (backend.Paused, error) {
		paused := wanted.Since(time.Now())
		paused.Topic, paused.Group = topic, group
		return paused, wanted.Check()
	}
}

// resumingToo returns the fault of a broker in which to resume one kind of consumers resumes another one.
func resumingToo(which func(p *process, group string) (also string, ok bool)) fault {
	return brokenPausers(func(p *process, group string, b *brokenPauser) {
		b.resume = func(ctx context.Context, topic string) (bool, error) {
			if also, ok := which(p, group); ok {
				if _, err := p.backend.PauserOf(also).Resume(ctx, topic); err != nil {
					return false, err
				}
			}
			return b.Pauser.Resume(ctx, topic)
		}
	})
}

func groupPauseMutants() []mutant {
	const (
		isAlone   = "group pauses/a group's pause stops that group alone"
		isAny     = "group pauses/any client pauses any group"
		overlaps  = "group pauses/the pauses of a topic and of a group overlap"
		endsLater = "group pauses/a group waits for the later end"
		isLonger  = "group pauses/the longer pause of a group holds"
		isListed  = "group pauses/pauses of groups are listed"
		isEarly   = "group pauses/a group may be paused before it comes"
		isPattern = "group pauses/the group of a pattern is paused"
		isRefused = "group pauses/an impossible pause of a group is refused"
	)
	return []mutant{
		{
			name: "a group's pause is the topic's", breaks: "the pause of one group stops the others", killedBy: []string{isAlone, isPattern},
			fault: brokenPausers(func(p *process, group string, b *brokenPauser) {
				b.pause = func(ctx context.Context, topic string, wanted backend.Pause) (backend.Paused, error) {
					paused, err := p.backend.PauserOf("").Pause(ctx, topic, wanted)
					paused.Group = group
					return paused, err
				}
			}),
		},
		{
			name: "a group is never paused", breaks: "the pause of a group says that it holds, and pauses nothing", killedBy: []string{isAlone, overlaps, isEarly, isPattern},
			fault: brokenPausers(func(_ *process, group string, b *brokenPauser) {
				if group != "" {
					b.pause = pretend(group)
				}
			}),
		},
		{
			name: "a client pauses the topic", breaks: "the Pause of a client with a group pauses all consumers", killedBy: []string{isAny, "pauses/a client with a group pauses that group"},
			fault: pausedAs(func(p *process, topic string, wanted backend.Pause) (backend.Paused, error) {
				return p.backend.PauserOf("").Pause(context.Background(), topic, wanted)
			}),
		},
		{
			name: "a client pauses its own group only", breaks: "PauserOf pauses the group of its client instead of all consumers", killedBy: []string{isAny},
			fault: fault{pausing: pausing{pauserOf: func(p *process, group string) backend.Pauser {
				if group == "" {
					group = p.group
				}
				return p.backend.PauserOf(group)
			}}},
		},
		{
			name: "a client resumes its own group only", breaks: "Resume of another group than that of the client does nothing", killedBy: []string{isAny, isAlone},
			fault: brokenPausers(func(p *process, group string, b *brokenPauser) {
				if group != p.group {
					b.resume = func(context.Context, string) (bool, error) { return true, nil }
				}
			}),
		},
		{
			name: "the topic resumes its groups", breaks: "Resume of a topic also ends the pauses of its groups", killedBy: []string{overlaps, isListed},
			fault: resumingToo(func(_ *process, group string) (string, bool) { return "one", group == "" }),
		},
		{
			name: "a group resumes its topic", breaks: "Resume of a group also ends the pause of the topic", killedBy: []string{overlaps},
			fault: resumingToo(func(_ *process, group string) (string, bool) { return "", group != "" }),
		},
		{
			name: "the topic's pause is enough", breaks: "the pause of a group is not stored while the topic is paused", killedBy: []string{endsLater, isListed, isLonger},
			fault: brokenPausers(func(p *process, group string, b *brokenPauser) {
				if group == "" {
					return
				}
				b.pause = func(ctx context.Context, topic string, wanted backend.Pause) (backend.Paused, error) {
					if all, err := p.backend.PauserOf("").Pauses(ctx, topic); err == nil && slices.ContainsFunc(all, func(held backend.Paused) bool { return held.Group == "" }) {
						return pretend(group)(ctx, topic, wanted)
					}
					return b.Pauser.Pause(ctx, topic, wanted)
				}
			}),
		},
		{
			name: "the pause of a group has no end", breaks: "a group stays paused when the time of its pause is over", killedBy: []string{endsLater, isLonger},
			fault: brokenPausers(func(_ *process, group string, b *brokenPauser) {
				b.pause = func(ctx context.Context, topic string, wanted backend.Pause) (backend.Paused, error) {
					if group != "" {
						wanted.For = 0
					}
					return b.Pauser.Pause(ctx, topic, wanted)
				}
			}),
		},
		{
			name: "the last pause of a group holds", breaks: "a shorter pause of a group takes the place of a longer one", killedBy: []string{isLonger},
			fault: brokenPausers(func(_ *process, _ string, b *brokenPauser) {
				b.pause = func(ctx context.Context, topic string, wanted backend.Pause) (backend.Paused, error) {
					if _, err := b.Pauser.Resume(ctx, topic); err != nil {
						return backend.Paused{}, err
					}
					return b.Pauser.Pause(ctx, topic, wanted)
				}
			}),
		},
		{
			name: "a group lists all pauses", breaks: "the Pauser of a group lists those of other groups", killedBy: []string{isListed},
			fault: brokenPausers(func(p *process, _ string, b *brokenPauser) { b.pauses = p.backend.PauserOf("").Pauses }),
		},
		{
			name: "the topic lists its own pause", breaks: "the pauses of groups are not listed with that of the topic", killedBy: []string{isListed, isAny},
			fault: brokenPausers(func(_ *process, group string, b *brokenPauser) {
				b.pauses = func(ctx context.Context, topic string) ([]backend.Paused, error) {
					all, err := b.Pauser.Pauses(ctx, topic)
					return slices.DeleteFunc(all, func(paused backend.Paused) bool { return group == "" && paused.Group != "" }), err
				}
			}),
		},
		{
			name: "the pauses of groups are not told", breaks: "AllPauses tells of topics alone", killedBy: []string{"group pauses/all pauses are told with their groups"},
			fault: fault{inspecting: inspecting{allPauses: func(p *process) ([]backend.Paused, error) {
				all, err := p.backend.AllPauses(context.Background())
				return slices.DeleteFunc(all, func(paused backend.Paused) bool { return paused.Group != "" }), err
			}}},
		},
		{
			name: "a group has to be there", breaks: "the pause of a group that has not subscribed is lost", killedBy: []string{isEarly},
			fault: brokenPausers(func(p *process, group string, b *brokenPauser) {
				b.pause = func(ctx context.Context, topic string, wanted backend.Pause) (backend.Paused, error) {
					bound, err := p.backend.Bindings(ctx)
					if err != nil || slices.ContainsFunc(bound, func(one backend.Binding) bool { return one.Topic == topic && one.Group == group }) {
						return b.Pauser.Pause(ctx, topic, wanted)
					}
					return pretend(group)(ctx, topic, wanted)
				}
			}),
		},
		{
			name: "a pause makes a group", breaks: "a group that is paused gets what is published before it comes", killedBy: []string{isEarly},
			fault: brokenPausers(func(p *process, group string, b *brokenPauser) {
				b.pause = func(ctx context.Context, topic string, wanted backend.Pause) (backend.Paused, error) {
					_ = p.backend.Connect(&memory.Config{Group: group}).SubscribeInitialize(topic)
					return b.Pauser.Pause(ctx, topic, wanted)
				}
			}),
		},
		{
			name: "patterns are not paused", breaks: "the pause of a group that takes a pattern pauses nothing", killedBy: []string{isPattern},
			fault: brokenPausers(func(_ *process, group string, b *brokenPauser) {
				b.pause = func(ctx context.Context, topic string, wanted backend.Pause) (backend.Paused, error) {
					if backend.IsPattern(topic) {
						return pretend(group)(ctx, topic, wanted)
					}
					return b.Pauser.Pause(ctx, topic, wanted)
				}
			}),
		},
		{
			name: "a Pauser outlives its client", breaks: "what PauserOf has returned pauses when its client is closed", killedBy: []string{"group pauses/the Pauser of a closed client refuses"},
			fault: fault{pausing: pausing{pauserOf: func(p *process, group string) backend.Pauser { return p.memory.PauserOf(group) }}},
		},
		{
			name: "any group can be paused", breaks: "the pause of a group that cannot be says that it holds", killedBy: []string{isRefused},
			fault: brokenPausers(func(_ *process, group string, b *brokenPauser) {
				if backend.CheckTopic(group) != nil && group != "" {
					b.pause = pretend(group)
				}
			}),
		},
		{
			name: "a silent pause of a group is stored", breaks: "a group is paused without saying who and why", killedBy: []string{isRefused},
			fault: brokenPausers(func(_ *process, _ string, b *brokenPauser) {
				b.pause = func(ctx context.Context, topic string, wanted backend.Pause) (backend.Paused, error) {
					if wanted.Check() != nil {
						wanted = backend.Pause{By: "?", Reason: "?", For: time.Nanosecond}
					}
					return b.Pauser.Pause(ctx, topic, wanted)
				}
			}),
		},
	}
}
