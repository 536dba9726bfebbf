package conformance

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// An Option adjusts how [Run] and [Check] work.
type Option func(*suite)

// VirtualTime runs each case in a bubble of testing/synctest, in which waiting takes
// no time. It is for backends in the process whose goroutines wait for nothing else
// than channels, timers and each other. Only [Run] takes it.
func VirtualTime() Option { return func(s *suite) { s.virtual = true } }

// Limit is how long a case may take before it counts as hanging. Defaults to two
// minutes. A case about what is not promised gets half a minute at most.
func Limit(d time.Duration) Option { return func(s *suite) { s.limit = d } }

// AtOnce is how many cases run at the same time in real time. Defaults to 8.
func AtOnce(n int) Option { return func(s *suite) { s.slots = make(chan struct{}, n) } }

// Only leaves out every case that keep does not want.
func Only(keep func(Case) bool) Option { return func(s *suite) { s.keep = keep } }

// Attached has the routers of the cases run in a Watermill router, by way of
// ezq.Router.Attach, instead of by themselves. It is the same for a backend, so it is
// for tests of the router.
func Attached() Option { return func(s *suite) { s.attached = true } }

// Run is the test of a backend: every case is a subtest, which fails with what was
// seen instead of what was promised. A case that is not promised is tried too, and is
// skipped unless it works. The results come back when all subtests are done.
func Run(t *testing.T, open Open, promised Promises, options ...Option) Results {
	t.Helper()
	s := newSuite(open, promised, options)
	results := make(Results, len(s.cases))
	t.Run("cases", func(t *testing.T) {
		for i, c := range s.cases {
			results[i] = c.result(promised, "it was not run", 0)
			t.Run(c.Title(), func(t *testing.T) {
				if s.virtual {
					t.Parallel()
					results[i] = s.inBubble(t, c)
				} else {
					// All cases are under way before the first of them is waited for:
					// they mostly wait, and there are more of them than processors.
					result := s.start(t.Context(), c)
					t.Parallel()
					results[i] = <-result
				}
				results[i].report(t)
			})
		}
	})
	return results
}

// Check tries a backend and returns what it has found. It runs in real time.
func Check(ctx context.Context, open Open, promised Promises, options ...Option) Results {
	s := newSuite(open, promised, options)
	running := make([]<-chan Result, len(s.cases))
	for i, c := range s.cases {
		running[i] = s.start(ctx, c)
	}
	results := make(Results, len(s.cases))
	for i, result := range running {
		results[i] = <-result
	}
	return results
}

// start runs a case in real time, as soon as there is a slot for it.
func (s *suite) start(ctx context.Context, c Case) <-chan Result {
	done := make(chan Result, 1)
	go func() {
		s.slots <- struct{}{}
		defer func() { <-s.slots }()
		start := time.Now()
		failure := s.runCase(ctx, c)
		done <- c.result(s.promised, failure, time.Since(start))
	}()
	return done
}

// inBubble runs a case in virtual time. What it leaves behind would hold up the
// bubble for ever, and is left behind there.
func (s *suite) inBubble(t *testing.T, c Case) Result {
	t.Helper()
	start := time.Now()
	done := make(chan string, 1)
	var failure string
	finished := false
	go func() {
		defer func() {
			// synctest panics if a goroutine is left; the case has noticed that itself.
			if r := recover(); r != nil && !finished {
				failure = fmt.Sprint("the bubble ended: ", r)
			}
			done <- failure
		}()
		synctest.Test(t, func(t *testing.T) {
			failure = s.runCase(t.Context(), c)
			finished = true
		})
	}()
	select {
	case failure := <-done:
		return c.result(s.promised, failure, time.Since(start))
	case <-time.After(s.limit):
		return c.result(s.promised, fmt.Sprintf("the case hangs, and virtual time with it: it is waiting for a mutex or for input and output%s",
			s.locations(c)), time.Since(start))
	}
}

func (r Result) report(t *testing.T) {
	t.Helper()
	if t.Log(r.Sentence); r.Failure != "" && r.Outcome != Skipped {
		t.Log("instead:", r.Failure)
	}
	switch r.Outcome {
	case Failed:
		t.Fail()
	case Skipped:
		t.Skipf("not promised: %v (%s)", r.Needs, r.Failure)
	case Bonus:
		t.Logf("not promised, but it works: %v", r.Needs)
	}
}
