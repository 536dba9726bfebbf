package conformance

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// suite is one run of all cases.
type suite struct {
	settings
	environment environment // of all harnesses
	cases       []Case
	slots       chan struct{}
	harnesses   sync.Map // by the titles of the cases, as long as they run
}

func newSuite(open Open, promised Promises, options []Option) *suite {
	settings := newSettings(options)
	s := &suite{
		settings: settings,
		environment: environment{
			open: open, promises: promised, virtual: settings.virtual, attached: settings.attached, owners: newOwners(),
		},
		slots: make(chan struct{}, settings.parallel),
	}
	for _, c := range Cases() {
		if s.keep(c) {
			s.cases = append(s.cases, c)
		}
	}
	return s
}

// start runs a case in real time, as soon as there is a slot for it.
func (s *suite) start(ctx context.Context, c Case) <-chan Result {
	done := make(chan Result, 1)
	go func() {
		s.slots <- struct{}{}
		defer func() { <-s.slots }()
		start := time.Now()
		failure := s.runCase(ctx, c)
		done <- s.result(c, failure, start)
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
		return s.result(c, failure, start)
	case <-time.After(s.timeout):
		return s.result(c, "the case hangs, and virtual time with it: it is waiting for a mutex or for input and output"+s.locations(c), start)
	}
}

func (s *suite) result(c Case, failure string, start time.Time) Result {
	return c.result(s.environment.promises, failure, time.Since(start))
}

// runCase runs a case and returns what is wrong, or "".
func (s *suite) runCase(ctx context.Context, c Case) string {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	h := newHarness(ctx, s.environment, c.Title(), s.environment.promises.cover(c.needs))
	s.harnesses.Store(c.Title(), h)
	defer s.harnesses.Delete(c.Title())

	done := make(chan struct{})
	go labelled(h.id, func() { //nolint:gosec // the suite has its own timeout
		defer close(done)
		h.perform(c.test)
	})
	if timeout := s.timeoutOf(h); !closedWithin(done, timeout) {
		h.record("the case was still running after %v%s", timeout, h.locations())
	}
	labelled(h.id, h.close)
	cancel()
	if h.failure() == "" {
		h.checkLeaks()
	}
	return h.failure()
}

// timeoutOf returns how long a case may take.
func (s *suite) timeoutOf(h *harness) time.Duration {
	switch {
	case s.virtual: // in which waiting costs nothing, and leases may be long
		return 24 * time.Hour
	case !h.promised:
		return min(s.timeout, 10*unpromisedTimeout)
	}
	return s.timeout
}

// locations says where the goroutines of a case are that is running.
func (s *suite) locations(c Case) string {
	if h, ok := s.harnesses.Load(c.Title()); ok {
		return h.(*harness).locations() //nolint:forcetypeassert // only harnesses are stored
	}
	return ""
}
