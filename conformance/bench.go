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

// moment is how long a case listens before it believes that nothing comes. A loaded
// machine makes it miss something, it does not make it fail.
const moment = 250 * time.Millisecond

// How long a case waits for what must happen. What is not promised is tried, too, and
// mostly does not happen: nobody is wronged if that is found out sooner.
const (
	patience = 30 * time.Second
	haste    = 3 * time.Second
)

// bench is what a case works at: a system, and methods that end the case with a
// sentence instead of returning errors. Its methods are for the goroutine of the case,
// unless they say otherwise.
type bench struct {
	ctx      context.Context // ends with the case
	suite    *suite
	title    string
	id       string // of this run of the case
	promises Promises
	promised bool // the case is about what is promised
	system   *System
	patience time.Duration // with what must happen
	topics   int

	mu     sync.Mutex
	failed string
	step   string // the call of the backend that the case is in
	peers  []*peer
	undo   []func() // what is to be done at the end, before the peers are closed
}

func newBench(ctx context.Context, s *suite, c Case) *bench {
	b := &bench{
		ctx: ctx, suite: s, title: c.Title(), promises: s.promised, promised: s.promised.keep(c),
		id:       strings.ToLower(rand.Text()[:12]),
		patience: patience,
	}
	if !b.promised {
		b.patience = haste
	}
	return b
}

// record notes a failure; the first one counts. Any goroutine may call it.
func (b *bench) record(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failed == "" {
		b.failed = fmt.Sprintf(format, args...)
	}
}

// fail ends the case.
func (b *bench) fail(format string, args ...any) {
	b.record(format, args...)
	runtime.Goexit()
}

// require ends the case unless ok.
func (b *bench) require(ok bool, format string, args ...any) {
	if !ok {
		b.fail(format, args...)
	}
}

// failure returns what was recorded, or "". Any goroutine may call it.
func (b *bench) failure() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failed
}

func (b *bench) doing() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.step
}

// call calls the backend, which must not take longer than patience.
func (b *bench) call(what string, f func() error) error {
	b.mu.Lock()
	b.step = what
	b.mu.Unlock()
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
	timer := time.NewTimer(b.patience)
	defer timer.Stop()
	select {
	case err := <-result:
		b.mu.Lock()
		b.step = ""
		b.mu.Unlock()
		return err
	case <-timer.C:
		return fmt.Errorf("%w within %v", errStuck, b.patience)
	}
}

// What a call may do instead of returning.
var (
	errPanic = errors.New("panic")
	errStuck = errors.New("it did not return")
	errEnded = errors.New("it ended its goroutine: does it call FailNow or SkipNow?")
)

// requireRefusal ends the case if err is not an error that the backend has returned.
func (b *bench) requireRefusal(err error) {
	if errors.Is(err, errPanic) || errors.Is(err, errStuck) || errors.Is(err, errEnded) {
		b.fail("instead of an error: %v", err)
	}
}

// must is call that ends the case with an error.
func (b *bench) must(what string, f func() error) {
	if err := b.call(what, f); err != nil {
		b.fail("%s: %v", what, err)
	}
}

func (b *bench) openSystem() {
	var system *System // which a factory that hangs may still set much later
	b.must("the factory", func() (err error) {
		system, err = b.suite.open(b.ctx)
		return err
	})
	b.mu.Lock()
	b.system = system
	b.mu.Unlock()
	b.require(b.system != nil, "the factory returned a nil System")
	b.require(b.system.Connect != nil, "the factory returned a System without Connect")
	if leases := 10 * b.system.Lease; b.promised {
		b.patience = max(b.patience, leases)
	} else {
		b.patience = max(b.patience, leases/4)
	}
}

// end closes whatever the case has opened. It runs after the case, and what goes wrong
// counts only if nothing else did.
func (b *bench) end() {
	b.labelled(func() {
		b.mu.Lock()
		peers, undo, system := b.peers, b.undo, b.system
		b.mu.Unlock()
		for _, f := range undo {
			f()
		}
		for _, p := range peers {
			p.settleRest()
		}
		for _, p := range peers {
			if err := p.close(); err != nil {
				b.record("Close: %v", err)
			}
		}
		if system == nil || system.Close == nil {
			return
		}
		if err := b.call("System.Close", system.Close); err != nil {
			b.record("System.Close: %v", err)
		}
	})
}

// topic returns the name of a topic that nobody has used.
func (b *bench) topic() string {
	b.topics++
	return fmt.Sprintf("conformance_%s_%d", b.id, b.topics)
}

// message returns a message whose payload says which case it belongs to.
func (b *bench) message(label string) *message.Message {
	return message.NewMessage(b.id+"-"+label, []byte(b.id+"-"+label))
}

func (b *bench) messages(labels ...string) (msgs []*message.Message) {
	for _, label := range labels {
		msgs = append(msgs, b.message(label))
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
