package conformance_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
)

// selection is what a broker does otherwise with messages that it has stored. A nil field is no fault.
type selection struct {
	find          func(p *process, topic string, s backend.Selection) ([]backend.Found, error)
	cancel        func(p *process, topic string, s backend.Selection) (backend.Cancelled, error)
	cancelRunning func(p *process, topic string, s backend.Selection) (backend.Cancelled, error)
	reschedule    func(p *process, topic string, s backend.Selection, at time.Time) (backend.Rescheduled, error)
}

// found returns the flaw of finding something else.
func found(change func([]backend.Found) []backend.Found) fault {
	return fault{selection: selection{find: func(p *process, topic string, s backend.Selection) ([]backend.Found, error) {
		all, err := p.backend.Find(context.Background(), topic, s)
		return change(all), err
	}}}
}

// fieldsAs returns the flaw of looking for other fields than are asked for.
func fieldsAs(change func(backend.Selection) []backend.Selection) fault {
	return fault{selection: selection{find: func(p *process, topic string, s backend.Selection) (all []backend.Found, err error) {
		if s.Field == "" || s.Check() != nil {
			return p.backend.Find(context.Background(), topic, s)
		}
		for _, one := range change(s) {
			found, failed := p.backend.Find(context.Background(), topic, one)
			all, err = append(all, found...), errors.Join(err, failed)
		}
		return all, err
	}}}
}

// stopping returns the fault of a broker that tells something else of what it has cancelled with CancelRunning.
func stopping(told func(backend.Cancelled) backend.Cancelled) fault {
	return fault{selection: selection{cancelRunning: func(p *process, topic string, s backend.Selection) (backend.Cancelled, error) {
		got, err := p.backend.CancelRunning(context.Background(), topic, s)
		return told(got), err
	}}}
}

func selectionMutants() []mutant {
	const (
		isFound     = "stored messages/a message is found"
		hasField    = "stored messages/a field of the body is found"
		isATree     = "stored messages/a correlation is a tree"
		isTold      = "stored messages/a state is told"
		isCancelled = "stored messages/what waits is cancelled"
		isStopped   = "stored messages/what is being handled is stopped"
		isCounted   = "stored messages/a cancel tells what it has found"
		isMoved     = "stored messages/what waits is rescheduled"
	)
	return []mutant{
		{
			name: "nothing is found", breaks: "a message that waits is not found", killedBy: []string{isFound, isTold},
			fault: found(func([]backend.Found) []backend.Found { return nil }),
		},
		{
			name: "half a match is enough", breaks: "a message is found by its ID that has another key", killedBy: []string{isFound},
			fault: fault{selection: selection{find: func(p *process, topic string, s backend.Selection) ([]backend.Found, error) {
				if s.ID != "" {
					s.UniqueKey = ""
				}
				return p.backend.Find(context.Background(), topic, s)
			}}},
		},
		{
			name: "a field is compared as text", breaks: "a message is found by a number that has it as text", killedBy: []string{hasField},
			fault: fieldsAs(func(s backend.Selection) []backend.Selection {
				other := s
				other.Equals = fmt.Sprint(s.Equals)
				return []backend.Selection{s, other}
			}),
		},
		{
			name: "a field is looked for in the outermost object", breaks: "of a path, only the last name counts", killedBy: []string{hasField},
			fault: fieldsAs(func(s backend.Selection) []backend.Selection {
				s.Field = s.Field[strings.LastIndex(s.Field, ".")+1:]
				return []backend.Selection{s}
			}),
		},
		{
			name: "of several messages with a header one is found", breaks: "a search by header ends at the first message", killedBy: []string{isATree},
			fault: fault{selection: selection{find: func(p *process, topic string, s backend.Selection) ([]backend.Found, error) {
				all, err := p.backend.Find(context.Background(), topic, s)
				if s.Header != "" {
					all = all[:min(len(all), 1)]
				}
				return all, err
			}}},
		},
		{
			name: "a dead letter is found without its own headers", breaks: "of a dead letter, Find tells no header that it had before", killedBy: []string{isATree},
			fault: found(func(all []backend.Found) []backend.Found {
				for i, f := range all {
					if f.State == backend.StateDead {
						all[i].Metadata = message.Metadata{backend.DeadLetterReason: f.Metadata[backend.DeadLetterReason]}
					}
				}
				return all
			}),
		},
		{
			name: "a handled message is found as waiting", breaks: "the state of a message that is being handled is wrong", killedBy: []string{isTold},
			fault: found(func(all []backend.Found) []backend.Found {
				for i := range all {
					if all[i].State == backend.StateDelivered {
						all[i].State = backend.StateWaiting
					}
				}
				return all
			}),
		},
		{
			name: "dead letters are not found", breaks: "a message is not found in the dead-letter topic", killedBy: []string{isTold},
			fault: found(func(all []backend.Found) []backend.Found {
				return slices.DeleteFunc(all, func(f backend.Found) bool { return f.Place == backend.InDeadLetters })
			}),
		},
		{
			name: "a cancelled message is delivered", breaks: "Cancel counts messages, and removes none", killedBy: []string{isCancelled},
			fault: fault{selection: selection{cancel: func(p *process, topic string, s backend.Selection) (backend.Cancelled, error) {
				all, err := p.backend.Find(context.Background(), topic, s)
				return backend.Cancelled{Removed: len(all)}, err
			}}},
		},
		{
			name: "a handled message counts as cancelled", breaks: "Cancel reports a message as removed that is being handled",
			killedBy: []string{"stored messages/what is being handled is not cancelled"},
			fault: fault{selection: selection{cancel: func(p *process, topic string, s backend.Selection) (backend.Cancelled, error) {
				got, err := p.backend.Cancel(context.Background(), topic, s)
				return backend.Cancelled{Removed: got.Removed + got.Busy}, err
			}}},
		},
		{
			name: "a stopped message is delivered again", breaks: "CancelRunning counts a message that is being handled, and removes none", killedBy: []string{isStopped, isCounted},
			fault: fault{selection: selection{cancelRunning: func(p *process, topic string, s backend.Selection) (backend.Cancelled, error) {
				got, err := p.backend.Cancel(context.Background(), topic, s)
				return backend.Cancelled{Removed: got.Removed, Stopped: got.Busy}, err
			}}},
		},
		{
			name: "a handler is not told why", breaks: "the context of a message that is cancelled ends without the cause ErrCancelled",
			killedBy: []string{isStopped}, fault: withoutCause(),
		},
		{
			name: "what was stopped counts as removed", breaks: "CancelRunning does not tell what waits from what is being handled", killedBy: []string{isStopped, isCounted},
			fault: stopping(func(c backend.Cancelled) backend.Cancelled { return backend.Cancelled{Removed: c.Removed + c.Stopped} }),
		},
		{
			name: "what is gone counts as stopped", breaks: "CancelRunning counts a message that is not there any more", killedBy: []string{isCounted},
			fault: stopping(func(c backend.Cancelled) backend.Cancelled {
				if c == (backend.Cancelled{}) {
					c.Stopped = 1
				}
				return c
			}),
		},
		{
			name: "a rescheduled message keeps its time", breaks: "Reschedule counts messages, and moves none", killedBy: []string{isMoved},
			fault: fault{selection: selection{reschedule: func(p *process, topic string, s backend.Selection, _ time.Time) (backend.Rescheduled, error) {
				all, err := p.backend.Find(context.Background(), topic, s)
				return backend.Rescheduled{Moved: len(all)}, err
			}}},
		},
		{
			name: "messages are moved to earlier times only", breaks: "a message that is moved to a later time is delivered sooner", killedBy: []string{isMoved},
			fault: fault{selection: selection{reschedule: func(p *process, topic string, s backend.Selection, at time.Time) (backend.Rescheduled, error) {
				all, err := p.backend.Find(context.Background(), topic, s)
				if err == nil && len(all) == 1 && all[0].VisibleAt.Before(at) {
					at = all[0].VisibleAt
				}
				return p.backend.Reschedule(context.Background(), topic, s, at)
			}}},
		},
		{
			name: "a handled message counts as rescheduled", breaks: "Reschedule reports a message as moved that is being handled",
			killedBy: []string{"stored messages/what is being handled is not rescheduled"},
			fault: fault{selection: selection{reschedule: func(p *process, topic string, s backend.Selection, at time.Time) (backend.Rescheduled, error) {
				got, err := p.backend.Reschedule(context.Background(), topic, s, at)
				return backend.Rescheduled{Moved: got.Moved + got.Busy}, err
			}}},
		},
		{
			name: "an empty selection finds nothing", breaks: "a selection without a condition is no error",
			killedBy: []string{"stored messages/a selection that chooses nothing is refused"},
			fault: fault{selection: selection{find: func(p *process, topic string, s backend.Selection) ([]backend.Found, error) {
				if s.Check() != nil {
					return nil, nil
				}
				return p.backend.Find(context.Background(), topic, s)
			}}},
		},
	}
}
