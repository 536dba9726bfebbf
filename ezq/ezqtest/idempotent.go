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

// CheckIdempotent fails the test if repeated deliveries change the result, or if an event
// reaches no handler. It publishes the events on the topic of the router, waits until
// everything is settled, and calls observe. It does so without a disturbance, with each
// single delivery duplicated, crashed and expired (see [Flow]), and with all deliveries
// disturbed. [reflect.DeepEqual] compares the results.
//
// build is called for each of these runs. It starts without any state, and returns a
// router and a function that returns what the handlers have changed. CheckIdempotent does
// not wait for retries. If the router has several topics, name that of an event with
// [Event].
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

// checkIdempotent returns the first disturbance that changes the result, or "".
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
				return fmt.Sprintf("ezqtest: the handlers are not idempotent: the result differs if %s %s\n\tundisturbed %+v\n\tdisturbed   %+v",
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
			f.AwaitIdle()
			if problem == "" && f.backend.handlersCalled() == before {
				problem = fmt.Sprintf("ezqtest: event %d of %d reached no handler; the router has handlers on %q: name another topic with ezqtest.Event%s",
					i+1, len(events), topics, f.backend.history())
			}
		}
		seen, deliveries = look(), f.backend.begun
	})
	return seen, deliveries, problem
}
