package conformance

import (
	"context"
	"fmt"
	"reflect"
	"runtime/debug"
	"strings"
	"sync"
	"time"
)

// suite is one run of all cases.
type suite struct {
	open      Open
	promised  Promises
	cases     []Case
	keep      func(Case) bool
	virtual   bool
	attached  bool
	limit     time.Duration
	slots     chan struct{}
	harnesses sync.Map // by the titles of the cases, as long as they run

	mu   sync.Mutex
	seen map[any]string // publishers and subscribers, and the case that had them
}

func newSuite(open Open, promised Promises, options []Option) *suite {
	s := &suite{
		open:     open,
		promised: promised,
		keep:     func(Case) bool { return true },
		limit:    2 * time.Minute,
		slots:    make(chan struct{}, 8),
		seen:     map[any]string{},
	}
	for _, option := range options {
		option(s)
	}
	for _, c := range Cases() {
		if s.keep(c) {
			s.cases = append(s.cases, c)
		}
	}
	return s
}

// runCase runs a case and returns what is wrong, or "".
func (s *suite) runCase(ctx context.Context, c Case) string {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	h := newHarness(ctx, s, c)
	s.harnesses.Store(c.Title(), h)
	defer s.harnesses.Delete(c.Title())

	done := make(chan struct{})
	go h.labelled(func() { //nolint:gosec // the suite has its own limit of time
		defer close(done)
		h.perform(c.test)
	})
	limit := s.limit
	switch {
	case s.virtual: // in which waiting costs nothing, and leases may be long
		limit = 24 * time.Hour
	case !h.promised:
		limit = min(limit, 10*unpromisedTimeout)
	}
	if !closedWithin(done, limit) {
		h.record("the case was still running after %v%s", limit, h.locations())
	}
	h.close()
	cancel()
	if h.failure() == "" {
		h.checkLeaks()
	}
	return h.failure()
}

// perform runs the test of a case, whatever it does.
func (h *harness) perform(test func(*harness)) {
	finished := false
	defer func() {
		switch r := recover(); {
		case r != nil:
			h.record("panic: %v%s", r, firstFrame(string(debug.Stack()), "panic("))
		case !finished:
			h.record("the goroutine of the case was ended while it was in %s: does the factory call FailNow or SkipNow?", h.currentStep())
		}
	}()
	h.openSystem()
	test(h)
	finished = true
}

// register notes that a publisher or a subscriber belongs to a case. It returns the title
// of the case that already has it, or "".
func (s *suite) register(half any, title string) string {
	v := reflect.ValueOf(half)
	if v.Kind() != reflect.Pointer || v.Type().Elem().Size() == 0 {
		return "" // equal values need not be the same
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.seen[half]
	s.seen[half] = title
	return before
}

func (s *suite) locations(c Case) string {
	if b, ok := s.harnesses.Load(c.Title()); ok {
		return b.(*harness).locations() //nolint:forcetypeassert // only benches are stored
	}
	return ""
}

func closedWithin(c <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-c:
		return true
	case <-timer.C:
		return false
	}
}

// firstFrame returns the place in a stack, as debug.Stack writes it, that comes after
// the given function and is not the runtime's: ", in f at file:line".
func firstFrame(stack, after string) string {
	lines := strings.Split(stack, "\n")
	for i := range lines {
		if !strings.HasPrefix(lines[i], after) {
			continue
		}
		for j := i + 2; j+1 < len(lines); j += 2 {
			if !strings.HasPrefix(lines[j], "runtime.") && !strings.HasPrefix(lines[j], "panic(") {
				place, _, _ := strings.Cut(strings.TrimSpace(lines[j+1]), " +0x")
				return fmt.Sprintf(", in %s at %s", functionName(lines[j]), place)
			}
		}
	}
	return ""
}

// functionName cuts the arguments off.
func functionName(line string) string {
	if i := strings.LastIndexByte(line, '('); i > 0 {
		return line[:i]
	}
	return line
}
