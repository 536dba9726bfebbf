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
func CheckIdempotent[S any](t *testing.T, build func(client backend.Backend) (router *ezq.Router, observe func() S), events ...any) {
	t.Helper()
	if problem := checkIdempotent(t, build, events); problem != "" {
		t.Error(problem)
	}
}

// Event is an event for [CheckIdempotent], with the options to publish it with, such as
// [ezq.Topic].
func Event(event any, opts ...ezq.PublishOption) any { return eventWith{event, opts} }

type eventWith struct {
	event any
	opts  []ezq.PublishOption
}

// checkIdempotent says which disturbance shows, or nothing.
func checkIdempotent[S any](t *testing.T, build func(backend.Backend) (*ezq.Router, func() S), events []any) string {
	t.Helper()
	baseline, deliveries, problem := observe(t, build, events, nil)
	if problem != "" {
		return problem
	}
	for _, what := range []fault{duplicate, crash, lease} {
		for i := range deliveries + 1 {
			faults, which := append(make([]fault, i), what), fmt.Sprintf("delivery %d", i+1)
			if i == deliveries {
				faults, which = slices.Repeat([]fault{what}, deliveries), "every delivery"
			}
			if got, _, _ := observe(t, build, events, faults); !reflect.DeepEqual(got, baseline) {
				return fmt.Sprintf("ezqtest: the handlers are not idempotent: it shows that %s %s\n\tundisturbed %+v\n\tnow         %+v",
					which, what.describe(), baseline, got)
			}
		}
	}
	return ""
}

func observe[S any](t *testing.T, build func(backend.Backend) (*ezq.Router, func() S), events []any, faults []fault) (seen S, deliveries int, problem string) {
	t.Helper()
	var router *ezq.Router
	var look func() S
	buildRouter := func(client backend.Backend) *ezq.Router {
		router, look = build(client)
		return router
	}
	Run(t, buildRouter, func(f *Flow) {
		f.backend.faults = faults
		topics := slices.Sorted(maps.Keys(router.Stats()))
		for i, event := range events {
			before := f.backend.handlersCalled()
			f.publishTo(topics, event)
			f.Settle()
			if problem == "" && f.backend.handlersCalled() == before {
				problem = fmt.Sprintf("ezqtest: event %d of %d reached no handler; the router has handlers on %q: name another topic with ezqtest.Event%s",
					i+1, len(events), topics, f.backend.history())
			}
		}
		seen, deliveries = look(), f.backend.begun
	})
	return seen, deliveries, problem
}
