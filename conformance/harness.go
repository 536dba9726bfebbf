package conformance

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// quietPeriod is how long a case listens before it believes that nothing comes. A loaded
// machine makes it miss something, it does not make it fail.
const quietPeriod = 250 * time.Millisecond

// How long a case waits for what must happen. What is not promised is tried, too, and
// mostly does not happen: nobody is wronged if that is found out sooner.
const (
	defaultTimeout    = 30 * time.Second
	unpromisedTimeout = 3 * time.Second
)

// harness is what a case works at: a system, and methods that end the case with a
// sentence instead of returning errors. Its methods are for the goroutine of the case,
// unless they say otherwise.
type harness struct {
	ctx      context.Context // ends with the case
	suite    *suite
	title    string
	id       string // of this run of the case
	promises Promises
	promised bool // the case is about what is promised
	system   *System
	timeout  time.Duration // with what must happen
	topics   int

	mu     sync.Mutex
	failed string
	step   string // the call of the backend that the case is in
	peers  []*peer
	undo   []func() // what is to be done at the end, before the peers are closed
}

func newHarness(ctx context.Context, s *suite, c Case) *harness {
	h := &harness{
		ctx: ctx, suite: s, title: c.Title(), promises: s.promised, promised: s.promised.cover(c),
		id:      strings.ToLower(rand.Text()[:12]),
		timeout: defaultTimeout,
	}
	if !h.promised {
		h.timeout = unpromisedTimeout
	}
	return h
}

// record notes a failure; the first one counts. Any goroutine may call it.
func (h *harness) record(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failed == "" {
		h.failed = fmt.Sprintf(format, args...)
	}
}

// fail ends the case.
func (h *harness) fail(format string, args ...any) {
	h.record(format, args...)
	runtime.Goexit()
}

// require ends the case unless ok.
func (h *harness) require(ok bool, format string, args ...any) {
	if !ok {
		h.fail(format, args...)
	}
}

// failure returns what was recorded, or "". Any goroutine may call it.
func (h *harness) failure() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.failed
}

func (h *harness) currentStep() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.step
}

// call calls the backend, which must not take longer than patience.
func (h *harness) call(what string, f func() error) error {
	h.mu.Lock()
	h.step = what
	h.mu.Unlock()
	result := make(chan error, 1)
	go func() {
		err := errEnded // if f does not return
		defer func() {
			if r := recover(); r != nil {
				err = fmt.Errorf("%w: %v%s", errPanic, r, firstFrame(string(debug.Stack()), "panic("))
			}
			result <- err
		}()
		err = f()
	}()
	timer := time.NewTimer(h.timeout)
	defer timer.Stop()
	select {
	case err := <-result:
		h.mu.Lock()
		h.step = ""
		h.mu.Unlock()
		return err
	case <-timer.C:
		return fmt.Errorf("%w within %v", errStuck, h.timeout)
	}
}

// What a call may do instead of returning.
var (
	errPanic = errors.New("panic")
	errStuck = errors.New("it did not return")
	errEnded = errors.New("it ended its goroutine: does it call FailNow or SkipNow?")
)

// requireRefusal ends the case if err is not an error that the backend has returned.
func (h *harness) requireRefusal(err error) {
	if errors.Is(err, errPanic) || errors.Is(err, errStuck) || errors.Is(err, errEnded) {
		h.fail("instead of an error: %v", err)
	}
}

// must is call that ends the case with an error.
func (h *harness) must(what string, f func() error) {
	if err := h.call(what, f); err != nil {
		h.fail("%s: %v", what, err)
	}
}

func (h *harness) openSystem() {
	var system *System // which a factory that hangs may still set much later
	h.must("the factory", func() (err error) {
		system, err = h.suite.open(h.ctx)
		return err
	})
	h.mu.Lock()
	h.system = system
	h.mu.Unlock()
	h.require(h.system != nil, "the factory returned a nil System")
	h.require(h.system.Connect != nil, "the factory returned a System without Connect")
	if leases := 10 * h.system.Lease; h.promised {
		h.timeout = max(h.timeout, leases)
	} else {
		h.timeout = max(h.timeout, leases/4)
	}
}

// close closes whatever the case has opened. It runs after the case, and what goes wrong
// counts only if nothing else did.
func (h *harness) close() {
	h.labelled(func() {
		h.mu.Lock()
		peers, undo, system := h.peers, h.undo, h.system
		h.mu.Unlock()
		for _, f := range undo {
			f()
		}
		for _, p := range peers {
			p.settleRest()
		}
		for _, p := range peers {
			if err := p.close(); err != nil {
				h.record("Close: %v", err)
			}
		}
		if system == nil || system.Close == nil {
			return
		}
		if err := h.call("System.Close", system.Close); err != nil {
			h.record("System.Close: %v", err)
		}
	})
}

// topic returns the name of a topic that nobody has used.
func (h *harness) topic() string {
	h.topics++
	return fmt.Sprintf("conformance_%s_%d", h.id, h.topics)
}

// message returns a message whose payload says which case it belongs to.
func (h *harness) message(label string) *message.Message {
	return message.NewMessage(h.id+"-"+label, []byte(h.id+"-"+label))
}

func (h *harness) messages(labels ...string) (msgs []*message.Message) {
	for _, label := range labels {
		msgs = append(msgs, h.message(label))
	}
	return msgs
}

// numbered returns the labels 0 to n-1.
func numbered(n int) (labels []string) {
	for i := range n {
		labels = append(labels, strconv.Itoa(i))
	}
	return labels
}
