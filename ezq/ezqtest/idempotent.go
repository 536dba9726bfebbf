package ezqtest

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/ezq"
)

// CheckIdempotent fails the test if it shows that events are delivered more than
// once, or if one of them reaches no handler. It publishes the events on the topic that
// the router has handlers on, and lets everything settle, and compares what observe
// returns at the end with [reflect.DeepEqual]: undisturbed; with each single delivery
// duplicated, crashed and expired (see [Flow]); and with all of them at once.
//
// build is called for each of these: it begins with nothing, and returns a router and
// a function that observes what its handlers have changed. Retries are not waited for.
// An event for a router of several topics names its own with [Event].
func CheckIdempotent[S any](t *testing.T, build func(queue backend.Backend) (router *ezq.Router, observe func() S), events ...any) {
	t.Helper()
	if complaint := disturb(t, build, events); complaint != "" {
		t.Error(complaint)
	}
}

// Event is an event for [CheckIdempotent], with the options to publish it with, such as
// [ezq.Topic].
func Event(event any, opts ...ezq.PublishOption) any { return eventWith{event, opts} }

type eventWith struct {
	event any
	opts  []ezq.PublishOption
}

// disturb says which disturbance shows, or nothing.
func disturb[S any](t *testing.T, build func(backend.Backend) (*ezq.Router, func() S), events []any) string {
	t.Helper()
	undisturbed, deliveries, complaint := observe(t, build, events, nil)
	if complaint != "" {
		return complaint
	}
	for _, what := range []fault{duplicate, crash, lease} {
		for i := range deliveries + 1 {
			faults, which := append(make([]fault, i), what), fmt.Sprintf("delivery %d", i+1)
			if i == deliveries {
				faults, which = slices.Repeat([]fault{what}, deliveries), "every delivery"
			}
			if got, _, _ := observe(t, build, events, faults); !reflect.DeepEqual(got, undisturbed) {
				return fmt.Sprintf("ezqtest: the handlers are not idempotent: it shows that %s %s\n\tundisturbed %+v\n\tnow         %+v",
					which, what.says(), undisturbed, got)
			}
		}
	}
	return ""
}

func observe[S any](t *testing.T, build func(backend.Backend) (*ezq.Router, func() S), events []any, faults []fault) (seen S, deliveries int, complaint string) {
	t.Helper()
	var router *ezq.Router
	var look func() S
	buildRouter := func(queue backend.Backend) *ezq.Router {
		router, look = build(queue)
		return router
	}
	Run(t, buildRouter, func(f *Flow) {
		f.queue.faults = faults
		topics := slices.Sorted(maps.Keys(router.Stats()))
		for i, event := range events {
			before := f.queue.handlersCalled()
			f.publishTo(topics, event)
			f.Settle()
			if complaint == "" && f.queue.handlersCalled() == before {
				complaint = fmt.Sprintf("ezqtest: event %d of %d reached no handler; the router has handlers on %q: name another topic with ezqtest.Event%s",
					i+1, len(events), topics, f.queue.history())
			}
		}
		seen, deliveries = look(), f.queue.begun
	})
	return seen, deliveries, complaint
}
