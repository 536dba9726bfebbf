package memory

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/internal/deadletters"
)

// errStray is the Err of a message that is no dead letter.
var errStray = errors.New("memory: the message names no topic that it came from, as dead letters do")

// deadLetterSelector tells which entries a selection chooses.
type deadLetterSelector struct {
	backend.DeadLetterSelection
	reason *regexp.Regexp // or nil
	said   selector       // by what the message says of itself
}

func newDeadLetterSelector(s backend.DeadLetterSelection) deadLetterSelector {
	selected := deadLetterSelector{
		DeadLetterSelection: s,
		said:                newSelector(backend.Selection{ID: s.ID, Event: s.Event, Header: s.Header, Value: s.Value, Field: s.Field, Equals: s.Equals}),
	}
	if s.Reason != "" {
		selected.reason = regexp.MustCompile(deadletters.Expression(s.Reason)) // of text that is quoted
	}
	return selected
}

// chooses reports whether e is chosen, the Topics aside.
func (s deadLetterSelector) chooses(e *entry) bool {
	handler, reason := e.metadata[backend.DeadLetterHandler], e.metadata[backend.DeadLetterReason]
	switch {
	case e.id <= s.After || len(s.Rows) > 0 && !slices.Contains(s.Rows, e.id), s.Group != "" && e.group() != s.Group,
		s.Handler != "" && handler != s.Handler, s.reason != nil && !s.reason.MatchString(reason),
		e.published.Before(s.From), !s.To.IsZero() && !e.published.Before(s.To):
		return false
	}
	return s.said.chooses(e)
}

// all returns the entries of a topic that s chooses, the oldest first.
func (s deadLetterSelector) all(q *queue) (chosen []*entry) {
	for _, e := range q.entries {
		if s.chooses(e) {
			chosen = append(chosen, e)
		}
	}
	slices.SortFunc(chosen, func(a, b *entry) int { return cmp.Compare(a.id, b.id) })
	return chosen
}

// listed returns those of the entries that s chooses that came from one of the Topics, if there are any.
func (s deadLetterSelector) listed(q *queue) []*entry {
	return slices.DeleteFunc(s.all(q), func(e *entry) bool {
		return len(s.Topics) > 0 && !slices.Contains(s.Topics, e.metadata[backend.DeadLetterTopic])
	})
}

// origins returns the topics whose dead letters are moved and deleted.
func (s deadLetterSelector) origins(from string) ([]string, error) {
	if len(s.Topics) > 0 {
		return s.Topics, nil
	}
	topic, ok := strings.CutSuffix(from, backend.DeadLetterSuffix)
	if !ok || topic == "" {
		return nil, fmt.Errorf("the topic is not named after another one, as %q is: ask for that, or name the Topics whose dead letters are meant", from+backend.DeadLetterSuffix)
	}
	return []string{topic}, nil
}

// each does something with up to Limit of the dead letters of from that are chosen and came from one of the topics, and counts those
// for which it returns false. What else is chosen is in the error.
func (s deadLetterSelector) each(q *queue, topics []string, do func(*entry) bool) (done, busy int, err error) {
	strays := 0
	for _, e := range s.all(q) {
		switch {
		case s.Limit > 0 && done == s.Limit:
			return done, busy, nil
		case isStray(q.parent, e, topics):
			strays++
		case do(e):
			done++
		default:
			busy++
		}
	}
	if strays > 0 {
		err = fmt.Errorf("%d messages stay: they are not dead letters of %q, or came from another topic than they say: name the Topics whose dead letters are meant", strays, topics)
	}
	return done, busy, err
}

// isStray reports whether a message is no dead letter of the topics, or there is no place that it could go back to.
func isStray(ts *topics, e *entry, topics []string) bool {
	topic := e.metadata[backend.DeadLetterTopic]
	switch {
	case !slices.Contains(topics, topic):
		return true
	case e.origin != nil:
		return e.origin.topic.name != topic
	default:
		return backend.IsPattern(topic) && len(ts.find(topic).bound) == 0
	}
}

// list returns up to limit of the dead letters in a topic that s chooses.
func (s deadLetterSelector) list(ts *topics, from string, limit int) []backend.FoundDeadLetter {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	chosen := s.listed(ts.find(from).own)
	found := make([]backend.FoundDeadLetter, 0, min(limit, len(chosen)))
	for _, e := range chosen[:cap(found)] {
		found = append(found, foundDeadLetter(e))
	}
	return found
}

// count counts the dead letters in a topic that s chooses.
func (s deadLetterSelector) count(ts *topics, from string, limit int) []backend.DeadLetterCount {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	counts := deadletters.NewCounts()
	for _, e := range s.listed(ts.find(from).own) {
		counts.Add(foundDeadLetter(e), e.published)
	}
	return counts.Most(limit)
}

// redrive moves the dead letters in a topic that s chooses back to their topics.
func (s deadLetterSelector) redrive(ts *topics, from string, origins []string) (moved, busy int, err error) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	q, now := ts.find(from).own, time.Now()
	return s.each(q, origins, func(e *entry) bool {
		if e.visible.After(now) {
			return false
		}
		q.remove(e)
		again := redriven(e, now)
		if e.origin == nil {
			ts.find(e.metadata[backend.DeadLetterTopic]).store(publication{entries: []*entry{again}})
		} else {
			e.origin.add(again)
		}
		return true
	})
}

// purge deletes the dead letters in a topic that s chooses.
func (s deadLetterSelector) purge(ts *topics, from string, origins []string) (removed int, err error) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	q := ts.find(from).own
	removed, _, err = s.each(q, origins, func(e *entry) bool {
		q.remove(e)
		return true
	})
	return removed, err
}

// editDeadLetter makes an edit on a dead letter in a topic.
func editDeadLetter(ts *topics, from string, edit backend.DeadLetterEdit) error {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	e, ok := ts.find(from).own.byID[edit.Row]
	conflict := &backend.EditConflictError{Row: edit.Row}
	now := time.Now()
	switch {
	case !ok:
		return conflict
	case e.visible.After(now):
		conflict.Busy = true
		return conflict
	}
	found := foundDeadLetter(e)
	switch {
	case found.Err != nil:
		return found.Err
	case found.Version() != edit.Version:
		conflict.Found = &found
		return conflict
	}
	edit.Apply(&found, now)
	e.payload = bytes.Clone(found.Payload)
	e.metadata[backend.EditedBy], e.metadata[backend.EditedAt] = found.Metadata[backend.EditedBy], found.Metadata[backend.EditedAt]
	return nil
}

// foundDeadLetter returns what is told of e as a dead letter.
func foundDeadLetter(e *entry) backend.FoundDeadLetter {
	header := e.metadata.Get
	d := backend.FoundDeadLetter{
		Row: e.id, ID: e.uuid, Topic: header(backend.DeadLetterTopic), Handler: header(backend.DeadLetterHandler), Reason: header(backend.DeadLetterReason),
		Event: eventOf(e), At: e.published, Payload: bytes.Clone(e.payload), Metadata: ownMetadata(e),
	}
	d.Group = e.group()
	if backend.IsPattern(d.Topic) {
		d.PublishedTo = e.publishedTo
	}
	d.Failures, _ = strconv.Atoi(header(backend.DeadLetterFailures)) // 0 if it does not say
	if at, err := time.Parse(time.RFC3339, header(backend.DeadLetterAt)); err == nil {
		d.At = at
	}
	if d.Topic == "" {
		d.Err = errStray
	}
	return d
}

// ownMetadata returns what a dead letter has of its own.
func ownMetadata(e *entry) map[string]string {
	own := maps.Clone(e.metadata)
	for _, key := range deadletters.Keys() {
		delete(own, key)
	}
	return own
}

// redriven returns e as it goes back to its topic: it expires no more, since who redrives it wants it handled.
func redriven(e *entry, now time.Time) *entry {
	metadata := ownMetadata(e)
	delete(metadata, backend.ExpiresAt)
	return &entry{uuid: e.uuid, metadata: metadata, payload: e.payload, published: now, visible: now, publishedTo: e.publishedTo}
}
