package subscription_test

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/ezq-go/ezq/internal/subscription"
)

// fault is what goes wrong with one call. Its zero value is a call that works.
type fault struct {
	wait  time.Duration // until the call takes effect
	err   error         // instead of the effect
	then  func()        // happens right before the effect
	reply time.Duration // from the effect to the reply
	lost  error         // instead of the reply: the effect is there
}

// hang is a wait or a reply that does not come before the caller gives up.
const hang = time.Duration(math.MaxInt64)

// latency is what a store may take that works.
const latency = 100 * time.Millisecond

var errStore = errors.New("the store is out of order")

func (f fault) harmful() bool {
	return f.wait > latency || f.err != nil || f.reply > latency || f.lost != nil
}

type method string

const (
	claiming  method = "claim"
	settling  method = "settle"
	extending method = "extend"
)

// call is one call of the engine, as the store saw it.
type call struct {
	method method
	at     time.Time // when it began
	settle []subscription.Settlement
	tokens []subscription.Token // to extend, or acked in a hold
	rest   []subscription.Token // of a hold
	limit  int
}

// next scripts the next calls of a method.
func (v *view) next(m method, faults ...fault) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.scripts[m] = append(v.scripts[m], faults...)
}

// always makes all further calls of the methods suffer f.
func (v *view) always(f fault, methods ...method) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.plan = func(c call) fault {
		if slices.Contains(methods, c.method) {
			return f
		}
		return fault{}
	}
}

// heal ends what always and next have begun.
func (v *view) heal() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.plan = nil
	clear(v.scripts)
}

// seen returns the calls of a method so far.
func (v *view) seen(m method) (calls []call) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, c := range v.calls[m] {
		calls = append(calls, *c)
	}
	return calls
}

// pauses returns the time between the calls of a method.
func (v *view) pauses(m method) (pauses []time.Duration) {
	calls := v.seen(m)
	for i := 1; i < len(calls); i++ {
		pauses = append(pauses, calls[i].at.Sub(calls[i-1].at))
	}
	return pauses
}

// suffer makes a call take effect, or whatever has been planned for it.
func (v *view) suffer(ctx context.Context, c *call, effect func()) error {
	f := v.begin(c)
	if f.harmful() {
		v.note(event{kind: faulty, who: v.who})
		defer func() { v.note(event{kind: faulty, who: v.who}) }()
	}
	if err := wait(ctx, f.wait); err != nil {
		return err
	}
	if f.err != nil {
		return f.err
	}
	if f.then != nil {
		f.then()
	}
	effect()
	if err := wait(ctx, f.reply); err != nil {
		return err
	}
	return f.lost
}

func (v *view) begin(c *call) fault {
	v.mu.Lock()
	defer v.mu.Unlock()
	c.at = time.Now()
	v.calls[c.method] = append(v.calls[c.method], c)
	if script := v.scripts[c.method]; len(script) > 0 {
		v.scripts[c.method] = script[1:]
		return script[0]
	}
	if v.plan != nil {
		return v.plan(*c)
	}
	return fault{}
}

func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
