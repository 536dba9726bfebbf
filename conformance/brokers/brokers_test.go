package brokers_test

import (
	"errors"
	"flag"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/conformance"
	"github.com/ezq-go/ezq/conformance/brokers"
)

// The root module tests two of them itself: memory, in virtual time, and PGMQ from plain SQL.
func TestBackends_KeepEveryPromise(t *testing.T) {
	for _, b := range brokers.All() {
		if b.Ours && b.Name != "memory" && b.Title() != "PGMQ, plain SQL" {
			t.Run(b.Title(), func(t *testing.T) {
				t.Parallel()
				conformance.Run(t, start(t, b), b.Promises, b.Options()...)
			})
		}
	}
}

// What fails is waited for, case by case. A Pub/Sub that panics in a goroutine of its own, as
// watermill-nats does now and then, ends the test with it; the report survives that.
var foreign = flag.Bool("foreign", false, "try the Pub/Subs of others, too, which takes minutes")

func TestForeignPubSubs_FailOnlyWhereKnown(t *testing.T) {
	if !*foreign {
		t.Skip("it takes minutes: run it with make conformance")
	}
	for _, b := range brokers.All() {
		if b.Ours {
			continue
		}
		t.Run(b.Title(), func(t *testing.T) {
			t.Parallel()
			known := brokers.Known(b.Title())
			results := conformance.Check(t.Context(), start(t, b), b.Promises, b.Options()...)
			for _, r := range results.Failed() {
				title := r.Theme + "/" + r.Name
				if reason, ok := known[title]; ok {
					t.Logf("known: %s: %s (%s)", title, r.Failure, reason)
				} else {
					t.Errorf("new: %s: %s\n\tinstead: %s", title, r.Sentence, r.Failure)
				}
			}
		})
	}
}

func TestKnownFailures_NameExistingBackendsAndCases(t *testing.T) {
	cases := map[string]bool{}
	for _, c := range conformance.Cases() {
		cases[c.Title()] = true
	}
	for _, b := range brokers.All() {
		known := brokers.Known(b.Title())
		require.False(t, b.Ours && len(known) > 0, "%s: our own failures are to be repaired", b.Title())
		for title := range known {
			require.True(t, cases[title], "%s: there is no case %q", b.Title(), title)
		}
	}
}

// start starts a backend until the test ends. What is missing skips the test, but not
// in CI, where that would not be noticed.
func start(t *testing.T, b brokers.Backend) conformance.Open {
	t.Helper()
	open, stop, err := b.Start(t.Context(), brokers.FromEnvironment())
	absent, ok := errors.AsType[*brokers.MissingError](err)
	switch {
	case ok && os.Getenv("CI") != "" && b.Mode != "extension": // which few servers have
		t.Fatal("CI must not skip this: ", absent)
	case ok:
		t.Skip(absent)
	}
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, stop()) })
	return open
}
