package model

import (
	"fmt"
	"slices"
	"time"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/internal/subscription"
)

// queue is what a store must do, as short as it can be said. Time does not pass
// in it: a message is visible, or it will not be for as long as the check lasts.
type queue struct {
	messages map[string]*stored // by UUID
	clock    int                // counts whatever makes a message visible
}

// stored is one message that is there.
type stored struct {
	uuid     string
	payload  string
	metadata map[string]string
	visible  bool
	added    int // the moment in which it came
	since    int // the moment from which it was visible
	number   int // of its lease
	failures int
	done     []string
	token    subscription.Token // of the latest lease; zero if there was none, or it was released
}

func newQueue() *queue { return &queue{messages: map[string]*stored{}} }

func (q *queue) add(m stored, visible bool) {
	q.messages[m.uuid] = &m
	q.setVisible(&m, visible)
	m.added = m.since
}

func (q *queue) setVisible(m *stored, visible bool) {
	q.clock++
	m.visible, m.since = visible, q.clock
}

// due returns the visible messages, those first that have been so for longest.
func (q *queue) due() (due []*stored) {
	for _, m := range q.messages {
		if m.visible {
			due = append(due, m)
		}
	}
	slices.SortFunc(due, func(a, b *stored) int { return a.since - b.since })
	return due
}

// ticket is a lease as its consumer knows it, also after it is lost.
type ticket struct {
	message *stored
	token   subscription.Token
}

// has reports whether the message of t is still there: a dead letter that was moved
// back is another one.
func (q *queue) has(t ticket) bool { return q.messages[t.message.uuid] == t.message }

// valid reports whether t is the latest lease of its message.
func (q *queue) valid(t ticket) bool { return q.has(t) && t.message.token == t.token }

// settle carries out one settlement. Dead letters go to dead.
func (q *queue) settle(t ticket, s subscription.Settlement, dead *queue) outcome {
	switch {
	case !q.has(t):
		return gone
	case !q.valid(t):
		return lost
	}
	m := t.message
	switch s.Action {
	case subscription.Ack:
		delete(q.messages, m.uuid)
	case subscription.Nack:
		m.failures, m.done = s.Disposition.Fallback.Failures, s.Disposition.Fallback.Done
		q.setVisible(m, s.Disposition.Fallback.Delay == 0)
	case subscription.Release: // as if it had never been leased
		m.number--
		m.token = subscription.Token{}
		m.visible, m.since = true, m.added
	case subscription.DeadLetter:
		delete(q.messages, m.uuid)
		dead.add(stored{uuid: m.uuid, payload: m.payload, metadata: m.metadata}, true)
	}
	return done
}

// redrive moves up to limit of the visible messages to q, those first that came first, and
// returns how many.
func (q *queue) redrive(dead *queue, limit int) int {
	due := dead.due()
	slices.SortFunc(due, func(a, b *stored) int { return a.added - b.added })
	due = due[:min(limit, len(due))]
	for _, m := range due {
		delete(dead.messages, m.uuid)
		q.add(stored{uuid: m.uuid, payload: m.payload, metadata: m.metadata}, true)
	}
	return len(due)
}

type outcome string

const (
	done outcome = "done"
	lost outcome = "lost"
	gone outcome = "gone"
)

// dispositionOf returns the disposition of a message that is settled with an action.
func dispositionOf(action subscription.Action, failures int, delay time.Duration) backend.Disposition {
	switch action {
	case subscription.Nack:
		return backend.Disposition{Fallback: backend.Redelivery{Delay: delay, Failures: failures, Done: handlers(failures)}}
	case subscription.DeadLetter:
		return backend.Disposition{Target: &backend.DeadLetterTarget{
			Topic:    deadTopic,
			Metadata: map[string]string{backend.DeadLetterTopic: topic, backend.DeadLetterReason: "boom"},
		}}
	default:
		return backend.Disposition{}
	}
}

// handlers makes up the names of handlers that are done.
func handlers(n int) []string {
	return []string{"one", "two", "three"}[:n]
}

// String is for the log of a check that fails.
func (t ticket) String() string { return fmt.Sprintf("lease %d of %s", t.token.Number, t.message.uuid) }

// differs says in what a lease is not what m is.
func (m *stored) differs(lease subscription.Lease) string {
	for key, value := range m.metadata {
		if lease.Message.Metadata[key] != value {
			return fmt.Sprintf("its metadata is %v, not %v", lease.Message.Metadata, m.metadata)
		}
	}
	d := lease.Delivery
	switch {
	case string(lease.Message.Payload) != m.payload:
		return fmt.Sprintf("its payload is %q", lease.Message.Payload)
	case lease.Number != m.number || d.Number != m.number:
		return fmt.Sprintf("it is lease %d and delivery %d, not %d", lease.Number, d.Number, m.number)
	case d.Failures != m.failures:
		return fmt.Sprintf("it has failed %d times, not %d", d.Failures, m.failures)
	case !slices.Equal(d.Done, m.done):
		return fmt.Sprintf("done with it are %q, not %q", d.Done, m.done)
	}
	return ""
}
