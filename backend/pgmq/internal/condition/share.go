package condition

import (
	"time"

	"github.com/ezq-go/ezq/backend/pgmq/internal/insert"
)

// share tells which messages of a batch a statement is sent: of several with one ID, or with one key, it decides once.
// Those that are not sent have the result that they would have after the one that is. A nil share sends all.
type share struct {
	sent   []int // messages
	places []int // of each message, the place in sent of the one that is sent for it; or -1 if it has to be published by itself
}

// newShare returns nil if no two messages share anything.
func newShare(batch insert.Batch) *share {
	s := &share{places: make([]int, batch.Len())}
	known := make(map[string]int, batch.Len())
	for n, condition := range batch.Conditions {
		s.places[n] = len(s.sent)
		if condition == nil {
			s.sent = append(s.sent, n)
			continue
		}
		name := condition.UniqueKey
		if condition.Once {
			name = batch.IDs[n]
		}
		at, shared := known[name]
		switch {
		case !shared:
			known[name] = len(s.sent)
			s.sent = append(s.sent, n)
		case batch.IDs[s.sent[at]] == "": // PostgreSQL gives it one, which is the answer to the next
			s.places[n] = -1
		case !condition.Replace:
			s.places[n] = at
		case sameWait(batch, s.sent[at], n): // the last one is what is there in the end, and has the time of the first
			s.places[n], s.sent[at] = at, n
		default:
			s.places[n] = -1
		}
	}
	if len(s.sent) == batch.Len() {
		return nil
	}
	return s
}

// sameWait reports whether two messages that replace each other would be due at the same time.
func sameWait(batch insert.Batch, a, b int) bool {
	return batch.Delays[a] == batch.Delays[b] && batch.Conditions[a].Debounce == batch.Conditions[b].Debounce &&
		sameTime(batch.Times[a], batch.Times[b])
}

func sameTime(a, b *time.Time) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Equal(*b)
}

// place is where a message, or the one that is sent for it, is among those that are sent; or -1.
func (s *share) place(message int) int {
	if s == nil {
		return message
	}
	return s.places[message]
}

// message is the one that is sent at a place.
func (s *share) message(place int) int {
	if s == nil {
		return place
	}
	return s.sent[place]
}

// count is how many of so many messages are sent.
func (s *share) count(messages int) int {
	if s == nil {
		return messages
	}
	return len(s.sent)
}

// batch returns the messages that are sent.
func (s *share) batch(all insert.Batch) insert.Batch {
	if s == nil {
		return all
	}
	return insert.Batch{
		Messages: sentOf(s, all.Messages), Headers: sentOf(s, all.Headers), Delays: sentOf(s, all.Delays), Times: sentOf(s, all.Times),
		Conditions: sentOf(s, all.Conditions), IDs: sentOf(s, all.IDs),
	}
}

// sentOf returns what belongs to the messages that are sent, of what belongs to each of all.
func sentOf[T any](s *share, all []T) []T {
	if s == nil {
		return all
	}
	sent := make([]T, len(s.sent))
	for place, message := range s.sent {
		sent[place] = all[message]
	}
	return sent
}
