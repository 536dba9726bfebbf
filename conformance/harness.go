package conformance

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
)

// How long a case waits for what must happen. What is not promised is tried, too, and
// mostly does not happen: a shorter wait wrongs no backend.
const (
	defaultTimeout    = 30 * time.Second
	unpromisedTimeout = 3 * time.Second
)

// leakTimeout is how long the goroutines of a case may take to end after everything
// was closed.
const leakTimeout = 10 * time.Second

// environment is what all harnesses of a suite have in common.
type environment struct {
	open     Open
	promises Promises
	virtual  bool // time is that of testing/synctest
	attached bool // routers run in a Watermill router
	owners   *owners
}

// harness is what a case works at: a system, and methods that end the case with a
// sentence instead of returning errors. Its methods are for the goroutine of the case,
// unless they say otherwise. It knows neither the cases nor the suite.
type harness struct {
	environment
	recorder
	ctx      context.Context // ends with the case
	title    string          // of the case
	promised bool            // the case is about what is promised
	id       string          // of this run of the case
	timeout  time.Duration   // with what must happen
	topics   int

	mu     sync.Mutex
	system *System
	step   string // the call of the backend that the case is in
	ends   [stages][]func()
}

// stage is a part of the end of a case. Each is done before the next one begins.
type stage int

const (
	endTransactions stage = iota
	stopRouters
	settleMessages
	closePeers
	stages
)

func newHarness(ctx context.Context, e environment, title string, promised bool) *harness {
	h := &harness{
		environment: e, ctx: ctx, title: title, promised: promised,
		id:      strings.ToLower(rand.Text()[:12]),
		timeout: defaultTimeout,
	}
	if !promised {
		h.timeout = unpromisedTimeout
	}
	return h
}

// perform opens the system and runs the test of a case, whatever that does.
func (h *harness) perform(test func(*harness)) {
	finished := false
	defer func() {
		switch r := recover(); {
		case r != nil:
			h.record("panic: %v%s", r, firstFrame(string(debug.Stack()), "panic("))
		case !finished:
			h.record("the goroutine of the case was ended while it was in %s: the factory must not call FailNow or SkipNow", h.currentStep())
		}
	}()
	h.openSystem()
	test(h)
	finished = true
}

func (h *harness) openSystem() {
	var system *System // which a factory that hangs may still set much later
	h.must("the factory", func() (err error) {
		system, err = h.open(h.ctx)
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

// atEnd has f called when the case is over, in that stage of its end. Any goroutine may call it.
func (h *harness) atEnd(s stage, f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ends[s] = append(h.ends[s], f)
}

// close ends whatever the case has begun. It runs after the case, and what goes wrong
// counts only if nothing else did.
func (h *harness) close() {
	h.mu.Lock()
	ends, system := h.ends, h.system
	h.mu.Unlock()
	for _, functions := range ends {
		for _, f := range functions {
			f()
		}
	}
	if system == nil || system.Close == nil {
		return
	}
	if err := h.call("System.Close", system.Close); err != nil {
		h.record("System.Close: %v", err)
	}
}

// What a call may do instead of returning.
var (
	errPanic = errors.New("panic")
	errStuck = errors.New("it did not return")
	errEnded = errors.New("it ended its goroutine, as FailNow and SkipNow do")
)

// call calls the backend, which must not take longer than the timeout. Any goroutine may call it.
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

// must is call that ends the case with an error. Any goroutine may call it.
func (h *harness) must(what string, f func() error) {
	if err := h.call(what, f); err != nil {
		h.fail("%s: %v", what, err)
	}
}

// requireRefusal ends the case if err is not an error that the backend has returned.
func (h *harness) requireRefusal(err error) {
	if errors.Is(err, errPanic) || errors.Is(err, errStuck) || errors.Is(err, errEnded) {
		h.fail("instead of an error: %v", err)
	}
}

func (h *harness) currentStep() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.step
}

// locations says where the goroutines of the case are. Any goroutine may call it.
func (h *harness) locations() string {
	if doing := h.currentStep(); doing != "" {
		return ", in " + doing
	}
	if places := goroutinesOf(h.id); len(places) > 0 {
		return ": " + strings.Join(places, "; ")
	}
	return ""
}

// checkLeaks records a failure if a goroutine of the case goes on.
func (h *harness) checkLeaks() {
	deadline := time.Now().Add(leakTimeout)
	for pause := time.Millisecond; ; pause *= 5 { // each look takes a while if a process has many goroutines
		left := goroutinesOf(h.id)
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			h.record("goroutines are left %v after everything was closed: %s", leakTimeout, strings.Join(left, "; "))
			return
		}
		time.Sleep(pause)
	}
}

// topic returns the name of a topic that no case has used.
func (h *harness) topic() string {
	h.topics++
	return fmt.Sprintf("conformance_%s_%d", h.id, h.topics)
}

// message returns a message whose payload says which case it belongs to. Any goroutine may call it.
func (h *harness) message(label string) *message.Message {
	return message.NewMessage(h.id+"-"+label, []byte(h.id+"-"+label))
}

// delayed returns a message with a delay. Any goroutine may call it.
func (h *harness) delayed(label string, d time.Duration) *message.Message {
	msg := h.message(label)
	backend.SetDelay(msg, d)
	return msg
}

// messages returns one message for each label. Any goroutine may call it.
func (h *harness) messages(labels ...string) (msgs []*message.Message) {
	for _, label := range labels {
		msgs = append(msgs, h.message(label))
	}
	return msgs
}

// label returns what the message was called when it was published, and fails if that
// was in another case.
func (h *harness) label(msg *message.Message) string {
	label, ours := strings.CutPrefix(string(msg.Payload), h.id+"-")
	h.require(ours, "the message %.80q came, which was not published in this case: the factory shares topics between cases, or the payload was changed", msg.Payload)
	return label
}

// isOurs reports whether a message was labelled in this case.
func (h *harness) isOurs(msg *message.Message) bool {
	return strings.HasPrefix(string(msg.Payload), h.id+"-")
}

// ack acks a message, which must be possible.
func (h *harness) ack(msg *message.Message) {
	h.require(msg.Ack(), "a message could not be acked: it came with a nack already sent")
}

// nack nacks a message, which must be possible.
func (h *harness) nack(msg *message.Message) {
	h.require(msg.Nack(), "a message could not be nacked: it came with an ack already sent")
}
