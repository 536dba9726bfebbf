package ezqtest

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"

	"github.com/ezq-go/ezq/ezq"
)

// The records of an event, as messages name them.
const (
	published    = "published"
	handled      = "handled"
	failed       = "failed"
	interrupted  = "interrupted"
	snoozed      = "snoozed"
	deadLettered = "dead-lettered"
)

// record is something that happened to an event.
type record struct {
	what, event string
	place
	payload []byte
	reason  string
}

// Events are the events of one type that were published, handled, failed, interrupted,
// snoozed or dead-lettered, in the order in which that happened.
type Events[E any] struct {
	f      *Flow
	what   string
	events []E
	groups []string // whose consumers each was with
}

// Published returns the events that were published with the backend of the flow. Events
// that were published in another way are included if they have reached the router, or if
// [Flow.AwaitIdle] has found them in the backend.
func Published[E any](f *Flow) Events[E] { return eventsOf[E](f, published) }

// Handled returns the events that were handled with success, once for each call of a
// handler.
func Handled[E any](f *Flow) Events[E] { return eventsOf[E](f, handled) }

// Failed returns the events whose handlers failed, once for each call of a handler.
func Failed[E any](f *Flow) Events[E] { return eventsOf[E](f, failed) }

// Interrupted returns the events whose handlers were interrupted, once for each call: the
// router stopped, or the lease was lost. An interruption is not a failure.
func Interrupted[E any](f *Flow) Events[E] { return eventsOf[E](f, interrupted) }

// Snoozed returns the events that handlers have put off with [ezq.Snooze], once for each
// call. That is not a failure.
func Snoozed[E any](f *Flow) Events[E] { return eventsOf[E](f, snoozed) }

// DeadLettered returns the events that were dead-lettered and moved to a dead-letter topic.
func DeadLettered[E any](f *Flow) Events[E] { return eventsOf[E](f, deadLettered) }

func eventsOf[E any](f *Flow, what string) Events[E] {
	f.tb.Helper()
	es := Events[E]{f: f, what: what}
	f.backend.mu.Lock()
	defer f.backend.mu.Unlock()
	for _, r := range f.backend.records {
		if r.what != what || r.event != ezq.EventName[E]() {
			continue
		}
		var event E
		if err := json.Unmarshal(r.payload, &event); err != nil {
			f.tb.Fatalf("ezqtest: a %s %s is not a %T: %v: %s", what, r.event, event, err, r.payload)
		}
		es.events, es.groups = append(es.events, event), append(es.groups, r.group)
	}
	return es
}

// InGroup returns those of the events that were with the consumers of a group: see [Group]. What was published was with none. It fails the
// test if the flow has no such group.
func (es Events[E]) InGroup(group string) Events[E] {
	es.f.tb.Helper()
	if known := es.f.backend.knownGroups(); group != "" && !slices.Contains(known, group) {
		es.f.tb.Fatalf("ezqtest: no consumers of the flow have the group %q: it has %q", group, known)
	}
	some := Events[E]{f: es.f, what: fmt.Sprintf("%s in the group %q", es.what, group)}
	for i, event := range es.events {
		if es.groups[i] == group {
			some.events, some.groups = append(some.events, event), append(some.groups, group)
		}
	}
	return some
}

// All returns the events.
func (es Events[E]) All() []E { return es.events }

// Times fails the test unless there are n events.
func (es Events[E]) Times(n int) {
	es.f.tb.Helper()
	if len(es.events) != n {
		es.f.tb.Fatalf("ezqtest: %s: %s %s, want %d%s",
			ezq.EventName[E](), es.what, times(len(es.events)), n, es.f.backend.history())
	}
}

// One returns the only event, and fails the test if there are none or several.
func (es Events[E]) One() E {
	es.f.tb.Helper()
	es.Times(1)
	return es.events[0]
}

// Equal fails the test unless the events are these, in this order.
func (es Events[E]) Equal(want ...E) {
	es.f.tb.Helper()
	for i := range max(len(want), len(es.events)) {
		if i < len(want) && i < len(es.events) && reflect.DeepEqual(want[i], es.events[i]) {
			continue
		}
		es.f.tb.Fatalf("ezqtest: %s: %s event %d differs\n\twant %s\n\tgot  %s%s",
			ezq.EventName[E](), es.what, i+1, at(want, i), at(es.events, i), es.f.backend.history())
	}
}

func at[E any](events []E, i int) string {
	if i >= len(events) {
		return "none"
	}
	return fmt.Sprintf("%+v", events[i])
}

func times(n int) string {
	if n == 1 {
		return "1 time"
	}
	return fmt.Sprintf("%d times", n)
}
