package backend

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Pauser pauses topics for all their consumers, in all processes; Pause of an ezq.Router is for that
// router alone. The pause is stored with the
// topic: it outlives the process that asked for it, and consumers that start later keep it too.
//
// A Pauser that has a group pauses and resumes only the consumers of that group; any other one,
// all consumers of the topic.
type Pauser interface {
	// Pause has the consumers of topic fetch no more messages until Resume, or until p.For has
	// passed. Handlers that have begun go on. What was fetched and not handed over is
	// released. Publishers go on. Control events wait, too.
	//
	// Pause returns what holds then. Of two pauses the one that ends later holds: to make one
	// shorter, Resume first.
	Pause(ctx context.Context, topic string, p Pause) (Paused, error)

	// Resume ends the pause of topic, whatever has paused it, and reports whether there was one.
	Resume(ctx context.Context, topic string) (resumed bool, err error)

	// Pauses returns the pauses of topic that hold now: its own, and those of its groups, in
	// the order of their names. A Pauser that has a group leaves out the other groups.
	Pauses(ctx context.Context, topic string) ([]Paused, error)
}

// GroupPauser is a [Pauser] that returns one for each group.
type GroupPauser interface {
	Pauser

	// PauserOf returns a Pauser that has the group, or without a group one that has none.
	PauserOf(group string) Pauser
}

const (
	// MaxPauseAuthor is how many bytes By of a [Pause] may have.
	MaxPauseAuthor = 200

	// MaxPauseReason is how many bytes its Reason may have.
	MaxPauseReason = 1000
)

// Pause says who pauses a topic, why, and for how long.
type Pause struct {
	// By is the person or the program that pauses the topic. It must not be empty.
	By string

	// Reason is why. It must not be empty. It is stored as it is, and logged by every consumer.
	Reason string

	// For is how long. 0 means until Resume.
	For time.Duration
}

// Check returns a *[RefusedError] if p cannot be stored. Backends call it before they pause.
func (p Pause) Check() error {
	for _, text := range [...]struct {
		name, value, remedy string
		most                int
	}{{"By", p.By, "say who pauses", MaxPauseAuthor}, {"Reason", p.Reason, "say why", MaxPauseReason}} {
		what := "Pause." + text.name
		switch {
		case strings.TrimSpace(text.value) == "":
			return &RefusedError{What: what, Reason: "it is empty", Remedy: text.remedy + ": it is shown where the pause holds"}
		case !isText(text.value):
			return &RefusedError{What: what, Reason: "it is not UTF-8 without NUL", Remedy: "write it as text"}
		case len(text.value) > text.most:
			return &RefusedError{What: what, Reason: tooLong(len(text.value), text.most), Remedy: "say it in fewer words"}
		}
	}
	if p.For < 0 {
		return &RefusedError{What: "Pause.For", Reason: fmt.Sprintf("it is %v", p.For), Remedy: "use a positive duration, or 0 to pause until Resume"}
	}
	return nil
}

// Since returns the pause that p asks for at a time.
func (p Pause) Since(now time.Time) Paused {
	paused := Paused{By: p.By, Reason: p.Reason, Since: now}
	if p.For > 0 {
		paused.Until = now.Add(p.For)
	}
	return paused
}

// Paused is a pause that holds.
type Paused struct {
	Topic  string
	Group  string // "" if all consumers of the topic are paused
	By     string
	Reason string
	Since  time.Time
	Until  time.Time // zero: until Resume
}

// HoldsAt reports whether p has not ended at a time.
func (p Paused) HoldsAt(now time.Time) bool { return p.Until.IsZero() || now.Before(p.Until) }

// Covers reports whether p holds, or has held, at a time: from Since on, and until it ends.
func (p Paused) Covers(at time.Time) bool { return !at.Before(p.Since) && p.HoldsAt(at) }

// EndBy returns when p ends, or now, if it does not end before.
func (p Paused) EndBy(now time.Time) time.Time {
	if p.HoldsAt(now) {
		return now
	}
	return p.Until
}

// Outlasts reports whether p holds longer than other.
func (p Paused) Outlasts(other Paused) bool {
	return !other.Until.IsZero() && (p.Until.IsZero() || p.Until.After(other.Until))
}
