package conformance_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ezq-go/ezq/backend"
)

// inspecting is how a broker tells of its queues, where that is a fault. A nil field is no fault.
type inspecting struct {
	states    func(p *process) ([]backend.QueueState, error)
	bindings  func(p *process) ([]backend.Binding, error)
	allPauses func(p *process) ([]backend.Paused, error)
	peek      func(p *process, topic string, chosen backend.Peek) ([]backend.Peeked, error)
}

// statesAs returns the fault of a broker that tells something else of each queue.
func statesAs(change func(p *process, s *backend.QueueState)) fault {
	return fault{inspecting: inspecting{states: func(p *process) ([]backend.QueueState, error) {
		states, err := p.backend.QueueStates(context.Background())
		for i := range states {
			change(p, &states[i])
		}
		return states, err
	}}}
}

// listedAs returns the fault of a broker that lists other queues.
func listedAs(change func(p *process, all []backend.QueueState) []backend.QueueState) fault {
	return fault{inspecting: inspecting{states: func(p *process) ([]backend.QueueState, error) {
		states, err := p.backend.QueueStates(context.Background())
		return change(p, states), err
	}}}
}

// waitingOf returns what waits in a queue, and what is delayed or leased.
func waitingOf(p *process, s *backend.QueueState) (waiting, invisible []backend.Peeked) {
	all, _ := p.backend.Peek(context.Background(), s.Topic, backend.Peek{Group: s.Group, Limit: backend.MaxPeekLimit})
	for _, f := range all {
		if f.VisibleAt.After(time.Now()) {
			invisible = append(invisible, f)
		} else {
			waiting = append(waiting, f)
		}
	}
	return waiting, invisible
}

// rememberingPauses returns the fault of a broker that tells of each pause that there was.
func rememberingPauses() fault {
	var remembered sync.Map
	return fault{
		pausing: pausing{pause: func(p *process, topic string, wanted backend.Pause) (backend.Paused, error) {
			paused, err := p.backend.Pause(context.Background(), topic, wanted)
			remembered.Store(topic, paused)
			return paused, err
		}},
		inspecting: inspecting{allPauses: func(*process) (all []backend.Paused, err error) {
			remembered.Range(func(_, paused any) bool {
				all = append(all, paused.(backend.Paused))
				return true
			})
			slices.SortFunc(all, func(a, b backend.Paused) int { return cmp.Compare(a.Topic, b.Topic) })
			return all, nil
		}},
	}
}

func inspectionMutants() []mutant {
	const (
		isWaiting = "inspection/a queue tells what waits"
		isDelayed = "inspection/a queue tells what is delayed"
		isCapped  = "inspection/a count ends at its limit"
		hasLag    = "inspection/the oldest tells the lag"
		isListed  = "inspection/queues are listed in order"
		hasGroups = "inspection/groups have queues of their own"
		isCounted = "inspection/what comes and goes is counted"
	)
	return []mutant{
		{
			name: "what is leased waits", breaks: "a message that a consumer has counts as waiting", killedBy: []string{isWaiting, isDelayed},
			fault: statesAs(func(_ *process, s *backend.QueueState) { s.Waiting, s.Invisible = s.Waiting+s.Invisible, 0 }),
		},
		{
			name: "what is leased is gone", breaks: "a message that a consumer has counts as acked", killedBy: []string{isWaiting, isDelayed},
			fault: statesAs(func(_ *process, s *backend.QueueState) { s.Invisible, s.NextDue = 0, time.Time{} }),
		},
		{
			name: "a process sees its own queues", breaks: "the queues of other processes have no state", killedBy: []string{isWaiting, isListed},
			fault: fault{
				join: func(p *process, topic string) { p.increment(fmt.Sprintf("of %p: %s", p, topic)) },
				inspecting: inspecting{states: func(p *process) ([]backend.QueueState, error) {
					states, err := p.backend.QueueStates(context.Background())
					return slices.DeleteFunc(states, func(s backend.QueueState) bool { return p.count(fmt.Sprintf("of %p: %s", p, s.Topic)) == 0 }), err
				}},
			},
		},
		{
			name: "the next one is the last", breaks: "NextDue is when the last message becomes due", killedBy: []string{isDelayed},
			fault: statesAs(func(p *process, s *backend.QueueState) {
				if _, invisible := waitingOf(p, s); len(invisible) > 0 {
					s.NextDue = invisible[len(invisible)-1].VisibleAt
				}
			}),
		},
		{
			name: "counts have no end", breaks: "a queue counts more messages than MaxQueueCount", killedBy: []string{isCapped},
			fault: statesAs(func(_ *process, s *backend.QueueState) {
				if s.WaitingCapped {
					s.Waiting = int(s.Added-s.Removed) - s.Invisible
				}
			}),
		},
		{
			name: "a count that ended is all", breaks: "nothing says that there are more messages than were counted", killedBy: []string{isCapped},
			fault: statesAs(func(_ *process, s *backend.QueueState) { s.WaitingCapped = false }),
		},
		{
			name: "a count ends early", breaks: "a queue counts 1,000 messages, and says that there are more", killedBy: []string{isCapped},
			fault: statesAs(func(_ *process, s *backend.QueueState) {
				s.WaitingCapped = s.Waiting > 1000
				s.Waiting = min(s.Waiting, 1000)
			}),
		},
		{
			name: "the lag begins with the publish", breaks: "Oldest counts the time for which a message was delayed", killedBy: []string{hasLag},
			fault: statesAs(func(p *process, s *backend.QueueState) {
				waiting, _ := waitingOf(p, s)
				for _, f := range waiting {
					s.Oldest = max(s.Oldest, time.Since(f.PublishedAt))
				}
			}),
		},
		{
			name: "the oldest is the newest", breaks: "Oldest is how long the last message waits", killedBy: []string{hasLag},
			fault: statesAs(func(p *process, s *backend.QueueState) {
				if waiting, _ := waitingOf(p, s); len(waiting) > 0 {
					s.Oldest = time.Since(waiting[len(waiting)-1].VisibleAt)
				}
			}),
		},
		{
			name: "what is leased is old", breaks: "Oldest counts what a consumer has", killedBy: []string{hasLag},
			fault: statesAs(func(_ *process, s *backend.QueueState) {
				if s.Invisible > 0 {
					s.Oldest = max(s.Oldest, time.Millisecond)
				}
			}),
		},
		{
			name: "queues come in any order", breaks: "the states are not in the order of their topics", killedBy: []string{isListed, hasGroups},
			fault: listedAs(func(_ *process, all []backend.QueueState) []backend.QueueState {
				slices.Reverse(all)
				return all
			}),
		},
		{
			name: "empty queues are not listed", breaks: "a queue without messages has no state", killedBy: []string{isListed, isWaiting},
			fault: listedAs(func(_ *process, all []backend.QueueState) []backend.QueueState {
				return slices.DeleteFunc(all, func(s backend.QueueState) bool { return s.Waiting+s.Invisible == 0 })
			}),
		},
		{
			name: "a topic is one queue", breaks: "the groups of a topic are counted together", killedBy: []string{hasGroups},
			fault: listedAs(func(_ *process, all []backend.QueueState) (merged []backend.QueueState) {
				for _, s := range all {
					if last := len(merged) - 1; last >= 0 && merged[last].Topic == s.Topic {
						merged[last].Waiting += s.Waiting
						merged[last].Invisible += s.Invisible
						continue
					}
					merged = append(merged, s)
				}
				return merged
			}),
		},
		{
			name: "dead letters are not counted", breaks: "the queue of dead letters has no state", killedBy: []string{"inspection/dead letters have a queue"},
			fault: listedAs(func(_ *process, all []backend.QueueState) []backend.QueueState {
				return slices.DeleteFunc(all, func(s backend.QueueState) bool { return strings.HasSuffix(s.Topic, backend.DeadLetterSuffix) })
			}),
		},
		{
			name: "what is acked is not counted", breaks: "Removed stays as it was", killedBy: []string{isCounted},
			fault: statesAs(func(_ *process, s *backend.QueueState) { s.Removed = 0 }),
		},
		{
			name: "Added is what is there", breaks: "Added shrinks with what is acked", killedBy: []string{isCounted},
			fault: statesAs(func(_ *process, s *backend.QueueState) { s.Added -= s.Removed }),
		},
		{
			name: "each binding is left over", breaks: "Bindings says that the queues of groups do not exist", killedBy: []string{"inspection/bindings tell groups"},
			fault: fault{inspecting: inspecting{bindings: func(p *process) ([]backend.Binding, error) {
				all, err := p.backend.Bindings(context.Background())
				for i := range all {
					all[i].Missing = true
				}
				return all, err
			}}},
		},
		{
			name: "patterns are not bound", breaks: "Bindings tells of topics alone", killedBy: []string{"inspection/bindings tell groups"},
			fault: fault{inspecting: inspecting{bindings: func(p *process) ([]backend.Binding, error) {
				all, err := p.backend.Bindings(context.Background())
				return slices.DeleteFunc(all, func(b backend.Binding) bool { return backend.IsPattern(b.Topic) }), err
			}}},
		},
		{
			name: "pauses come in any order", breaks: "AllPauses is not in the order of the topics", killedBy: []string{"inspection/all pauses are told"},
			fault: fault{inspecting: inspecting{allPauses: func(p *process) ([]backend.Paused, error) {
				all, err := p.backend.AllPauses(context.Background())
				slices.Reverse(all)
				return all, err
			}}},
		},
		{
			name: "pauses that ended are told", breaks: "AllPauses tells of a pause that does not hold any more", killedBy: []string{"inspection/all pauses are told"},
			fault: rememberingPauses(),
		},
		{
			name: "one look at a time", breaks: "what is looked at while another look is taken is an error", killedBy: []string{"inspection/looks may be taken at once"},
			fault: fault{inspecting: inspecting{peek: func(p *process, topic string, chosen backend.Peek) ([]backend.Peeked, error) {
				slot := p.slot("look")
				select {
				case slot <- struct{}{}:
				default:
					return nil, errors.New("busy")
				}
				defer func() { <-slot }()
				stall(time.Millisecond)
				return p.backend.Peek(context.Background(), topic, chosen)
			}}},
		},
		{
			name: "a closed inspector sees nothing", breaks: "after Close, AllPauses returns no pauses and no error", killedBy: []string{"inspection/a closed inspector refuses"},
			fault: fault{inspecting: inspecting{allPauses: func(p *process) ([]backend.Paused, error) {
				all, err := p.backend.AllPauses(context.Background())
				if errors.Is(err, backend.ErrClosed) {
					return nil, nil
				}
				return all, err
			}}},
		},
	}
}

// peekedAs returns the fault of a broker that shows something else.
func peekedAs(change func([]backend.Peeked) []backend.Peeked) fault {
	return fault{inspecting: inspecting{peek: func(p *process, topic string, chosen backend.Peek) ([]backend.Peeked, error) {
		found, err := p.backend.Peek(context.Background(), topic, chosen)
		return change(found), err
	}}}
}

// choosingAs returns the fault of a broker that shows what another peek chooses.
func choosingAs(change func(p *process, topic string, chosen *backend.Peek)) fault {
	return fault{inspecting: inspecting{peek: func(p *process, topic string, chosen backend.Peek) ([]backend.Peeked, error) {
		change(p, topic, &chosen)
		return p.backend.Peek(context.Background(), topic, chosen)
	}}}
}

func peekMutants() []mutant {
	const (
		isNext    = "peeks/a peek shows what is due next"
		hasPages  = "peeks/a peek goes page by page"
		isBounded = "peeks/a peek is bounded"
		isNothing = "peeks/what does not exist has no messages"
	)
	each := func(change func(f *backend.Peeked)) fault {
		return peekedAs(func(all []backend.Peeked) []backend.Peeked {
			for i := range all {
				change(&all[i])
			}
			return all
		})
	}
	return []mutant{
		{
			name: "a peek shows what waits", breaks: "what is delayed is not shown", killedBy: []string{isNext},
			fault: peekedAs(func(all []backend.Peeked) []backend.Peeked {
				return slices.DeleteFunc(all, func(f backend.Peeked) bool { return f.VisibleAt.After(time.Now()) })
			}),
		},
		{
			name: "a peek shows the last ones first", breaks: "messages are not shown in the order in which they are due", killedBy: []string{isNext},
			fault: peekedAs(func(all []backend.Peeked) []backend.Peeked {
				slices.Reverse(all)
				return all
			}),
		},
		{
			name: "a peek shows no metadata", breaks: "a message is shown without its metadata", killedBy: []string{isNext},
			fault: each(func(f *backend.Peeked) { f.Metadata = nil }),
		},
		{
			name: "a peek begins anew", breaks: "the next page is the first one", killedBy: []string{hasPages},
			fault: choosingAs(func(_ *process, _ string, chosen *backend.Peek) { chosen.After = "" }),
		},
		{
			name: "a peek shows all", breaks: "the limit does not count", killedBy: []string{hasPages},
			fault: choosingAs(func(_ *process, _ string, chosen *backend.Peek) { chosen.Limit = backend.MaxPeekLimit }),
		},
		{
			name: "a page leaves one out", breaks: "the message behind a page is never shown", killedBy: []string{hasPages},
			fault: choosingAs(func(p *process, topic string, chosen *backend.Peek) {
				if next, _ := p.backend.Peek(context.Background(), topic, *chosen); chosen.After != "" && len(next) > 0 {
					chosen.After = next[0].After
				}
			}),
		},
		{
			name: "a peek takes a lease", breaks: "what was looked at does not come for a while", killedBy: []string{"peeks/a peek takes nothing"},
			fault: fault{inspecting: inspecting{peek: func(p *process, topic string, chosen backend.Peek) ([]backend.Peeked, error) {
				found, err := p.backend.Peek(context.Background(), topic, chosen)
				for _, f := range found {
					_, failed := p.backend.Reschedule(context.Background(), topic, backend.Selection{ID: f.ID}, time.Now().Add(brokerLease))
					err = errors.Join(err, failed)
				}
				return found, err
			}}},
		},
		{
			name: "a peek knows no states", breaks: "what was delivered is shown as if it waited", killedBy: []string{"peeks/a peek tells states"},
			fault: each(func(f *backend.Peeked) { f.State = backend.StateWaiting }),
		},
		{
			name: "a peek shows any payload", breaks: "payloads are shown that are larger than MaxFoundPayload", killedBy: []string{isBounded},
			fault: each(func(f *backend.Peeked) {
				if f.Size > backend.MaxFoundPayload {
					f.Payload = make([]byte, f.Size)
				}
			}),
		},
		{
			name: "a peek shows all payloads", breaks: "payloads are shown beyond MaxPeekPayloads", killedBy: []string{isBounded},
			fault: each(func(f *backend.Peeked) {
				if f.Size <= backend.MaxFoundPayload {
					f.Payload = make([]byte, f.Size)
				}
			}),
		},
		{
			name: "what is not shown has no size", breaks: "the size of a payload that is left out is not told", killedBy: []string{isBounded},
			fault: each(func(f *backend.Peeked) { f.Size = len(f.Payload) }),
		},
		{
			name: "a peek knows one group", breaks: "a peek into one group shows the messages of another", killedBy: []string{"peeks/a peek knows groups apart"},
			fault: choosingAs(func(_ *process, _ string, chosen *backend.Peek) {
				if chosen.Group != "" {
					chosen.Group = "one"
				}
			}),
		},
		{
			name: "a peek says no topics", breaks: "a message of a pattern does not say the topic that it was published to", killedBy: []string{"peeks/a peek into the queue of a pattern says the topics"},
			fault: each(func(f *backend.Peeked) { f.PublishedTo = "" }),
		},
		{
			name: "a peek creates a queue", breaks: "a topic that was looked at exists from then on", killedBy: []string{isNothing},
			fault: choosingAs(func(p *process, topic string, _ *backend.Peek) { _ = p.backend.SubscribeInitialize(topic) }),
		},
		{
			name: "what does not exist is an error", breaks: "a peek into a topic that does not exist returns an error", killedBy: []string{isNothing},
			fault: fault{inspecting: inspecting{peek: func(p *process, topic string, chosen backend.Peek) ([]backend.Peeked, error) {
				states, err := p.backend.QueueStates(context.Background())
				if err == nil && !slices.ContainsFunc(states, func(s backend.QueueState) bool { return s.Topic == topic }) {
					return nil, errors.New("there is no such queue")
				}
				return p.backend.Peek(context.Background(), topic, chosen)
			}}},
		},
		{
			name: "any peek will do", breaks: "a peek that cannot be shows nothing, and is no error", killedBy: []string{"peeks/an impossible peek is refused"},
			fault: fault{inspecting: inspecting{peek: func(p *process, topic string, chosen backend.Peek) ([]backend.Peeked, error) {
				if chosen.Check() != nil {
					return nil, nil
				}
				return p.backend.Peek(context.Background(), topic, chosen)
			}}},
		},
	}
}
