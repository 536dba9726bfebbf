package subscription_test

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/ezq-go/ezq/backend/internal/subscription"
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

// lingering is how long the messages of a call that was given up stay locked.
const lingering = 20 * time.Millisecond

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
	tokens []subscription.Token // to extend, or acked in a locked batch
	rest   []subscription.Token // of a locked batch
	limit  int
}

// ids returns the messages that a call is about.
func (c *call) ids() (ids []int64) {
	for _, settlement := range c.settle {
		ids = append(ids, settlement.ID)
	}
	for _, token := range slices.Concat(c.tokens, c.rest) {
		ids = append(ids, token.ID)
	}
	return ids
}

// concerns reports whether a call is about one of the messages.
func (c *call) concerns(ids ...int64) bool {
	return slices.ContainsFunc(c.ids(), func(id int64) bool { return slices.Contains(ids, id) })
}

// script scripts the next calls of a method.
func (v *storeView) script(m method, faults ...fault) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.scriptedFaults[m] = append(v.scriptedFaults[m], faults...)
}

// inject makes all further calls of the methods fail with f.
func (v *storeView) inject(f fault, methods ...method) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.faultOf = func(c call) fault {
		if slices.Contains(methods, c.method) {
			return f
		}
		return fault{}
	}
}

// clearFaults ends what inject and script have begun.
func (v *storeView) clearFaults() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.faultOf = nil
	clear(v.scriptedFaults)
}

// callsOf returns the calls of a method so far.
func (v *storeView) callsOf(m method) (calls []call) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, c := range v.calls[m] {
		calls = append(calls, *c)
	}
	return calls
}

// pauses returns the time between the calls of a method.
func (v *storeView) pauses(m method) (pauses []time.Duration) {
	calls := v.callsOf(m)
	for i := 1; i < len(calls); i++ {
		pauses = append(pauses, calls[i].at.Sub(calls[i-1].at))
	}
	return pauses
}

// perform makes a call take effect, or fail as is planned for it.
func (v *storeView) perform(ctx context.Context, c *call, effect func()) error {
	f := v.begin(c)
	if f.harmful() {
		v.record(event{kind: faulty, subscriber: v.subscriber})
		defer func() { v.record(event{kind: faulty, subscriber: v.subscriber}) }()
	}
	if err := wait(ctx, f.wait); err != nil {
		v.linger(c.ids())
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

func (v *storeView) begin(c *call) fault {
	v.mu.Lock()
	defer v.mu.Unlock()
	c.at = time.Now()
	v.calls[c.method] = append(v.calls[c.method], c)
	if script := v.scriptedFaults[c.method]; len(script) > 0 {
		v.scriptedFaults[c.method] = script[1:]
		return script[0]
	}
	if v.faultOf != nil {
		return v.faultOf(*c)
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
