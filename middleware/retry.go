package middleware

import (
	"cmp"
	"context"
	"math/bits"
	"math/rand/v2"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/ezq"
)

// Retry decides when a failure is final, and until then how long its message
// waits. The wait starts at Delay, doubles with each failure up to MaxDelay, and is
// up to a fifth shorter, so that messages that failed together do not come back
// together. The zero value is ready for use.
//
// Where the backend promises Progress, as those of this module do, retries are
// durable: the message goes back to the queue with its delay, nothing sleeps, and
// a restart forgets nothing. On any other Watermill Pub/Sub Retry calls the
// handler again itself, with the same waits, until the message's context ends or
// the router stops; the waits should then be short, for the message stays leased
// meanwhile.
//
// A final failure is returned as [ezq.Permanent]. [Poison] moves its message to a
// dead-letter topic, wherever in the chain it is. Without a Poison an ezq router does
// that on a backend that promises DeadLetter. On any other, and in Watermill's router, the
// message stays in the queue and comes back, at the pace of the router or the backend.
//
// Every error counts, and so does a panic, with these exceptions:
//
//   - [ezq.Permanent] is final at once.
//   - [ezq.RetryAfter] keeps its delay, but counts: it is a failure.
//   - [ezq.Snooze] does not count: the handler is merely too early.
//   - An interrupted handler has not failed, whatever it returned. The same goes
//     for one that has lost its lease.
//
// Of several Retries around a handler the innermost decides, so one given with
// [ezq.Use] takes the place of the router's.
type Retry struct {
	// Attempts is how often a message may be handled before its failure is final.
	// Defaults to 10, which is eight minutes with the default waits. 1 makes every
	// failure final.
	Attempts int

	// Delay is how long a message waits after its first failure. Defaults to 1
	// second.
	Delay time.Duration

	// MaxDelay is the longest wait. Defaults to 5 minutes, or to Delay if that is
	// longer.
	MaxDelay time.Duration
}

// Middleware implements [message.HandlerMiddleware]. It panics if a field is
// negative.
func (p Retry) Middleware(next message.HandlerFunc) message.HandlerFunc {
	mustNotBeNegative("Retry.Attempts", p.Attempts)
	mustNotBeNegative("Retry.Delay", p.Delay)
	mustNotBeNegative("Retry.MaxDelay", p.MaxDelay)
	p.Attempts = cmp.Or(p.Attempts, 10)
	p.Delay = cmp.Or(p.Delay, time.Second)
	p.MaxDelay = cmp.Or(p.MaxDelay, max(5*time.Minute, p.Delay))
	next = recoverPanics(next)
	return func(msg *message.Message) ([]*message.Message, error) {
		ctx := msg.Context()
		state := newRetryState(ctx, p.Attempts)
		for {
			msg.SetContext(context.WithValue(ctx, retryStateKey{}, state)) // a fresh one for each attempt
			out, err := next(msg)
			msg.SetContext(ctx)
			if err == nil {
				return out, nil
			}
			again, err := p.failed(ctx, msg, state, err)
			if !again {
				return out, err
			}
		}
	}
}

// failed says what becomes of msg: again, after a wait that is over, or what to
// return.
func (p Retry) failed(ctx context.Context, msg *message.Message, state *retryState, err error) (again bool, _ error) {
	switch {
	case isInterrupted(ctx, err):
		nackInterrupted(ctx, msg)
		return false, err
	case state.overruled:
		return false, err
	case nackSnoozed(ctx, msg, err):
		return false, err
	case state.final(err):
		return false, ezq.Permanent(&exhaustedError{err, state.failures + 1})
	}
	wait := p.wait(state.failures+1, err)
	if d := deliveryWithProgress(ctx); d != nil {
		if !inRouter(ctx) { // where no router reads the delay
			backend.Nack(msg, backend.Redelivery{Delay: wait, Failures: state.failures + 1, Done: d.Done})
		}
		return false, ezq.RetryAfter(wait, err)
	}
	state.failures++
	return sleep(ctx, wait), err
}

// wait returns how long a message waits that has failed that many times, the last
// time with err.
func (p Retry) wait(failures int, err error) time.Duration {
	if wait, ok := ezq.RetryDelay(err); ok {
		return wait
	}
	wait := p.MaxDelay
	if doublings := max(failures-1, 0); doublings < bits.LeadingZeros64(uint64(p.Delay)) { //nolint:gosec // Delay is positive; further doublings overflow
		wait = min(p.Delay<<doublings, p.MaxDelay)
	}
	return wait - rand.N(wait/5+1) //nolint:gosec // chance only spreads load, and may be guessed
}

// sleep reports whether d has passed. If not, the message is no longer ours, or
// the router wants to be done with it.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	case <-ezq.StoppingFromContext(ctx):
		return false
	}
}
