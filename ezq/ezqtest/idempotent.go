package ezqtest

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/ezq"
)

// CheckIdempotent fails the test if it shows that events are delivered more than
// once. It publishes the events and lets everything settle, and compares what observe
// returns at the end with [reflect.DeepEqual]: undisturbed; with each single delivery
// duplicated, crashed and expired (see [Flow]); and with all of them at once.
//
// build is called for each of these: it begins with nothing, and returns a router and
// a function that observes what its handlers have changed. Retries are not waited for.
func CheckIdempotent[S any](t *testing.T, build func(queue backend.Backend) (router *ezq.Router, observe func() S), events ...any) {
	t.Helper()
	if complaint := disturb(t, build, events); complaint != "" {
		t.Error(complaint)
	}
}

// disturb says which disturbance shows, or nothing.
func disturb[S any](t *testing.T, build func(backend.Backend) (*ezq.Router, func() S), events []any) string {
	t.Helper()
	undisturbed, deliveries := observe(t, build, events, nil)
	for _, what := range []fault{duplicate, crash, lease} {
		for i := range deliveries + 1 {
			faults, which := append(make([]fault, i), what), fmt.Sprintf("delivery %d", i+1)
			if i == deliveries {
				faults, which = slices.Repeat([]fault{what}, deliveries), "every delivery"
			}
			if got, _ := observe(t, build, events, faults); !reflect.DeepEqual(got, undisturbed) {
				return fmt.Sprintf("ezqtest: the handlers are not idempotent: it shows that %s %s\n\tundisturbed %+v\n\tnow         %+v",
					which, what.says(), undisturbed, got)
			}
		}
	}
	return ""
}

func observe[S any](t *testing.T, build func(backend.Backend) (*ezq.Router, func() S), events []any, faults []fault) (seen S, deliveries int) {
	t.Helper()
	var look func() S
	buildRouter := func(queue backend.Backend) *ezq.Router {
		router, observe := build(queue)
		look = observe
		return router
	}
	Run(t, buildRouter, func(f *Flow) {
		f.queue.faults = faults
		for _, event := range events {
			f.Publish(event)
			f.Settle()
		}
		seen, deliveries = look(), f.queue.begun
	})
	return seen, deliveries
}
